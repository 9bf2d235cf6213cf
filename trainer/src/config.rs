//! Settings of a training run. Every field says its unit and where its default comes from.

mod methods;

use burn::tensor::Device;
use models::{NetworkSpec, Preprocessing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::methods::{fraction, positive, weight};
use crate::{
    Error, Result,
    augment::{CtAugmentConfig, Strong, WeakAugment},
    device::{DeviceId, DeviceKind, Precision},
};

pub use self::methods::{FixMatchConfig, MixMatchConfig, ReMixMatchConfig, UnlabeledLoss};
pub use crate::{
    augment::View,
    optimizer::{Optimizer, Schedule},
    ssl::losses::LossWeights,
};

/// Size of the network; its input comes from the preprocessing, its classes from the labels.
///
/// A name says the same as the table: `network = "wrn-28-2"` has depth 28, width 2 and three scales, "wrn-37-2", as its depth is
/// odd, four. Two networks are meant for devices: "device" and "device-small".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Convolution layers: 10, 16, 22, 28 with three scales, 13, 21, 29, 37 with four. Default 28: WRN-28-2, as in the papers.
    pub depth: usize,
    /// Width factor: the groups have 16, 32, 64 channels times this. Default 2: WRN-28-2.
    pub width: usize,
    /// Groups of blocks, each but the first at half the resolution. Default 3; the papers use 4 for 96x96 images.
    pub scales: usize,
    /// Stride of the first convolution. Default 1: the papers; the networks for devices have 2.
    pub stem_stride: usize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self::wide_resnet(28, 2)
    }
}

impl NetworkConfig {
    /// The larger of two networks meant for devices: docs/results.md says how they were chosen.
    pub const DEVICE: Self = Self { stem_stride: 2, ..Self::wide_resnet(10, 4) };
    /// The smaller one.
    pub const DEVICE_SMALL: Self = Self { stem_stride: 2, ..Self::wide_resnet(10, 2) };

    /// WRN-`depth`-`width`: an even depth is one of three groups, an odd one of four.
    pub const fn wide_resnet(depth: usize, width: usize) -> Self {
        Self { depth, width, scales: 3 + depth % 2, stem_stride: 1 }
    }

    /// The network called `name`.
    ///
    /// # Errors
    /// [`Error::Config`] with the names there are.
    pub fn named(name: &str) -> Result<Self> {
        let wide_resnet = || {
            let (depth, width) = name.strip_prefix("wrn-")?.split_once('-')?;
            let network = Self::wide_resnet(depth.parse().ok()?, width.parse().ok()?);
            network.spec([3, 32, 32], 10).is_ok().then_some(network)
        };
        match name {
            "device" => Ok(Self::DEVICE),
            "device-small" => Ok(Self::DEVICE_SMALL),
            _ => wide_resnet().ok_or_else(|| Error::Config {
                key: "network",
                expected: "\"wrn-28-2\" or of another width and depth (10, 16, 22, 28, ... with three scales, 13, 21, 29, 37, ... with \
                           four), \"device\", \"device-small\", or a table"
                    .into(),
                found: format!("{name:?}"),
            }),
        }
    }

    /// The network for `[channels, height, width]` inputs.
    ///
    /// # Errors
    /// [`models::Error::Network`] that says which number is wrong and what would do.
    pub fn spec(&self, input: [usize; 3], classes: usize) -> Result<NetworkSpec> {
        let Self { depth, width, scales, stem_stride } = *self;
        Ok(NetworkSpec { depth, width, scales, stem_stride, input, classes }.validate()?)
    }
}

/// Which method learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Labeled images alone, weakly augmented: the baseline.
    Supervised,
    /// MixMatch (Berthelot et al., 2019).
    MixMatch,
    /// ReMixMatch (Berthelot et al., 2020).
    #[default]
    ReMixMatch,
    /// FixMatch (Sohn et al., 2020).
    FixMatch,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Supervised, Self::MixMatch, Self::ReMixMatch, Self::FixMatch];

    /// Its name in the configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supervised => "supervised",
            Self::MixMatch => "mixmatch",
            Self::ReMixMatch => "remixmatch",
            Self::FixMatch => "fixmatch",
        }
    }
}

/// A training run.
///
/// In `flywheel.toml`, settings that are left out have the values of the chosen method's paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The method.
    pub algorithm: Algorithm,
    /// What computes.
    pub device: DeviceKind,
    /// Indices of the devices that share every batch. Default `[0]`. `[0, 1]` trains on two GPUs of this host; on the
    /// processor, as many replicas divide its cores.
    pub devices: Vec<usize>,
    /// What convolutions are computed in while training.
    pub precision: Precision,
    /// Root seed of all randomness. Default 1.
    pub seed: u64,
    /// Optimiser steps. Default 1,048,576: the papers' 2^26 labeled images in batches of 64.
    pub steps: u64,
    /// Labeled images a step, and unlabeled ones (FixMatch: times its ratio). Default 64: the papers. A multiple of 4
    /// with a rotation loss.
    pub batch: usize,
    /// What turns gradients into weights. Default "adam": ReMixMatch, section 4; FixMatch "sgd", section 2.4.
    pub optimizer: Optimizer,
    /// Learning rate at the start. Default 0.002: ReMixMatch, section 4; FixMatch 0.03, section 4.
    pub learning_rate: f64,
    /// How the learning rate falls. Default "constant": ReMixMatch, section 4; FixMatch "cosine", section 2.4.
    pub schedule: Schedule,
    /// Momentum of "sgd", in Nesterov's form. Default 0.9: FixMatch, section 4.
    pub momentum: f64,
    /// Weight decay of kernels. With "adam" decoupled: kernels lose `learning_rate * weight_decay` of themselves a step.
    /// With "sgd" part of the gradient. Default 0.02: the original code of MixMatch and ReMixMatch; FixMatch 0.0005,
    /// section 4.1.
    pub weight_decay: f64,
    /// What one step leaves of the EMA model. Default 0.999: ReMixMatch, section 4.
    pub ema_decay: f64,
    /// Fraction by which batch norm's running statistics move a step. Default 0.001: the original code.
    pub norm_rate: f64,
    /// Steps between measurements of the EMA model on the test set. Default 1024: every 65,536 labeled images,
    /// as in the papers.
    pub evaluate_every: u64,
    /// Steps between log lines, each the mean over the steps since the last. Default 64.
    pub log_every: u64,
    /// Steps between checkpoints. Default 1024.
    pub checkpoint_every: u64,
    /// Weak augmentation.
    pub weak: WeakAugment,
    /// What makes a strong view of a weak one. Default "ct_augment"; "none" is ReMixMatch's ablation without strong
    /// augmentation.
    pub strong: Strong,
    /// Whether a strong view ends with a square of half the side erased, with RandAugment of 16 pixels at most. Default false; FixMatch
    /// true, section 2.3.
    pub cutout: bool,
    /// CTAugment.
    pub ct_augment: CtAugmentConfig,
    /// Settings of MixMatch.
    pub mixmatch: MixMatchConfig,
    /// Settings of ReMixMatch.
    pub remixmatch: ReMixMatchConfig,
    /// Settings of FixMatch.
    pub fixmatch: FixMatchConfig,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            device: DeviceKind::default(),
            devices: vec![0],
            precision: Precision::default(),
            seed: 1,
            steps: 1 << 20,
            batch: 64,
            optimizer: Optimizer::Adam,
            learning_rate: 0.002,
            schedule: Schedule::Constant,
            momentum: 0.9,
            weight_decay: 0.02,
            ema_decay: 0.999,
            norm_rate: 0.001,
            evaluate_every: 1024,
            log_every: 64,
            checkpoint_every: 1024,
            weak: WeakAugment::default(),
            strong: Strong::default(),
            cutout: false,
            ct_augment: CtAugmentConfig::default(),
            mixmatch: MixMatchConfig::default(),
            remixmatch: ReMixMatchConfig::default(),
            fixmatch: FixMatchConfig::default(),
        }
    }
}

impl TrainConfig {
    /// The settings that a method's paper trains with.
    pub fn of(algorithm: Algorithm) -> Self {
        let config = Self { algorithm, ..Self::default() };
        match algorithm {
            Algorithm::Supervised | Algorithm::MixMatch | Algorithm::ReMixMatch => config,
            // FixMatch, section 4, and its code's handling of the schedule.
            Algorithm::FixMatch => Self {
                optimizer: Optimizer::Sgd,
                learning_rate: 0.03,
                schedule: Schedule::Cosine,
                weight_decay: 0.0005,
                cutout: true,
                ct_augment: CtAugmentConfig::fixmatch(),
                ..config
            },
        }
    }

    /// The configuration itself, if every value makes sense.
    ///
    /// # Errors
    /// [`Error::Config`] with the key.
    pub fn validate(self) -> Result<Self> {
        let counts = [
            ("train.steps", self.steps),
            ("train.evaluate_every", self.evaluate_every),
            ("train.log_every", self.log_every),
            ("train.checkpoint_every", self.checkpoint_every),
            ("train.batch", self.batch as u64),
        ];
        for (key, value) in counts {
            check(key, value > 0, "a positive number", value)?;
        }
        let distinct = (1..self.devices.len()).all(|i| !self.devices[..i].contains(&self.devices[i]));
        let is_set = distinct && !self.devices.is_empty();
        check("train.devices", is_set, "at least one index, and none twice", format!("{:?}", self.devices))?;
        if self.has_rotation_loss() {
            check("train.batch", self.batch.is_multiple_of(4), "a multiple of 4, for the rotation loss", self.batch)?;
        }
        let unit = self.batch_unit();
        check(
            "train.batch",
            self.batch.is_multiple_of(unit),
            &format!("a multiple of {unit}, as train.devices share it"),
            self.batch,
        )?;
        check("train.weak.shift", self.weak.shift < 1024, "less than 1024 pixels", self.weak.shift)?;
        positive("train.learning_rate", self.learning_rate)?;
        weight("train.weight_decay", self.weight_decay)?;
        fraction("train.momentum", self.momentum)?;
        fraction("train.ema_decay", self.ema_decay)?;
        fraction("train.norm_rate", self.norm_rate)?;
        fraction("train.ct_augment.threshold", self.ct_augment.threshold)?;
        fraction("train.ct_augment.decay", self.ct_augment.decay)?;
        self.mixmatch.validate()?;
        self.remixmatch.validate()?;
        self.fixmatch.validate()?;
        Ok(self)
    }

    /// Whether images of this preprocessing can be trained on, which needs none of them to be read.
    ///
    /// # Errors
    /// [`Error::Config`] if they are to be turned and are no squares.
    pub fn validate_input(&self, preprocessing: &Preprocessing) -> Result<()> {
        let [_, height, width] = preprocessing.shape();
        let expected = "a square, for the rotation loss; or train.remixmatch.weights.rotation = 0";
        check("preprocessing", !self.has_rotation_loss() || height == width, expected, format!("{height}x{width}"))
    }

    /// The learning rate of the step after so many.
    pub(crate) fn learning_rate_after(&self, done: u64) -> f64 {
        self.learning_rate * self.schedule.factor(done, self.steps)
    }

    /// What the batch has to be a multiple of: every device gets an equal part, of which a rotation loss needs a
    /// multiple of four.
    pub(crate) fn batch_unit(&self) -> usize {
        self.devices.len() * if self.has_rotation_loss() { 4 } else { 1 }
    }

    /// The devices themselves, without gradients.
    ///
    /// # Errors
    /// [`Error::Config`] if one is not there.
    pub(crate) fn open_devices(&self) -> Result<Vec<Device>> {
        self.devices.iter().map(|&index| DeviceId { kind: self.device, index }.open()).collect()
    }

    /// The first of the devices: the one that evaluates, and on which the trained network is used afterwards.
    pub fn first_device(&self) -> DeviceId {
        DeviceId { kind: self.device, index: self.devices.first().copied().unwrap_or_default() }
    }

    /// Whether images are turned, and so have to be square.
    pub(crate) fn has_rotation_loss(&self) -> bool {
        self.algorithm == Algorithm::ReMixMatch && self.remixmatch.weights.rotation > 0.0
    }

    /// Images that pass through the network in one step, every view counted, probes not: they are not learned from.
    pub(crate) fn images_per_step(&self) -> usize {
        let ReMixMatchConfig { strong_views, weights, .. } = self.remixmatch;
        let rows = match self.algorithm {
            Algorithm::Supervised => 1,
            // Labeled and the weak views, which are guessed from before.
            Algorithm::MixMatch => 1 + 2 * self.mixmatch.weak_views,
            // Labeled, anchor twice, strong views, and the first of them unmixed and turned.
            Algorithm::ReMixMatch => {
                3 + strong_views + usize::from(weights.pre_mixup > 0.0) + usize::from(weights.rotation > 0.0)
            }
            // Labeled, and each unlabeled image weak and strong.
            Algorithm::FixMatch => 1 + 2 * self.fixmatch.unlabeled_ratio,
        };
        rows * self.batch
    }
}

fn check(key: &'static str, valid: bool, expected: &str, found: impl ToString) -> Result<()> {
    if valid {
        return Ok(());
    }
    Err(Error::Config { key, expected: expected.into(), found: found.to_string() })
}
