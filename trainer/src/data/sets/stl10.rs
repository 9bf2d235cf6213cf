//! STL-10, in its binary version.
//!
//! # Reference
//! Coates, Ng and Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning" (2011), and the page of the
//! data.

use std::path::Path;

use models::{LabelSet, Pixels};
use rayon::prelude::*;

use super::{
    SetData,
    files::{Files, malformed, missing},
    from_columns,
};
use crate::{Result, data::LabeledImages};

const SIDE: usize = 96;
const IMAGE: usize = 3 * SIDE * SIDE;
const ARCHIVE: &str = "stl10_binary.tar.gz";
const WANTED: [&str; 7] = [
    "train_X.bin",
    "train_y.bin",
    "test_X.bin",
    "test_y.bin",
    "unlabeled_X.bin",
    "class_names.txt",
    "fold_indices.txt",
];

pub(super) fn read(folder: &Path) -> Result<SetData> {
    let mut files = Files::find(folder, &WANTED, Some(ARCHIVE))?;
    let lacking = files.lacking(&WANTED);
    if !lacking.is_empty() {
        return Err(missing("stl10", folder, &format!("{ARCHIVE}, packed or extracted"), &WANTED, &lacking));
    }
    let (_, names) = files.take("class_names.txt")?;
    let labels = LabelSet::new(String::from_utf8_lossy(&names).split_whitespace())?;
    let train = labeled(&mut files, "train_X.bin", "train_y.bin", labels.len())?;
    let test = labeled(&mut files, "test_X.bin", "test_y.bin", labels.len())?;
    let (name, bytes) = files.take("unlabeled_X.bin")?;
    let unlabeled = images(&name, &bytes)?;
    let (name, bytes) = files.take("fold_indices.txt")?;
    let folds = folds(&name, &String::from_utf8_lossy(&bytes), train.len())?;
    Ok(SetData { labels, train, unlabeled, test, folds })
}

fn labeled(files: &mut Files, of_images: &str, of_labels: &str, classes: usize) -> Result<LabeledImages> {
    let (name, bytes) = files.take(of_images)?;
    let images = images(&name, &bytes)?;
    let (name, labels) = files.take(of_labels)?;
    if labels.len() != images.len() || labels.iter().any(|label| !(1..=classes).contains(&usize::from(*label))) {
        let expected = format!("{} labels from 1 to {classes}", images.len());
        return Err(malformed(&name, expected, format!("{} bytes, not all of them labels", labels.len())));
    }
    Ok(LabeledImages { images, labels: labels.into_iter().map(|label| usize::from(label) - 1).collect() })
}

fn images(name: &str, bytes: &[u8]) -> Result<Vec<Pixels>> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(IMAGE) {
        return Err(malformed(name, format!("images of {IMAGE} bytes"), format!("{} bytes", bytes.len())));
    }
    Ok(bytes.par_chunks_exact(IMAGE).map(|values| from_columns(values, SIDE)).collect())
}

/// A choice of labeled images in each line, counted from 0.
fn folds(name: &str, text: &str, images: usize) -> Result<Vec<Vec<usize>>> {
    let line = |line: &str| line.split_whitespace().map(|index| index.parse().ok().filter(|i| *i < images)).collect();
    let folds = text.lines().map(line).collect::<Option<_>>();
    folds.ok_or_else(|| malformed(name, format!("lines of indices below {images}"), "something else"))
}
