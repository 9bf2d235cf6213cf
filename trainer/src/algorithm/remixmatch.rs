//! ReMixMatch, one step a page.
//!
//! # Reference
//! Berthelot, Carlini, Cubuk, Kurakin, Sohn, Zhang, Raffel: "ReMixMatch: Semi-Supervised Learning with Distribution
//! Matching and Augmentation Anchoring" (ICLR 2020), algorithm 1, with the details of the authors' code.

use burn::tensor::{Tensor, activation::softmax};
use models::network::ROTATIONS;
use serde::{Deserialize, Serialize};

use super::{Batch, StepLosses};
use crate::{
    augment::View,
    config::{ReMixMatchConfig, TrainConfig, UnlabeledLoss},
    data::loader::Recipe,
    net::{Mode, WideResNet},
    random::{self, Stream},
    ssl::{
        align::{Marginals, align},
        interleave::Interleaving,
        losses::{Losses, cross_entropy, one_hot, squared_error},
        mixup::Mixture,
        ramp::ramp,
        rotation,
        sharpen::sharpen,
    },
};

/// ReMixMatch between two steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReMixMatch {
    config: ReMixMatchConfig,
    marginals: Marginals,
    mixing: Stream,
}

impl ReMixMatch {
    pub(crate) fn new(config: &TrainConfig, classes: usize, prior: Option<&[f64]>) -> Self {
        let remixmatch = config.remixmatch;
        let (window, decay) = (remixmatch.alignment_window, remixmatch.label_decay);
        Self {
            config: remixmatch,
            marginals: prior
                .map_or_else(|| Marginals::new(classes, window, decay), |prior| Marginals::towards(prior, window)),
            mixing: random::stream(config.seed, "mixup"),
        }
    }

    /// Labeled images are strongly augmented as well; the first view is the anchor.
    pub(crate) fn recipe(config: &TrainConfig) -> Recipe {
        let ReMixMatchConfig { strong_views, anchor, .. } = config.remixmatch;
        let unlabeled = [vec![anchor], vec![View::Strong; strong_views]].concat();
        Recipe { batch: config.batch, labeled: View::Strong, unlabeled_batch: config.batch, unlabeled }
    }

    /// Algorithm 1 of the paper, and the losses of its equation 3.
    pub(crate) fn losses(&mut self, network: &WideResNet, batch: &Batch, step: u64) -> StepLosses {
        let config = &self.config;
        let (size, views) = (batch.size(), config.strong_views);

        // Guess labels from the anchor: align, then sharpen. No gradient flows into them.
        let mode = &mut Mode::Train { groups: 1, record: None };
        let anchor_probs = softmax(network.without_gradient().logits(batch.view(0), mode), 1);
        let aligned = match config.distribution_alignment {
            true => align(anchor_probs.clone(), &self.marginals.p_data(), &self.marginals.p_model()),
            false => anchor_probs.clone(),
        };
        let guessed = sharpen(aligned, config.sharpen_temperature);

        // Mix labeled images, anchors and strong views, each with any other.
        let targets = Tensor::cat([vec![batch.targets()], vec![guessed.clone(); views + 1]].concat(), 0);
        let mixture = Mixture::draw((views + 2) * size, config.mixup_alpha, &mut self.mixing);
        let (images, targets) = (mixture.mix(batch.all()), mixture.mix(targets));

        // Every batch is normalised on its own: the mixed ones, interleaved, one unmixed strong view, and the same
        // rotated. The running statistics follow the last mixed batch.
        let interleaving = Interleaving::new(views + 2, size, &images.device());
        let mut passes = vec![interleaving.apply(images)];
        let strong_1 = batch.view(1);
        let (has_pre_mixup, has_rotation) = (config.weights.pre_mixup > 0.0, config.weights.rotation > 0.0);
        if has_pre_mixup {
            passes.push(strong_1.clone());
        }
        if has_rotation {
            passes.push(rotation::rotate(strong_1));
        }
        let groups = views + 1 + passes.len();
        let mut statistics = Vec::new();
        let mode = &mut Mode::Train { groups, record: Some((&mut statistics, views + 1)) };
        let features = network.features(Tensor::from_inner(Tensor::cat(passes, 0)), mode);
        let part = |first: usize, count: usize| features.clone().narrow(0, first * size, count * size);
        let logits = interleaving.apply(network.classify(part(0, views + 2)));

        // The four losses.
        let parts = vec![size, (views + 1) * size];
        let targets = Tensor::from_inner(targets).split_with_sizes(parts.clone(), 0);
        let logits = logits.split_with_sizes(parts, 0);
        let unlabeled = match config.unlabeled_loss {
            UnlabeledLoss::CrossEntropy => cross_entropy,
            UnlabeledLoss::SquaredError => squared_error,
        };
        let losses = Losses {
            labeled: cross_entropy(targets[0].clone(), logits[0].clone()),
            unlabeled: Some(unlabeled(targets[1].clone(), logits[1].clone())),
            pre_mixup: has_pre_mixup
                .then(|| cross_entropy(Tensor::from_inner(guessed), network.classify(part(views + 2, 1)))),
            rotation: has_rotation.then(|| {
                let turns = one_hot(&rotation::labels(size), ROTATIONS, &network.device());
                cross_entropy(turns, network.rotate(part(groups - 1, 1)))
            }),
        };

        StepLosses {
            total: self.config.weights.total(losses.clone(), ramp(step, self.config.ramp_steps)),
            parts: losses,
            confident: None,
            mean_probs: Some(anchor_probs.mean_dim(0)),
            statistics,
        }
    }

    /// The class distributions take a step's batch in after it, with the probabilities as they were before alignment.
    pub(super) fn remember(&mut self, mean_probs: Vec<f64>, labels: &[usize]) {
        self.marginals.push(mean_probs, labels);
    }
}
