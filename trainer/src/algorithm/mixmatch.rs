//! MixMatch, one step a page.
//!
//! # Reference
//! Berthelot, Carlini, Goodfellow, Papernot, Oliver, Raffel: "MixMatch: A Holistic Approach to Semi-Supervised Learning"
//! (NeurIPS 2019), algorithm 1, with the details of the authors' code.

use burn::tensor::{Tensor, activation::softmax};
use serde::{Deserialize, Serialize};

use super::{Batch, StepLosses};
use crate::{
    augment::View,
    config::{LossWeights, MixMatchConfig, TrainConfig},
    data::loader::Recipe,
    net::{Mode, WideResNet},
    random::{self, Stream},
    ssl::{
        guess::mean_of_views,
        interleave::Interleaving,
        losses::{Losses, cross_entropy, squared_error},
        mixup::Mixture,
        ramp::ramp,
        sharpen::sharpen,
    },
};

/// MixMatch between two steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MixMatch {
    config: MixMatchConfig,
    mixing: Stream,
}

impl MixMatch {
    pub(crate) fn new(config: &TrainConfig) -> Self {
        Self { config: config.mixmatch, mixing: random::stream(config.seed, "mixup") }
    }

    pub(crate) fn recipe(config: &TrainConfig) -> Recipe {
        let unlabeled = vec![View::Weak; config.mixmatch.weak_views];
        Recipe { batch: config.batch, labeled: View::Weak, unlabeled_batch: config.batch, unlabeled }
    }

    /// Algorithm 1 of the paper, and the losses of its equations 3 to 5.
    pub(crate) fn losses(&mut self, network: &WideResNet, batch: &Batch, step: u64) -> StepLosses {
        let (size, views) = (batch.size(), self.config.weak_views);

        // Guess labels from all views. No gradient flows into them.
        let mode = &mut Mode::Train { groups: views, record: None };
        let probs = softmax(network.without_gradient().logits(batch.views(0, views), mode), 1);
        let guessed = sharpen(mean_of_views(probs, views), self.config.sharpen_temperature);

        // Mix labeled images and views, each with any other.
        let targets = Tensor::cat([vec![batch.targets()], vec![guessed; views]].concat(), 0);
        let mixture = Mixture::draw((views + 1) * size, self.config.mixup_alpha, &mut self.mixing);
        let (images, targets) = (mixture.mix(batch.all()), mixture.mix(targets));

        // Every interleaved batch is normalised on its own. The running statistics follow the first.
        let interleaving = Interleaving::new(views + 1, size, &images.device());
        let images = Tensor::from_inner(interleaving.apply(images));
        let mut statistics = Vec::new();
        let mode = &mut Mode::Train { groups: views + 1, record: Some((&mut statistics, 0)) };
        let logits = interleaving.apply(network.logits(images, mode));

        // The two losses.
        let parts = vec![size, views * size];
        let targets = Tensor::from_inner(targets).split_with_sizes(parts.clone(), 0);
        let logits = logits.split_with_sizes(parts, 0);
        let losses = Losses {
            unlabeled: Some(squared_error(targets[1].clone(), logits[1].clone())),
            ..Losses::labeled(cross_entropy(targets[0].clone(), logits[0].clone()))
        };
        let weights = LossWeights { unlabeled: self.config.unlabeled_weight, pre_mixup: 0.0, rotation: 0.0 };
        StepLosses {
            total: weights.total(losses.clone(), ramp(step, self.config.ramp_steps)),
            parts: losses,
            confident: None,
            mean_probs: None,
            statistics,
        }
    }
}
