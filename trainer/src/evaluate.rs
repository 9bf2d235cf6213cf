//! What a model makes of images: logits, accuracy, loss.

use std::collections::BTreeMap;

use burn::tensor::{Device, ExecutionError, Tensor};
use models::{ModelSpec, Pixels, TrainingFacts, Weights, bundle::Golden, calibration};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, algorithm,
    data::LabeledImages,
    device::{DeviceId, DeviceKind},
    net::{self, Mode, WideResNet, floats},
    random,
};

/// Images a forward pass; more would only need more memory.
const BATCH: usize = 256;

/// A trained network that classifies images in bulk, on the workstation.
#[derive(Debug)]
pub struct Classifier {
    network: WideResNet,
    device: Device,
    kind: DeviceKind,
}

impl Classifier {
    /// The network of `weights` on a device.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if this build or this machine lacks the device.
    pub fn new(weights: &Weights, device: DeviceId) -> Result<Self> {
        let (kind, device) = (device.kind, device.open()?);
        let fresh = WideResNet::new(&weights.spec.network, &mut random::stream(0, "overwritten"), &device);
        let tensor = |values: &Vec<f32>| Tensor::from_floats(values.as_slice(), &device);
        let tensors = weights.tensors.iter().map(|(name, values)| (name.clone(), tensor(values))).collect();
        Ok(Self { network: net::load(fresh, tensors), device, kind })
    }

    /// The logits of each image.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn logits(&self, images: &[Pixels]) -> Result<Vec<Vec<f32>>> {
        logits(&self.network, images, &self.device).map_err(|error| self.failure(&error))
    }

    /// The pooled features of each image, which its logits are computed from: [`models::network::NetworkSpec::features`] numbers.
    ///
    /// # Errors
    /// As [`Self::logits`].
    pub fn embeddings(&self, images: &[Pixels]) -> Result<Vec<Vec<f32>>> {
        rows(images, |images| self.network.features(algorithm::images(images, &self.device), &mut Mode::Evaluate))
            .map_err(|error| self.failure(&error))
    }

    /// Accuracy and loss on labeled images.
    ///
    /// # Errors
    /// As [`Self::logits`].
    pub fn evaluate(&self, set: &LabeledImages) -> Result<Evaluation> {
        Ok(Evaluation::of(&self.logits(&set.images)?, &set.labels))
    }

    /// Golden vectors for at most `count` images, spread evenly.
    ///
    /// # Errors
    /// As [`Self::logits`].
    pub fn golden(&self, images: &[Pixels], count: usize) -> Result<Golden> {
        let images = Golden::choose(images, count);
        Ok(Golden { logits: self.logits(&images)?, images })
    }

    fn failure(&self, error: &ExecutionError) -> Error {
        Error::Device { device: self.kind.name(), reason: error.to_string() }
    }
}

/// Accuracy and loss on a set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Fraction classified correctly.
    pub accuracy: f64,
    /// Mean cross-entropy.
    pub loss: f64,
}

impl Evaluation {
    /// Of logits against labels.
    pub fn of(logits: &[Vec<f32>], labels: &[usize]) -> Self {
        let count = labels.len().max(1) as f64;
        let rows = || logits.iter().zip(labels);
        let correct = rows().filter(|(logits, label)| calibration::argmax(logits) == **label).count();
        let loss = |(logits, label): (&Vec<f32>, &usize)| -calibration::softmax(logits, 1.0)[*label].max(1e-300).ln();
        Self { accuracy: correct as f64 / count, loss: rows().map(loss).sum::<f64>() / count }
    }
}

pub(crate) fn logits(
    network: &WideResNet,
    images: &[Pixels],
    device: &Device,
) -> Result<Vec<Vec<f32>>, ExecutionError> {
    rows(images, |images| network.logits(algorithm::images(images, device), &mut Mode::Evaluate))
}

/// What is computed of each image, some at a time.
fn rows(images: &[Pixels], compute: impl Fn(&[Pixels]) -> Tensor<2>) -> Result<Vec<Vec<f32>>, ExecutionError> {
    let mut rows = Vec::with_capacity(images.len());
    for images in images.chunks(BATCH) {
        let computed = compute(images);
        let width = computed.dims()[1];
        let numbers: Vec<f32> = computed.try_into_data()?.iter().collect();
        rows.extend(numbers.chunks(width).map(<[f32]>::to_vec));
    }
    Ok(rows)
}

/// A network's tensors as weights; those the spec does not name stay out.
pub(crate) fn weights(network: &WideResNet, spec: &ModelSpec, training: TrainingFacts) -> Weights {
    let mut tensors = net::tensors(network);
    let named =
        spec.network.tensors().into_iter().filter_map(|t| Some((t.name.clone(), floats(tensors.remove(&t.name)?))));
    Weights { spec: spec.clone(), training, tensors: named.collect::<BTreeMap<_, _>>() }
}
