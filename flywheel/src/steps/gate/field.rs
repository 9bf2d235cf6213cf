//! Both models on audit samples: what devices see, whatever the test set was made of.

use models::{Calibration, Estimate, LabelSet};
use serde::{Deserialize, Serialize};

use super::{ClassVerdict, points, test_set::ClassVerdicts};
use crate::{
    project::GateConfig,
    statistics::{self, Outcome, Pair, matched},
    steps::audit::{AuditSample, Truth},
};

/// What audit samples say of a new model and the current one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldVerdict {
    /// Audit samples.
    pub samples: usize,
    /// How many of them people have labeled.
    pub labeled: usize,
    /// Of how many people said that it cannot be told what they show: these are left out.
    #[serde(default)]
    pub undecidable: usize,
    /// How many the two models take for different classes.
    pub differ: usize,
    /// Accuracy of the current model on what devices see, with its 95 % interval.
    pub current: Estimate,
    /// The same of the new one.
    pub new: Estimate,
    /// Accuracy of the new model less that of the current one, with the ends of its one-sided 95 % intervals.
    pub difference: Estimate,
    /// The difference for each class of which enough are labeled to say something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassVerdict>,
}

/// What a model says of the audit samples: its logits, and how to read them.
pub(super) type Said<'a> = (&'a [Vec<f32>], &'a Calibration);

/// Judges a model against the current one on audit samples: whether it passes, and why, in words. None if nothing is labeled.
///
/// It is refused if it is worse, at 95 %, or if so much is labeled that a model which is not worse would be shown to be within the
/// margin, and this one is not. Likewise in each class.
pub fn against(
    samples: &[AuditSample],
    current: Said<'_>,
    new: Said<'_>,
    labels: &LabelSet,
    config: &GateConfig,
) -> Option<(FieldVerdict, bool, String)> {
    let predict =
        |(logits, calibration): Said<'_>| -> Vec<_> { logits.iter().map(|l| calibration.predict(l)).collect() };
    let (old, new) = (predict(current), predict(new));
    let is_right = |class: usize, truth: Truth| truth == Truth::Class(class);
    let accuracy = |predictions: &[models::Prediction]| {
        let outcomes: Vec<Outcome> = samples
            .iter()
            .zip(predictions)
            .map(|(sample, prediction)| Outcome {
                weight: sample.weight,
                expected: prediction.confidence,
                found: sample.found.map(|(weight, truth)| (weight, is_right(prediction.class, truth))),
            })
            .collect();
        statistics::accuracy(&outcomes)
    };
    let (current_accuracy, new_accuracy) = (accuracy(&old)?, accuracy(&new)?);
    let pairs: Vec<Pair> = samples
        .iter()
        .zip(old.iter().zip(&new))
        .map(|(sample, (old, new))| Pair {
            weight: sample.weight,
            differ: old.class != new.class,
            found: sample.found.map(|(weight, truth)| (weight, [old, new].map(|p| is_right(p.class, truth)))),
        })
        .collect();
    let difference = statistics::difference(&pairs);
    let of_class = |class: usize| {
        let found = samples.iter().zip(&pairs).filter_map(move |(sample, pair)| {
            let (_, truth) = sample.found?;
            let (weight, [old, new]) = pair.found?;
            (truth == Truth::Class(class)).then_some((weight, old, new))
        });
        (found.clone().count(), matched(found))
    };
    let classes = ClassVerdicts::new(labels, of_class, config.class_margin);
    let verdict = FieldVerdict {
        samples: samples.len(),
        labeled: samples.iter().filter(|sample| sample.found.is_some()).count(),
        undecidable: samples.iter().filter(|sample| sample.undecidable).count(),
        differ: pairs.iter().filter(|pair| pair.differ).count(),
        current: current_accuracy,
        new: new_accuracy,
        difference,
        classes: classes.telling.clone(),
    };
    let margin = config.field_margin;
    let is_worse = difference.at_most < 0.0;
    // So narrow that a model which is not worse would be shown to be within the margin in 95 of 100 cases: its half is at most half of it.
    let can_tell = difference.at_most - difference.at_least <= margin;
    let is_refused = is_worse || (can_tell && difference.at_least < -margin);
    let found = match (is_worse, is_refused, can_tell) {
        (true, ..) => "worse".to_owned(),
        (_, true, _) => format!("below the margin of -{:.1}", 100.0 * margin),
        (_, _, true) => format!("within the margin of -{:.1}", 100.0 * margin),
        _ => "too few labeled to tell more".to_owned(),
    };
    let reason = format!(
        "in the field {:.1} % by {} of {} audit samples, {} points, from {} to {} (95 %): {found}{}",
        100.0 * new_accuracy.value,
        verdict.labeled,
        verdict.samples,
        points(difference.value),
        points(difference.at_least),
        points(difference.at_most),
        classes.said()
    );
    Some((verdict, !is_refused && classes.worst.is_none(), reason))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use models::{Digest, Pixels};

    use super::*;

    /// Audit samples of class 0, of which the first `labeled` have labels, and what a model says that is wrong about those in `wrong`.
    fn audit(count: usize, labeled: usize) -> Vec<AuditSample> {
        let sample = |i: usize| AuditSample {
            image: Digest::of(&i.to_le_bytes()),
            pixels: Pixels { height: 1, width: 1, channels: 1, data: vec![0] },
            came_in: Timestamp::UNIX_EPOCH,
            judges: true,
            undecidable: false,
            weight: 20.0,
            found: (i < labeled).then_some((20.0 * count as f64 / labeled as f64, Truth::Class(0))),
        };
        (0..count).map(sample).collect()
    }

    fn logits(count: usize, wrong: impl Fn(usize) -> bool) -> Vec<Vec<f32>> {
        (0..count).map(|i| if wrong(i) { vec![0.0, 3.0] } else { vec![3.0, 0.0] }).collect()
    }

    #[test]
    fn a_model_that_is_worse_where_devices_are_is_refused_though_few_samples_have_labels() {
        let labels = LabelSet::new(["a", "b"]).expect("two labels");
        let calibration = Calibration { temperature: 1.0, thresholds: vec![0.9; 2] };
        let config = GateConfig { field_margin: 0.05, class_margin: 0.5, ..GateConfig::default() };
        let judge = |labeled: usize, old: &dyn Fn(usize) -> bool, new: &dyn Fn(usize) -> bool| {
            let (old, new) = (logits(400, old), logits(400, new));
            against(&audit(400, labeled), (&old, &calibration), (&new, &calibration), &labels, &config)
        };
        assert!(judge(0, &|_| false, &|_| false).is_none(), "nothing is labeled");
        let tenth = |i: usize| i.is_multiple_of(10);
        // The same answers: whoever is right, there is no difference, and few labels suffice to say so.
        let (verdict, passed, reason) = judge(10, &tenth, &tenth).expect("ten are labeled");
        assert!(passed && verdict.differ == 0 && verdict.difference.at_least > -0.01, "{reason}");
        // 60 labels: a model that is wrong about a fifth more is worse.
        let (verdict, passed, reason) = judge(60, &tenth, &|i| i % 10 < 3).expect("60 are labeled");
        assert!(!passed && verdict.difference.at_most < -0.1 && reason.contains("worse"), "{reason}");
        assert!((verdict.new.value - 0.7).abs() < 0.02 && verdict.new.at_most < 0.85, "{verdict:?}");
        // Three labels say nothing of a fifth: neither that it is worse, nor that it is not.
        let (_, passed, reason) = judge(3, &tenth, &|i| i % 5 == 4).expect("three are labeled");
        assert!(passed && reason.contains("too few"), "{reason}");
    }
}
