//! How often the gate's intervals hold what they promise, by drawing its audit samples and test sets again and again from images whose
//! truth is known.

use jiff::Timestamp;
use models::{Calibration, Digest, LabelSet, Pixels, calibration::argmax};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use trainer::random::Stream;

use crate::{
    project::GateConfig,
    statistics::wilson,
    steps::{
        audit::{AuditSample, Truth},
        gate,
    },
};

/// Times that each gate is asked again.
const DRAWS: usize = 200;
/// Audit samples of a draw.
const AUDIT: usize = 240;
/// How many of them are labeled.
const LABELED: usize = 80;
/// Images of a test set.
const TEST: usize = 400;

/// How often intervals held what they promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Draws of audit samples, and of test sets.
    pub draws: usize,
    /// The truth was in the two-sided interval of the accuracy in the field.
    pub field: usize,
    /// The truth was not below the lower end of the difference in the field.
    pub field_at_least: usize,
    /// The truth was not above its upper end.
    pub field_at_most: usize,
    /// The truth was in the two-sided interval of the accuracy on the test set.
    pub test: usize,
    /// The truth was not below the lower end of the difference on the test set.
    pub test_at_least: usize,
    /// Draws for a model that is worse by more than the margin of the field, of the test set, or of a class there.
    pub worse: usize,
    /// Of these, how often the gate let it pass.
    pub worse_passed: usize,
    /// Draws for a model that is not worse, nor in any class by more than a quarter of its margin.
    pub not_worse: usize,
    /// Of these, how often the gate refused it.
    pub not_worse_refused: usize,
}

impl Coverage {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            draws: self.draws + other.draws,
            field: self.field + other.field,
            field_at_least: self.field_at_least + other.field_at_least,
            field_at_most: self.field_at_most + other.field_at_most,
            test: self.test + other.test,
            test_at_least: self.test_at_least + other.test_at_least,
            worse: self.worse + other.worse,
            worse_passed: self.worse_passed + other.worse_passed,
            not_worse: self.not_worse + other.not_worse,
            not_worse_refused: self.not_worse_refused + other.not_worse_refused,
        }
    }
}

/// What a model says of the images of both populations.
pub(super) struct Said<'a> {
    pub(super) in_field: &'a [Vec<f32>],
    pub(super) on_test: &'a [Vec<f32>],
    pub(super) calibration: &'a Calibration,
}

/// Images as devices see them and as the test set has them, by their classes.
pub(super) struct Truths<'a> {
    pub(super) in_field: &'a [usize],
    pub(super) on_test: &'a [usize],
}

/// Asks the gate again and again about the same two models.
pub(super) fn measure(
    current: &Said<'_>,
    new: &Said<'_>,
    truths: &Truths<'_>,
    labels: &LabelSet,
    config: &GateConfig,
    rng: &mut Stream,
) -> Coverage {
    let accuracy = |logits: &[Vec<f32>], truths: &[usize]| right(logits, truths) as f64 / truths.len() as f64;
    let [old_field, new_field] = [current, new].map(|said| accuracy(said.in_field, truths.in_field));
    let [old_test, new_test] = [current, new].map(|said| accuracy(said.on_test, truths.on_test));
    let (in_field, on_test) = (new_field - old_field, new_test - old_test);
    let lost = class_loss(current.on_test, new.on_test, truths.on_test, labels.len());
    let is_worse = in_field < -config.field_margin || on_test < -config.margin || lost > config.class_margin;
    let is_better = in_field >= 0.0 && on_test >= 0.0 && lost <= config.class_margin / 4.0;
    let mut coverage = Coverage::default();
    for _ in 0..DRAWS {
        let mut draw =
            |count: usize, of: usize| -> Vec<usize> { (0..count).map(|_| rng.random_range(0..of)).collect() };
        let (audit, test) = (draw(AUDIT, truths.in_field.len()), draw(TEST, truths.on_test.len()));
        let pick =
            |logits: &[Vec<f32>], of: &[usize]| -> Vec<Vec<f32>> { of.iter().map(|i| logits[*i].clone()).collect() };
        let samples: Vec<AuditSample> =
            audit.iter().enumerate().map(|(i, index)| sample(i < LABELED, truths.in_field[*index], labels)).collect();
        let [old, new_logits] = [current, new].map(|said| pick(said.in_field, &audit));
        let judged = gate::against_in_field(
            &samples,
            (&old, current.calibration),
            (&new_logits, new.calibration),
            labels,
            config,
        );
        let test_truths: Vec<usize> = test.iter().map(|index| truths.on_test[*index]).collect();
        let [old, new_logits] = [current, new].map(|said| pick(said.on_test, &test));
        let verdict = gate::against(&old, &new_logits, &test_truths, labels, config);
        let [low, high] = wilson(right(&new_logits, &test_truths), TEST);
        coverage.draws += 1;
        coverage.test += usize::from((low..=high).contains(&new_test));
        coverage.test_at_least += usize::from(verdict.difference_at_least.is_some_and(|least| on_test >= least));
        if let Some((field, ..)) = &judged {
            coverage.field += usize::from((field.new.at_least..=field.new.at_most).contains(&new_field));
            coverage.field_at_least += usize::from(in_field >= field.difference.at_least);
            coverage.field_at_most += usize::from(in_field <= field.difference.at_most);
        }
        let passed = verdict.and_field(judged).passed;
        coverage.worse += usize::from(is_worse);
        coverage.worse_passed += usize::from(is_worse && passed);
        coverage.not_worse += usize::from(is_better);
        coverage.not_worse_refused += usize::from(is_better && !passed);
    }
    coverage
}

/// The largest loss of accuracy in a class.
fn class_loss(old: &[Vec<f32>], new: &[Vec<f32>], truths: &[usize], classes: usize) -> f64 {
    let right = |logits: &[Vec<f32>], class: usize| {
        logits.iter().zip(truths).filter(|(logits, truth)| **truth == class && argmax(logits) == class).count() as f64
    };
    let count = |class: usize| truths.iter().filter(|truth| **truth == class).count().max(1) as f64;
    (0..classes).map(|class| (right(old, class) - right(new, class)) / count(class)).fold(0.0, f64::max)
}

/// How many images a model gets right; those of no class are all wrong.
pub(super) fn right(logits: &[Vec<f32>], truths: &[usize]) -> usize {
    logits.iter().zip(truths).filter(|(logits, truth)| argmax(logits) == **truth).count()
}

fn sample(is_labeled: bool, truth: usize, labels: &LabelSet) -> AuditSample {
    let truth = if truth < labels.len() { Truth::Class(truth) } else { Truth::NoClass };
    AuditSample {
        image: Digest::of(&[]),
        pixels: Pixels { height: 0, width: 0, channels: 0, data: Vec::new() },
        came_in: Timestamp::UNIX_EPOCH,
        judges: true,
        undecidable: false,
        weight: 10.0,
        found: is_labeled.then_some((10.0 * (AUDIT / LABELED) as f64, truth)),
    }
}
