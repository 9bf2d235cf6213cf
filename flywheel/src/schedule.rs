//! Rounds one after another: when enough new samples are in, or when it is time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use crate::{
    interrupt,
    progress::Progress,
    project::Project,
    round::{self, RoundRecord, records},
    steps::ingest,
};

/// How often Ctrl-C is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// When a round starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// So many samples are new since the last one.
    pub samples: usize,
    /// So long after the last one, if any sample is new.
    pub every: Option<SignedDuration>,
    /// How often the remote is asked.
    pub poll: Duration,
    /// Rounds after which the loop ends; none: it goes on.
    pub rounds: Option<u32>,
}

impl Schedule {
    /// Whether a round is to start: always the first.
    pub fn is_due(&self, last: Option<&RoundRecord>, samples: usize, now: Timestamp) -> bool {
        let Some(last) = last else { return true };
        let new = new_samples(last, samples);
        let is_time = self.every.is_some_and(|every| now.duration_since(last.finished) >= every);
        new >= self.samples.max(1) || (new > 0 && is_time)
    }
}

/// How many samples are new since a round, of so many that are there. Where some were forgotten since, some may be.
fn new_samples(last: &RoundRecord, samples: usize) -> usize {
    samples.checked_sub(last.inputs.choice.total()).unwrap_or(1)
}

/// Runs rounds until Ctrl-C, and gives each record to `done`. What fails, as when the remote is away, is said and tried again at the next
/// poll.
///
/// # Errors
/// Those of `done`.
pub fn run(
    project: &Project,
    schedule: &Schedule,
    progress: &Progress,
    mut done: impl FnMut(&RoundRecord) -> Result<()>,
) -> Result<()> {
    let mut rounds = 0;
    let mut said = String::new();
    while schedule.rounds.is_none_or(|all| rounds < all) && interrupt::check().is_ok() {
        match pass(project, schedule, progress) {
            Ok(Some(record)) => {
                done(&record)?;
                rounds += 1;
                continue;
            }
            Ok(None) => said.clear(),
            Err(_) if interrupt::check().is_err() => break,
            Err(e) => {
                let trouble = format!("{e:#}");
                if trouble != said {
                    progress.line(format!("tried again every {:?}: {trouble}", schedule.poll));
                    said = trouble;
                }
            }
        }
        wait(schedule.poll);
    }
    Ok(())
}

/// A round, if one is due.
fn pass(project: &Project, schedule: &Schedule, progress: &Progress) -> Result<Option<RoundRecord>> {
    let all = records(project)?;
    let last = all.last();
    let is_begun = round::inputs(project, all.len() as u32 + 1)?.is_some();
    if last.is_some() && !is_begun {
        let samples = take_in(project)?;
        let now = Timestamp::now();
        if !schedule.is_due(last, samples, now) {
            return Ok(None);
        }
    }
    round::run(project, progress).map(Some)
}

/// Takes in what the devices have sent: how many samples there are.
fn take_in(project: &Project) -> Result<usize> {
    let _lock = round::lock(project)?;
    ingest::ingest(project, &round::open_remote(project)?, Timestamp::now())?;
    Ok(ingest::samples(project)?.len())
}

fn wait(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end && interrupt::check().is_ok() {
        thread::sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        round::{Inputs, testing::recorded},
        steps::choose::Choice,
    };

    #[test]
    fn a_round_is_due_with_enough_new_samples_or_in_time_with_any() {
        let schedule = Schedule {
            samples: 100,
            every: Some(SignedDuration::from_hours(24)),
            poll: Duration::from_secs(60),
            rounds: None,
        };
        let choice = Choice { chosen: 40, labeled: 5, audit: 10, unsure: 50, like_test: 3, ..Choice::default() };
        let last = RoundRecord { inputs: Inputs { choice, ..Inputs::none(Timestamp::UNIX_EPOCH) }, ..recorded(1) };
        let after = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        assert!(schedule.is_due(None, 0, after(0)), "the first needs no samples");
        // The last one has looked at 100.
        for (samples, hours, due) in
            [(199, 1, false), (200, 1, true), (101, 25, true), (100, 25, false), (60, 25, true), (60, 1, false)]
        {
            assert_eq!(schedule.is_due(Some(&last), samples, after(hours)), due, "{samples} samples, {hours} hours");
        }
        assert!(!Schedule { every: None, ..schedule }.is_due(Some(&last), 101, after(25)));
    }
}
