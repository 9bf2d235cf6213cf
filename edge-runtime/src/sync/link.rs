//! When the remote is contacted, and how much is sent.

use std::{collections::VecDeque, fs, path::PathBuf};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use models::{durable, hub::RefusalCode};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Pause after a first failure, and the longest one, in seconds.
const OFFLINE: (f64, f64) = (1.0, 300.0);
/// The same while the remote does not let this device in, which takes a person to change.
const REFUSED: (f64, f64) = (60.0, 3600.0);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// When the remote is contacted, and how much is sent. `run --once` contacts it whenever it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SyncConfig {
    /// Seconds between two contacts, give or take a tenth. None: 30 with a hub, and with a folder whenever the device looks at its
    /// source. After a failure a random time comes on top, whose limit doubles with each: from a second to five minutes, or from a
    /// minute to an hour if a hub does not let the device in. A device that is not enrolled yet looks for its key without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_seconds: Option<f64>,
    /// Hours of the day, of the device's own time zone, in which the remote is contacted: from the first until the second begins,
    /// over midnight if the second is smaller. None: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<[u8; 2]>,
    /// Mebibytes of segments sent in 24 hours. None: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mebibytes_per_day: Option<u32>,
}

impl SyncConfig {
    /// Seconds between two contacts with a hub.
    pub const HUB_SECONDS: f64 = 30.0;

    /// Checks every value; returns what is wrong.
    pub(crate) fn fault(&self) -> Option<String> {
        if let Some(seconds) = self.every_seconds
            && !(0.0..=86_400.0).contains(&seconds)
        {
            return Some(format!("sync.every_seconds is {seconds}; expected 0 to 86400 seconds"));
        }
        match self.hours {
            Some([from, to]) if from > 23 || to > 23 || from == to => {
                Some(format!("sync.hours is [{from}, {to}]; expected two different hours from 0 to 23"))
            }
            _ => None,
        }
    }
}

/// Decides when to contact the remote next.
#[derive(Debug)]
pub(crate) struct Link {
    every: f64,
    hours: Option<[u8; 2]>,
    zone: TimeZone,
    rng: ChaCha8Rng,
    failures: i32,
    last: Option<Timestamp>,
    pause: f64,
}

impl Link {
    /// A link that is due at once.
    pub(crate) fn new(every: f64, hours: Option<[u8; 2]>, zone: TimeZone, rng: ChaCha8Rng) -> Self {
        Self { every, hours, zone, rng, failures: 0, last: None, pause: 0.0 }
    }

    /// Whether the remote is to be contacted now. A clock that was set back waits for nothing.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let is_over = |last: Timestamp| {
            let since = now.duration_since(last).as_secs_f64();
            since < 0.0 || since >= self.pause
        };
        self.is_open(now) && self.last.is_none_or(is_over)
    }

    /// Whether it is worth a last contact when the device stops.
    pub(crate) fn is_up(&self, now: Timestamp) -> bool {
        self.is_open(now) && self.failures == 0
    }

    fn is_open(&self, now: Timestamp) -> bool {
        let hour = now.to_zoned(self.zone.clone()).hour().unsigned_abs();
        self.hours.is_none_or(
            |[from, to]| {
                if from < to { (from..to).contains(&hour) } else { hour >= from || hour < to }
            },
        )
    }

    /// Takes note of a contact and how it went.
    pub(crate) fn contacted(&mut self, outcome: Result<(), &Error>, now: Timestamp) {
        self.last = Some(now);
        match outcome {
            // A fleet that was started together does not stay together.
            Ok(()) => (self.failures, self.pause) = (0, self.spread()),
            // Nobody was asked: who enrols this device does not have to wait for it.
            Err(Error::NotEnrolled { .. }) => (self.failures, self.pause) = (1, self.spread()),
            Err(e) => {
                let (first, longest) = if is_refusal(e) { REFUSED } else { OFFLINE };
                // Full jitter: a fleet that lost its hub does not come back all at once.
                let most = (first * 2_f64.powi(self.failures)).min(longest);
                self.failures = (self.failures + 1).min(20);
                self.pause = self.spread() + self.rng.random_range(0.0..=most);
            }
        }
    }

    /// The usual time between two contacts, give or take a tenth.
    fn spread(&mut self) -> f64 {
        self.every * self.rng.random_range(0.9..=1.1)
    }
}

/// Whether it takes a person to change it.
fn is_refusal(error: &Error) -> bool {
    use RefusalCode::{Key, Role, Token};
    match error {
        Error::Refused { refusal, .. } => matches!(refusal.code, Key | Role | Token),
        Error::Config { .. } => true,
        _ => false,
    }
}

/// What was sent in the last day, in a file.
#[derive(Debug)]
pub struct Allowance {
    path: PathBuf,
    most: Option<u64>,
    sent: VecDeque<(Timestamp, u64)>,
}

impl Allowance {
    /// The allowance of so many bytes a day, as far as the file at `path` says it was used. A file that is damaged says nothing.
    ///
    /// # Errors
    /// [`Error::Models`] if the file cannot be read.
    pub fn open(path: PathBuf, most: Option<u64>) -> Result<Self> {
        let sent = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| {
                tracing::warn!("{} is not readable: {e}", path.display());
                VecDeque::new()
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => VecDeque::new(),
            Err(e) => return Err(models::Error::io("read", &path)(e).into()),
        };
        Ok(Self { path, most, sent })
    }

    /// Whether so many bytes may be sent now. What is larger than a whole day's allowance may, if it is the first.
    pub fn has(&self, bytes: u64, now: Timestamp) -> bool {
        let used = self.used(now);
        self.most.is_none_or(|most| used + bytes <= most || used == 0)
    }

    /// Takes note that so many bytes are about to be sent: what is cut off was sent as well. A disk that refuses it, as a full one,
    /// must not keep segments from leaving it: then it is noted until the next start.
    pub fn spend(&mut self, bytes: u64, now: Timestamp) {
        self.sent.retain(|(at, _)| is_today(*at, now));
        self.sent.push_back((now, bytes));
        self.write();
    }

    /// What was spent last was not sent.
    pub fn give_back(&mut self) {
        self.sent.pop_back();
        self.write();
    }

    fn write(&self) {
        if self.most.is_some()
            && let Err(e) = durable::write_json(&self.path, &self.sent)
        {
            tracing::warn!("{e}");
        }
    }

    fn used(&self, now: Timestamp) -> u64 {
        self.sent.iter().filter(|(at, _)| is_today(*at, now)).map(|(_, bytes)| bytes).sum()
    }
}

fn is_today(at: Timestamp, now: Timestamp) -> bool {
    (SignedDuration::ZERO..DAY).contains(&now.duration_since(at))
}

#[cfg(test)]
mod tests {
    use models::hub::Refusal;
    use rand::SeedableRng;

    use super::*;
    use crate::fixture::TestResult;

    fn link(every: f64, hours: Option<[u8; 2]>) -> Link {
        Link::new(every, hours, TimeZone::UTC, ChaCha8Rng::seed_from_u64(1))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn refused(code: RefusalCode) -> Error {
        Error::Refused { action: "read", name: "x".into(), refusal: Refusal { code, message: String::new() } }
    }

    #[test]
    fn pauses_double_at_random_and_end_with_a_success() {
        let longest = |error: &Error, failures: usize| {
            let mut link = link(0.0, None);
            let pauses = (0..failures).map(|_| {
                link.contacted(Err(error), at(0));
                assert!(!link.is_up(at(0)) && (link.pause == 0.0 || !link.is_due(at(0))));
                link.pause
            });
            pauses.collect::<Vec<_>>()
        };
        let missing = Error::Missing { name: "x".into(), because: "y".into() };
        let offline = longest(&missing, 200);
        assert!(offline[0] <= 1.0 && offline[3] <= 8.0 && offline.iter().all(|pause| *pause <= 300.0));
        let mean = offline[20..].iter().sum::<f64>() / 180.0;
        assert!((100.0..200.0).contains(&mean), "uniform up to five minutes, found a mean of {mean}");
        let kept_out = longest(&refused(RefusalCode::Key), 200);
        assert!(kept_out[20..].iter().any(|pause| *pause > 300.0) && kept_out.iter().all(|pause| *pause <= 3600.0));
        assert!(longest(&refused(RefusalCode::TooMuch), 200).iter().all(|pause| *pause <= 300.0));
        let not_enrolled = Error::NotEnrolled { hub: "x".into(), why: "y".into() };
        assert!(longest(&not_enrolled, 200).iter().all(|pause| *pause == 0.0), "nobody is asked");

        let mut link = link(30.0, None);
        assert!(link.is_due(at(0)));
        link.contacted(Err(&missing), at(0));
        assert!(!link.is_due(at(26)), "no sooner than without a failure");
        link.contacted(Ok(()), at(40));
        assert!(!link.is_due(at(66)) && link.is_due(at(74)) && link.is_up(at(41)));
        assert!(link.is_due(at(0)), "the clock was set back");
    }

    #[test]
    fn outside_its_hours_a_link_is_silent() {
        let due = |hours, hour: i64| link(0.0, Some(hours)).is_due(at(3600 * hour));
        assert_eq!([21, 22, 23, 0, 5, 6].map(|hour| due([22, 6], hour)), [false, true, true, true, true, false]);
        assert_eq!([8, 9, 16, 17].map(|hour| due([9, 17], hour)), [false, true, true, false]);
    }

    #[test]
    fn what_was_sent_counts_for_a_day_and_over_restarts() -> TestResult {
        let folder = tempfile::tempdir()?;
        let open = || Allowance::open(folder.path().join("sent.json"), Some(100));
        let mut allowance = open()?;
        assert!(allowance.has(1000, at(0)), "what is larger than a day's allowance goes alone");
        allowance.spend(60, at(0));
        assert!(allowance.has(40, at(10)) && !allowance.has(41, at(10)));
        let mut allowance = open()?;
        assert!(!allowance.has(41, at(10)));
        allowance.spend(40, at(10));
        allowance.spend(1, at(10));
        allowance.give_back();
        assert!(!allowance.has(1, at(86_399)) && allowance.has(60, at(86_400)));
        fs::write(folder.path().join("sent.json"), "damaged")?;
        assert!(open()?.has(100, at(20)));
        Ok(())
    }
}
