//! Images in a tar, plain or gzipped: `CLASS/name.jpg`, or named as WebDataset does, `key.jpg` beside `key.cls` or
//! `key.json`.
//!
//! # Reference
//! The WebDataset format: files that share their name up to the first dot of the last part are one sample. Outside of it names have
//! dots of their own, so every image counts, and a label that has the whole name of an image is that image's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use flate2::read::GzDecoder;
use models::{Digest, LabelSet, Preprocessing, segment::IMAGE_EXTENSIONS};
use rayon::prelude::*;
use serde_json::Value;

use super::folder::ImageFile;
use crate::{Error, Result};

/// Files above this are no images and no labels.
const LARGEST: u64 = 64 << 20;

/// An image of an archive, and what its label says.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedImage {
    /// The image; its path is that of the archive and then its own.
    pub file: ImageFile,
    /// The class: what `.cls` or `.json` says, else the folder it is in.
    pub class: Option<String>,
}

/// The images of an archive, in the order of their names.
///
/// # Errors
/// [`models::Error::Io`] for what is no tar or cut off, [`models::Error::Image`] for a file that is no image;
/// [`Error::Data`] if there is no image, or one of which several labels say different things.
pub fn read(path: &Path, preprocessing: &Preprocessing) -> Result<Vec<ArchivedImage>> {
    let Content { images, labels } = content(path)?;
    let decode = |(name, bytes): (String, Vec<u8>)| {
        let path = path.join(&name);
        let class = label(&labels, &name, &path)?.or_else(|| folder_of(&name));
        let pixels = preprocessing.pixels(&path.display().to_string(), &bytes)?;
        Ok(ArchivedImage { file: ImageFile { path, digest: Digest::of(&bytes), pixels }, class })
    };
    let images: Vec<ArchivedImage> = images.into_par_iter().map(decode).collect::<Result<_>>()?;
    match images.is_empty() {
        true => Err(Error::Data {
            what: path.display().to_string(),
            expected: "JPEG or PNG files".into(),
            found: "none".into(),
        }),
        false => Ok(images),
    }
}

/// The classes of images: in the order of numbers if all are numbers, else alphabetical.
///
/// # Errors
/// [`models::Error::Labels`] for fewer than two.
pub fn classes(images: &[ArchivedImage]) -> Result<LabelSet> {
    let mut names: Vec<&String> = images.iter().filter_map(|image| image.class.as_ref()).collect();
    names.sort_unstable();
    names.dedup();
    let number = |name: &&String| name.parse::<u64>().ok();
    if names.iter().all(|name| number(name).is_some()) {
        names.sort_by_key(number);
    }
    Ok(LabelSet::new(names)?)
}

#[derive(Default)]
struct Content {
    /// Files by their names.
    images: BTreeMap<String, Vec<u8>>,
    labels: Labels,
}

/// What labels say: by the key of their sample, then by their own name without its extension.
type Labels = BTreeMap<String, BTreeMap<String, String>>;

fn content(path: &Path) -> Result<Content> {
    let failed = || models::Error::io("read", path);
    let mut file = BufReader::new(File::open(path).map_err(models::Error::io("open", path))?);
    let mut magic = [0; 2];
    let is_gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    file.rewind().map_err(failed())?;
    let stream: Box<dyn Read> = if is_gzip { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let mut archive = tar::Archive::new(stream);
    let mut content = Content::default();
    for entry in archive.entries().map_err(failed())? {
        let mut entry = entry.map_err(failed())?;
        let name = entry.path().map_err(failed())?.to_string_lossy().into_owned();
        let Some(Name { key, stem, extension }) = Name::of(&name).filter(|_| entry.size() <= LARGEST) else { continue };
        let is_image = IMAGE_EXTENSIONS.contains(&extension.as_str());
        if !is_image && extension != "cls" && extension != "json" {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(failed())?;
        match extension.as_str() {
            "cls" => {
                let class = String::from_utf8_lossy(&bytes).trim().to_owned();
                content.labels.entry(key).or_default().insert(stem, class);
            }
            "json" => {
                if let Some(class) = class_of(&bytes) {
                    content.labels.entry(key).or_default().entry(stem).or_insert(class);
                }
            }
            _ => _ = content.images.insert(name, bytes),
        }
    }
    // To its end: only there is a gzip's checksum.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed())?;
    Ok(content)
}

/// The parts of a file's name.
struct Name {
    /// Of its sample: up to the first dot of the last part.
    key: String,
    /// Up to the last dot.
    stem: String,
    /// In lower case.
    extension: String,
}

impl Name {
    /// None for hidden files and what is in hidden folders.
    fn of(name: &str) -> Option<Self> {
        let is_hidden = |part: &str| part.starts_with('.') && part != "." && part != "..";
        if name.split('/').any(is_hidden) {
            return None;
        }
        let start = name.rfind('/').map_or(0, |slash| slash + 1);
        let first_dot = start + name[start..].find('.')?;
        let (stem, extension) = name.rsplit_once('.')?;
        Some(Self { key: name[..first_dot].into(), stem: stem.into(), extension: extension.to_lowercase() })
    }
}

/// The label that has the name of an image, else that of its sample.
fn label(labels: &Labels, name: &str, path: &Path) -> Result<Option<String>> {
    let Some((Name { stem, .. }, of_sample)) = Name::of(name).and_then(|n| labels.get(&n.key).map(|l| (n, l))) else {
        return Ok(None);
    };
    if let Some(own) = of_sample.get(&stem) {
        return Ok(Some(own.clone()));
    }
    let said: BTreeSet<&String> = of_sample.values().collect();
    match said.len() {
        1 => Ok(said.first().map(|class| (*class).clone())),
        _ => Err(Error::Data {
            what: path.display().to_string(),
            expected: "one label".into(),
            found: format!("{said:?}"),
        }),
    }
}

fn folder_of(name: &str) -> Option<String> {
    let folder = Path::new(name).parent()?.file_name()?;
    Some(folder.to_string_lossy().into_owned())
}

/// The label in a sample's JSON.
fn class_of(bytes: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    match ["label", "class", "cls"].into_iter().find_map(|key| json.get(key))? {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use models::{Pixels, preprocess::Color};

    use super::*;

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new("fixtures/datasets/tars").join(name)
    }

    /// Archives by Python's tarfile with images by Pillow: `fixtures/make_datasets.py`.
    #[test]
    fn folders_and_webdataset_names_give_the_classes() -> Result<()> {
        let preprocessing = Preprocessing { color: Color::Rgb, height: 4, width: 4 };
        for (name, expected) in [
            ("folders.tar.gz", [("cat", 10), ("cat", 20), ("dog", 30)]),
            ("webdataset.tar", [("2", 10), ("10", 20), ("2", 30)]),
            ("json.tar", [("cat", 10), ("dog", 20), ("cat", 30)]),
            ("dots.tar", [("cat", 10), ("dog", 20), ("dog", 30)]),
        ] {
            let images = read(&fixture(name), &preprocessing)?;
            let found: Vec<_> = images
                .iter()
                .map(|ArchivedImage { file: ImageFile { pixels: Pixels { data, .. }, .. }, class }| {
                    (class.as_deref().unwrap_or_default(), i32::from(data[0]))
                })
                .collect();
            assert_eq!(found, expected, "{name}");
            let labels = classes(&images)?;
            let order = if name == "webdataset.tar" { ["2", "10"] } else { ["cat", "dog"] };
            assert_eq!(labels.names(), order, "{name}");
        }
        let mut mixed = read(&fixture("webdataset.tar"), &preprocessing)?;
        mixed[0].class = Some("1st".into());
        assert_eq!(classes(&mixed)?.names(), ["10", "1st", "2"]);
        let error = read(&fixture("two-labels.tar"), &preprocessing).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("a.png: expected one label, found {\"cat\", \"dog\"}"), "{error}");
        Ok(())
    }

    #[test]
    fn an_archive_that_is_cut_off_is_an_error_that_names_it() -> Result<()> {
        let preprocessing = Preprocessing { color: Color::Rgb, height: 4, width: 4 };
        let folder = tempfile::tempdir().map_err(models::Error::io("create", Path::new("a folder")))?;
        for name in ["folders.tar.gz", "webdataset.tar"] {
            let bytes = std::fs::read(fixture(name)).expect("a fixture");
            let path = folder.path().join(name);
            for length in [0, 5, 700] {
                std::fs::write(&path, &bytes[..length.min(bytes.len() - 40)]).expect("written");
                let error = read(&path, &preprocessing).err().map(|e| e.to_string());
                assert!(error.as_ref().is_some_and(|e| e.contains(name)), "{name} cut at {length}: {error:?}");
            }
        }
        Ok(())
    }
}
