//! One training step of each method.

pub(crate) mod remixmatch;
pub(crate) mod supervised;

use burn::tensor::{Device, Tensor, TensorData};
use models::Pixels;
use serde::{Deserialize, Serialize};

use self::{remixmatch::ReMixMatch, supervised::Supervised};
use crate::{
    config::{Algorithm, TrainConfig},
    data::TrainingData,
    net::{Statistics, WideResNet},
    ssl::losses::Losses,
};

/// A method with everything it carries from step to step, random streams included.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Method {
    Supervised(Box<Supervised>),
    ReMixMatch(Box<ReMixMatch>),
}

/// What a method makes of one step's images.
pub(crate) struct StepLosses {
    /// What is minimised.
    pub(crate) total: Tensor<1>,
    /// The losses it consists of, unweighted; those a method does not have are absent.
    pub(crate) parts: Losses<Option<Tensor<1>>>,
    /// The batch statistics that the running ones follow.
    pub(crate) statistics: Vec<Statistics>,
}

/// What a step leaves to be done once the weights have changed.
pub(crate) type AfterStep = Option<remixmatch::Probes>;

impl Method {
    /// The configured method at its first step.
    pub(crate) fn new(config: &TrainConfig, data: &TrainingData) -> Self {
        match config.algorithm {
            Algorithm::Supervised => Self::Supervised(Box::new(Supervised::new(config, data))),
            Algorithm::ReMixMatch => Self::ReMixMatch(Box::new(ReMixMatch::new(config, data))),
        }
    }

    /// Draws a batch and computes its losses; `step` counts from 0.
    pub(crate) fn losses(&mut self, network: &WideResNet, data: &TrainingData, step: u64) -> (StepLosses, AfterStep) {
        match self {
            Self::Supervised(method) => (method.losses(network, data), None),
            Self::ReMixMatch(method) => {
                let (losses, probes) = method.losses(network, data, step);
                (losses, Some(probes))
            }
        }
    }

    /// Learns from what the averaged weights make of the step's probes.
    pub(crate) fn after_step(&mut self, ema: &WideResNet, after: AfterStep) {
        if let (Self::ReMixMatch(method), Some(probes)) = (self, after) {
            method.update_rates(ema, probes);
        }
    }
}

/// Images as one batch.
///
/// # Shapes
/// `[images, channel, height, width]`.
pub(crate) fn batch(images: &[Pixels], device: &Device) -> Tensor<4> {
    let Pixels { height, width, channels, .. } = images[0];
    let values: Vec<f32> = images.iter().flat_map(Pixels::to_input).collect();
    Tensor::from_data(TensorData::new(values, [images.len(), channels, height, width]), device)
}
