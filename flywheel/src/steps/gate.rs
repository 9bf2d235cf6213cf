//! Whether a new model may go out.

use models::calibration::argmax;
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
}

impl Verdict {
    /// A model that does not come to be compared.
    pub fn refused(reason: String) -> Self {
        Self { passed: false, reason, difference: None, difference_at_least: None }
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
    Verdict { passed, reason, difference: None, difference_at_least: None }
}

/// Judges a model against the one it would replace, image by image on the same test set: it must not be worse by more
/// than the margin, at 95 %.
///
/// # Reference
/// The interval is that of Agresti and Min (2005) for matched pairs.
pub fn against(current: &[Vec<f32>], new: &[Vec<f32>], labels: &[usize], config: &GateConfig) -> Verdict {
    let pairs = correct_ones(current, labels).into_iter().zip(correct_ones(new, labels));
    let (mut better, mut worse) = (0.5, 0.5);
    for (current, new) in pairs {
        match (current, new) {
            (false, true) => better += 1.0,
            (true, false) => worse += 1.0,
            _ => {}
        }
    }
    let n = labels.len() as f64 + 2.0;
    let adjusted: f64 = (better - worse) / n;
    let error = ((better + worse) / n - adjusted * adjusted).max(0.0).sqrt() / n.sqrt();
    let at_least = adjusted - Z_ONE_SIDED * error;
    let difference = (better - worse) / labels.len().max(1) as f64;
    let passed = at_least >= -config.margin;
    // An interval for two models that agree on every image is this wide already.
    let needed = (Z_ONE_SIDED / config.margin.max(1e-9)).ceil();
    let hint = if n < needed { format!("; a test set of {needed:.0} images could show less") } else { String::new() };
    let reason = format!(
        "{:+.1} points against the current model, at least {:+.1} (95 %): {} the margin of -{:.1}{hint}",
        100.0 * difference,
        100.0 * at_least,
        if passed { "within" } else { "below" },
        100.0 * config.margin
    );
    Verdict { passed, reason, difference: Some(difference), difference_at_least: Some(at_least) }
}

fn correct_ones(logits: &[Vec<f32>], labels: &[usize]) -> Vec<bool> {
    logits.iter().zip(labels).map(|(logits, label)| argmax(logits) == *label).collect()
}

#[cfg(test)]
mod tests {
    use models::tolerance::SAME_MATH;

    use super::*;

    /// Logits that are right for all images but those in `wrong`.
    fn logits(count: usize, wrong: std::ops::Range<usize>) -> Vec<Vec<f32>> {
        (0..count).map(|i| if wrong.contains(&i) { vec![0.0, 1.0] } else { vec![1.0, 0.0] }).collect()
    }

    #[test]
    fn a_worse_model_is_refused_and_an_equal_one_passes() {
        let labels = vec![0; 400];
        let config = GateConfig { margin: 0.02 };
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
        let verdict = against(&logits(100, 0..5), &logits(100, 5..6), &[0; 100], &GateConfig::default());
        // The same in Python: 4 / 102 - 1.644854 * ((7 / 102 - (4 / 102) ** 2) / 102) ** 0.5.
        let expected = -0.002_968_998_6;
        assert!(SAME_MATH.same(verdict.difference_at_least.unwrap_or(f64::NAN), expected), "{verdict:?}");
    }

    #[test]
    fn a_first_model_must_beat_guessing() {
        assert!(first(&logits(50, 0..10), &[0; 50], 2).passed);
        assert!(!first(&logits(50, 0..26), &[0; 50], 2).passed);
    }
}
