//! How much one client, or one address, may ask for.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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
    /// The same of one device; more are refused.
    pub device_uploads: usize,
    /// Time until a request is answered, but for those that bring content.
    pub request_time: Duration,
    /// Time in which more of a content has to come.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: NonZeroU32::MIN.saturating_add(19),
            strangers_per_minute: NonZeroU32::MIN.saturating_add(29),
            segment_bytes: 256 << 20,
            device_bytes_per_day: 4 << 30,
            uploads: 64,
            device_uploads: 2,
            request_time: Duration::from_secs(120),
            silence: Duration::from_secs(60),
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

/// Uploads that are going on, by device.
#[derive(Debug, Default)]
pub struct Uploads(Mutex<HashMap<String, Ongoing>>);

#[derive(Clone, Copy, Debug, Default)]
struct Ongoing {
    count: usize,
    bytes: u64,
}

/// An upload that goes on while this lives.
#[derive(Debug)]
pub struct Upload<'a> {
    uploads: &'a Uploads,
    device: &'a str,
    bytes: u64,
}

impl Uploads {
    /// Begins an upload. Returns it, and the bytes of all of the device's that go on, this one included.
    ///
    /// # Errors
    /// [`Error::TooMuch`] if the device has `most` already.
    pub fn begin<'a>(&'a self, device: &'a str, bytes: u64, most: usize) -> Result<(Upload<'a>, u64)> {
        let mut all = self.lock();
        let ongoing = all.entry(device.to_owned()).or_default();
        if ongoing.count >= most {
            return Err(Error::TooMuch { what: format!("segments of {device} at once"), seconds: 10 });
        }
        ongoing.count += 1;
        ongoing.bytes += bytes;
        Ok((Upload { uploads: self, device, bytes }, ongoing.bytes))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Ongoing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        let mut all = self.uploads.lock();
        if let Some(ongoing) = all.get_mut(self.device) {
            ongoing.count -= 1;
            ongoing.bytes -= self.bytes;
            if ongoing.count == 0 {
                all.remove(self.device);
            }
        }
    }
}

fn check<K: Clone + Hash + Eq>(limiter: &DefaultKeyedRateLimiter<K>, key: &K, what: &str) -> Result<()> {
    limiter.check_key(key).map_err(|until| {
        let seconds = until.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
        Error::TooMuch { what: what.to_owned(), seconds }
    })
}
