//! Every prediction exactly once, on disk: one JSON object a line.
//!
//! The journal is what a device knows of its past. From it follow the images that are done and the share of each
//! class that is spent, and once true labels are known, the accuracy of every bundle on this device.

mod history;

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use models::{Digest, Dropped, PerceptualHash, Reason, durable};
use serde::{Deserialize, Serialize};

pub use self::history::{History, stream};
use crate::Result;

/// One image and what a bundle said of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the image at its source: the path below the source folder.
    pub source: String,
    /// Digest of the image's bytes.
    pub image: Digest,
    /// When it was classified.
    pub classified: Timestamp,
    /// The bundle that judged it.
    pub bundle: Digest,
    /// That bundle's sequence number.
    pub sequence: u64,
    /// The most probable class.
    pub class: usize,
    /// Its label.
    pub label: String,
    /// Its calibrated probability.
    pub confidence: f64,
    /// Why the image was kept; empty if it was not.
    pub kept: Vec<Reason>,
    /// Why it was not kept, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
    /// Of a kept image: what it looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look: Option<PerceptualHash>,
    /// Of a kept image: its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// The journal's file, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of the file that are whole lines.
    length: u64,
    /// Lines not yet on disk.
    pending: Vec<u8>,
    history: History,
}

impl Journal {
    /// Opens or creates the journal at `path`. A last line that a power cut tore is cut off; its image will be
    /// classified again. A line that is no entry is passed over with a warning.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path if the file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            durable::write(path, b"")?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(models::Error::io("open", path))?;
        let mut history = History::default();
        let mut length = 0;
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(models::Error::io("read", path))?;
            if !line.ends_with(b"\n") {
                break;
            }
            length += read as u64;
            match serde_json::from_slice(&line) {
                Ok(entry) => history.add(&entry),
                Err(e) => tracing::warn!("{}: passing over a line that is no prediction: {e}", path.display()),
            }
        }
        file.set_len(length).map_err(models::Error::io("cut the torn last line of", path))?;
        Ok(Self { path: path.to_owned(), file, length, pending: Vec::new(), history })
    }

    /// What the entries add up to, those not yet on disk included.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Adds an entry, which [`Journal::flush`] brings to disk.
    pub fn push(&mut self, entry: &Entry) {
        match serde_json::to_vec(entry) {
            Ok(line) => self.pending.extend([line.as_slice(), b"\n"].concat()),
            Err(e) => tracing::error!("{}: a prediction has no JSON form: {e}", entry.source),
        }
        self.history.add(entry);
    }

    /// Brings all entries to disk, durably.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path, as of a full disk. The entries are not lost: the next flush tries
    /// them again.
    pub fn flush(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            self.append().map_err(models::Error::io("append to", &self.path))?;
        }
        Ok(())
    }

    fn append(&mut self) -> std::io::Result<()> {
        // An earlier append may have stopped in the middle of a line.
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&self.pending)?;
        self.file.sync_data()?;
        self.length += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use models::ReasonKind;

    use super::*;
    use crate::fixture::TestResult;

    fn entry(number: u8) -> Entry {
        Entry {
            source: format!("{number}.png"),
            image: Digest::of(&[number]),
            classified: Timestamp::UNIX_EPOCH,
            bundle: Digest::of(b"bundle"),
            sequence: 1,
            class: 2,
            label: "nut".into(),
            confidence: 0.75,
            kept: vec![Reason::Confident { threshold: 0.5 }],
            dropped: None,
            look: None,
            bytes: Some(100),
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_wherever_it_tore() -> TestResult {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("predictions.jsonl");
        let mut journal = Journal::open(&path)?;
        journal.push(&entry(1));
        journal.flush()?;
        let first = fs::read(&path)?;
        journal.push(&entry(2));
        journal.flush()?;
        let both = fs::read(&path)?;

        for torn in first.len()..both.len() {
            fs::write(&path, &both[..torn])?;
            let mut journal = Journal::open(&path)?;
            assert_eq!((fs::read(&path)?, journal.history().entries()), (first.clone(), 1), "torn at byte {torn}");
            assert!(journal.history().has_source("1.png") && !journal.history().has_source("2.png"));
            assert_eq!(journal.history().kept_for(Digest::of(b"bundle"), ReasonKind::Confident, 2), 1);
            journal.push(&entry(2));
            journal.flush()?;
            assert_eq!(fs::read(&path)?, both, "torn at byte {torn}");
        }
        Ok(())
    }

    #[test]
    fn what_could_not_be_written_is_written_later_and_once() -> TestResult {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("predictions.jsonl");
        let mut journal = Journal::open(&path)?;
        let writable = std::mem::replace(&mut journal.file, File::open(&path)?);
        journal.push(&entry(1));
        let said = journal.flush().err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains("predictions.jsonl"), "{said}");
        journal.file = writable;
        journal.push(&entry(2));
        journal.flush()?;
        journal.flush()?;
        assert_eq!(fs::read_to_string(&path)?.lines().count(), 2);
        Ok(())
    }
}
