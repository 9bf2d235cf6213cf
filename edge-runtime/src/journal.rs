//! Every prediction exactly once, on disk: one JSON object a line.
//!
//! The journal is what a device knows of its past. From it follow the images that are done and the share of each
//! class that is spent, and once true labels are known, the accuracy of every bundle on this device.
//!
//! A journal that has grown large becomes `predictions.1.jsonl`, in place of the one before it, and a new one begins. What its
//! entries added up to is then in `history.json`.

mod history;

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
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
    /// Whether it arrived, as from a camera, instead of being found in the folder, where it may be found again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arrived: bool,
}

/// The content of `history.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Before<'a> {
    history: Cow<'a, History>,
    /// Of the last line that it holds: a journal in which it stands was about to be put away.
    last_line: Digest,
}

/// The journal's file, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// None after the one before was put away, until there is something to write.
    file: Option<File>,
    /// Bytes of the file that are whole lines.
    length: u64,
    /// Of the last of these.
    last_line: Option<Digest>,
    /// Lines not yet on disk.
    pending: Vec<u8>,
    history: History,
    /// Bytes after which a new file begins.
    limit: u64,
}

impl Journal {
    /// Opens or creates the journal at `path`. A last line that a power cut tore is cut off; its image will be
    /// classified again. A line that is no entry is passed over with a warning. Beyond `limit` bytes a new file begins.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path if a file cannot be read or written.
    pub fn open(path: &Path, limit: u64) -> Result<Self> {
        let before = read_before(&history_path(path))?;
        let counted = before.as_ref().map(|before| before.last_line);
        let history_of = |before: Before<'_>| before.history.into_owned();
        let mut history = before.map(history_of).unwrap_or_default();
        let file = open(path)?;
        let (mut length, mut last_line) = (0, None);
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
            last_line = Some(Digest::of(&line));
            if last_line == counted {
                // The file was about to be put away: so far it is counted.
                history = read_before(&history_path(path))?.map(history_of).unwrap_or_default();
            }
        }
        file.set_len(length).map_err(models::Error::io("cut the torn last line of", path))?;
        Ok(Self { path: path.to_owned(), file: Some(file), length, last_line, pending: Vec::new(), history, limit })
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
            if self.file.is_none() {
                self.file = Some(open(&self.path)?);
            }
            self.append().map_err(models::Error::io("append to", &self.path))?;
        }
        if self.length > self.limit { self.begin_anew() } else { Ok(()) }
    }

    /// Puts the file away. Wherever that is cut off, nothing is counted twice and nothing is forgotten.
    fn begin_anew(&mut self) -> Result<()> {
        let Some(last_line) = self.last_line else { return Ok(()) };
        let before = Before { history: Cow::Borrowed(&self.history), last_line };
        durable::write_json(&history_path(&self.path), &before)?;
        durable::rename(&self.path, &put_away_path(&self.path))?;
        (self.file, self.length, self.last_line) = (None, 0, None);
        Ok(durable::sync_folder(self.path.parent().unwrap_or(Path::new(".")))?)
    }

    fn append(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        // An earlier append may have stopped in the middle of a line.
        file.set_len(self.length)?;
        file.seek(SeekFrom::Start(self.length))?;
        file.write_all(&self.pending)?;
        file.sync_data()?;
        self.length += self.pending.len() as u64;
        self.last_line = self.pending.split_inclusive(|byte| *byte == b'\n').next_back().map(Digest::of);
        self.pending.clear();
        Ok(())
    }
}

fn history_path(path: &Path) -> PathBuf {
    path.with_file_name("history.json")
}

fn put_away_path(path: &Path) -> PathBuf {
    path.with_extension("1.jsonl")
}

fn open(path: &Path) -> Result<File> {
    if !path.exists() {
        durable::write(path, b"")?;
    }
    Ok(OpenOptions::new().read(true).write(true).open(path).map_err(models::Error::io("open", path))?)
}

fn read_before(path: &Path) -> Result<Option<Before<'static>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(models::Error::io("read", path)(e).into()),
    };
    // A damaged disk must not keep a device from starting: it then classifies again what is in its folder.
    let told = |e: &serde_json::Error| tracing::error!("{} is not readable, and so forgotten: {e}", path.display());
    Ok(serde_json::from_slice(&bytes).inspect_err(told).ok())
}

#[cfg(test)]
mod tests {
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
            arrived: false,
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_wherever_it_tore() -> TestResult {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("predictions.jsonl");
        let mut journal = Journal::open(&path, 1 << 20)?;
        journal.push(&entry(1));
        journal.flush()?;
        let first = fs::read(&path)?;
        journal.push(&entry(2));
        journal.flush()?;
        let both = fs::read(&path)?;

        for torn in first.len()..both.len() {
            fs::write(&path, &both[..torn])?;
            let mut journal = Journal::open(&path, 1 << 20)?;
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
    fn a_large_journal_is_put_away_and_remembered_wherever_that_is_cut_off() -> TestResult {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("predictions.jsonl");
        let put_away = folder.path().join("predictions.1.jsonl");
        let mut whole = Journal::open(&folder.path().join("whole.jsonl"), 1 << 20)?;
        let mut journal = Journal::open(&path, 2000)?;
        let mut times = 0;
        for number in 0..40 {
            let entry = Entry { arrived: number % 2 == 0, ..entry(number) };
            whole.push(&entry);
            journal.push(&entry);
            journal.flush()?;
            assert_eq!(journal.history(), whole.history(), "after {number}");
            if !path.exists() {
                times += 1;
                if times % 2 == 1 {
                    // The power went after the sum was written, before the file was put away.
                    fs::rename(&put_away, &path)?;
                }
            }
            journal = Journal::open(&path, 2000)?;
            assert_eq!(journal.history(), whole.history(), "after {number}, opened again");
        }
        assert!(times > 1, "it was put away");
        assert!(fs::metadata(&path)?.len() + fs::metadata(&put_away)?.len() < 5000);
        assert!(journal.history().has_source("1.png") && !journal.history().has_source("2.png"));
        assert!(journal.history().has_image(Digest::of(&[2])));
        Ok(())
    }

    #[test]
    fn what_could_not_be_written_is_written_later_and_once() -> TestResult {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("predictions.jsonl");
        let mut journal = Journal::open(&path, 1 << 20)?;
        let writable = journal.file.replace(File::open(&path)?);
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
