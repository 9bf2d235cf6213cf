//! One training step of each method: what it looks at, and the losses it makes of it.

mod batch;
mod fixmatch;
mod mixmatch;
mod remixmatch;
mod supervised;
#[cfg(test)]
mod tests;

use burn::tensor::{ExecutionError, Tensor, Transaction};
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
    /// Fraction of the unlabeled images that count, if a method chooses; without gradient.
    pub(crate) confident: Option<Tensor<1>>,
    /// Mean of the probabilities that labels were guessed from, `[1, class]`, if a method remembers them; without gradient.
    pub(crate) mean_probs: Option<Tensor<2>>,
    /// The batch statistics that the running ones follow.
    pub(crate) statistics: Vec<Statistics>,
}

/// The losses of a step as numbers.
#[derive(Clone, Debug)]
pub(crate) struct StepNumbers {
    pub(crate) total: f64,
    pub(crate) parts: Losses<f64>,
    pub(crate) confident: Option<f64>,
}

/// Everything that is read back from the device after a step.
#[derive(Clone, Debug)]
pub(crate) struct Readings {
    pub(crate) numbers: StepNumbers,
    /// Mean of the probabilities that labels were guessed from, one a class, if the method remembers them.
    pub(crate) mean_probs: Option<Vec<f64>>,
    /// Probabilities of the probed images, row by row, if any were.
    pub(crate) probe_probs: Option<Vec<f64>>,
}

impl StepLosses {
    /// Waits for the device and reads everything at once: a step waits nowhere else, but for other replicas.
    ///
    /// # Shapes
    /// `probe_probs`: `[batch, class]`.
    ///
    /// # Errors
    /// What went wrong on the device since it was last waited for.
    pub(crate) fn read(&self, probe_probs: Option<Tensor<2>>) -> Result<Readings, ExecutionError> {
        let mut tensors = vec![self.total.clone().inner()];
        self.parts.clone().map(|loss| tensors.push(loss.inner()));
        tensors.extend(self.confident.clone());
        let reads = tensors.into_iter().fold(Transaction::default(), Transaction::register);
        let probs = [self.mean_probs.as_ref(), probe_probs.as_ref()];
        let reads = probs.into_iter().flatten().cloned().fold(reads, Transaction::register);

        let mut read = reads.try_execute()?.into_iter().map(|data| data.iter::<f64>().collect::<Vec<f64>>());
        let mut next = || read.next().expect("as many as were asked for");
        Ok(Readings {
            numbers: StepNumbers {
                total: next()[0],
                parts: self.parts.clone().map(|_| next()[0]),
                confident: self.confident.as_ref().map(|_| next()[0]),
            },
            mean_probs: self.mean_probs.as_ref().map(|_| next()),
            probe_probs: probe_probs.map(|_| next()),
        })
    }
}

impl StepNumbers {
    /// The means over equal parts of a step.
    pub(crate) fn mean(parts: &[Self]) -> Self {
        let mean = |sum: f64| sum / parts.len() as f64;
        let losses = parts.iter().map(|part| part.parts.clone()).reduce(Losses::add);
        Self {
            total: mean(parts.iter().map(|part| part.total).sum()),
            parts: losses.unwrap_or_default().map(mean),
            confident: parts.iter().map(|part| part.confident).sum::<Option<f64>>().map(mean),
        }
    }
}

impl Method {
    /// The configured method at its first step, for so many classes, of which the unlabeled images may be known to hold these shares.
    pub(crate) fn new(config: &TrainConfig, classes: usize, prior: Option<&[f64]>) -> Self {
        match config.algorithm {
            Algorithm::Supervised => Self::Supervised,
            Algorithm::MixMatch => Self::MixMatch(Box::new(MixMatch::new(config))),
            Algorithm::ReMixMatch => Self::ReMixMatch(Box::new(ReMixMatch::new(config, classes, prior))),
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

    /// Takes in what a step has shown: [`Readings::mean_probs`], and the labels of its images.
    pub(crate) fn remember(&mut self, mean_probs: Option<Vec<f64>>, labels: &[usize]) {
        if let (Self::ReMixMatch(method), Some(mean_probs)) = (self, mean_probs) {
            method.remember(mean_probs, labels);
        }
    }
}
