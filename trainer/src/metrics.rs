//! The log of a run: one JSON object a line, with stable names; the same numbers for TensorBoard.

mod tensorboard;

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use self::tensorboard::EventFile;
use crate::{Result, evaluate::Evaluation};

/// Name of the log in a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// Means over the steps since the last such line.
    Train(TrainRecord),
    /// The EMA model measured.
    Evaluation(EvaluationRecord),
}

/// Losses, unweighted, and speed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Optimiser steps done.
    pub step: u64,
    /// What was minimised.
    pub total: f64,
    /// Labeled loss.
    pub labeled: f64,
    /// Unlabeled loss, if the method has one.
    pub unlabeled: Option<f64>,
    /// Pre-mixup loss, if the method has one.
    pub pre_mixup: Option<f64>,
    /// Rotation loss, if the method has one.
    pub rotation: Option<f64>,
    /// Fraction of the unlabeled images whose pseudo-label counted, if the method chooses.
    pub confident: Option<f64>,
    /// Images a second, every view counted.
    pub images_per_second: f64,
    /// Fraction of the time that the device waited for images to be drawn and augmented.
    #[serde(default)]
    pub waiting: f64,
}

/// Accuracy of the EMA model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Optimiser steps done.
    pub step: u64,
    /// On the frozen test set, if there is one.
    pub test: Option<Evaluation>,
    /// On the labeled images, without augmentation.
    pub labeled: Evaluation,
}

impl Record {
    /// The step it was written after.
    pub fn step(&self) -> u64 {
        match self {
            Self::Train(record) => record.step,
            Self::Evaluation(record) => record.step,
        }
    }

    /// The speed, if it is a line about training.
    pub fn images_per_second(&self) -> Option<f64> {
        match self {
            Self::Train(record) => Some(record.images_per_second),
            Self::Evaluation(_) => None,
        }
    }
}

/// Evaluations over which the papers take the median.
pub const LAST: usize = 20;

/// What the evaluations of a run come to: test accuracies of the EMA model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many evaluations there were.
    pub evaluations: usize,
    /// Median of the last 20, or of all if there were fewer: what the papers report.
    pub median_of_last_20: f64,
    /// The best. It was chosen by looking at the test set, and flatters.
    pub best: f64,
    /// The last: that of the model that was written.
    pub last: f64,
}

/// The summary of a log, if it has an evaluation on a test set.
///
/// # Reference
/// Berthelot et al., "MixMatch" (2019), section 4.1.1; Oliver et al. (2018) on why "best" is no measure.
pub fn summary(records: &[Record]) -> Option<Summary> {
    let accuracy = |record: &Record| match record {
        Record::Evaluation(record) => record.test.map(|test| test.accuracy),
        Record::Train(_) => None,
    };
    let all: Vec<f64> = records.iter().filter_map(accuracy).collect();
    let mut last: Vec<f64> = all[all.len().saturating_sub(LAST)..].to_vec();
    last.sort_by(f64::total_cmp);
    let middle = last.len() / 2;
    let median = if last.len().is_multiple_of(2) {
        (last.get(middle.checked_sub(1)?)? + last[middle]) / 2.0
    } else {
        last[middle]
    };
    Some(Summary {
        evaluations: all.len(),
        median_of_last_20: median,
        best: all.iter().copied().fold(0.0, f64::max),
        last: *all.last()?,
    })
}

/// Reads a log.
///
/// # Errors
/// [`models::Error::Io`], or [`models::Error::Malformed`] with the line. A torn last line is left out: it was cut off by a
/// power cut.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text = fs::read_to_string(path).map_err(models::Error::io("read", path))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(number, line): (usize, &str)| {
        let what = || format!("{}, line {}", path.display(), number + 1);
        Ok(serde_json::from_str(line).map_err(|e| models::Error::malformed(what(), "a log record", e))?)
    };
    whole.lines().enumerate().map(parse).collect()
}

/// A log being written.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    events: EventFile,
}

impl Log {
    /// Opens the log in a run's folder and drops what was written after `step`.
    pub(crate) fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = &folder.join(METRICS_FILE);
        let kept: Vec<Record> = if path.exists() { read(path)? } else { Vec::new() };
        models::durable::write_with(path, |file| {
            kept.iter()
                .filter(|record| record.step() <= step)
                .try_for_each(|record| writeln!(file, "{}", serde_json::to_string(record)?))
        })?;
        let file = OpenOptions::new().append(true).open(path).map_err(models::Error::io("open", path))?;
        Ok(Self { path: path.to_owned(), file, events: EventFile::create(folder, step)? })
    }

    /// Makes everything written last: a checkpoint must never be ahead of the log.
    pub(crate) fn sync(&self) -> Result<()> {
        Ok(self.file.sync_data().map_err(models::Error::io("sync", &self.path))?)
    }

    pub(crate) fn write(&mut self, record: &Record) -> Result<()> {
        let line = serde_json::to_string(record).map_err(|e| models::Error::malformed("log record", "JSON", e))?;
        writeln!(self.file, "{line}").map_err(models::Error::io("write", &self.path))?;
        self.events.write(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluations(accuracies: impl IntoIterator<Item = f64>) -> Vec<Record> {
        let evaluation = |accuracy| Evaluation { accuracy, loss: 0.0 };
        let record = |(step, accuracy)| {
            Record::Evaluation(EvaluationRecord { step, test: Some(evaluation(accuracy)), labeled: evaluation(1.0) })
        };
        (1..).zip(accuracies).map(record).collect()
    }

    #[test]
    fn the_median_is_over_the_last_twenty_alone() {
        // A lucky start, nineteen of 0.5 to 0.68, and a bad end.
        let accuracies = [0.9, 0.9].into_iter().chain((0..19).map(|i| 0.5 + 0.01 * f64::from(i))).chain([0.1]);
        let found = summary(&evaluations(accuracies)).expect("evaluations");
        assert_eq!((found.evaluations, found.best, found.last), (22, 0.9, 0.1));
        assert!((found.median_of_last_20 - 0.585).abs() < 1e-12, "{found:?}");
        assert_eq!(summary(&evaluations([0.3, 0.2, 0.7])).map(|s| s.median_of_last_20), Some(0.3));
        assert_eq!(summary(&[]), None);
    }
}
