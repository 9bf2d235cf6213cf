//! Gives every sample from the field the label that the current model gives it.

use anyhow::Result;
use models::{Calibration, Pixels, Prediction, Preprocessing, Sample};

use super::model::DeviceModel;

/// A sample with its image as an input and what the current model says of it.
#[derive(Clone, Debug)]
pub struct Relabeled {
    /// The sample as the device sent it.
    pub sample: Sample,
    /// Its image.
    pub pixels: Pixels,
    /// What the current model says of it.
    pub prediction: Prediction,
}

/// Predicts every sample anew. Images that cannot be read are counted and left out.
///
/// # Errors
/// Those of [`DeviceModel::logits`].
pub fn relabel(
    model: &DeviceModel,
    calibration: &Calibration,
    preprocessing: &Preprocessing,
    samples: Vec<Sample>,
) -> Result<(Vec<Relabeled>, usize)> {
    let count = samples.len();
    let decode = |sample: Sample| {
        let pixels = preprocessing.pixels(&sample.record.source, &sample.image).ok()?;
        Some((sample, pixels))
    };
    let (samples, images): (Vec<_>, Vec<_>) = samples.into_iter().filter_map(decode).unzip();
    let logits = model.logits(&images)?;
    let unreadable = count - images.len();
    let relabeled = samples
        .into_iter()
        .zip(images)
        .zip(logits)
        .map(|((sample, pixels), logits)| Relabeled { sample, pixels, prediction: calibration.predict(&logits) })
        .collect();
    Ok((relabeled, unreadable))
}
