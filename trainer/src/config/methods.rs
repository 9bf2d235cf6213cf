//! Settings of each semi-supervised method.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use crate::{Result, augment::View, ssl::losses::LossWeights};

/// Settings of MixMatch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MixMatchConfig {
    /// Weak views of each unlabeled image, whose mean probabilities make its guessed label. Default 2: MixMatch,
    /// section 3.5.
    pub weak_views: usize,
    /// Temperature of sharpening. Default 0.5: MixMatch, section 3.5.
    pub sharpen_temperature: f64,
    /// Both parameters of mixup's Beta distribution. Default 0.75: MixMatch, section 3.5.
    pub mixup_alpha: f64,
    /// Steps over which the unlabeled loss ramps up. Default 16,384: 1,048,576 labeled images, as in the original
    /// code.
    pub ramp_steps: u64,
    /// Weight of the unlabeled loss, once the ramp is over. Default 75: MixMatch on CIFAR-10, section 4.2.1.
    pub unlabeled_weight: f64,
}

impl Default for MixMatchConfig {
    fn default() -> Self {
        Self { weak_views: 2, sharpen_temperature: 0.5, mixup_alpha: 0.75, ramp_steps: 16_384, unlabeled_weight: 75.0 }
    }
}

/// How the unlabeled loss compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnlabeledLoss {
    /// Cross-entropy: ReMixMatch.
    #[default]
    CrossEntropy,
    /// Mean squared difference of probabilities: MixMatch, and an ablation of ReMixMatch.
    SquaredError,
}

/// Settings of ReMixMatch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReMixMatchConfig {
    /// Strong views of each unlabeled image, K. Default 8: ReMixMatch, section 4; the paper uses 1 with 40 labels.
    pub strong_views: usize,
    /// The view that labels are guessed from. Default "weak"; the original code has "plain" for STL-10, and "strong" is
    /// the paper's ablation without weak augmentation.
    pub anchor: View,
    /// Whether guessed labels are aligned with the labels' class distribution. Default true: ReMixMatch, section 3.1.
    pub distribution_alignment: bool,
    /// How the unlabeled loss compares. Default "cross_entropy": ReMixMatch, equation 3.
    pub unlabeled_loss: UnlabeledLoss,
    /// Temperature of sharpening. Default 0.5: ReMixMatch, section 4.
    pub sharpen_temperature: f64,
    /// Both parameters of mixup's Beta distribution. Default 0.75: ReMixMatch, section 4.
    pub mixup_alpha: f64,
    /// Steps over which the unlabeled and the pre-mixup loss ramp up. Default 16,384: 1,048,576 labeled images, as in the original
    /// code.
    pub ramp_steps: u64,
    /// Batches over which the model's class distribution is averaged. Default 128: ReMixMatch, section 3.1.
    pub alignment_window: usize,
    /// What one batch leaves of the average of the labels. Default 0.999: the original code.
    pub label_decay: f64,
    /// Weights of the losses. Of weight 0, the pre-mixup and the rotation loss are not computed at all.
    pub weights: LossWeights,
}

impl Default for ReMixMatchConfig {
    fn default() -> Self {
        Self {
            strong_views: 8,
            anchor: View::Weak,
            distribution_alignment: true,
            unlabeled_loss: UnlabeledLoss::default(),
            sharpen_temperature: 0.5,
            mixup_alpha: 0.75,
            ramp_steps: 16_384,
            alignment_window: 128,
            label_decay: 0.999,
            weights: LossWeights::default(),
        }
    }
}

/// Settings of FixMatch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FixMatchConfig {
    /// Unlabeled images for each labeled one. Default 7: FixMatch, section 4.
    pub unlabeled_ratio: usize,
    /// Confidence from which a pseudo-label counts. Default 0.95: FixMatch, section 4.
    pub threshold: f64,
    /// Weight of the unlabeled loss. Default 1: FixMatch, section 4.
    pub unlabeled_weight: f64,
}

impl Default for FixMatchConfig {
    fn default() -> Self {
        Self { unlabeled_ratio: 7, threshold: 0.95, unlabeled_weight: 1.0 }
    }
}

impl MixMatchConfig {
    pub(super) fn validate(&self) -> Result<()> {
        check("train.mixmatch.weak_views", self.weak_views > 0, "a positive number", self.weak_views)?;
        positive("train.mixmatch.sharpen_temperature", self.sharpen_temperature)?;
        positive("train.mixmatch.mixup_alpha", self.mixup_alpha)?;
        weight("train.mixmatch.unlabeled_weight", self.unlabeled_weight)
    }
}

impl ReMixMatchConfig {
    pub(super) fn validate(&self) -> Result<()> {
        check("train.remixmatch.strong_views", self.strong_views > 0, "a positive number", self.strong_views)?;
        let window = self.alignment_window;
        check("train.remixmatch.alignment_window", window > 0, "a positive number", window)?;
        positive("train.remixmatch.sharpen_temperature", self.sharpen_temperature)?;
        positive("train.remixmatch.mixup_alpha", self.mixup_alpha)?;
        fraction("train.remixmatch.label_decay", self.label_decay)?;
        weight("train.remixmatch.weights.unlabeled", self.weights.unlabeled)?;
        weight("train.remixmatch.weights.pre_mixup", self.weights.pre_mixup)?;
        weight("train.remixmatch.weights.rotation", self.weights.rotation)
    }
}

impl FixMatchConfig {
    pub(super) fn validate(&self) -> Result<()> {
        let ratio = self.unlabeled_ratio;
        check("train.fixmatch.unlabeled_ratio", ratio > 0, "a positive number", ratio)?;
        fraction("train.fixmatch.threshold", self.threshold)?;
        weight("train.fixmatch.unlabeled_weight", self.unlabeled_weight)
    }
}

pub(super) fn positive(key: &'static str, value: f64) -> Result<()> {
    check(key, value.is_finite() && value > 0.0, "a positive number", value)
}

pub(super) fn fraction(key: &'static str, value: f64) -> Result<()> {
    check(key, (0.0..=1.0).contains(&value), "a number from 0 to 1", value)
}

pub(super) fn weight(key: &'static str, value: f64) -> Result<()> {
    check(key, value.is_finite() && value >= 0.0, "a number of at least 0", value)
}
