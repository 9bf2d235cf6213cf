//! What a caller fills in.

use models::{LabelSet, Reason, ReportCard};

/// Everything that the page shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The heading.
    pub title: String,
    /// What the reader needs to know before the numbers: seed, labels, bundles, seconds.
    pub facts: Vec<Fact>,
    /// Accuracies to hold the rounds against. The first one is what the summary's gain is measured from.
    pub references: Vec<Reference>,
    /// The rounds, in any order.
    pub rounds: Vec<RoundSection>,
    /// The training runs, in the order in which they are shown.
    pub runs: Vec<Run>,
    /// After how many seconds a browser loads the page again, if it still grows.
    pub refresh: Option<u32>,
}

/// One thing worth knowing, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value, as it is to be read.
    pub value: String,
}

impl Fact {
    /// A fact from anything that can be printed.
    pub fn new(name: impl Into<String>, value: impl ToString) -> Self {
        Self { name: name.into(), value: value.to_string() }
    }
}

/// A test accuracy from outside the rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// What reached it, such as `baseline (40 labels)`.
    pub name: String,
    /// The fraction of the test set classified correctly.
    pub accuracy: f64,
}

/// What one round did. Its test accuracy is the report card's.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundSection {
    /// Its number.
    pub round: u32,
    /// Whether the gate let its bundle go out to the devices.
    pub published: bool,
    /// Why, in one sentence.
    pub gate: String,
    /// The fraction that devices classified correctly of the images they saw after the round, where their truth is
    /// known.
    pub device_accuracy: Option<f64>,
    /// Samples taken in from the devices.
    pub collected: usize,
    /// How many of them are audit samples.
    pub audit: usize,
    /// The fraction of pseudo-labels that are right, where their truth is known.
    pub pseudo_label_precision: Option<f64>,
    /// The classes.
    pub labels: LabelSet,
    /// What was measured on the test set.
    pub card: ReportCard,
    /// Collected samples, in any order. The page shows no more than 200 of them, as large as they come: where
    /// devices send photographs, thumbnails keep the page small.
    pub samples: Vec<CollectedSample>,
}

/// An image that a device kept.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectedSample {
    /// The image file's bytes.
    pub image: Vec<u8>,
    /// What they are.
    pub format: ImageFormat,
    /// What the device took it for: a pseudo-label if it was confident, a mere prediction otherwise.
    pub label: String,
    /// The calibrated probability of that label.
    pub confidence: f64,
    /// What it really shows, if anyone knows.
    pub truth: Option<String>,
    /// The device.
    pub device: String,
    /// Why the device kept it.
    pub reasons: Vec<Reason>,
}

impl CollectedSample {
    /// Whether the label is a pseudo-label.
    pub fn is_pseudo_label(&self) -> bool {
        self.reasons.iter().any(|reason| matches!(reason, Reason::Confident { .. }))
    }

    /// Whether it was kept for audit.
    pub fn is_audit(&self) -> bool {
        self.reasons.iter().any(|reason| matches!(reason, Reason::Audit { .. }))
    }

    /// Whether the label is known to be wrong.
    pub fn is_wrong(&self) -> bool {
        self.truth.as_ref().is_some_and(|truth| *truth != self.label)
    }
}

/// The image files that a page can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
}

impl ImageFormat {
    /// The format that a file name extension stands for, as in [`models::SampleRecord`].
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            _ => None,
        }
    }

    /// Its media type.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

/// One training run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What it was, such as `round 2`.
    pub name: String,
    /// Its losses, unweighted.
    pub losses: Vec<Curve>,
    /// Its accuracies.
    pub accuracies: Vec<Curve>,
}

/// A number over the steps of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What it is.
    pub name: String,
    /// Optimiser steps done and the value, by step.
    pub points: Vec<(u64, f64)>,
}
