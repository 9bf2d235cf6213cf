//! Both models on the frozen test set.

use anyhow::{Context, Result};
use models::{Estimate, LabelSet, calibration::argmax};
use serde::{Deserialize, Serialize};

use super::{Verdict, points};
use crate::{
    project::GateConfig,
    statistics::{is_enough, matched, needed, wilson},
};

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

/// What was found of all classes.
pub(super) struct ClassVerdicts {
    /// The classes of which there is enough to say something.
    pub(super) telling: Vec<ClassVerdict>,
    /// The class that speaks most against the new model, if any does.
    pub(super) worst: Option<ClassVerdict>,
    margin: f64,
}

impl ClassVerdicts {
    /// From the number of images of each class and the difference on them.
    pub(super) fn new(names: &LabelSet, found: impl Fn(usize) -> (usize, Estimate), margin: f64) -> Self {
        let (mut telling, mut against) = (Vec::new(), Vec::new());
        for (class, label) in names.names().iter().enumerate() {
            let (images, estimate) = found(class);
            let Estimate { value: difference, at_least: difference_at_least, .. } = estimate;
            let verdict = ClassVerdict { label: label.clone(), images, difference, difference_at_least };
            let is_enough = is_enough(images, margin);
            let is_against = if is_enough { estimate.at_least < -margin } else { estimate.at_most < 0.0 };
            if is_against {
                against.push(verdict.clone());
            }
            if is_enough {
                telling.push(verdict);
            }
        }
        let worst = against.into_iter().min_by(|a, b| a.difference_at_least.total_cmp(&b.difference_at_least));
        Self { telling, worst, margin }
    }

    /// What speaks against the new model, to be put behind what was said before.
    pub(super) fn said(&self) -> String {
        self.worst.as_ref().map_or(String::new(), |class| {
            format!(
                "; {:?} {} points, at least {}: below the margin of a class of -{:.1}",
                class.label,
                points(class.difference),
                points(class.difference_at_least),
                100.0 * self.margin
            )
        })
    }
}

/// Of how many test images the first model of a project has to be right to go out.
///
/// # Errors
/// If all of them would not do; the error says how many images would.
pub fn first_needs(images: usize, classes: usize) -> Result<usize> {
    let is_better = |right: usize, images: usize| wilson(right, images)[0] > 1.0 / classes as f64;
    let enough = || (1..).find(|images| is_better(*images, *images)).unwrap_or(usize::MAX);
    (1..=images).find(|right| is_better(*right, images)).with_context(|| {
        format!(
            "the test set has {images} images: even a model that is right in all of them would not surely be better than guessing; \
             expected {} or more: label more, or name a folder of test images as data.test",
            enough()
        )
    })
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

/// Judges a model against the one it would replace, image by image on the same test set: it must be shown not to be worse by more
/// than the margin, at 95 %, nor in any class of which there are enough images by more than the margin of a class. Where there are fewer, it
/// must not be shown to be worse.
pub fn against(
    current: &[Vec<f32>],
    new: &[Vec<f32>],
    labels: &[usize],
    names: &LabelSet,
    config: &GateConfig,
) -> Verdict {
    let right = correct_ones(current, labels).into_iter().zip(correct_ones(new, labels));
    let pairs: Vec<(f64, bool, bool)> = right.map(|(current, new)| (1.0, current, new)).collect();
    let Estimate { value: difference, at_least, .. } = matched(pairs.iter().copied());
    let of_class = |class: usize| {
        let pairs = pairs.iter().zip(labels).filter(move |(_, label)| **label == class).map(|(pair, _)| *pair);
        (pairs.clone().count(), matched(pairs))
    };
    let classes = ClassVerdicts::new(names, of_class, config.class_margin);
    let is_within = at_least >= -config.margin;
    let differing = pairs.iter().filter(|(_, current, new)| current != new).count() as f64 / pairs.len().max(1) as f64;
    let needed = needed(config.margin, differing);
    let may_be_alike =
        !is_within && difference >= -config.margin && needed.is_finite() && (labels.len() as f64) < needed;
    let hint = match may_be_alike {
        true => format!("; it takes about {needed:.0} test images to show that one as good is within it"),
        false => String::new(),
    };
    let reason = format!(
        "{} points against the current model, at least {} (95 %): {} the margin of -{:.1}{hint}{}",
        points(difference),
        points(at_least),
        if is_within { "within" } else { "below" },
        100.0 * config.margin,
        classes.said()
    );
    let passed = is_within && classes.worst.is_none();
    Verdict {
        difference: Some(difference),
        difference_at_least: Some(at_least),
        classes: classes.telling,
        ..Verdict::uncompared(passed, reason)
    }
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
    fn a_first_model_needs_as_many_right_as_show_that_it_does_not_guess() {
        // scipy's `binomtest(..).proportion_ci(method="wilson")`: 4 of 6 is from 0.300 on, 3 of 6 from 0.188; 4 of 4 from 0.510, 3 of 3 from 0.439.
        assert!(matches!(first_needs(6, 4), Ok(4)));
        let too_few = first_needs(2, 2).map_err(|e| e.to_string());
        assert!(too_few.as_ref().is_err_and(|e| e.contains("expected 4 or more")), "{too_few:?}");
    }

    #[test]
    fn a_worse_model_is_refused_and_an_equal_one_passes() {
        let labels = vec![0; 400];
        let config = GateConfig { margin: 0.02, class_margin: 1.0, ..GateConfig::default() };
        let against = |current: &[Vec<f32>], new: &[Vec<f32>], labels: &[usize], config| {
            against(current, new, labels, &names(), config)
        };
        let current = logits(400, 0..12);
        let same = against(&current, &logits(400, 0..12), &labels, &config);
        assert!(same.passed && same.difference == Some(0.0), "{same:?}");
        assert!(against(&current, &logits(400, 5..12), &labels, &config).passed);
        // Twelve more are wrong, three points: refused.
        let worse = against(&current, &logits(400, 0..24), &labels, &config);
        assert!(
            !worse.passed && worse.reason.contains("-3.0 points") && !worse.reason.contains("it takes"),
            "{worse:?}"
        );
        // Of 40 images four are answered otherwise, two of them better: that is too few to tell, and how many are not is said.
        let unclear = against(&logits(40, 0..2), &logits(40, 2..4), &labels[..40], &config);
        assert!(!unclear.passed && unclear.reason.contains("it takes about 2786 test images"), "{unclear:?}");
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
        let config = GateConfig { margin: 0.02, class_margin: 0.2, ..GateConfig::default() };
        let verdict = against(&current, &new, &labels, &names(), &config);
        assert!(!verdict.passed && verdict.reason.contains("\"b\" -16.0 points"), "{verdict:?}");
        assert!(verdict.difference > Some(0.0) && verdict.difference_at_least > Some(0.0));
        // In Python: -8 / 52 - 1.644854 * ((9 / 52 - (8 / 52) ** 2) / 52) ** 0.5.
        let class = verdict.classes.iter().find(|class| class.label == "b").map(|class| class.difference_at_least);
        assert!(SAME_MATH.same(class.unwrap_or(f64::NAN), -0.242_014_546_581), "{verdict:?}");
        let mild = GateConfig { class_margin: 0.25, ..config };
        assert!(against(&current, &new, &labels, &names(), &mild).passed);
        // Two images of a class can show nothing, though it gets both wrong; eight can show that it is worse.
        let few = |logits: &[Vec<f32>]| logits[..108].to_vec();
        let verdict = against(&few(&current), &few(&new), &labels[..108], &names(), &config);
        assert!(!verdict.passed && verdict.classes.len() == 1, "{verdict:?}");
        let few = |logits: &[Vec<f32>]| logits[..102].to_vec();
        let verdict = against(&few(&current), &few(&new), &labels[..102], &names(), &config);
        assert!(verdict.passed && verdict.classes.len() == 1, "{verdict:?}");
    }

    #[test]
    fn a_first_model_must_beat_guessing() {
        assert!(first(&logits(50, 0..10), &[0; 50], 2).passed);
        assert!(!first(&logits(50, 0..26), &[0; 50], 2).passed);
    }
}
