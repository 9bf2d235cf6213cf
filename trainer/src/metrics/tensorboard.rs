//! The log as TensorBoard reads it: an event file beside it.
//!
//! Each start of a run begins a file of its own, which tells TensorBoard to forget what a run that was cut off had
//! written behind its last checkpoint.
//!
//! # Reference
//! TensorFlow's `event.proto`, `summary.proto` and the framing of `tfrecord` files.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message;

use super::Record;
use crate::Result;

/// An event file being written.
#[derive(Debug)]
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in `folder` for a run that goes on after `step`.
    pub(super) fn create(folder: &Path, step: u64) -> Result<Self> {
        let now = now();
        // TensorBoard finds the files by this name and reads them in its order.
        let path = folder.join(format!("events.out.tfevents.{:010}.flywheel.{}", now as u64, process::id()));
        let file = File::create(&path).map_err(models::Error::io("create", &path))?;
        let mut events = Self { path, file };
        events.append(&Event { wall_time: now, file_version: Some("brain.Event:2".into()), ..Default::default() })?;
        let session_log = Some(SessionLog { status: SessionLog::START });
        events.append(&Event { wall_time: now, step: step as i64 + 1, session_log, ..Default::default() })?;
        Ok(events)
    }

    /// Adds a record's numbers.
    pub(super) fn write(&mut self, record: &Record) -> Result<()> {
        let value = |(tag, value): (&str, f64)| Value { tag: tag.into(), simple_value: Some(value as f32) };
        let summary = Some(Summary { value: numbers(record).into_iter().map(value).collect() });
        self.append(&Event { wall_time: now(), step: record.step() as i64, summary, ..Default::default() })
    }

    fn append(&mut self, event: &Event) -> Result<()> {
        let written = self.file.write_all(&framed(&event.encode_to_vec()));
        Ok(written.map_err(models::Error::io("write", &self.path))?)
    }
}

/// A record's numbers by stable names.
fn numbers(record: &Record) -> Vec<(&'static str, f64)> {
    let named: Vec<(&str, Option<f64>)> = match record {
        Record::Train(record) => vec![
            ("loss/total", Some(record.total)),
            ("loss/labeled", Some(record.labeled)),
            ("loss/unlabeled", record.unlabeled),
            ("loss/pre_mixup", record.pre_mixup),
            ("loss/rotation", record.rotation),
            ("confident", record.confident),
            ("speed/images_per_second", Some(record.images_per_second)),
            ("speed/waiting", Some(record.waiting)),
        ],
        Record::Evaluation(record) => vec![
            ("accuracy/test", record.test.map(|test| test.accuracy)),
            ("accuracy/labeled", Some(record.labeled.accuracy)),
            ("evaluation_loss/test", record.test.map(|test| test.loss)),
            ("evaluation_loss/labeled", Some(record.labeled.loss)),
        ],
    };
    named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Length, its checksum, the bytes, their checksum.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), bytes, &masked(bytes)].concat()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl SessionLog {
    const START: i32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What TensorBoard's own writer makes of the same event.
    #[test]
    fn frames_an_event_as_tensorboard_does() {
        let value = |tag: &str, value| Value { tag: tag.into(), simple_value: Some(value) };
        let summary = Some(Summary { value: vec![value("loss/total", 1.5), value("confident", 0.0)] });
        let event = Event { wall_time: 1.7e9, step: 300, summary, ..Default::default() };
        let expected = [
            51, 0, 0, 0, 0, 0, 0, 0, 12, 167, 32, 86, 9, 0, 0, 0, 64, 252, 84, 217, 65, 16, 172, 2, 42, 37, 10, 17, 10,
            10, 108, 111, 115, 115, 47, 116, 111, 116, 97, 108, 21, 0, 0, 192, 63, 10, 16, 10, 9, 99, 111, 110, 102,
            105, 100, 101, 110, 116, 21, 0, 0, 0, 0, 53, 147, 81, 116,
        ];
        assert_eq!(framed(&event.encode_to_vec()), expected);
    }
}
