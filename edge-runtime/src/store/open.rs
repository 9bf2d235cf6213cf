//! Kept samples that are in no segment yet: a file each, `IMAGE.tar`.
//!
//! A file is a segment of one sample, which `tar tf` lists, and after its end the CRC-32C of all bytes before, in four bytes,
//! least significant first: the image is checked by its name, and the record by nothing else.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use models::{Digest, Sample, durable, segment};

use super::{Worth, file_name, list};
use crate::Result;

/// The folder and what is in it.
#[derive(Debug)]
pub(super) struct Open {
    folder: PathBuf,
    samples: BTreeMap<Digest, Entry>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    worth: Worth,
    bytes: u64,
}

/// A sample as the content of its file.
pub(super) fn encode(sample: &Sample) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    segment::write(&mut bytes, [sample]).map_err(models::Error::io("make", Path::new("a sample's file")))?;
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    Ok(bytes)
}

impl Open {
    /// Reads every file of the folder. What is no whole sample goes to `damaged`, with a warning.
    pub(super) fn load(folder: PathBuf, damaged: &Path) -> Result<Self> {
        let mut open = Self { folder, samples: BTreeMap::new(), bytes: 0 };
        for path in list(&open.folder)? {
            match read(&path) {
                Ok((sample, bytes)) => {
                    open.note(sample.record.image, Entry { worth: Worth::of(&sample.record), bytes })
                }
                // It may be readable the next time.
                Err(e @ crate::Error::Models(models::Error::Io { .. })) => {
                    tracing::warn!("passing over a kept sample: {e}")
                }
                Err(e) => {
                    tracing::warn!("setting a kept sample aside: {e}");
                    let to = path.file_name().map(|name| damaged.join(name)).unwrap_or_default();
                    fs::rename(&path, &to).map_err(models::Error::io("rename a file to", &to))?;
                }
            }
        }
        Ok(open)
    }

    fn note(&mut self, image: Digest, entry: Entry) {
        self.bytes += entry.bytes;
        if let Some(before) = self.samples.insert(image, entry) {
            self.bytes -= before.bytes;
        }
    }

    /// Writes a sample, durably. The one before of the same image is replaced.
    pub(super) fn write(&mut self, sample: &Sample, content: &[u8]) -> Result<()> {
        let image = sample.record.image;
        durable::write(&self.path(image), content)?;
        self.note(image, Entry { worth: Worth::of(&sample.record), bytes: content.len() as u64 });
        Ok(())
    }

    /// Deletes samples, durably. What is not there is passed over.
    pub(super) fn delete(&mut self, images: &[Digest]) -> Result<()> {
        for image in images {
            let path = self.path(*image);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(models::Error::io("delete", &path)(e).into());
                }
                _ => {}
            }
            self.forget(*image);
        }
        Ok(durable::sync_folder(&self.folder)?)
    }

    fn forget(&mut self, image: Digest) {
        if let Some(gone) = self.samples.remove(&image) {
            self.bytes -= gone.bytes;
        }
    }

    /// The samples among `images` that are whole. Those that the disk damaged since are passed over with a warning, until the next
    /// Their images.
    pub(super) fn images(&self) -> impl Iterator<Item = Digest> {
        self.samples.keys().copied()
    }

    /// start sets them aside.
    pub(super) fn read(&mut self, images: &[Digest]) -> Vec<Sample> {
        let mut samples = Vec::new();
        for image in images {
            match read(&self.path(*image)) {
                Ok((sample, _)) => samples.push(sample),
                Err(e) => {
                    tracing::warn!("passing over a kept sample: {e}");
                    self.forget(*image);
                }
            }
        }
        samples
    }

    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn has(&self, image: Digest) -> bool {
        self.samples.contains_key(&image)
    }

    /// Bytes of an image's file; 0 if it is not there.
    pub(super) fn bytes_of(&self, image: Digest) -> u64 {
        self.samples.get(&image).map_or(0, |entry| entry.bytes)
    }

    /// The most useful samples among those that `is_eligible` admits, as many as fit, but at least one, sorted by digest.
    pub(super) fn best(&self, samples: usize, bytes: u64, is_eligible: impl Fn(Digest) -> bool) -> Vec<Digest> {
        let mut ranked: Vec<(&Digest, &Entry)> =
            self.samples.iter().filter(|(image, _)| is_eligible(**image)).collect();
        ranked.sort_by_key(|(_, entry)| Reverse(entry.worth));
        let mut taken = 0;
        let fits = |(_, entry): &(&Digest, &Entry)| {
            let fits = taken == 0 || taken + entry.bytes <= bytes;
            taken += entry.bytes;
            fits
        };
        let mut best: Vec<Digest> =
            ranked.into_iter().take(samples).take_while(fits).map(|(image, _)| *image).collect();
        best.sort_unstable();
        best
    }

    /// The least useful samples whose files make so many bytes, all of them less useful than `worth`; none if there are not
    /// enough. Of two of a kind, the one whose class there is more of is less useful.
    pub(super) fn worst(&self, bytes: u64, worth: Worth) -> Option<Vec<Digest>> {
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for other in self.samples.values().map(|entry| entry.worth).chain([worth]) {
            *counts.entry((other.kind, other.class)).or_default() += 1;
        }
        let rank = |worth: &Worth, counts: &BTreeMap<_, usize>| {
            (worth.kind, Reverse(counts.get(&(worth.kind, worth.class)).copied()), *worth)
        };
        let mut candidates: Vec<_> = self.samples.iter().filter(|(_, entry)| entry.worth.may_go()).collect();
        let (mut worst, mut freed) = (Vec::new(), 0);
        while freed < bytes {
            let least = (0..candidates.len()).min_by_key(|i| rank(&candidates[*i].1.worth, &counts))?;
            let (image, entry) = candidates.swap_remove(least);
            if rank(&entry.worth, &counts) >= rank(&worth, &counts) {
                return None;
            }
            if let Some(count) = counts.get_mut(&(entry.worth.kind, entry.worth.class)) {
                *count -= 1;
            }
            freed += entry.bytes;
            worst.push(*image);
        }
        Some(worst)
    }

    pub(super) fn path(&self, image: Digest) -> PathBuf {
        self.folder.join(file_name(image))
    }
}

/// The sample in a file, and the file's size in bytes.
fn read(path: &Path) -> Result<(Sample, u64)> {
    let bytes = fs::read(path).map_err(models::Error::io("read", path))?;
    let damaged = |found: &str| models::Error::malformed(path.display(), "a whole sample with its CRC-32C", found);
    let (tar, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("the end of the file"))?;
    if crc32c::crc32c(tar) != u32::from_le_bytes(*crc) {
        return Err(damaged("another CRC-32C").into());
    }
    let mut samples = segment::parse(path, Digest::of(tar), tar)?;
    match (samples.pop(), samples.pop()) {
        (Some(sample), None) if path.ends_with(file_name(sample.record.image)) => Ok((sample, bytes.len() as u64)),
        _ => Err(damaged("another number of samples, or that of another image").into()),
    }
}
