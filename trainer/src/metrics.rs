//! The log of a run: one JSON object a line, with stable names.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Result, evaluate::Evaluation};

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
}

impl Log {
    /// Opens a log and drops what was written after `step`.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self> {
        let kept: Vec<Record> = if path.exists() { read(path)? } else { Vec::new() };
        models::durable::write_with(path, |file| {
            kept.iter()
                .filter(|record| record.step() <= step)
                .try_for_each(|record| writeln!(file, "{}", serde_json::to_string(record)?))
        })?;
        let file = OpenOptions::new().append(true).open(path).map_err(models::Error::io("open", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Makes everything written last: a checkpoint must never be ahead of the log.
    pub(crate) fn sync(&self) -> Result<()> {
        Ok(self.file.sync_data().map_err(models::Error::io("sync", &self.path))?)
    }

    pub(crate) fn write(&mut self, record: &Record) -> Result<()> {
        let line = serde_json::to_string(record).map_err(|e| models::Error::malformed("log record", "JSON", e))?;
        Ok(writeln!(self.file, "{line}").map_err(models::Error::io("write", &self.path))?)
    }
}
