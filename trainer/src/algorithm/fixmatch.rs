//! FixMatch, one step a page.
//!
//! # Reference
//! Sohn, Berthelot, Li, Zhang, Carlini, Cubuk, Kurakin, Zhang, Raffel: "FixMatch: Simplifying Semi-Supervised Learning with
//! Consistency and Confidence" (NeurIPS 2020), algorithm 1, with the details of the authors' code.

use burn::tensor::{Tensor, activation::softmax};
use serde::{Deserialize, Serialize};

use super::{Batch, StepLosses};
use crate::{
    augment::View,
    config::{FixMatchConfig, LossWeights, TrainConfig},
    data::loader::Recipe,
    net::{Mode, WideResNet},
    ssl::{
        losses::{Losses, cross_entropy, masked_cross_entropy},
        pseudo_label::PseudoLabels,
    },
};

/// FixMatch. It remembers nothing between two steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FixMatch {
    config: FixMatchConfig,
}

impl FixMatch {
    pub(crate) fn new(config: &TrainConfig) -> Self {
        Self { config: config.fixmatch }
    }

    pub(crate) fn recipe(config: &TrainConfig) -> Recipe {
        Recipe {
            batch: config.batch,
            labeled: View::Weak,
            unlabeled_batch: config.batch * config.fixmatch.unlabeled_ratio,
            unlabeled: vec![View::Weak, View::Strong],
        }
    }

    /// Algorithm 1 of the paper, and the losses of its equations 3 and 4.
    pub(crate) fn losses(&mut self, network: &WideResNet, batch: &Batch) -> StepLosses {
        // Labeled images and both views are one batch, normalised as one.
        let mut statistics = Vec::new();
        let mode = &mut Mode::Train { groups: 1, record: Some((&mut statistics, 0)) };
        let logits = network.logits(Tensor::from_inner(batch.all()), mode);
        let unlabeled = batch.size() * self.config.unlabeled_ratio;
        let parts = logits.split_with_sizes(vec![batch.size(), unlabeled, unlabeled], 0);
        let [labeled, weak, strong] = [0, 1, 2].map(|part| parts[part].clone());

        // The weak view's most probable class is the strong view's label, where it is probable enough.
        let pseudo = PseudoLabels::new(softmax(weak.inner(), 1), self.config.threshold);

        // The two losses.
        let losses = Losses {
            unlabeled: Some(masked_cross_entropy(pseudo.targets, strong, pseudo.counted.clone())),
            ..Losses::labeled(cross_entropy(Tensor::from_inner(batch.targets()), labeled))
        };
        let weights = LossWeights { unlabeled: self.config.unlabeled_weight, pre_mixup: 0.0, rotation: 0.0 };
        StepLosses {
            total: weights.total(losses.clone(), 1.0),
            parts: losses,
            confident: Some(pseudo.counted.mean()),
            mean_probs: None,
            statistics,
        }
    }
}
