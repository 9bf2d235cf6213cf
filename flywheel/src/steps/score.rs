//! What is measured on the frozen test set.

use models::{
    ReportCard, TrainingFacts,
    calibration::{argmax, softmax},
};

use super::calibrate::fit_temperature;
use crate::statistics::{expected_calibration_error, reliability, wilson};

/// Everything about the accuracy and calibration of a model that was trained so.
///
/// Accuracy does not depend on calibration. The calibration error after scaling is measured with the temperature of the
/// other half of the images, so that no image judges a temperature it helped to choose.
pub fn report_card(logits: &[Vec<f32>], labels: &[usize], classes: usize, training: TrainingFacts) -> ReportCard {
    let mut confusion = vec![vec![0; classes]; classes];
    for (logits, &label) in logits.iter().zip(labels) {
        confusion[label][argmax(logits)] += 1;
    }
    let correct = (0..classes).map(|c| confusion[c][c]).sum();
    let fraction = |correct: usize, count: usize| if count == 0 { 0.0 } else { correct as f64 / count as f64 };
    let before = reliability(judged(logits.iter().zip(labels).map(|(logits, label)| (logits, *label, 1.0))));
    let after = reliability(judged(cross_fitted(logits, labels)));
    ReportCard {
        test_images: labels.len(),
        accuracy: fraction(correct, labels.len()),
        accuracy_interval: wilson(correct, labels.len()),
        per_class_accuracy: (0..classes).map(|c| fraction(confusion[c][c], confusion[c].iter().sum())).collect(),
        confusion,
        ece_before: expected_calibration_error(&before),
        ece_after: expected_calibration_error(&after),
        reliability_before: before,
        reliability_after: after,
        parity_max_abs_diff: None,
        training,
    }
}

/// Each image with the temperature of the half it is not in.
fn cross_fitted<'a>(logits: &'a [Vec<f32>], labels: &'a [usize]) -> impl Iterator<Item = (&'a Vec<f32>, usize, f64)> {
    let half = |parity: usize| {
        let pick = |(i, pair): (usize, (&Vec<f32>, &usize))| (i % 2 == parity).then(|| (pair.0.clone(), *pair.1));
        let (logits, labels): (Vec<_>, Vec<_>) = logits.iter().zip(labels).enumerate().filter_map(pick).unzip();
        fit_temperature(&logits, &labels)
    };
    let temperatures = [half(1), half(0)];
    logits.iter().zip(labels).enumerate().map(move |(i, (logits, label))| (logits, *label, temperatures[i % 2]))
}

/// How sure a model is of each image at a temperature, and whether it is right.
fn judged<'a>(images: impl Iterator<Item = (&'a Vec<f32>, usize, f64)>) -> impl Iterator<Item = (f64, bool)> {
    images.map(|(logits, label, temperature)| {
        let probs = softmax(logits, temperature);
        let class = argmax(&probs);
        (probs[class], class == label)
    })
}

#[cfg(test)]
mod tests {
    use models::tolerance::SAME_MATH;

    use super::*;

    #[test]
    fn counts_what_was_confused_and_how_sure_it_was() {
        let logits = vec![vec![2.0, 0.0], vec![2.0, 0.0], vec![0.0, 2.0], vec![0.0, 2.0]];
        let card =
            report_card(&logits, &[0, 1, 1, 1], 2, TrainingFacts { labeled: 2, unlabeled: 0, steps: 1, seed: 0 });
        assert_eq!(card.confusion, [[1, 0], [1, 2]]);
        assert_eq!(card.accuracy, 0.75);
        assert!(SAME_MATH.same(card.per_class_accuracy[1], 2.0 / 3.0));
        // All four say e^2 / (e^2 + 1) = 0.8808 and three of four are right.
        assert!(SAME_MATH.same(card.ece_before, 0.880_797_077_977_882_4 - 0.75));
        assert_eq!(card.reliability_before[8].count, 4);
    }
}
