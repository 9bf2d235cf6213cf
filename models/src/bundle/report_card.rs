use serde::{Deserialize, Serialize};

use crate::{Error, Result, TrainingFacts};

/// What the workstation measured on the frozen test set before it let a bundle go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportCard {
    /// Images in the frozen test set.
    pub test_images: usize,
    /// Fraction classified correctly.
    pub accuracy: f64,
    /// 95 % confidence interval of it (Wilson).
    pub accuracy_interval: [f64; 2],
    /// Fraction correct of each class.
    pub per_class_accuracy: Vec<f64>,
    /// `confusion[true][predicted]`: how many test images.
    pub confusion: Vec<Vec<usize>>,
    /// Expected calibration error of the raw probabilities.
    pub ece_before: f64,
    /// The same after temperature scaling, each half of the test set with the other half's temperature.
    pub ece_after: f64,
    /// Reliability before calibration.
    pub reliability_before: Vec<ReliabilityBin>,
    /// Reliability after calibration, cross-fitted as `ece_after`.
    pub reliability_after: Vec<ReliabilityBin>,
    /// Largest difference between the trainer's logits and those of the exported model; none before it is exported.
    pub parity_max_abs_diff: Option<f64>,
    /// How the model came about.
    pub training: TrainingFacts,
}

impl ReportCard {
    pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| Error::malformed(what, "a report card of finite numbers", e))
    }
}

/// Test images whose confidence falls into one interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReliabilityBin {
    /// How many.
    pub count: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The fraction of them classified correctly.
    pub accuracy: f64,
}
