//! Street View House Numbers: cropped digits in MATLAB files.
//!
//! # Reference
//! Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning" (2011), and the page of the data.

use std::path::Path;

use matfile::{MatFile, NumericData};
use models::LabelSet;
use rayon::prelude::*;

use super::{
    SetData,
    files::{Files, malformed, missing},
    from_columns,
};
use crate::{Result, data::LabeledImages};

const SIDE: usize = 32;
const IMAGE: usize = 3 * SIDE * SIDE;
const TRAIN: &str = "train_32x32.mat";
const TEST: &str = "test_32x32.mat";
const EXTRA: &str = "extra_32x32.mat";

pub(super) fn read(folder: &Path, with_extra: bool) -> Result<SetData> {
    let wanted: &[&str] = if with_extra { &[TRAIN, TEST, EXTRA] } else { &[TRAIN, TEST] };
    let mut files = Files::find(folder, wanted, None)?;
    let lacking = files.lacking(wanted);
    if !lacking.is_empty() {
        let set = if with_extra { "svhn-extra" } else { "svhn" };
        return Err(missing(set, folder, &wanted.join(", "), wanted, &lacking));
    }
    let mut train = images(&mut files, TRAIN)?;
    if with_extra {
        train.extend(images(&mut files, EXTRA)?);
    }
    let test = images(&mut files, TEST)?;
    // A file's label 10 stands for the digit 0, and a class is its label less one.
    let labels = LabelSet::new((1..=10).map(|label| (label % 10).to_string()))?;
    Ok(SetData { labels, train, unlabeled: Vec::new(), test, folds: Vec::new() })
}

fn images(files: &mut Files, file: &str) -> Result<LabeledImages> {
    let (name, bytes) = files.take(file)?;
    let expected = || "arrays X, 32x32x3xN of bytes, and y, of N labels from 1 to 10";
    let mat = MatFile::parse(bytes.as_slice()).map_err(|e| malformed(&name, "a MATLAB 5 file", e.to_string()))?;
    let array = |key: &str| mat.find_by_name(key).ok_or_else(|| malformed(&name, expected(), format!("no {key}")));
    let (x, y) = (array("X")?, array("y")?);
    let labels: Option<Vec<usize>> = match y.data() {
        NumericData::UInt8 { real, .. } => real.iter().map(|label| class((*label).into())).collect(),
        NumericData::Double { real, .. } => real.iter().map(|label| class(*label)).collect(),
        _ => None,
    };
    let labels = labels.ok_or_else(|| malformed(&name, expected(), "other labels"))?;
    let pixels = match (x.data(), x.size().as_slice()) {
        (NumericData::UInt8 { real, .. }, [SIDE, SIDE, 3, count])
            if *count == labels.len() && real.len() == count * IMAGE =>
        {
            real
        }
        (_, size) => return Err(malformed(&name, expected(), format!("X of {size:?} for {} labels", labels.len()))),
    };
    // MATLAB counts rows first: `[channel, column, row]` in memory.
    let images = pixels.par_chunks_exact(IMAGE).map(|values| from_columns(values, SIDE)).collect();
    Ok(LabeledImages { images, labels })
}

fn class(label: f64) -> Option<usize> {
    (1..=10).find(|known| f64::from(*known) == label).map(|label| label as usize - 1)
}
