//! Kept samples and sealed segments on disk.
//!
//! ```text
//! open/IMAGE.tar       a kept sample: a segment of one, named by the image's sha256
//! sealed/SEGMENT.tar   a segment, named by its sha256
//! ```
//!
//! # Crashes
//! Sealing writes the segment, makes it durable under its final name, renames `open/` away in one step, and only
//! then deletes what was in it. The same samples make the same bytes. So a store that finds open samples when it
//! starts can tell whether a crash had cut off a seal after its segment was written: then the segment that they make is
//! there, and they go. Otherwise they stay open, where an image that is classified again, because the crash came before its
//! prediction was journaled, takes its own place: every sample is in exactly one segment, as long as nothing is sealed that is
//! not journaled.
//!
//! # Space
//! Sealing needs as much free space as the open samples take. Until there is, they stay open, and what the disk
//! still takes is kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use models::{Digest, Sample, durable, segment};

use crate::Result;

/// When a segment is full.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Samples.
    pub samples: usize,
    /// Bytes of the open samples' files.
    pub bytes: u64,
}

/// A segment that was just sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its digest.
    pub segment: Digest,
    /// Samples in it.
    pub samples: usize,
}

/// The store's folder. One process may use it.
#[derive(Debug)]
pub struct Store {
    open: PathBuf,
    sealed: PathBuf,
    limits: Limits,
    samples: usize,
    bytes: u64,
    /// The last seal failed.
    is_stuck: bool,
}

impl Store {
    /// Opens or creates the store in `folder`: deletes what a crash left half-written, and finishes a seal that it cut off.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path if a folder cannot be created, listed or cleaned.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self> {
        let (open, sealed) = (folder.join("open"), folder.join("sealed"));
        durable::create_folders(&open)?;
        durable::create_folders(&sealed)?;
        for folder in [folder, &open, &sealed] {
            durable::delete_temporary(folder)?;
        }
        let mut store = Self { open, sealed, limits, samples: 0, bytes: 0, is_stuck: false };
        for file in list(&store.open)? {
            store.samples += 1;
            store.bytes += fs::metadata(&file).map_err(models::Error::io("read", &file))?.len();
        }
        if store.samples > 0 && store.path(segment_of(&store.read_open()?)?.0).exists() {
            store.clear_open()?;
        }
        Ok(store)
    }

    /// Keeps a sample: when this returns, it survives a power cut.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path, as of a full or read-only disk; the sample is then not kept.
    pub fn keep(&mut self, sample: &Sample) -> Result<()> {
        let path = self.open.join(file_name(sample.record.image));
        let is_new = !path.exists();
        durable::write_with(&path, |file| segment::write(file, [sample]))?;
        if is_new {
            self.samples += 1;
            self.bytes += fs::metadata(&path).map_err(models::Error::io("read", &path))?.len();
        }
        Ok(())
    }

    /// Whether the open samples are as many as belong in a segment; after a seal that failed, another one has to come first.
    pub fn is_full(&self) -> bool {
        let is_enough = self.samples >= self.limits.samples || self.bytes >= self.limits.bytes;
        is_enough && !self.is_stuck
    }

    /// Seals all open samples into one segment; nothing if there are none. Whatever is open must be journaled by now.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path. No sample is lost: they stay open, or are in the segment already.
    pub fn seal(&mut self) -> Result<Option<Sealed>> {
        if self.samples == 0 {
            return Ok(None);
        }
        self.is_stuck = true;
        let samples = self.read_open()?;
        let sealed = if samples.is_empty() { None } else { Some(self.write_segment(&samples)?) };
        self.clear_open()?;
        self.is_stuck = false;
        Ok(sealed)
    }

    fn read_open(&self) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for path in list(&self.open)? {
            let bytes = fs::read(&path).map_err(models::Error::io("read", &path))?;
            match segment::parse(&path, Digest::of(&bytes), &bytes) {
                Ok(sample) => samples.extend(sample),
                Err(e) => tracing::warn!("dropping a kept sample that the disk damaged: {e}"),
            }
        }
        Ok(samples)
    }

    fn write_segment(&self, samples: &[Sample]) -> Result<Sealed> {
        let (segment, bytes) = segment_of(samples)?;
        durable::write(&self.path(segment), &bytes)?;
        Ok(Sealed { segment, samples: samples.len() })
    }

    /// One rename takes all open samples away, so that a crash leaves either all or none of them.
    fn clear_open(&mut self) -> Result<()> {
        let away = self.open.with_file_name(format!("{}sealed", durable::TEMPORARY_PREFIX));
        if away.exists() {
            fs::remove_dir_all(&away).map_err(models::Error::io("delete", &away))?;
        }
        if self.open.exists() {
            fs::rename(&self.open, &away).map_err(models::Error::io("rename", &self.open))?;
        }
        (self.samples, self.bytes) = (0, 0);
        durable::create_folders(&self.open)?;
        Ok(fs::remove_dir_all(&away).map_err(models::Error::io("delete", &away))?)
    }

    /// Samples kept and not yet sealed.
    pub fn open_samples(&self) -> usize {
        self.samples
    }

    /// The images of the samples kept and not yet sealed, sorted.
    ///
    /// # Errors
    /// [`crate::Error::Models`] if the folder cannot be listed.
    pub fn open_images(&self) -> Result<Vec<Digest>> {
        digests(&self.open)
    }

    /// The sealed segments, sorted.
    ///
    /// # Errors
    /// [`crate::Error::Models`] if the folder cannot be listed.
    pub fn sealed(&self) -> Result<Vec<Digest>> {
        digests(&self.sealed)
    }

    /// Path of a sealed segment.
    pub fn path(&self, segment: Digest) -> PathBuf {
        self.sealed.join(file_name(segment))
    }

    /// Deletes a sealed segment, which someone else has by now.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path.
    pub fn release(&self, segment: Digest) -> Result<()> {
        Ok(durable::remove(&self.path(segment))?)
    }
}

/// The segment that samples make: its digest and its bytes.
fn segment_of(samples: &[Sample]) -> Result<(Digest, Vec<u8>)> {
    let mut bytes = Vec::new();
    segment::write(&mut bytes, samples).map_err(models::Error::io("make", Path::new("a segment")))?;
    Ok((Digest::of(&bytes), bytes))
}

fn file_name(digest: Digest) -> String {
    format!("{digest}.{}", segment::EXTENSION)
}

/// What the tar files of a folder are named by, sorted.
fn digests(folder: &Path) -> Result<Vec<Digest>> {
    let digest = |path: &PathBuf| path.file_stem()?.to_str()?.parse().ok();
    Ok(list(folder)?.iter().filter_map(digest).collect())
}

/// The tar files of a folder, sorted.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let paths: io::Result<Vec<PathBuf>> = fs::read_dir(folder).and_then(|es| es.map(|e| Ok(e?.path())).collect());
    let mut paths = paths.map_err(models::Error::io("list", folder))?;
    paths.retain(|path| path.extension().is_some_and(|e| e == segment::EXTENSION));
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use models::{Prediction, Reason, SampleRecord};

    use super::*;
    use crate::fixture::TestResult;

    const LIMITS: Limits = Limits { samples: 4, bytes: 1 << 20 };

    fn sample(number: u8) -> Sample {
        let image = vec![number; 100];
        let record = SampleRecord {
            image: Digest::of(&image),
            extension: "png".into(),
            device: "cam-1".into(),
            source: format!("{number}.png"),
            captured: Timestamp::UNIX_EPOCH,
            bundle: Digest::of(b"bundle"),
            prediction: Prediction { class: 0, confidence: 0.9, probs: vec![0.9, 0.1] },
            reasons: vec![Reason::Confident { threshold: 0.8 }],
        };
        Sample { record, image }
    }

    /// Numbers of the samples in all sealed segments, sorted; a duplicate would show.
    fn sealed_numbers(store: &Store) -> Result<Vec<u8>> {
        let mut numbers = Vec::new();
        for digest in store.sealed()? {
            numbers.extend(segment::read(&store.path(digest), digest)?.iter().map(|s| s.image[0]));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    #[test]
    fn seals_when_full_and_on_demand() -> TestResult {
        let folder = tempfile::tempdir()?;
        let mut store = Store::open(folder.path(), LIMITS)?;
        for number in [1, 2, 3, 3] {
            store.keep(&sample(number))?;
            assert!(!store.is_full());
        }
        store.keep(&sample(4))?;
        assert!(store.is_full());
        assert_eq!(store.seal()?.map(|s| s.samples), Some(4));
        assert_eq!((store.open_samples(), store.sealed()?.len(), store.is_full()), (0, 1, false));
        assert_eq!(store.seal()?, None);

        let mut small = Store::open(folder.path(), Limits { samples: 100, bytes: 4000 })?;
        small.keep(&sample(5))?;
        assert!(!small.is_full());
        small.keep(&sample(6))?;
        assert!(small.is_full(), "two tars are more than 4000 bytes");
        small.seal()?;
        assert_eq!(sealed_numbers(&small)?, [1, 2, 3, 4, 5, 6]);
        small.release(small.sealed()?[0])?;
        assert_eq!(small.sealed()?.len(), 1);
        Ok(())
    }

    /// Every state that a crash can leave: each sample ends up in exactly one segment, and no litter stays.
    #[test]
    fn recovers_from_a_crash_at_any_step() -> TestResult {
        type Crash = fn(&Path, &Store) -> TestResult;
        let crashes: [(&str, Crash); 5] = [
            ("before the seal", |_, _| Ok(())),
            ("while writing", |root, _| {
                fs::write(root.join("sealed/.tmp-abc"), b"half a segment")?;
                Ok(fs::write(root.join("open/.tmp-def"), b"half a sample")?)
            }),
            ("after the segment's rename", |_, store| {
                store.write_segment(&store.read_open()?)?;
                Ok(())
            }),
            ("after the rename of open", |root, store| {
                store.write_segment(&store.read_open()?)?;
                Ok(fs::rename(root.join("open"), root.join(".tmp-sealed"))?)
            }),
            ("while deleting", |root, store| {
                store.write_segment(&store.read_open()?)?;
                fs::rename(root.join("open"), root.join(".tmp-sealed"))?;
                fs::create_dir(root.join("open"))?;
                Ok(fs::remove_file(&list(&root.join(".tmp-sealed"))?[0])?)
            }),
        ];
        for (when, crash) in crashes {
            let folder = tempfile::tempdir()?;
            let mut store = Store::open(folder.path(), LIMITS)?;
            for number in 1..=3 {
                store.keep(&sample(number))?;
            }
            crash(folder.path(), &store)?;
            let mut store = Store::open(folder.path(), LIMITS)?;
            // The first was not journaled yet: it is classified again, unless it was sealed.
            if store.open_samples() > 0 {
                store.keep(&sample(1))?;
            }
            store.keep(&sample(4))?;
            store.seal()?;
            assert_eq!(sealed_numbers(&store)?, [1, 2, 3, 4], "crash {when}");
            let litter = |path: &str| -> io::Result<usize> { Ok(fs::read_dir(folder.path().join(path))?.count()) };
            let segments = store.sealed()?.len();
            assert_eq!((litter("")?, litter("open")?, litter("sealed")?), (2, 0, segments), "crash {when}");
        }
        Ok(())
    }

    #[test]
    fn a_damaged_open_sample_costs_only_itself() -> TestResult {
        let folder = tempfile::tempdir()?;
        let mut store = Store::open(folder.path(), LIMITS)?;
        store.keep(&sample(1))?;
        store.keep(&sample(2))?;
        let victim = store.open.join(file_name(sample(1).record.image));
        let mut bytes = fs::read(&victim)?;
        bytes[512] ^= 1;
        fs::write(&victim, bytes)?;
        store.seal()?;
        assert_eq!(sealed_numbers(&store)?, [2]);
        Ok(())
    }

    #[test]
    fn a_disk_that_refuses_is_an_error_with_the_path() -> TestResult {
        let folder = tempfile::tempdir()?;
        let mut store = Store::open(folder.path(), LIMITS)?;
        fs::remove_dir_all(folder.path().join("open"))?;
        fs::write(folder.path().join("open"), b"a file where the folder was")?;
        let said = store.keep(&sample(1)).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains("open"), "{said}");
        assert_eq!(store.open_samples(), 0);
        Ok(())
    }
}
