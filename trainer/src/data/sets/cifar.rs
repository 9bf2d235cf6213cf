//! CIFAR-10 and CIFAR-100, in the binary and in the Python version.
//!
//! # Reference
//! A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), and the page of the data sets.

use std::path::Path;

use models::{LabelSet, Pixels};
use rayon::prelude::*;

use super::{
    SetData,
    files::{Files, malformed, missing},
    from_rows,
    pickle::{self, Value},
};
use crate::{Result, data::LabeledImages};

const SIDE: usize = 32;
const IMAGE: usize = 3 * SIDE * SIDE;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ten,
    Hundred,
}

/// The files of one version of one set.
struct Layout {
    archive: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    names: &'static str,
    is_binary: bool,
}

const fn layouts(kind: Kind) -> [Layout; 2] {
    match kind {
        Kind::Ten => [
            Layout {
                archive: "cifar-10-binary.tar.gz",
                train: &[
                    "data_batch_1.bin",
                    "data_batch_2.bin",
                    "data_batch_3.bin",
                    "data_batch_4.bin",
                    "data_batch_5.bin",
                ],
                test: "test_batch.bin",
                names: "batches.meta.txt",
                is_binary: true,
            },
            Layout {
                archive: "cifar-10-python.tar.gz",
                train: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
                test: "test_batch",
                names: "batches.meta",
                is_binary: false,
            },
        ],
        Kind::Hundred => [
            Layout {
                archive: "cifar-100-binary.tar.gz",
                train: &["train.bin"],
                test: "test.bin",
                names: "fine_label_names.txt",
                is_binary: true,
            },
            Layout {
                archive: "cifar-100-python.tar.gz",
                train: &["train"],
                test: "test",
                names: "meta",
                is_binary: false,
            },
        ],
    }
}

pub(super) fn read(kind: Kind, folder: &Path) -> Result<SetData> {
    let [binary, python] = layouts(kind);
    let expected = format!("{} or {}, packed or extracted", binary.archive, python.archive);
    let mut closest: Option<(Vec<&str>, Vec<&str>)> = None;
    for layout in [binary, python] {
        let wanted = [layout.train, &[layout.test, layout.names]].concat();
        let mut files = Files::find(folder, &wanted, Some(layout.archive))?;
        let lacking = files.lacking(&wanted);
        if lacking.is_empty() {
            return layout.read(kind, &mut files);
        }
        if closest.as_ref().is_none_or(|(_, least)| lacking.len() < least.len()) {
            closest = Some((wanted, lacking));
        }
    }
    let set = if kind == Kind::Ten { "cifar10" } else { "cifar100" };
    let (wanted, lacking) = closest.unwrap_or_default();
    Err(missing(set, folder, &expected, &wanted, &lacking))
}

impl Layout {
    fn read(&self, kind: Kind, files: &mut Files) -> Result<SetData> {
        let (name, bytes) = files.take(self.names)?;
        let names = if self.is_binary { lines(&bytes) } else { pickled_names(kind, &name, &bytes)? };
        let labels = LabelSet::new(names)?;
        let images = |files: &mut Files, file: &str| -> Result<LabeledImages> {
            let (name, bytes) = files.take(file)?;
            let images = if self.is_binary { binary(kind, &name, &bytes) } else { pickled(kind, &name, &bytes) }?;
            match images.labels.iter().find(|label| **label >= labels.len()) {
                Some(label) => Err(malformed(&name, format!("labels below {}", labels.len()), label.to_string())),
                None => Ok(images),
            }
        };
        let mut train = LabeledImages::default();
        for file in self.train {
            train.extend(images(files, file)?);
        }
        let test = images(files, self.test)?;
        Ok(SetData { labels, train, unlabeled: Vec::new(), test, folds: Vec::new() })
    }
}

/// Records of one label (CIFAR-100: a coarse and a fine one) and the planes of an image.
fn binary(kind: Kind, name: &str, bytes: &[u8]) -> Result<LabeledImages> {
    let head = if kind == Kind::Ten { 1 } else { 2 };
    let record = head + IMAGE;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(malformed(name, format!("records of {record} bytes"), format!("{} bytes", bytes.len())));
    }
    let records = bytes.par_chunks_exact(record);
    let (labels, images) =
        records.map(|record| (usize::from(record[head - 1]), from_rows(&record[head..], SIDE))).unzip();
    Ok(LabeledImages { images, labels })
}

/// A dictionary of an array `data` of images and a list of labels.
fn pickled(kind: Kind, name: &str, bytes: &[u8]) -> Result<LabeledImages> {
    let batch = pickle::read(name, bytes)?;
    let key = if kind == Kind::Ten { "labels" } else { "fine_labels" };
    let data = match batch.get("data") {
        Some(Value::Array(array)) if array.len().is_multiple_of(IMAGE) => array,
        _ => return Err(malformed(name, format!("an array \"data\" of rows of {IMAGE} bytes"), "none")),
    };
    let labels = match batch.get(key) {
        Some(Value::List(labels)) => labels.iter().map(|label| match label {
            Value::Integer(label) => usize::try_from(*label).ok(),
            _ => None,
        }),
        _ => return Err(malformed(name, format!("a list {key:?}"), "none")),
    };
    let labels =
        labels.collect::<Option<Vec<_>>>().ok_or_else(|| malformed(name, "labels that are numbers", "others"))?;
    let images: Vec<Pixels> = data.par_chunks_exact(IMAGE).map(|values| from_rows(values, SIDE)).collect();
    if images.len() != labels.len() {
        return Err(malformed(name, format!("a label for each of {} images", images.len()), labels.len().to_string()));
    }
    Ok(LabeledImages { images, labels })
}

fn pickled_names(kind: Kind, name: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let key = if kind == Kind::Ten { "label_names" } else { "fine_label_names" };
    let meta = pickle::read(name, bytes)?;
    let names = match meta.get(key) {
        Some(Value::List(names)) => names.iter().map(|name| name.text().map(str::to_owned)).collect(),
        _ => None,
    };
    names.ok_or_else(|| malformed(name, format!("a list {key:?} of names"), "none"))
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
