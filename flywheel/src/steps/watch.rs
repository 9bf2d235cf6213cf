//! What a round looks at besides whether its model may go out: whether labels hold, and whether devices see what they saw before.

use jiff::Timestamp;
use models::{Calibration, Estimate, Prediction};
use serde::{Deserialize, Serialize};

use super::audit::{AuditSample, Truth};
use crate::statistics::{self, Difference, Outcome, of_classes, of_numbers};

/// Fewer audit samples say nothing of a change.
const ENOUGH: usize = 20;
/// A change is told when chance shows as much so rarely.
const RARE: f64 = 0.01;

/// What a round has watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// Fraction of the field samples without labels that the new model takes for another class than the one before.
    pub label_flips: Option<f64>,
    /// Precision of pseudo-labels, estimated from audit samples that the current model is sure of, with its 95 % interval.
    pub pseudo_label_precision: Option<Estimate>,
    /// Audit samples that came in since the round before.
    pub audit_samples: usize,
    /// Fraction of them that the current model is not sure of.
    pub abstained: Option<f64>,
    /// The same of the test set.
    pub abstained_on_test_set: f64,
    /// Fraction of what devices see that shows none of the classes, by audit samples that people have labeled, with its 95 % interval.
    pub of_no_class: Option<Estimate>,
    /// How these audit samples differ from the test set.
    pub from_test_set: Option<Drift>,
    /// How they differ from the audit samples before them.
    pub from_before: Option<Drift>,
}

/// How images differ from others, by what the current model says of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// In how sure it is.
    pub confidence: Difference,
    /// In the classes that it gives them.
    pub classes: Difference,
}

impl Drift {
    /// Compares what the model says of two sets of images; nothing if one is too small to say something.
    pub fn between(now: &[&Prediction], reference: &[&Prediction], classes: usize) -> Option<Self> {
        if now.len() < ENOUGH || reference.len() < ENOUGH {
            return None;
        }
        let confidences = |all: &[&Prediction]| -> Vec<f64> { all.iter().map(|p| p.confidence).collect() };
        let predicted = |all: &[&Prediction]| -> Vec<usize> { all.iter().map(|p| p.class).collect() };
        Some(Self {
            confidence: of_numbers(&confidences(now), &confidences(reference)),
            classes: of_classes(&predicted(now), &predicted(reference), classes),
        })
    }

    /// Whether chance seldom shows as much, in one of the two.
    pub fn is_rare(&self) -> bool {
        2.0 * self.confidence.p_value.min(self.classes.p_value) <= RARE
    }

    /// What has changed, in words, if chance seldom shows as much.
    fn told(&self, reference: &str) -> Option<String> {
        let changes = [("how sure the model is", self.confidence), ("the classes it sees", self.classes)];
        let told = changes.iter().filter(|(_, change)| change.p_value <= RARE);
        let told: Vec<String> = told.map(|(what, change)| format!("{what} (by {:.2})", change.distance)).collect();
        (!told.is_empty()).then(|| format!("what devices see now differs from {reference} in {}", told.join(" and ")))
    }
}

/// What the current model says of the images that are watched.
pub struct Said<'a> {
    /// Of the test set.
    pub on_test: &'a [Prediction],
    /// Of all audit samples.
    pub on_audit: &'a [Prediction],
    /// Of the field samples without labels: the class that it gives each, and the one that the new model does.
    pub flips: &'a [(usize, usize)],
    /// Its thresholds.
    pub calibration: &'a Calibration,
}

/// Watches; `since` is when the round before began.
pub fn watch(said: &Said<'_>, audit: &[AuditSample], since: Option<Timestamp>) -> Watched {
    let classes = said.calibration.thresholds.len();
    let is_sure = |prediction: &Prediction| said.calibration.is_confident(prediction);
    let is_new = |sample: &AuditSample| since.is_none_or(|since| sample.came_in > since);
    let both = || audit.iter().zip(said.on_audit);
    let now: Vec<&Prediction> = both().filter(|(sample, _)| is_new(sample)).map(|(_, said)| said).collect();
    let before: Vec<&Prediction> = both().filter(|(sample, _)| !is_new(sample)).map(|(_, said)| said).collect();
    let test: Vec<&Prediction> = said.on_test.iter().collect();
    let share = |count: usize, all: usize| (all > 0).then(|| count as f64 / all as f64);
    let unsure = |all: &[&Prediction]| share(all.iter().filter(|said| !is_sure(said)).count(), all.len());
    let judging = || both().filter(|(sample, _)| sample.judges);
    let outcome = |sample: &AuditSample, expected: f64, is: &dyn Fn(Truth) -> bool| Outcome {
        weight: sample.weight,
        expected,
        found: sample.found.map(|(weight, truth)| (weight, is(truth))),
    };
    let sure: Vec<_> = judging()
        .filter(|(_, said)| is_sure(said))
        .map(|(sample, said)| outcome(sample, said.confidence, &|truth| truth == Truth::Class(said.class)))
        .collect();
    let foreign: Vec<_> = judging()
        .map(|(sample, said)| outcome(sample, 1.0 - said.confidence, &|truth| truth == Truth::NoClass))
        .collect();
    Watched {
        label_flips: share(said.flips.iter().filter(|(before, now)| before != now).count(), said.flips.len()),
        pseudo_label_precision: statistics::accuracy(&sure),
        audit_samples: now.len(),
        abstained: unsure(&now),
        abstained_on_test_set: unsure(&test).unwrap_or(0.0),
        of_no_class: statistics::accuracy(&foreign),
        from_test_set: Drift::between(&now, &test, classes),
        from_before: Drift::between(&now, &before, classes),
    }
}

impl Watched {
    /// What a person should know, each in a sentence; `precision` is what pseudo-labels should have.
    pub fn told(&self, precision: f64) -> Vec<String> {
        let percent = |fraction: f64| format!("{:.1} %", 100.0 * fraction);
        let mut told = Vec::new();
        told.extend(self.from_test_set.and_then(|drift| drift.told("the test set")));
        told.extend(self.from_before.and_then(|drift| drift.told("what they saw before")));
        if let Some(found) = self.pseudo_label_precision.filter(|found| found.at_most < precision) {
            let (value, most) = (percent(found.value), percent(found.at_most));
            told.push(format!(
                "pseudo-labels are right in {value}, at most {most} (95 %), of {} wanted",
                percent(precision)
            ));
        }
        if let Some(found) = self.of_no_class.filter(|found| found.at_least > 0.01) {
            let (value, least) = (percent(found.value), percent(found.at_least));
            told.push(format!(
                "{value} of what devices see, at least {least} (95 %), is of no class: is there a new one?"
            ));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use models::{Digest, Pixels};

    use super::*;

    fn said(class: usize, confidence: f64) -> Prediction {
        let probs = if class == 0 { vec![confidence, 1.0 - confidence] } else { vec![1.0 - confidence, confidence] };
        Prediction { class, confidence, probs }
    }

    /// Audit samples of which those from the hundredth on came in later; all are labeled, every tenth as of no class.
    fn audit() -> Vec<AuditSample> {
        let sample = |i: usize| AuditSample {
            image: Digest::of(&i.to_le_bytes()),
            pixels: Pixels { height: 1, width: 1, channels: 1, data: vec![0] },
            came_in: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(if i < 100 { 0 } else { 48 }),
            weight: 10.0,
            judges: true,
            undecidable: false,
            found: Some((10.0, if i.is_multiple_of(10) { Truth::NoClass } else { Truth::Class(i % 2) })),
        };
        (0..200).map(sample).collect()
    }

    #[test]
    fn a_change_of_what_devices_see_and_wrong_pseudo_labels_are_told_and_nothing_else() {
        let calibration = Calibration { temperature: 1.0, thresholds: vec![0.9; 2] };
        let since = Some(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24));
        let watch = |on_audit: &[Prediction]| {
            let on_test: Vec<Prediction> = (0..100).map(|i| said(i % 2, 0.95)).collect();
            let said = Said {
                on_test: &on_test,
                on_audit,
                flips: &[(0, 0), (0, 1), (1, 1), (1, 1)],
                calibration: &calibration,
            };
            watch(&said, &audit(), since)
        };
        let same: Vec<Prediction> = (0..200).map(|i| said(i % 2, 0.95)).collect();
        let watched = watch(&same);
        assert_eq!((watched.label_flips, watched.audit_samples, watched.abstained), (Some(0.25), 100, Some(0.0)));
        let told = watched.told(0.95);
        // A tenth is of no class, and the model is sure of that too.
        assert!(told.len() == 2 && told[0].contains("right in 90.0 %") && told[1].contains("10.0 %"), "{told:?}");
        // Now it sees one class alone, and is not sure.
        let changed: Vec<Prediction> =
            (0..200).map(|i| if i < 100 { said(i % 2, 0.95) } else { said(0, 0.7) }).collect();
        let watched = watch(&changed);
        assert_eq!((watched.abstained, watched.abstained_on_test_set), (Some(1.0), 0.0));
        let told = watched.told(0.5);
        for (place, reference) in ["the test set", "what they saw before"].into_iter().enumerate() {
            let said = format!(
                "differs from {reference} in how sure the model is (by 1.00) and the classes it sees (by 0.50)"
            );
            assert!(told[place].contains(&said), "{told:?}");
        }
    }
}
