//! Images and labels: where they come from, how they are split, in which order they are drawn.

pub mod archive;
pub mod digits;
pub mod folder;
pub(crate) mod loader;
pub mod sets;
mod shuffle;
pub mod split;

pub(crate) use shuffle::ShuffleBuffer;

use std::{borrow::Cow, iter};

use models::{Digest, LabelSet, Pixels, Preprocessing};

use crate::{Error, Result};

/// Images with the class of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabeledImages {
    /// The images.
    pub images: Vec<Pixels>,
    /// The class of each.
    pub labels: Vec<usize>,
}

impl LabeledImages {
    /// How many images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The images at `indices`, in that order.
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            images: indices.iter().map(|&i| self.images[i].clone()).collect(),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
        }
    }

    /// These images and then the others.
    pub fn extend(&mut self, other: Self) {
        self.images.extend(other.images);
        self.labels.extend(other.labels);
    }
}

/// Everything a training run works on.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// The classes.
    pub labels: LabelSet,
    /// How the images became what they are.
    pub preprocessing: Preprocessing,
    /// Images with labels to learn from.
    pub labeled: LabeledImages,
    /// Images without labels. As in ReMixMatch's original code, a caller puts the labeled ones in as well.
    pub unlabeled: Vec<Pixels>,
    /// Share of each class among the unlabeled images, where it is known to be other than among the labels. ReMixMatch aligns its
    /// guessed labels with it.
    pub prior: Option<Vec<f64>>,
    /// The frozen test set: measured, never learned from.
    pub test: LabeledImages,
}

impl TrainingData {
    /// Checks that the data can be trained on.
    ///
    /// # Errors
    /// [`Error::Data`] that names the set.
    pub fn validate(&self) -> Result<()> {
        let classes = self.labels.len();
        for class in 0..classes {
            if !self.labeled.labels.contains(&class) {
                return Err(Error::Data {
                    what: "labeled images".into(),
                    expected: format!("at least one of class {:?}", self.labels.name(class)),
                    found: "none".into(),
                });
            }
        }
        for (what, set) in [("labeled images", &self.labeled), ("test set", &self.test)] {
            let wrong = set.labels.iter().position(|label| *label >= classes);
            if set.images.len() != set.labels.len() || wrong.is_some() {
                let label = wrong.map(|i| format!(", label {} of image {i}", set.labels[i])).unwrap_or_default();
                return Err(Error::Data {
                    what: what.into(),
                    expected: format!("for each image a label below {classes}"),
                    found: format!("{} images, {} labels{label}", set.images.len(), set.labels.len()),
                });
            }
        }
        let is_distribution = |prior: &Vec<f64>| {
            prior.len() == classes && prior.iter().all(|p| *p >= 0.0) && (prior.iter().sum::<f64>() - 1.0).abs() < 1e-6
        };
        if let Some(prior) = self.prior.as_ref().filter(|prior| !is_distribution(prior)) {
            return Err(Error::Data {
                what: "prior".into(),
                expected: format!("{classes} shares that add up to 1"),
                found: format!("{prior:?}"),
            });
        }
        let [channels, height, width] = self.preprocessing.shape();
        let sets = [
            ("labeled images", &self.labeled.images),
            ("unlabeled images", &self.unlabeled),
            ("test set", &self.test.images),
        ];
        for (what, images) in sets {
            let is_wrong = |i: &&Pixels| {
                (i.channels, i.height, i.width) != (channels, height, width)
                    || i.data.len() != channels * height * width
            };
            let wrong = images.iter().find(is_wrong);
            if let Some(Pixels { channels: c, height: h, width: w, .. }) = wrong {
                return Err(Error::Data {
                    what: what.into(),
                    expected: format!("images of {channels}x{height}x{width}"),
                    found: format!("one of {c}x{h}x{w}"),
                });
            }
        }
        Ok(())
    }

    /// A digest of every image and label, measured on or learned from: two runs on the same data have the same.
    pub fn digest(&self) -> Digest {
        let number = |bytes: [u8; 8]| Cow::Owned(bytes.to_vec());
        let images = [&self.labeled.images, &self.unlabeled, &self.test.images].into_iter().flat_map(|images| {
            let count = number((images.len() as u64).to_le_bytes());
            iter::once(count).chain(images.iter().map(|image| Cow::Borrowed(image.data.as_slice())))
        });
        let labels = self.labeled.labels.iter().chain(&self.test.labels);
        let names = Cow::Owned(self.labels.names().join("\n").into_bytes());
        let parts = iter::once(names)
            .chain(images)
            .chain(labels.map(|label| number((*label as u64).to_le_bytes())))
            .chain(self.prior.iter().flatten().map(|share| number(share.to_le_bytes())));
        Digest::of_parts(parts)
    }
}
