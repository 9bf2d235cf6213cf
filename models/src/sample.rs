//! One image that a device kept, and why.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Prediction};

/// A kept image with its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The record.
    pub record: SampleRecord,
    /// The image file's bytes as the source delivered them.
    pub image: Vec<u8>,
}

/// What a device knows of a kept image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleRecord {
    /// Digest of the image's bytes: the sample's name everywhere.
    pub image: Digest,
    /// File name extension of the image: `png` or `jpg`.
    pub extension: String,
    /// The device that kept it.
    pub device: String,
    /// Name of the image at its source: the path below the folder that the device watches.
    pub source: String,
    /// When it was classified.
    pub captured: Timestamp,
    /// The bundle that judged it.
    pub bundle: Digest,
    /// What that bundle's model said.
    pub prediction: Prediction,
    /// Why it was kept; never empty.
    pub reasons: Vec<Reason>,
}

/// Why a sample was kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reason {
    /// The confidence reached its class's threshold: the prediction is a pseudo-label.
    Confident {
        /// The threshold it reached.
        threshold: f64,
    },
    /// Chance alone: an audit sample.
    Audit {
        /// The probability with which any image was kept.
        probability: f64,
    },
}

impl SampleRecord {
    /// The device's pseudo-label, if it gave one.
    pub fn pseudo_label(&self) -> Option<usize> {
        let confident = self.reasons.iter().any(|r| matches!(r, Reason::Confident { .. }));
        confident.then_some(self.prediction.class)
    }

    /// The inclusion probability, if this is an audit sample.
    pub fn audit_probability(&self) -> Option<f64> {
        self.reasons.iter().find_map(|r| match r {
            Reason::Audit { probability } => Some(*probability),
            Reason::Confident { .. } => None,
        })
    }
}
