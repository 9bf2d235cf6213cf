//! The baseline: cross-entropy on weakly augmented labeled images, nothing else.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{StepLosses, batch};
use crate::{
    augment::WeakAugment,
    config::TrainConfig,
    data::{ShuffleBuffer, TrainingData},
    net::{Mode, WideResNet},
    random::{self, Stream},
    ssl::losses::{Losses, cross_entropy, one_hot},
};

/// Supervised training between two steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Supervised {
    batch: usize,
    weak: WeakAugment,
    order: ShuffleBuffer,
    augmentation: Stream,
}

impl Supervised {
    pub(crate) fn new(config: &TrainConfig, data: &TrainingData) -> Self {
        Self {
            batch: config.batch,
            weak: config.weak,
            order: ShuffleBuffer::new(data.labeled.len(), config.seed, "labeled order"),
            augmentation: random::stream(config.seed, "augmentation"),
        }
    }

    pub(crate) fn losses(&mut self, network: &WideResNet, data: &TrainingData) -> StepLosses {
        let drawn = data.labeled.select(&self.order.take(self.batch));
        let seeds = random::seeds(&mut self.augmentation, self.batch);
        let weak = drawn
            .images
            .par_iter()
            .zip(seeds)
            .map(|(image, seed)| self.weak.apply(image, &mut random::from_seed(seed)));
        let device = network.device();
        let images = batch(&weak.collect::<Vec<_>>(), &device);
        let targets = one_hot(&drawn.labels, data.labels.len(), &device);

        let mut statistics = Vec::new();
        let mode = &mut Mode::Train { groups: 1, record: Some((&mut statistics, 0)) };
        let labeled = cross_entropy(targets, network.logits(images, mode));
        StepLosses {
            total: labeled.clone(),
            parts: Losses { labeled: Some(labeled), unlabeled: None, pre_mixup: None, rotation: None },
            statistics,
        }
    }
}
