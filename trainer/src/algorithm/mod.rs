//! One training step of each method: what it looks at, and the losses it makes of it.

mod batch;
mod fixmatch;
mod mixmatch;
mod remixmatch;
mod supervised;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub(crate) use self::batch::{Batch, images};
use self::{fixmatch::FixMatch, mixmatch::MixMatch, remixmatch::ReMixMatch};
use crate::{
    config::{Algorithm, TrainConfig},
    data::loader::Recipe,
    net::{Statistics, WideResNet},
    ssl::losses::Losses,
};

/// A method with everything it carries from step to step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Method {
    Supervised,
    MixMatch(Box<MixMatch>),
    ReMixMatch(Box<ReMixMatch>),
    FixMatch(FixMatch),
}

/// What a method makes of one step's images.
pub(crate) struct StepLosses {
    /// What is minimised.
    pub(crate) total: Tensor<1>,
    /// The losses it consists of, unweighted.
    pub(crate) parts: Losses<Tensor<1>>,
    /// Fraction of the unlabeled images that count, if a method chooses.
    pub(crate) confident: Option<Tensor<1>>,
    /// The batch statistics that the running ones follow.
    pub(crate) statistics: Vec<Statistics>,
}

impl Method {
    /// The configured method at its first step, for so many classes.
    pub(crate) fn new(config: &TrainConfig, classes: usize) -> Self {
        match config.algorithm {
            Algorithm::Supervised => Self::Supervised,
            Algorithm::MixMatch => Self::MixMatch(Box::new(MixMatch::new(config))),
            Algorithm::ReMixMatch => Self::ReMixMatch(Box::new(ReMixMatch::new(config, classes))),
            Algorithm::FixMatch => Self::FixMatch(FixMatch::new(config)),
        }
    }

    /// What the configured method looks at in one step.
    pub(crate) fn recipe(config: &TrainConfig) -> Recipe {
        match config.algorithm {
            Algorithm::Supervised => supervised::recipe(config),
            Algorithm::MixMatch => MixMatch::recipe(config),
            Algorithm::ReMixMatch => ReMixMatch::recipe(config),
            Algorithm::FixMatch => FixMatch::recipe(config),
        }
    }

    /// The losses of a step; `step` counts from 0.
    pub(crate) fn losses(&mut self, network: &WideResNet, batch: &Batch, step: u64) -> StepLosses {
        match self {
            Self::Supervised => supervised::losses(network, batch),
            Self::MixMatch(method) => method.losses(network, batch, step),
            Self::ReMixMatch(method) => method.losses(network, batch, step),
            Self::FixMatch(method) => method.losses(network, batch),
        }
    }
}
