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
    /// The model is unsure of it.
    Uncertain {
        /// Difference of the two largest probabilities.
        margin: f64,
        /// Entropy of the probabilities, as a fraction of the largest.
        entropy: f64,
    },
    /// It may be of a class that the workstation asks for.
    Wanted {
        /// The class.
        class: usize,
        /// When the workstation asked.
        asked: Timestamp,
    },
    /// Chance alone: an audit sample.
    Audit {
        /// The probability with which any image was kept.
        probability: f64,
    },
}

/// The kinds of [`Reason`], the least useful first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// [`Reason::Confident`].
    Confident,
    /// [`Reason::Uncertain`].
    Uncertain,
    /// [`Reason::Wanted`].
    Wanted,
    /// [`Reason::Audit`].
    Audit,
}

impl ReasonKind {
    /// Its name in messages, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confident => "confident",
            Self::Uncertain => "uncertain",
            Self::Wanted => "wanted",
            Self::Audit => "audit",
        }
    }
}

/// Why an image that was classified was not kept: what stopped its best reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dropped {
    /// It was seen before, byte for byte.
    Duplicate,
    /// The model is neither sure of it nor unsure, nobody asked for it, and it was not drawn for audit.
    Ordinary,
    /// Views of it, or images before it, were given another class.
    Disagreement,
    /// Its class had its number for this bundle.
    ClassQuota,
    /// Its class outweighs the others.
    ClassShare,
    /// It looks like a sample that was kept.
    NearDuplicate,
    /// The last minute had its number of samples.
    MinuteBudget,
    /// The last hour had.
    HourBudget,
    /// The last day had.
    DayBudget,
    /// The last day had its bytes of images.
    ByteBudget,
    /// The last day had its bytes written to disk.
    WriteBudget,
    /// The store is full of samples that are more useful.
    StoreFull,
    /// The disk refused it.
    Disk,
}

impl Dropped {
    /// Its name in messages, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Ordinary => "ordinary",
            Self::Disagreement => "disagreement",
            Self::ClassQuota => "class_quota",
            Self::ClassShare => "class_share",
            Self::NearDuplicate => "near_duplicate",
            Self::MinuteBudget => "minute_budget",
            Self::HourBudget => "hour_budget",
            Self::DayBudget => "day_budget",
            Self::ByteBudget => "byte_budget",
            Self::WriteBudget => "write_budget",
            Self::StoreFull => "store_full",
            Self::Disk => "disk",
        }
    }
}

impl Reason {
    /// Its kind.
    pub fn kind(&self) -> ReasonKind {
        match self {
            Self::Confident { .. } => ReasonKind::Confident,
            Self::Uncertain { .. } => ReasonKind::Uncertain,
            Self::Wanted { .. } => ReasonKind::Wanted,
            Self::Audit { .. } => ReasonKind::Audit,
        }
    }
}

impl SampleRecord {
    /// The device's pseudo-label, if it gave one.
    pub fn pseudo_label(&self) -> Option<usize> {
        let confident = self.reasons.iter().any(|r| r.kind() == ReasonKind::Confident);
        confident.then_some(self.prediction.class)
    }

    /// The inclusion probability, if this is an audit sample.
    pub fn audit_probability(&self) -> Option<f64> {
        self.reasons.iter().find_map(|r| match r {
            Reason::Audit { probability } => Some(*probability),
            _ => None,
        })
    }
}
