//! Kept samples and sealed segments on disk.
//!
//! ```text
//! open/IMAGE.tar       a kept sample: a segment of one, named by the image's sha256, with a checksum behind it
//! sealed/SEGMENT.tar   a segment, named by its sha256
//! damaged/             what of both the disk damaged, set aside
//! ```
//!
//! # Space
//! All of it takes no more than its budget. When that is spent, or the disk is full, the least useful open samples make room for
//! more useful ones. A part of the budget as large as a segment stays free, so that a segment can always be sealed. Samples
//! stay open, each a file that can go alone, until there is somebody to send a segment to.
//!
//! # Crashes
//! Sealing writes the segment, makes it durable under its final name, and only then deletes the open samples that are in it. A
//! store that finds open samples when it starts deletes those that are in a sealed segment: there a crash had cut a seal off.
//! An image that is classified again, because the crash came before its prediction was journaled, takes its own open
//! sample's place. So every sample is in exactly one segment, as long as nothing is sealed that is not journaled.

mod open;
mod worth;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use models::{Digest, Sample, durable, segment};

use self::{open::Open, worth::Worth};
use crate::Result;

/// So often a sample is written to a disk that is full.
const TRIES: u32 = 3;

/// How much a store holds, and when a segment is full.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Samples of a segment.
    pub samples: usize,
    /// Bytes of a segment; a quarter of the budget if that is less.
    pub segment_bytes: u64,
    /// Bytes of everything.
    pub bytes: u64,
}

impl Limits {
    fn segment_bytes(&self) -> u64 {
        self.segment_bytes.min(self.bytes / 4)
    }

    /// Bytes that a segment may need: one that holds a single large image is larger than others.
    fn reserve(&self) -> u64 {
        self.segment_bytes.max(2 * segment::MAX_IMAGE).min(self.bytes / 4)
    }
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
    open: Open,
    sealed: PathBuf,
    damaged: PathBuf,
    limits: Limits,
    /// Bytes of sealed and damaged segments.
    segment_bytes: u64,
    /// Open samples that are in a sealed segment, since they could not be deleted when it was sealed.
    doubled: BTreeSet<Digest>,
}

impl Store {
    /// Opens or creates the store in `folder`: deletes what a crash left half-written, and finishes a seal that it cut off.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path if a folder cannot be created, listed or cleaned.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self> {
        let [open, sealed, damaged] = ["open", "sealed", "damaged"].map(|name| folder.join(name));
        for folder in [folder, &open, &sealed, &damaged] {
            durable::create_folders(folder)?;
            durable::delete_temporary(folder)?;
        }
        let open = Open::load(open, &damaged)?;
        let mut segment_bytes = 0;
        for path in list(&sealed)?.iter().chain(&list(&damaged)?) {
            segment_bytes += size(path)?;
        }
        let mut store = Self { open, sealed, damaged, limits, segment_bytes, doubled: BTreeSet::new() };
        if store.open.len() > 0 {
            for segment in store.sealed()? {
                store.delete_sealed(segment)?;
            }
        }
        Ok(store)
    }

    /// Keeps a sample, if there is room or something less useful: when this returns true, it survives a power cut. The images of
    /// samples that were deleted for it are added to `evicted`, whatever comes of it.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path, as of a read-only disk; the sample is then not kept.
    pub fn keep(&mut self, sample: &Sample, evicted: &mut Vec<Digest>) -> Result<bool> {
        let (worth, image) = (Worth::of(&sample.record), sample.record.image);
        let content = open::encode(sample)?;
        let size = content.len() as u64;
        if size > self.limits.reserve() {
            return Ok(false);
        }
        let room = self.limits.bytes - self.limits.reserve();
        let needed = self.bytes() - self.open.bytes_of(image) + size;
        if !self.make_room(needed.saturating_sub(room), worth, evicted)? {
            return Ok(false);
        }
        for _ in 0..TRIES {
            match self.open.write(sample, &content) {
                Ok(()) => return Ok(true),
                // Something else may take what is freed: it is not worth the whole store.
                Err(e) if is_full_disk(&e) => {
                    if !self.make_room(size, worth, evicted)? {
                        return Ok(false);
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    /// Deletes an open sample, if there is one of this image.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path.
    pub fn discard(&mut self, image: Digest) -> Result<()> {
        if self.open.has(image) { self.open.delete(&[image]) } else { Ok(()) }
    }

    /// Deletes samples less useful than `worth` until so many bytes are free. False, and nothing is deleted, if there are not
    /// enough.
    fn make_room(&mut self, bytes: u64, worth: Worth, evicted: &mut Vec<Digest>) -> Result<bool> {
        let Some(worst) = self.open.worst(bytes, worth) else { return Ok(false) };
        if !worst.is_empty() {
            self.open.delete(&worst)?;
            evicted.extend(worst);
        }
        Ok(true)
    }

    /// Whether the open samples are as many as belong in a segment.
    pub fn is_full(&self) -> bool {
        self.open.len() >= self.limits.samples || self.open.bytes() >= self.limits.segment_bytes()
    }

    /// Seals the most useful open samples into one segment, as many as belong in one; nothing if there are none. Only those that
    /// `is_journaled` admits: after a crash others may be open, whose images will be classified again.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path. No sample is lost: they stay open, or are in the segment already.
    pub fn seal(&mut self, is_journaled: impl Fn(Digest) -> bool) -> Result<Option<Sealed>> {
        let is_free = |image: Digest| !self.doubled.contains(&image) && is_journaled(image);
        let images = self.open.best(self.limits.samples, self.limits.segment_bytes(), is_free);
        let samples = self.open.read(&images);
        if samples.is_empty() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        segment::write(&mut bytes, &samples).map_err(models::Error::io("make", Path::new("a segment")))?;
        let segment = Digest::of(&bytes);
        durable::write(&self.path(segment), &bytes)?;
        self.segment_bytes += bytes.len() as u64;
        let images: Vec<Digest> = samples.iter().map(|sample| sample.record.image).collect();
        self.doubled.extend(&images);
        self.open.delete(&images)?;
        self.doubled.retain(|image| !images.contains(image));
        Ok(Some(Sealed { segment, samples: images.len() }))
    }

    /// Deletes open samples that are in a sealed segment.
    fn delete_sealed(&mut self, segment: Digest) -> Result<()> {
        let images = match segment::images(&self.path(segment)) {
            Ok(images) => images,
            Err(e) => {
                tracing::warn!("{e}");
                return Ok(());
            }
        };
        let twice: Vec<Digest> = images.into_iter().filter(|image| self.open.has(*image)).collect();
        if !twice.is_empty() {
            self.open.delete(&twice)?;
            self.doubled.retain(|image| !twice.contains(image));
        }
        Ok(())
    }

    /// Bytes of everything that is in the store.
    pub fn bytes(&self) -> u64 {
        self.open.bytes() + self.segment_bytes
    }

    /// The images of samples kept and not yet sealed.
    pub fn images(&self) -> impl Iterator<Item = Digest> {
        self.open.images()
    }

    /// Samples kept and not yet sealed.
    pub fn open_samples(&self) -> usize {
        self.open.len()
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
    pub fn release(&mut self, segment: Digest) -> Result<()> {
        // Otherwise samples whose deletion failed when they were sealed would be sealed again.
        if !self.doubled.is_empty() {
            self.delete_sealed(segment)?;
        }
        let path = self.path(segment);
        let bytes = size(&path)?;
        durable::remove(&path)?;
        self.segment_bytes -= bytes;
        Ok(())
    }

    /// Puts a segment that the disk damaged out of the way, where a person can look at it.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path.
    pub fn set_aside(&self, segment: Digest) -> Result<()> {
        durable::rename(&self.path(segment), &self.damaged.join(file_name(segment)))?;
        Ok(durable::sync_folder(&self.sealed)?)
    }
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(models::Error::io("read", path))?.len())
}

fn is_full_disk(error: &crate::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, crate::Error::Models(models::Error::Io { source, .. }) if matches!(source.kind(), StorageFull | QuotaExceeded))
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
mod tests;
