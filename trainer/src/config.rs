//! Settings of a training run. Every field says its unit and where its default comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    augment::{CtAugmentConfig, WeakAugment},
    device::DeviceKind,
};

pub use crate::ssl::losses::LossWeights;

/// Size of the network; its input comes from the preprocessing, its classes from the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Convolution layers: 10, 16, 22, 28 with three scales. Default 28: WRN-28-2, as in the papers.
    pub depth: usize,
    /// Width factor: the groups have 16, 32, 64 channels times this. Default 2: WRN-28-2.
    pub width: usize,
    /// Groups of blocks, each but the first at half the resolution. Default 3; the papers use 4 for 96x96 images.
    pub scales: usize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { depth: 28, width: 2, scales: 3 }
    }
}

/// Which method learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Labeled images alone, weakly augmented: the baseline.
    Supervised,
    /// ReMixMatch (Berthelot et al., 2020).
    #[default]
    ReMixMatch,
}

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The method.
    pub algorithm: Algorithm,
    /// What computes: "cpu" or "cuda".
    pub device: DeviceKind,
    /// Root seed of all randomness.
    pub seed: u64,
    /// Optimiser steps. Default 1,048,576: the papers' 2^26 labeled images in batches of 64.
    pub steps: u64,
    /// Labeled images a step, and as many unlabeled ones; a multiple of 4. Default 64: the papers.
    pub batch: usize,
    /// Adam's learning rate, constant. Default 0.002: ReMixMatch, section 4.
    pub learning_rate: f64,
    /// Weight decay, decoupled: kernels lose `learning_rate * weight_decay` of themselves a step. Default 0.02:
    /// the original code.
    pub weight_decay: f64,
    /// What one step leaves of the EMA model. Default 0.999: ReMixMatch, section 4.
    pub ema_decay: f64,
    /// Fraction by which batch norm's running statistics move a step. Default 0.001: the original code.
    pub norm_rate: f64,
    /// Steps between measurements of the EMA model on the test set. Default 1024: the papers' 64 kimg.
    pub evaluate_every: u64,
    /// Steps between log lines, each the mean over the steps since the last. Default 64.
    pub log_every: u64,
    /// Steps between checkpoints. Default 1024.
    pub checkpoint_every: u64,
    /// Weak augmentation.
    pub weak: WeakAugment,
    /// Strong augmentation.
    pub ct_augment: CtAugmentConfig,
    /// Settings of ReMixMatch.
    pub remixmatch: ReMixMatchConfig,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            device: DeviceKind::default(),
            seed: 1,
            steps: 1 << 20,
            batch: 64,
            learning_rate: 0.002,
            weight_decay: 0.02,
            ema_decay: 0.999,
            norm_rate: 0.001,
            evaluate_every: 1024,
            log_every: 64,
            checkpoint_every: 1024,
            weak: WeakAugment::default(),
            ct_augment: CtAugmentConfig::default(),
            remixmatch: ReMixMatchConfig::default(),
        }
    }
}

/// Settings of ReMixMatch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReMixMatchConfig {
    /// Strong views of each unlabeled image, K. Default 8: ReMixMatch, section 4; the paper uses 1 with 40 labels.
    pub strong_views: usize,
    /// Temperature of sharpening. Default 0.5: ReMixMatch, section 4.
    pub sharpen_temperature: f64,
    /// Both parameters of mixup's Beta distribution. Default 0.75: ReMixMatch, section 4.
    pub mixup_alpha: f64,
    /// Steps over which the unlabeled and the pre-mixup loss ramp up. Default 16,384: the original code's 1024 kimg.
    pub ramp_steps: u64,
    /// Batches over which the model's class distribution is averaged. Default 128: ReMixMatch, section 3.1.
    pub alignment_window: usize,
    /// What one batch leaves of the average of the labels. Default 0.999: the original code.
    pub label_decay: f64,
    /// Weights of the losses.
    pub weights: LossWeights,
}

impl Default for ReMixMatchConfig {
    fn default() -> Self {
        Self {
            strong_views: 8,
            sharpen_temperature: 0.5,
            mixup_alpha: 0.75,
            ramp_steps: 16_384,
            alignment_window: 128,
            label_decay: 0.999,
            weights: LossWeights::default(),
        }
    }
}

impl TrainConfig {
    /// The configuration itself, if every value makes sense.
    ///
    /// # Errors
    /// [`Error::Config`] with the key.
    pub fn validate(self) -> Result<Self> {
        let r = &self.remixmatch;
        let counts = [
            ("train.steps", self.steps),
            ("train.evaluate_every", self.evaluate_every),
            ("train.log_every", self.log_every),
            ("train.checkpoint_every", self.checkpoint_every),
            ("train.remixmatch.strong_views", r.strong_views as u64),
            ("train.remixmatch.alignment_window", r.alignment_window as u64),
        ];
        for (key, value) in counts {
            check(key, value > 0, "a positive number", value)?;
        }
        check("train.batch", self.batch > 0 && self.batch.is_multiple_of(4), "a multiple of 4", self.batch)?;
        check("train.weak.shift", self.weak.shift < 1024, "less than 1024 pixels", self.weak.shift)?;
        let positive = [
            ("train.learning_rate", self.learning_rate),
            ("train.remixmatch.sharpen_temperature", r.sharpen_temperature),
            ("train.remixmatch.mixup_alpha", r.mixup_alpha),
        ];
        for (key, value) in positive {
            check(key, value.is_finite() && value > 0.0, "a positive number", value)?;
        }
        let fractions = [
            ("train.ema_decay", self.ema_decay),
            ("train.norm_rate", self.norm_rate),
            ("train.ct_augment.threshold", self.ct_augment.threshold),
            ("train.ct_augment.decay", self.ct_augment.decay),
            ("train.remixmatch.label_decay", r.label_decay),
        ];
        for (key, value) in fractions {
            check(key, (0.0..=1.0).contains(&value), "a number from 0 to 1", value)?;
        }
        let weights = [
            ("train.weight_decay", self.weight_decay),
            ("train.remixmatch.weights.unlabeled", r.weights.unlabeled),
            ("train.remixmatch.weights.pre_mixup", r.weights.pre_mixup),
            ("train.remixmatch.weights.rotation", r.weights.rotation),
        ];
        for (key, value) in weights {
            check(key, value.is_finite() && value >= 0.0, "a number of at least 0", value)?;
        }
        Ok(self)
    }
}

impl TrainConfig {
    /// Images that pass through the network in one step, every view counted.
    pub(crate) fn images_per_step(&self) -> usize {
        match self.algorithm {
            Algorithm::Supervised => self.batch,
            // Labeled, anchor twice, K strong views, pre-mixup and rotation; the probes are not learned from.
            Algorithm::ReMixMatch => self.batch * (self.remixmatch.strong_views + 5),
        }
    }
}

fn check(key: &'static str, valid: bool, expected: &str, found: impl ToString) -> Result<()> {
    if valid {
        return Ok(());
    }
    Err(Error::Config { key, expected: expected.into(), found: found.to_string() })
}
