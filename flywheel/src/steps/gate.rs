//! Whether a new model may go out.

use models::{LabelSet, calibration::argmax};
use serde::{Deserialize, Serialize};

use super::score::wilson;
use crate::project::GateConfig;

/// One-sided 95 % quantile of the normal distribution.
const Z_ONE_SIDED: f64 = 1.644_853_626_951_472_2;

/// What the gate found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Whether the model may go out.
    pub passed: bool,
    /// Why, in a sentence.
    pub reason: String,
    /// Accuracy of the new model less that of the current one on the same images; none for a first model.
    pub difference: Option<f64>,
    /// Lower end of the difference's one-sided 95 % interval.
    pub difference_at_least: Option<f64>,
    /// The same for each class of which there are enough images to say something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassVerdict>,
}

/// What the gate found of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassVerdict {
    /// Its label.
    pub label: String,
    /// Images of it in the test set.
    pub images: usize,
    /// Its accuracy by the new model less that by the current one.
    pub difference: f64,
    /// Lower end of the difference's one-sided 95 % interval.
    pub difference_at_least: f64,
}

impl Verdict {
    /// A model that does not come to be compared.
    pub fn refused(reason: String) -> Self {
        Self::uncompared(false, reason)
    }

    /// A model that is judged by itself.
    pub(crate) fn uncompared(passed: bool, reason: String) -> Self {
        Self { passed, reason, difference: None, difference_at_least: None, classes: Vec::new() }
    }
}

/// Judges the first model of a project: it must be better than guessing.
pub fn first(logits: &[Vec<f32>], labels: &[usize], classes: usize) -> Verdict {
    let correct = correct_ones(logits, labels).iter().filter(|c| **c).count();
    let [low, _] = wilson(correct, labels.len());
    let chance = 1.0 / classes as f64;
    let passed = low > chance;
    let than = if passed { "better" } else { "not surely better" };
    let reason = format!(
        "first model: at least {:.1} % accurate (95 %), {than} than guessing ({:.1} %)",
        100.0 * low,
        100.0 * chance
    );
    Verdict::uncompared(passed, reason)
}

/// Judges a model against the one it would replace, image by image on the same test set: it must not be worse by more
/// than the margin, at 95 %, nor in any class by more than the margin of a class. Of a class with fewer images than could show that
/// two models are the same, nothing is said.
pub fn against(
    current: &[Vec<f32>],
    new: &[Vec<f32>],
    labels: &[usize],
    names: &LabelSet,
    config: &GateConfig,
) -> Verdict {
    let pairs: Vec<(bool, bool)> = correct_ones(current, labels).into_iter().zip(correct_ones(new, labels)).collect();
    let (difference, at_least) = paired(pairs.iter().copied());
    let classes: Vec<ClassVerdict> = names
        .names()
        .iter()
        .enumerate()
        .filter_map(|(class, label)| {
            let of_class = pairs.iter().zip(labels).filter(|(_, label)| **label == class).map(|(pair, _)| *pair);
            let images = of_class.clone().count();
            let (difference, difference_at_least) = paired(of_class);
            let is_enough = images as f64 + 2.0 >= needed(config.class_margin);
            is_enough.then(|| ClassVerdict { label: label.clone(), images, difference, difference_at_least })
        })
        .collect();
    let worse = classes.iter().filter(|class| class.difference_at_least < -config.class_margin);
    let worst = worse.min_by(|a, b| a.difference_at_least.total_cmp(&b.difference_at_least));
    let is_within = at_least >= -config.margin;
    let needed = needed(config.margin);
    let is_small = labels.len() as f64 + 2.0 < needed;
    let hint = if is_small { format!("; a test set of {needed:.0} images could show less") } else { String::new() };
    let of_class = worst.map_or(String::new(), |class| {
        format!(
            "; {:?} {:+.1} points, at least {:+.1}: below the margin of a class of -{:.1}",
            class.label,
            100.0 * class.difference,
            100.0 * class.difference_at_least,
            100.0 * config.class_margin
        )
    });
    let reason = format!(
        "{:+.1} points against the current model, at least {:+.1} (95 %): {} the margin of -{:.1}{hint}{of_class}",
        100.0 * difference,
        100.0 * at_least,
        if is_within { "within" } else { "below" },
        100.0 * config.margin
    );
    Verdict {
        passed: is_within && worst.is_none(),
        reason,
        difference: Some(difference),
        difference_at_least: Some(at_least),
        classes,
    }
}

/// By how much more often the second of each pair is right, and the lower end of its one-sided 95 % interval.
///
/// # Reference
/// The interval is that of Agresti and Min (2005) for matched pairs.
fn paired(pairs: impl Iterator<Item = (bool, bool)>) -> (f64, f64) {
    let (mut better, mut worse, mut count) = (0.5, 0.5, 0_usize);
    for (current, new) in pairs {
        count += 1;
        match (current, new) {
            (false, true) => better += 1.0,
            (true, false) => worse += 1.0,
            _ => {}
        }
    }
    let n = count as f64 + 2.0;
    let adjusted: f64 = (better - worse) / n;
    let error = ((better + worse) / n - adjusted * adjusted).max(0.0).sqrt() / n.sqrt();
    ((better - worse) / count.max(1) as f64, adjusted - Z_ONE_SIDED * error)
}

/// An interval for two models that agree on every image is as wide as this margin with so many images, less two.
fn needed(margin: f64) -> f64 {
    (Z_ONE_SIDED / margin.max(1e-9)).ceil()
}

fn correct_ones(logits: &[Vec<f32>], labels: &[usize]) -> Vec<bool> {
    logits.iter().zip(labels).map(|(logits, label)| argmax(logits) == *label).collect()
}

#[cfg(test)]
mod tests {
    use models::tolerance::SAME_MATH;

    use super::*;

    fn names() -> LabelSet {
        LabelSet::new(["a", "b"]).expect("two labels")
    }

    /// Logits that are right for all images but those in `wrong`.
    fn logits(count: usize, wrong: std::ops::Range<usize>) -> Vec<Vec<f32>> {
        (0..count).map(|i| if wrong.contains(&i) { vec![0.0, 1.0] } else { vec![1.0, 0.0] }).collect()
    }

    #[test]
    fn a_worse_model_is_refused_and_an_equal_one_passes() {
        let labels = vec![0; 400];
        let config = GateConfig { margin: 0.02, class_margin: 1.0 };
        let against = |current: &[Vec<f32>], new: &[Vec<f32>], labels: &[usize], config| {
            against(current, new, labels, &names(), config)
        };
        let current = logits(400, 0..12);
        let same = against(&current, &logits(400, 0..12), &labels, &config);
        assert!(same.passed && same.difference == Some(0.0), "{same:?}");
        assert!(against(&current, &logits(400, 5..12), &labels, &config).passed);
        // Twelve more are wrong, three points: refused.
        let worse = against(&current, &logits(400, 0..24), &labels, &config);
        assert!(!worse.passed && worse.reason.contains("-3.0 points"), "{worse:?}");
    }

    /// 102 adjusted pairs, 5.5 of them better and 1.5 worse.
    #[test]
    fn the_interval_is_that_of_matched_pairs() {
        let verdict = against(&logits(100, 0..5), &logits(100, 5..6), &[0; 100], &names(), &GateConfig::default());
        // The same in Python: 4 / 102 - 1.644854 * ((7 / 102 - (4 / 102) ** 2) / 102) ** 0.5.
        let expected = -0.002_968_998_6;
        assert!(SAME_MATH.same(verdict.difference_at_least.unwrap_or(f64::NAN), expected), "{verdict:?}");
    }

    #[test]
    fn a_model_that_is_worse_in_one_class_is_refused_though_it_is_better_in_all() {
        // 100 images of class 0, of which the new model gets 20 more right, and 50 of class 1, of which it gets 8 fewer.
        let labels: Vec<usize> = (0..150).map(|i| usize::from(i >= 100)).collect();
        let right = |wrong: &dyn Fn(usize) -> bool| -> Vec<Vec<f32>> {
            let logit = |i: usize| if wrong(i) != (labels[i] == 1) { vec![0.0, 1.0] } else { vec![1.0, 0.0] };
            (0..150).map(logit).collect()
        };
        let (current, new) = (right(&|i| i < 20), right(&|i| (100..108).contains(&i)));
        let config = GateConfig { margin: 0.02, class_margin: 0.15 };
        let verdict = against(&current, &new, &labels, &names(), &config);
        assert!(!verdict.passed && verdict.reason.contains("\"b\" -16.0 points"), "{verdict:?}");
        assert!(verdict.difference > Some(0.0) && verdict.difference_at_least > Some(0.0));
        // In Python: -8 / 52 - 1.644854 * ((9 / 52 - (8 / 52) ** 2) / 52) ** 0.5.
        let class = verdict.classes.iter().find(|class| class.label == "b").map(|class| class.difference_at_least);
        assert!(SAME_MATH.same(class.unwrap_or(f64::NAN), -0.242_014_546_581), "{verdict:?}");
        let mild = GateConfig { class_margin: 0.25, ..config };
        assert!(against(&current, &new, &labels, &names(), &mild).passed);
        // Eight images of a class can show nothing: they do not decide.
        let few = |logits: &[Vec<f32>]| logits[..108].to_vec();
        let verdict = against(&few(&current), &few(&new), &labels[..108], &names(), &config);
        assert!(verdict.passed && verdict.classes.len() == 1, "{verdict:?}");
    }

    #[test]
    fn a_first_model_must_beat_guessing() {
        assert!(first(&logits(50, 0..10), &[0; 50], 2).passed);
        assert!(!first(&logits(50, 0..26), &[0; 50], 2).passed);
    }
}
