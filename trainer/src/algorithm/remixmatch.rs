//! ReMixMatch, one step a page.
//!
//! # Reference
//! Berthelot, Carlini, Cubuk, Kurakin, Sohn, Zhang, Raffel: "ReMixMatch: Semi-Supervised Learning with Distribution
//! Matching and Augmentation Anchoring" (ICLR 2020), algorithm 1, with the details of the authors' code.

use burn::tensor::{Device, Int, Tensor, TensorData, activation::softmax};
use models::Pixels;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{StepLosses, batch};
use crate::{
    augment::{CtAugment, WeakAugment, ct_augment},
    config::{ReMixMatchConfig, TrainConfig},
    data::{ShuffleBuffer, TrainingData},
    net::{Mode, WideResNet, numbers},
    random::{self, Stream},
    ssl::{
        align::{Marginals, align},
        interleave::interleave,
        losses::{Losses, cross_entropy, one_hot},
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
    batch: usize,
    weak: WeakAugment,
    ct_augment: CtAugment,
    marginals: Marginals,
    labeled_order: ShuffleBuffer,
    unlabeled_order: ShuffleBuffer,
    augmentation: Stream,
    mixing: Stream,
}

/// One step's images, `[batch, channel, height, width]` each.
struct Views {
    /// Labeled images, strongly augmented.
    labeled: Tensor<4>,
    /// Their classes.
    labels: Vec<usize>,
    /// Unlabeled images, weakly augmented.
    anchor: Tensor<4>,
    /// The same images, strongly augmented: K times, never alike.
    strong: Vec<Tensor<4>>,
}

/// Labeled images under measuring policies, to be judged once the weights have changed.
pub(crate) struct Probes {
    images: Tensor<4>,
    labels: Vec<usize>,
    policies: Vec<ct_augment::Policy>,
}

impl ReMixMatch {
    pub(crate) fn new(config: &TrainConfig, data: &TrainingData) -> Self {
        let remixmatch = config.remixmatch;
        Self {
            config: remixmatch,
            batch: config.batch,
            weak: config.weak,
            ct_augment: CtAugment::new(config.ct_augment),
            marginals: Marginals::new(data.labels.len(), remixmatch.alignment_window, remixmatch.label_decay),
            labeled_order: ShuffleBuffer::new(data.labeled.len(), config.seed, "labeled order"),
            unlabeled_order: ShuffleBuffer::new(data.unlabeled.len(), config.seed, "unlabeled order"),
            augmentation: random::stream(config.seed, "augmentation"),
            mixing: random::stream(config.seed, "mixup"),
        }
    }

    /// Algorithm 1 of the paper, and the losses of its equation 3.
    pub(crate) fn losses(&mut self, network: &WideResNet, data: &TrainingData, step: u64) -> (StepLosses, Probes) {
        let device = network.device();
        let size = self.batch;
        let views = self.config.strong_views;
        let (Views { labeled, labels, anchor, strong }, probes) = self.draw(data, &device.clone().inner());

        // Guess labels from the anchor: align, then sharpen. No gradient flows into them.
        let anchor_logits =
            network.without_gradient().logits(anchor.clone(), &mut Mode::Train { groups: 1, record: None });
        let anchor_probs = softmax(anchor_logits, 1);
        let aligned = align(anchor_probs.clone(), &self.marginals.p_data(), &self.marginals.p_model());
        let guessed = sharpen(aligned, self.config.sharpen_temperature);

        // Mix labeled images, anchors and strong views, each with any other.
        let targets = one_hot(&labels, data.labels.len(), &labeled.device());
        let strong_1 = strong[0].clone();
        let images = Tensor::cat([vec![labeled, anchor], strong].concat(), 0);
        let targets = Tensor::cat([vec![targets], vec![guessed.clone(); views + 1]].concat(), 0);
        let mixture = Mixture::draw((views + 2) * size, self.config.mixup_alpha, &mut self.mixing);
        let (images, targets) = (mixture.mix(images), mixture.mix(targets));

        // Every batch is normalised on its own: the mixed ones, interleaved, the unmixed strong view and the rotated
        // one. The running statistics follow the last mixed batch.
        let interleaved = indices(interleave(views + 2, size), &images.device());
        let images = images.select(0, interleaved.clone());
        let images = Tensor::cat(vec![images, strong_1.clone(), rotation::rotate(strong_1)], 0);
        let mut statistics = Vec::new();
        let mode = &mut Mode::Train { groups: views + 4, record: Some((&mut statistics, views + 1)) };
        let features = network.features(Tensor::from_inner(images), mode);
        let [mixed, strong_1, rotated] = split(features, [(views + 2) * size, size, size]);
        let mixed_logits = network.classify(mixed).select(0, Tensor::from_inner(interleaved));

        // The four losses.
        let [labeled_logits, unlabeled_logits] = split(mixed_logits, [size, (views + 1) * size]);
        let [labeled_targets, unlabeled_targets] = split(Tensor::from_inner(targets), [size, (views + 1) * size]);
        let turns = one_hot(&rotation::labels(size), models::network::ROTATIONS, &device);
        let losses = Losses {
            labeled: cross_entropy(labeled_targets, labeled_logits),
            unlabeled: cross_entropy(unlabeled_targets, unlabeled_logits),
            pre_mixup: cross_entropy(Tensor::from_inner(guessed), network.classify(strong_1)),
            rotation: cross_entropy(turns, network.rotate(rotated)),
        };

        // The class distributions take this batch in only now.
        self.marginals.push(numbers(anchor_probs.mean_dim(0)), &labels);
        let step_losses = StepLosses {
            total: self.config.weights.total(losses.clone(), ramp(step, self.config.ramp_steps)),
            parts: losses.map(Some),
            statistics,
        };
        (step_losses, probes)
    }

    /// Draws images and augments them, in parallel.
    fn draw(&mut self, data: &TrainingData, device: &Device) -> (Views, Probes) {
        let labeled = data.labeled.select(&self.labeled_order.take(self.batch));
        let unlabeled = self.unlabeled_order.take(self.batch);
        let (weak, augment) = (self.weak, &self.ct_augment);

        let seeds = random::seeds(&mut self.augmentation, self.batch);
        let draw_labeled = |(image, seed)| {
            let mut random = random::from_seed(seed);
            let weak = weak.apply(image, &mut random);
            let policy = augment.policy(&mut random);
            let strong = ct_augment::apply(&policy, weak.clone(), &mut random);
            let policy = augment.probe(&mut random);
            (strong, ct_augment::apply(&policy, weak, &mut random), policy)
        };
        let drawn: Vec<_> = labeled.images.par_iter().zip(seeds).map(draw_labeled).collect();
        let (strong, (probed, policies)): (Vec<_>, (Vec<_>, Vec<_>)) =
            drawn.into_iter().map(|(strong, probed, policy)| (strong, (probed, policy))).unzip();

        let mut view = |strong: bool| {
            let seeds = random::seeds(&mut self.augmentation, self.batch);
            let draw = |(&index, seed): (&usize, u64)| {
                let mut random = random::from_seed(seed);
                let image = weak.apply(&data.unlabeled[index], &mut random);
                if !strong {
                    return image;
                }
                ct_augment::apply(&augment.policy(&mut random), image, &mut random)
            };
            batch(&unlabeled.par_iter().zip(seeds).map(draw).collect::<Vec<Pixels>>(), device)
        };
        let views = Views {
            labeled: batch(&strong, device),
            labels: labeled.labels.clone(),
            anchor: view(false),
            strong: (0..self.config.strong_views).map(|_| view(true)).collect(),
        };
        (views, Probes { images: batch(&probed, device), labels: labeled.labels, policies })
    }

    /// CTAugment's rates follow the probability that the EMA model gives the probes' labels.
    pub(crate) fn update_rates(&mut self, ema: &WideResNet, probes: Probes) {
        let probs = softmax(ema.logits(probes.images, &mut Mode::Evaluate), 1);
        let classes = probs.dims()[1];
        let probs = numbers(probs);
        for (row, (label, policy)) in probes.labels.iter().zip(&probes.policies).enumerate() {
            self.ct_augment.update(policy, probs[row * classes + label]);
        }
    }
}

fn indices(rows: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let length = rows.len();
    Tensor::from_data(TensorData::new(rows, [length]), device)
}

/// Cuts rows into parts of the given numbers.
fn split<const N: usize>(rows: Tensor<2>, parts: [usize; N]) -> [Tensor<2>; N] {
    let mut start = 0;
    parts.map(|rows_of_part| {
        start += rows_of_part;
        rows.clone().narrow(0, start - rows_of_part, rows_of_part)
    })
}
