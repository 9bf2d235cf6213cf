//! How much one client, or one address, may ask for.

use std::{hash::Hash, net::IpAddr, num::NonZeroU32, time::Duration};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock, clock::DefaultClock};
use models::Digest;

use crate::{Error, Result};

/// Limits of a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second of one key; five times as many at once.
    pub requests_per_second: NonZeroU32,
    /// Requests a minute of one address that are not signed by a known key.
    pub strangers_per_minute: NonZeroU32,
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// Bytes of segments of one device in 24 hours.
    pub device_bytes_per_day: u64,
    /// Segments that are taken in at once; more wait.
    pub uploads: usize,
    /// Time for one request.
    pub request_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: NonZeroU32::MIN.saturating_add(19),
            strangers_per_minute: NonZeroU32::MIN.saturating_add(29),
            segment_bytes: 256 << 20,
            device_bytes_per_day: 4 << 30,
            uploads: 64,
            request_time: Duration::from_secs(600),
        }
    }
}

/// Counts requests. Forgets who asked for nothing lately.
#[derive(Debug)]
pub struct Meter {
    keys: DefaultKeyedRateLimiter<Digest>,
    strangers: DefaultKeyedRateLimiter<IpAddr>,
}

impl Meter {
    /// A meter for these limits.
    pub fn new(limits: &Limits) -> Self {
        let burst = limits.requests_per_second.saturating_mul(NonZeroU32::MIN.saturating_add(4));
        Self {
            keys: RateLimiter::keyed(Quota::per_second(limits.requests_per_second).allow_burst(burst)),
            strangers: RateLimiter::keyed(Quota::per_minute(limits.strangers_per_minute)),
        }
    }

    /// Counts a request of a known key.
    ///
    /// # Errors
    /// [`Error::TooMuch`].
    pub fn known(&self, key: Digest) -> Result<()> {
        check(&self.keys, &key, "requests of this key")
    }

    /// Counts a request that is not signed by a known key.
    ///
    /// # Errors
    /// [`Error::TooMuch`].
    pub fn stranger(&self, address: IpAddr) -> Result<()> {
        check(&self.strangers, &address, "requests without a known key from this address")
    }

    /// Forgets who could ask for everything again.
    pub fn tidy(&self) {
        self.keys.retain_recent();
        self.strangers.retain_recent();
    }
}

fn check<K: Clone + Hash + Eq>(limiter: &DefaultKeyedRateLimiter<K>, key: &K, what: &str) -> Result<()> {
    limiter.check_key(key).map_err(|until| {
        let seconds = until.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
        Error::TooMuch { what: what.to_owned(), seconds }
    })
}
