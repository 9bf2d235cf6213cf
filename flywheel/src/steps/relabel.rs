//! Gives every sample from the field the label that the current model, or a teacher, gives it.
//!
//! Labels are made anew in every round and kept nowhere: one is never older than the model it comes from.

use anyhow::Result;
use models::{Calibration, Digest, Pixels, Prediction, Preprocessing, Sample};

use super::model::DeviceModel;

/// A model that labels.
#[derive(Debug)]
pub struct Labeler {
    /// The model.
    pub model: DeviceModel,
    /// How its logits are read.
    pub calibration: Calibration,
    /// Its weights, if it is not the current model.
    pub teacher: Option<Digest>,
}

/// A sample with its image as an input and what the labeler says of it.
#[derive(Clone, Debug)]
pub struct Relabeled {
    /// The sample as the device sent it.
    pub sample: Sample,
    /// Its image.
    pub pixels: Pixels,
    /// What the labeler says of it.
    pub prediction: Prediction,
}

/// Predicts every sample anew. Images that cannot be read are counted and left out.
///
/// # Errors
/// Those of [`DeviceModel::logits`].
pub fn relabel(
    labeler: &Labeler,
    preprocessing: &Preprocessing,
    samples: Vec<Sample>,
) -> Result<(Vec<Relabeled>, usize)> {
    let count = samples.len();
    let decode = |sample: Sample| {
        let pixels = preprocessing.pixels(&sample.record.source, &sample.image).ok()?;
        Some((sample, pixels))
    };
    let (samples, images): (Vec<_>, Vec<_>) = samples.into_iter().filter_map(decode).unzip();
    let logits = labeler.model.logits(&images)?;
    let unreadable = count - images.len();
    let relabeled = samples
        .into_iter()
        .zip(images)
        .zip(logits)
        .map(|((sample, pixels), logits)| Relabeled {
            sample,
            pixels,
            prediction: labeler.calibration.predict(&logits),
        })
        .collect();
    Ok((relabeled, unreadable))
}
