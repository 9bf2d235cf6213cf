//! A sealed file of samples, named by its sha256.
//!
//! A plain tar (`tar tf` lists it) in WebDataset naming: for each sample `DIGEST.png` (or `.jpg`), the image as it
//! was seen, then `DIGEST.json`, its record. Entries carry no times and no owners, so that the same samples make
//! the same bytes.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use crate::{Digest, Error, Result, Sample, SampleRecord};

/// File name extension of segments.
pub const EXTENSION: &str = "tar";
/// Extensions of images in a segment.
pub const IMAGE_EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];
/// No image in a segment may be larger, in bytes.
pub const MAX_IMAGE: u64 = 32 << 20;
const MAX_RECORD: u64 = 1 << 20;

/// Writes samples as a segment.
///
/// # Errors
/// What `out` returns.
pub fn write<'a>(out: &mut dyn Write, samples: impl IntoIterator<Item = &'a Sample>) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    for Sample { record, image } in samples {
        append(&mut tar, &format!("{}.{}", record.image, record.extension), image)?;
        append(&mut tar, &format!("{}.json", record.image), &serde_json::to_vec(record)?)?;
    }
    tar.finish()
}

fn append(tar: &mut tar::Builder<&mut dyn Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, name, bytes)
}

/// The images in a segment, by its entries' names alone: nothing else of it is read or checked.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] for an entry that is not named by a digest.
pub fn images(path: &Path) -> Result<Vec<Digest>> {
    let file = fs::File::open(path).map_err(Error::io("open", path))?;
    let mut images = Vec::new();
    for entry in tar::Archive::new(file).entries_with_seek().map_err(Error::io("read", path))?.raw(true) {
        let entry = entry.map_err(Error::io("read", path))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match name.split_once('.') {
            Some((_, "json")) => {}
            Some((image, _)) => images.push(image.parse()?),
            None => return Err(Error::malformed(path.display(), "entries SHA256.EXTENSION", name)),
        }
    }
    Ok(images)
}

/// Reads a segment whose bytes must have the digest `expected`, and checks every sample in it.
///
/// # Errors
/// [`Error::DigestMismatch`], or [`Error::Malformed`] that names the entry.
pub fn read(path: &Path, expected: Digest) -> Result<Vec<Sample>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    parse(path, expected, &bytes)
}

/// [`read`] on bytes in memory; `path` is only for errors.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, expected: Digest, bytes: &[u8]) -> Result<Vec<Sample>> {
    let found = Digest::of(bytes);
    if found != expected {
        return Err(Error::DigestMismatch { path: path.to_owned(), expected, found });
    }
    let mut samples = Vec::new();
    each(path, bytes, |sample| {
        samples.push(sample);
        Ok(())
    })?;
    Ok(samples)
}

/// Reads a segment's samples one after another and checks each, with no more than one of them in memory; `path` is only for
/// errors, and the digest of the whole is not checked.
///
/// # Errors
/// As [`read`], and what `take` returns.
pub fn each(path: &Path, bytes: impl Read, mut take: impl FnMut(Sample) -> Result<()>) -> Result<()> {
    let what = path.display().to_string();
    let mut pending: Option<(String, String, Vec<u8>)> = None;
    // Raw: an extension that gives the next entry a long name would be read whole, whatever its size, and we write none.
    for entry in tar::Archive::new(bytes).entries().map_err(Error::io("read", path))?.raw(true) {
        let mut entry = entry.map_err(Error::io("read", path))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let malformed =
            |expected: &str, found: &str| Error::malformed(format!("{what}, entry {name:?}"), expected, found);
        if !entry.header().entry_type().is_file() {
            return Err(malformed("a plain file", "something else"));
        }
        let (stem, extension) = name.split_once('.').unwrap_or((&name, ""));
        let limit = if extension == "json" { MAX_RECORD } else { MAX_IMAGE };
        if entry.size() > limit {
            return Err(malformed(&format!("at most {limit} bytes"), &format!("{} bytes", entry.size())));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(Error::io("read", path))?;
        if extension != "json" {
            if pending.is_some() || !IMAGE_EXTENSIONS.contains(&extension) {
                return Err(malformed("an image and then its record", "another entry"));
            }
            pending = Some((stem.to_owned(), extension.to_owned(), content));
            continue;
        }
        let record: SampleRecord =
            serde_json::from_slice(&content).map_err(|e| malformed("a sample record", &e.to_string()))?;
        let image = pending.take().filter(|(image, extension, content)| {
            image == stem
                && record.extension == *extension
                && record.image.to_string() == stem
                && Digest::of(content) == record.image
        });
        let Some((_, _, image)) = image else {
            return Err(malformed("the record of the image before it, whose sha256 is its name", "another"));
        };
        if record.reasons.is_empty() {
            return Err(malformed("at least one reason for keeping it", "none"));
        }
        if let Some(probability) = record.audit_probability().filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return Err(malformed("an audit probability above 0 and up to 1", &probability.to_string()));
        }
        take(Sample { record, image })?;
    }
    match pending {
        Some((image, ..)) => Err(Error::malformed(what, format!("a record for image {image}"), "the end of the file")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{Prediction, Reason};

    fn sample(image: &[u8]) -> Sample {
        let record = SampleRecord {
            image: Digest::of(image),
            extension: "png".into(),
            device: "cam-1".into(),
            source: "0001.png".into(),
            captured: Timestamp::UNIX_EPOCH,
            bundle: Digest::of(b"bundle"),
            prediction: Prediction { class: 1, confidence: 0.9, probs: vec![0.1, 0.9] },
            reasons: vec![Reason::Confident { threshold: 0.8 }, Reason::Audit { probability: 0.05 }],
        };
        Sample { record, image: image.to_vec() }
    }

    #[test]
    fn reads_back_what_was_written_and_nothing_else() -> io::Result<()> {
        let samples = [sample(b"one"), sample(b"two")];
        let mut bytes = Vec::new();
        write(&mut bytes, &samples)?;
        let path = Path::new("s.tar");
        assert_eq!(parse(path, Digest::of(&bytes), &bytes).ok(), Some(samples.to_vec()));

        let folder = tempfile::tempdir()?;
        let file = folder.path().join("s.tar");
        fs::write(&file, &bytes)?;
        assert_eq!(images(&file).ok(), Some(vec![Digest::of(b"one"), Digest::of(b"two")]));

        // A changed byte anywhere is noticed by the name; a changed image also by its own name inside.
        let mut changed = bytes.clone();
        changed[512] ^= 1;
        assert!(matches!(parse(path, Digest::of(&bytes), &changed), Err(Error::DigestMismatch { .. })));
        assert!(matches!(parse(path, Digest::of(&changed), &changed), Err(Error::Malformed { .. })));
        // Cut after the first image: its record is missing.
        assert!(parse(path, Digest::of(&bytes[..1024]), &bytes[..1024]).is_err());
        Ok(())
    }
}
