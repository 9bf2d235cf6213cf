//! What is measured on the frozen test set.

use models::{
    ReportCard, TrainingFacts,
    bundle::ReliabilityBin,
    calibration::{argmax, softmax},
};

use super::calibrate::fit_temperature;

/// Two-sided 95 % quantile of the normal distribution.
const Z_TWO_SIDED: f64 = 1.959_963_984_540_054;
/// Intervals of confidence in a reliability diagram.
const BINS: usize = 10;

/// Wilson's 95 % interval of a fraction.
///
/// # Reference
/// Wilson (1927); Brown, Cai and DasGupta (2001) recommend it for small samples.
pub fn wilson(correct: usize, count: usize) -> [f64; 2] {
    if count == 0 {
        return [0.0, 1.0];
    }
    let (n, z2) = (count as f64, Z_TWO_SIDED * Z_TWO_SIDED);
    let p = correct as f64 / n;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_TWO_SIDED / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

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
    let before = reliability(logits.iter().zip(labels).map(|(logits, label)| (logits, *label, 1.0)));
    let after = reliability(cross_fitted(logits, labels));
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

/// Images by confidence in intervals of equal width.
fn reliability<'a>(images: impl Iterator<Item = (&'a Vec<f32>, usize, f64)>) -> Vec<ReliabilityBin> {
    let mut sums = [(0, 0.0, 0); BINS];
    for (logits, label, temperature) in images {
        let probs = softmax(logits, temperature);
        let class = argmax(&probs);
        let (count, confidence, correct) = &mut sums[((probs[class] * BINS as f64) as usize).min(BINS - 1)];
        *count += 1;
        *confidence += probs[class];
        *correct += usize::from(class == label);
    }
    let mean = |sum: f64, count: usize| if count == 0 { 0.0 } else { sum / count as f64 };
    let bin = |(count, confidence, correct): (usize, f64, usize)| ReliabilityBin {
        count,
        confidence: mean(confidence, count),
        accuracy: mean(correct as f64, count),
    };
    sums.map(bin).to_vec()
}

/// Mean distance of confidence and accuracy over the intervals, weighted by their images.
///
/// # Reference
/// Guo et al. (2017), equation 3.
fn expected_calibration_error(bins: &[ReliabilityBin]) -> f64 {
    let count: usize = bins.iter().map(|bin| bin.count).sum();
    let weighted = |bin: &ReliabilityBin| bin.count as f64 * (bin.confidence - bin.accuracy).abs();
    bins.iter().map(weighted).sum::<f64>() / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use models::tolerance::SAME_MATH;

    use super::*;

    /// Values of scipy's `binomtest(..).proportion_ci(0.95, "wilson")`.
    #[test]
    fn wilson_is_what_scipy_says() {
        for (correct, count, low, high) in [
            (440, 457, 0.941_239_119_5, 0.976_647_047_0),
            (10, 10, 0.722_467_200_1, 1.0),
            (0, 10, 0.0, 0.277_532_799_9),
        ] {
            let [found_low, found_high] = wilson(correct, count);
            assert!(SAME_MATH.same(found_low, low) && SAME_MATH.same(found_high, high), "{found_low} {found_high}");
        }
    }

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
