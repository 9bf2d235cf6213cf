//! Images in a tar, plain or gzipped: `CLASS/name.jpg`, or named as WebDataset does, `key.jpg` beside `key.cls` or
//! `key.json`.
//!
//! # Reference
//! The WebDataset format: files that share their name up to the first dot of the last part are one sample. Outside of it names have
//! dots of their own, so every image counts but for a labeled sample's other parts, as `key.mask.png` beside `key.jpg` and `key.cls`;
//! and a label that has the whole name of an image is that image's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::{Component, Path},
};

use flate2::read::GzDecoder;
use models::{Digest, LabelSet, Preprocessing, segment::IMAGE_EXTENSIONS};
use rayon::prelude::*;
use serde_json::Value;

use super::folder::ImageFile;
use crate::{Error, Result};

/// Files above this are no images and no labels.
const LARGEST: u64 = 64 << 20;
/// Links that lead to one another, at most: as many as Linux follows.
const LINKS: usize = 40;

/// An image of an archive, and what its label says.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedImage {
    /// The image; its path is that of the archive and then its own.
    pub file: ImageFile,
    /// The class: what `.cls` or `.json` says; if the archive has no such files, the first folder below those that all images share.
    pub class: Option<String>,
}

/// The images of an archive, in the order of their names.
///
/// # Errors
/// [`models::Error::Io`] for what is no tar or cut off, [`models::Error::Image`] for a file that is no image;
/// [`Error::Data`] if there is no image, one of which several labels say different things, or a link to what is not there.
pub fn read(path: &Path, preprocessing: &Preprocessing) -> Result<Vec<ArchivedImage>> {
    let (images, others): (Files, Files) = files(path)?.into_iter().partition(|(name, _)| is_image(name));
    let labels = Labels::of(&others, &images);
    let folders = ClassFolders::of(images.keys());
    let stems: BTreeSet<String> = images.keys().filter_map(|name| Some(Name::of(name)?.stem)).collect();
    let decode = |(name, bytes): (String, Vec<u8>)| {
        let path = path.join(&name);
        let class = if labels.is_empty() { folders.class(&name) } else { labels.class(&name, &path)? };
        let pixels = preprocessing.pixels(&path.display().to_string(), &bytes)?;
        Ok(ArchivedImage { file: ImageFile { path, digest: Digest::of(&bytes), pixels }, class })
    };
    let samples: Vec<_> = images.into_iter().filter(|(name, _)| !labels.is_other_part(name, &stems)).collect();
    let images: Vec<ArchivedImage> = samples.into_par_iter().map(decode).collect::<Result<_>>()?;
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

/// Images and labels by their names.
type Files = BTreeMap<String, Vec<u8>>;

fn files(path: &Path) -> Result<Files> {
    let failed = || models::Error::io("read", path);
    let mut file = BufReader::new(File::open(path).map_err(models::Error::io("open", path))?);
    let mut magic = [0; 2];
    let is_gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    file.rewind().map_err(failed())?;
    let stream: Box<dyn Read> = if is_gzip { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let mut archive = tar::Archive::new(stream);
    let (mut files, mut links) = (Files::new(), Links::new());
    for entry in archive.entries().map_err(failed())? {
        let mut entry = entry.map_err(failed())?;
        let kind = entry.header().entry_type();
        let name = normal(&entry.path().map_err(failed())?);
        // An archive may hold a name twice: the last one counts.
        if let (true, Some(target)) = (kind.is_hard_link() || kind.is_symlink(), entry.link_name().map_err(failed())?) {
            // Hard links are named from the archive's top, symbolic ones from where they are.
            let from = Path::new(&name).parent().filter(|_| kind.is_symlink());
            let target = normal(&from.unwrap_or(Path::new("")).join(target));
            files.remove(&name);
            links.insert(name, target);
        } else if is_wanted(&name) && kind.is_file() && entry.size() <= LARGEST {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(failed())?;
            links.remove(&name);
            files.insert(name, bytes);
        }
    }
    // To its end: only there is a gzip's checksum.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed())?;
    follow(path, &links, &mut files)?;
    Ok(files)
}

/// What links lead to, by their names.
type Links = BTreeMap<String, String>;

/// Puts the files that links lead to beside the others. A link to a folder of images would need them all once more: none is followed.
fn follow(path: &Path, links: &Links, files: &mut Files) -> Result<()> {
    for (name, target) in links {
        let refused = |expected: &str| Error::Data {
            what: path.join(name).display().to_string(),
            expected: expected.into(),
            found: format!("one to {target}"),
        };
        if is_wanted(name) {
            let end = (0..LINKS).try_fold(target, |end, _| links.get(end).ok_or(end)).unwrap_or_else(|end| end);
            let bytes = files.get(end).cloned();
            let bytes = bytes.ok_or_else(|| refused("a link to an image or a label in the same archive"))?;
            files.insert(name.clone(), bytes);
        } else {
            let inside = format!("{target}/");
            if files.range(inside.clone()..).next().is_some_and(|(file, _)| file.starts_with(&inside)) {
                return Err(refused("no links to folders in an archive"));
            }
        }
    }
    Ok(())
}

/// A path inside an archive without `.` and `..`.
fn normal(path: &Path) -> String {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::ParentDir => _ = parts.pop(),
            _ => {}
        }
    }
    parts.join("/")
}

fn is_image(name: &str) -> bool {
    Name::of(name).is_some_and(|name| IMAGE_EXTENSIONS.contains(&name.extension.as_str()))
}

/// Whether it is an image or a label.
fn is_wanted(name: &str) -> bool {
    is_image(name) || Name::of(name).is_some_and(|name| ["cls", "json"].contains(&name.extension.as_str()))
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
        if name.split('/').any(|part| part.starts_with('.')) {
            return None;
        }
        let start = name.rfind('/').map_or(0, |slash| slash + 1);
        let first_dot = start + name[start..].find('.')?;
        let (stem, extension) = name.rsplit_once('.')?;
        Some(Self { key: name[..first_dot].into(), stem: stem.into(), extension: extension.to_lowercase() })
    }
}

/// What labels say: by the key of their sample, then by their own name without its extension.
struct Labels(BTreeMap<String, BTreeMap<String, String>>);

impl Labels {
    /// Those of samples that have an image.
    fn of(files: &Files, images: &Files) -> Self {
        let keys: BTreeSet<String> = images.keys().filter_map(|name| Some(Name::of(name)?.key)).collect();
        let mut labels = BTreeMap::<String, BTreeMap<String, String>>::new();
        for (name, bytes) in files {
            let Some(Name { key, stem, extension }) = Name::of(name).filter(|name| keys.contains(&name.key)) else {
                continue;
            };
            let class = match extension.as_str() {
                "cls" => Some(String::from_utf8_lossy(bytes).trim().to_owned()),
                _ => class_of(bytes),
            };
            if let Some(class) = class {
                // A .cls comes before a .json of the same name.
                labels.entry(key).or_default().entry(stem).or_insert(class);
            }
        }
        Self(labels)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The label that has the name of an image, else that of its sample.
    fn class(&self, name: &str, path: &Path) -> Result<Option<String>> {
        let sample = Name::of(name).and_then(|name| Some((self.0.get(&name.key)?, name.stem)));
        let Some((of_sample, stem)) = sample else { return Ok(None) };
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

    /// Whether an image is a part of a labeled sample whose image, among `stems`, is another.
    fn is_other_part(&self, name: &str, stems: &BTreeSet<String>) -> bool {
        Name::of(name).is_some_and(|Name { key, stem, .. }| {
            let has_no_label_of_its_own = self.0.get(&key).is_some_and(|labels| !labels.contains_key(&stem));
            stem != key && stems.contains(&key) && has_no_label_of_its_own
        })
    }
}

/// Where in an archive the folders of the classes are.
struct ClassFolders {
    /// Folders above them.
    depth: usize,
}

impl ClassFolders {
    fn of<'a>(images: impl Iterator<Item = &'a String>) -> Self {
        let all: BTreeSet<Vec<&str>> = images.map(|name| folders(name)).collect();
        // In their order the first and the last have the least in common.
        let (Some(first), Some(last)) = (all.first(), all.last()) else { return Self { depth: 0 } };
        let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        // All in one folder: that is the class.
        Self { depth: if first == last { shared.saturating_sub(1) } else { shared } }
    }

    fn class(&self, name: &str) -> Option<String> {
        folders(name).get(self.depth).map(|&folder| folder.to_owned())
    }
}

fn folders(name: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    parts
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
            ("deep.tar", [("cat", 10), ("cat", 20), ("dog", 30)]),
            ("links.tar", [("cat", 10), ("cat", 10), ("dog", 10)]),
            ("masks.tar", [("dog", 10), ("cat", 20), ("", 30)]),
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
        let error = read(&fixture("dangling.tar"), &preprocessing).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("cat/a.png: expected a link to an image") && error.contains("annex/1.png"), "{error}");
        let error = read(&fixture("linked-folder.tar"), &preprocessing).err().map(|e| e.to_string());
        assert!(error.as_ref().is_some_and(|e| e.contains("b: expected no links to folders")), "{error:?}");
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
