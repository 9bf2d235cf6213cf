//! The baseline: cross-entropy on weakly augmented labeled images, nothing else.

use burn::tensor::Tensor;

use super::{Batch, StepLosses};
use crate::{
    augment::View,
    config::TrainConfig,
    data::loader::Recipe,
    net::{Mode, WideResNet},
    ssl::losses::{Losses, cross_entropy},
};

pub(crate) fn recipe(config: &TrainConfig) -> Recipe {
    Recipe { batch: config.batch, labeled: View::Weak, unlabeled_batch: 0, unlabeled: Vec::new() }
}

pub(crate) fn losses(network: &WideResNet, batch: &Batch) -> StepLosses {
    let mut statistics = Vec::new();
    let mode = &mut Mode::Train { groups: 1, record: Some((&mut statistics, 0)) };
    let logits = network.logits(Tensor::from_inner(batch.all()), mode);
    let labeled = cross_entropy(Tensor::from_inner(batch.targets()), logits);
    StepLosses {
        total: labeled.clone(),
        parts: Losses::labeled(labeled),
        confident: None,
        mean_probs: None,
        statistics,
    }
}
