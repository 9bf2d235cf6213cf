//! Rounds one after another: when enough new samples or labels are in, or when it is time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};

use crate::{
    board, interrupt,
    progress::Progress,
    project::Project,
    round::{self, RoundRecord, records},
    steps::{ingest, review},
};

/// How often Ctrl-C is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// After the pages were made, they are left for so many times as long.
const PAUSE: u32 = 20;

/// When a round starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// So many samples are new since the last one.
    pub samples: usize,
    /// People have said so much since the last one.
    pub labels: usize,
    /// So long after the last one, if any sample or label is new.
    pub every: Option<SignedDuration>,
    /// How often the remote is asked.
    pub poll: Duration,
    /// Rounds after which the loop ends; none: it goes on.
    pub rounds: Option<u32>,
}

impl Schedule {
    /// Whether a round is to start: always the first.
    pub fn is_due(&self, last: Option<&RoundRecord>, samples: usize, labels: usize, now: Timestamp) -> bool {
        let Some(last) = last else { return true };
        let new = new_samples(last, samples);
        let is_time = self.every.is_some_and(|every| now.duration_since(last.finished) >= every);
        new >= self.samples.max(1) || labels >= self.labels.max(1) || (new + labels > 0 && is_time)
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
/// Those of `done`; if no model has ever gone out, since nothing comes in then that another round could learn from.
pub fn run(
    project: &Project,
    schedule: &Schedule,
    progress: &Progress,
    mut done: impl FnMut(&RoundRecord) -> Result<()>,
) -> Result<()> {
    let mut rounds = 0;
    let mut said = String::new();
    let mut pages = Pages::default();
    let mut here = Here::default();
    while schedule.rounds.is_none_or(|all| rounds < all) && interrupt::check().is_ok() {
        match pass(project, schedule, &mut here, progress) {
            Ok(Pass::Round(record)) => {
                done(&record)?;
                rounds += 1;
                pages.show(project, progress);
                ensure!(
                    has_published(&records(project)?),
                    "no model is out yet, and without one devices send nothing: label more images, or add test images, and start the loop again"
                );
                continue;
            }
            Ok(Pass::Waiting { is_news }) => {
                said.clear();
                pages.are_old |= is_news;
                if pages.is_time() {
                    pages.show(project, progress);
                }
            }
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

/// What came of looking whether a round is due.
enum Pass {
    /// One was run.
    Round(Box<RoundRecord>),
    /// None was due.
    Waiting {
        /// Something has come in.
        is_news: bool,
    },
}

/// What is here of samples and labels; read again only when something comes in.
#[derive(Default)]
struct Here {
    /// Files of segments and of reviews: others take in beside the loop, too.
    files: Option<[usize; 2]>,
    samples: usize,
    words: usize,
}

/// When the hub's pages were made, which takes long where many samples are.
#[derive(Default)]
struct Pages {
    are_old: bool,
    last: Option<(Instant, Duration)>,
}

impl Pages {
    /// Whether something is new, and the work has paused for long enough.
    fn is_time(&self) -> bool {
        self.are_old && self.last.is_none_or(|(end, took)| end.elapsed() >= took * PAUSE)
    }

    fn show(&mut self, project: &Project, progress: &Progress) {
        let begin = Instant::now();
        let is_shown = board::show(project, progress);
        (self.are_old, self.last) = (!is_shown, Some((Instant::now(), begin.elapsed())));
    }
}

/// A round, if one is due.
fn pass(project: &Project, schedule: &Schedule, here: &mut Here, progress: &Progress) -> Result<Pass> {
    let all = records(project)?;
    // Without a model in the field, what is labeled since is all that a round needs.
    let last = all.last().filter(|_| has_published(&all));
    let is_begun = round::inputs(project, all.len() as u32 + 1)?.is_some();
    if let Some(last) = last
        && !is_begun
    {
        let _taken_in = round::take_in(project)?;
        let files = Some([ingest::segments(project)?, review::files(project)?.len()]);
        let is_news = files != here.files;
        if is_news {
            let (samples, words) = (ingest::samples(project)?.len(), review::reviews(project)?.words());
            *here = Here { files, samples, words };
        }
        let labels = here.words.saturating_sub(last.inputs.words);
        if !schedule.is_due(Some(last), here.samples, labels, Timestamp::now()) {
            return Ok(Pass::Waiting { is_news });
        }
    }
    Ok(Pass::Round(Box::new(round::run(project, progress)?)))
}

fn has_published(all: &[RoundRecord]) -> bool {
    all.iter().any(|record| record.published)
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
    fn a_round_is_due_with_enough_new_samples_or_labels_or_in_time_with_any() {
        let schedule = Schedule {
            samples: 100,
            labels: 20,
            every: Some(SignedDuration::from_hours(24)),
            poll: Duration::from_secs(60),
            rounds: None,
        };
        let choice = Choice { chosen: 40, labeled: 5, audit: 10, unsure: 50, like_test: 3, ..Choice::default() };
        let last = RoundRecord { inputs: Inputs { choice, ..Inputs::none(Timestamp::UNIX_EPOCH) }, ..recorded(1) };
        let after = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        assert!(schedule.is_due(None, 0, 0, after(0)), "the first needs no samples");
        // The last one has looked at 100.
        for (samples, labels, hours, due) in [
            (199, 19, 1, false),
            (200, 0, 1, true),
            (100, 20, 1, true),
            (101, 0, 25, true),
            (100, 1, 25, true),
            (100, 0, 25, false),
            (60, 0, 25, true),
            (60, 0, 1, false),
        ] {
            let is_due = schedule.is_due(Some(&last), samples, labels, after(hours));
            assert_eq!(is_due, due, "{samples} samples, {labels} labels, {hours} hours");
        }
        assert!(!Schedule { every: None, ..schedule }.is_due(Some(&last), 101, 1, after(25)));
    }
}
