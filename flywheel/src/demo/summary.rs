//! What the demo found, in numbers.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use edge_runtime::journal::Entry;
use models::{Bundle, Digest, Sample, sync::DeviceStatus};
use serde::{Deserialize, Serialize};

use super::{images::Field, references::References};
use crate::round::RoundRecord;

/// What the demo found. Every accuracy is a fraction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Seed of the split and of all randomness.
    pub seed: u32,
    /// Labeled images.
    pub labels: usize,
    /// Test accuracy of a model trained on the labels alone.
    pub baseline_accuracy: f64,
    /// Test accuracy of a model trained with the labels of all images but the test set's.
    pub all_labels_accuracy: f64,
    /// The rounds.
    pub rounds: Vec<RoundSummary>,
    /// Largest difference between the trainer's logits and those of tract, over all bundles.
    pub parity_max_abs_diff: f64,
    /// Damaged images that devices skipped.
    pub unreadable: u64,
    /// How long it all took.
    pub seconds: f64,
}

/// One round, and what the devices did while it was the newest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundSummary {
    /// Its number.
    pub round: u32,
    /// The bundle it made.
    pub bundle: Digest,
    /// Round whose bundle the devices ran after it: its own, or that of the last one that was published.
    pub serving: u32,
    /// That bundle's accuracy on the frozen test set.
    pub test_accuracy: f64,
    /// Samples from the field that it was trained on.
    pub field_samples: usize,
    /// Accuracy of what devices themselves predicted on the part of the field stream that came after this round: images that
    /// no model had seen.
    pub device_accuracy: f64,
    /// How many images that part has.
    pub device_images: usize,
    /// Samples that devices kept of that part.
    pub collected: usize,
    /// How many of them for audit.
    pub audit: usize,
    /// How many of them with a pseudo-label.
    pub pseudo_labels: usize,
    /// Fraction of these pseudo-labels that are right; none if there are none.
    pub pseudo_label_precision: Option<f64>,
    /// Whether the gate let the bundle go out.
    pub published: bool,
}

/// What devices predicted for one part of the field stream, each by its device.
pub(super) struct Wave {
    /// Round whose bundle the devices ran.
    serving: u32,
    predictions: Vec<(String, Entry)>,
}

impl Wave {
    /// What of all predictions is not in an earlier part.
    pub(super) fn new(serving: u32, mut predictions: Vec<(String, Entry)>, earlier: &[Self]) -> Self {
        let seen: BTreeSet<_> = earlier.iter().flat_map(Self::images).collect();
        predictions.retain(|(device, entry)| !seen.contains(&(device.as_str(), entry.source.as_str())));
        Self { serving, predictions }
    }

    /// The samples that devices kept of it.
    pub(super) fn kept<'a>(&'a self, samples: &'a [Sample]) -> impl Iterator<Item = &'a Sample> {
        let seen: BTreeSet<_> = self.images().collect();
        samples.iter().filter(move |s| seen.contains(&(s.record.device.as_str(), s.record.source.as_str())))
    }

    /// Its images, by device and name.
    fn images(&self) -> impl Iterator<Item = (&str, &str)> {
        self.predictions.iter().map(|(device, entry)| (device.as_str(), entry.source.as_str()))
    }
}

/// What a played demo left: the summary and the report are made from it.
pub(super) struct Played {
    pub(super) seed: u32,
    pub(super) references: References,
    pub(super) records: Vec<RoundRecord>,
    /// The bundle of each round.
    pub(super) bundles: Vec<Bundle>,
    /// The part of the field stream that came after each round.
    pub(super) waves: Vec<Wave>,
    /// Every sample that came in.
    pub(super) samples: Vec<Sample>,
    pub(super) field: Field,
    /// What the devices said last.
    pub(super) statuses: Vec<DeviceStatus>,
}

/// The summary of a demo that took so many seconds.
pub(super) fn summarize(played: &Played, seconds: f64) -> Result<Summary> {
    let Played { seed, references, records, bundles, waves, samples, field, statuses } = played;
    let cards = bundles.iter().map(|bundle| Ok(bundle.report_card()?)).collect::<Result<Vec<_>>>()?;
    let mut rounds = Vec::new();
    for (record, wave) in records.iter().zip(waves) {
        let is_right = |device: &str, source: &str, class: usize| {
            let truth =
                field.truth(device, source).with_context(|| format!("{device} saw {source}, which nobody sent"))?;
            Ok::<_, anyhow::Error>(truth == class)
        };
        let mut right = 0;
        for (device, entry) in &wave.predictions {
            right += usize::from(is_right(device, &entry.source, entry.class)?);
        }
        let kept: Vec<&Sample> = wave.kept(samples).collect();
        let mut right_labels = Vec::new();
        for sample in &kept {
            if let Some(class) = sample.record.pseudo_label() {
                right_labels.push(is_right(&sample.record.device, &sample.record.source, class)?);
            }
        }
        let fraction = |right: usize, count: usize| (count > 0).then(|| right as f64 / count as f64);
        rounds.push(RoundSummary {
            round: record.round,
            bundle: record.bundle,
            serving: wave.serving,
            test_accuracy: record.test_accuracy,
            field_samples: record.inputs.samples.len(),
            device_accuracy: fraction(right, wave.predictions.len()).context("devices predicted nothing")?,
            device_images: wave.predictions.len(),
            collected: kept.len(),
            audit: kept.iter().filter(|sample| sample.record.audit_probability().is_some()).count(),
            pseudo_labels: right_labels.len(),
            pseudo_label_precision: fraction(right_labels.iter().filter(|right| **right).count(), right_labels.len()),
            published: record.published,
        });
    }
    Ok(Summary {
        seed: *seed,
        labels: cards.first().map_or(0, |card| card.training.labeled),
        baseline_accuracy: references.baseline,
        all_labels_accuracy: references.all_labels,
        rounds,
        parity_max_abs_diff: cards.iter().filter_map(|card| card.parity_max_abs_diff).fold(0.0, f64::max),
        unreadable: statuses.iter().map(|status| status.counters.unreadable).sum(),
        seconds,
    })
}
