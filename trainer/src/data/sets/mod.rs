//! The papers' data sets, read from their official files: archives as they were downloaded, or what was extracted from
//! them; and the digits, which need none.

mod catalog;
mod cifar;
mod files;
mod pickle;
mod stl10;
mod svhn;
#[cfg(test)]
mod tests;

use std::path::Path;

use models::{LabelSet, Pixels, Preprocessing, preprocess::Color};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LabeledImages, digits, split};
use crate::{Error, Result};

pub use catalog::RemoteFile;

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// CIFAR-10 (Krizhevsky, 2009).
    Cifar10,
    /// CIFAR-100 with its fine labels (Krizhevsky, 2009).
    Cifar100,
    /// Street View House Numbers, cropped, without the extra images (Netzer et al., 2011).
    Svhn,
    /// The same with the extra images.
    SvhnExtra,
    /// STL-10 (Coates, Ng and Lee, 2011).
    Stl10,
    /// The digits of the demo, which are part of the program: the last 457 are for testing.
    Digits,
}

/// What a data set's files hold.
#[derive(Clone, Debug)]
pub struct SetData {
    /// The classes, in the files' order.
    pub labels: LabelSet,
    /// Training images.
    pub train: LabeledImages,
    /// Images that have no label at all.
    pub unlabeled: Vec<Pixels>,
    /// Test images.
    pub test: LabeledImages,
    /// Indices of the official choices of labeled images, if there are any; the papers' seed is the place.
    pub folds: Vec<Vec<usize>>,
}

impl Set {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Cifar10, Self::Cifar100, Self::Svhn, Self::SvhnExtra, Self::Stl10, Self::Digits];

    /// Its name in configuration files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Svhn => "svhn",
            Self::SvhnExtra => "svhn-extra",
            Self::Stl10 => "stl10",
            Self::Digits => "digits",
        }
    }

    /// Size and colour of its images.
    pub fn preprocessing(self) -> Preprocessing {
        let square = |side| Preprocessing { color: Color::Rgb, height: side, width: side };
        match self {
            Self::Cifar10 | Self::Cifar100 | Self::Svhn | Self::SvhnExtra => square(32),
            Self::Stl10 => square(96),
            Self::Digits => digits::preprocessing(),
        }
    }

    /// Reads the set from a folder that holds its official files, packed or extracted, itself or two folders further down.
    ///
    /// # Errors
    /// [`crate::Error::Data`] that says which files are missing, or what is wrong with one; [`models::Error::Io`].
    pub fn read(self, folder: &Path) -> Result<SetData> {
        match self {
            Self::Cifar10 => cifar::read(cifar::Kind::Ten, folder),
            Self::Cifar100 => cifar::read(cifar::Kind::Hundred, folder),
            Self::Svhn => svhn::read(folder, false),
            Self::SvhnExtra => svhn::read(folder, true),
            Self::Stl10 => stl10::read(folder),
            Self::Digits => Ok(digits::set()),
        }
    }
}

impl SetData {
    /// Which training images keep their label: `count` of them, chosen as the papers do for this seed.
    ///
    /// Official choices go before the shuffle, where there are some of that size.
    ///
    /// # Errors
    /// [`Error::Config`] for a seed that has no official choice, where the others have.
    ///
    /// # Panics
    /// If there are fewer training images.
    pub fn choose(&self, count: usize, seed: u32) -> Result<Vec<usize>> {
        let is_official = self.folds.iter().any(|fold| fold.len() == count);
        match self.folds.get(seed as usize) {
            Some(fold) if fold.len() == count => Ok(fold.clone()),
            None if is_official => Err(Error::Config {
                key: "data.split_seed",
                expected: format!("0 to {}, the official choices of {count} labels", self.folds.len() - 1),
                found: seed.to_string(),
            }),
            _ => Ok(split::labeled(&self.train.labels, self.labels.len(), count, seed)),
        }
    }
}

/// An image whose channels lie one after another, each row by row.
fn from_rows(values: &[u8], side: usize) -> Pixels {
    pixels(values, side, |row, column| row * side + column)
}

/// The same, each column by column.
fn from_columns(values: &[u8], side: usize) -> Pixels {
    pixels(values, side, |row, column| column * side + row)
}

fn pixels(values: &[u8], side: usize, place: impl Fn(usize, usize) -> usize) -> Pixels {
    let size = side * side;
    let mut data = vec![0; 3 * size];
    for (row, line) in data.chunks_exact_mut(3 * side).enumerate() {
        for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value = values[channel * size + place(row, column)];
            }
        }
    }
    Pixels { height: side, width: side, channels: 3, data }
}
