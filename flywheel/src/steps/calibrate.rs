//! Temperature and thresholds of a trained model.

use models::{Calibration, calibration::softmax};

use crate::project::CalibrationConfig;

/// Temperatures tried, as natural logarithms.
const RANGE: [f64; 2] = [-3.0, 3.0];

/// The calibration of a model: its temperature from labeled images that it was not trained on, its thresholds from
/// unlabeled ones.
pub fn calibrate(
    test_logits: &[Vec<f32>],
    test_labels: &[usize],
    unlabeled_logits: &[Vec<f32>],
    classes: usize,
    config: &CalibrationConfig,
) -> Calibration {
    let temperature = fit_temperature(test_logits, test_labels);
    let mut confidences = vec![Vec::new(); classes];
    let uncapped = Calibration { temperature, thresholds: vec![0.0; classes] };
    for prediction in unlabeled_logits.iter().map(|logits| uncapped.predict(logits)) {
        confidences[prediction.class].push(prediction.confidence);
    }
    let threshold = |confidences| threshold(confidences, config.precision).max(config.lowest_threshold);
    Calibration { temperature, thresholds: confidences.into_iter().map(threshold).collect() }
}

/// The temperature with the least cross-entropy on labeled images, held near 1 where they say little: a few images that
/// are all right must not make the model infinitely sure.
///
/// # Reference
/// Guo et al., "On Calibration of Modern Neural Networks" (2017), section 4.2; with a standard normal prior on the
/// temperature's logarithm.
pub fn fit_temperature(logits: &[Vec<f32>], labels: &[usize]) -> f64 {
    let loss = |log_temperature: f64| {
        let temperature = log_temperature.exp();
        let image = |(logits, label): (&Vec<f32>, &usize)| -softmax(logits, temperature)[*label].max(1e-300).ln();
        logits.iter().zip(labels).map(image).sum::<f64>() + log_temperature * log_temperature / 2.0
    };
    golden_section(RANGE, loss).exp()
}

/// The lowest confidence above which confidences average to `precision`; more than 1, hence never, if none does.
fn threshold(mut confidences: Vec<f64>, precision: f64) -> f64 {
    confidences.sort_by(|a, b| b.total_cmp(a));
    let mut sum = 0.0;
    let mut lowest = 2.0;
    for (i, confidence) in confidences.into_iter().enumerate() {
        sum += confidence;
        if sum / (i + 1) as f64 >= precision {
            lowest = confidence;
        }
    }
    lowest
}

/// Where a function with one minimum in a range has it.
fn golden_section([mut low, mut high]: [f64; 2], f: impl Fn(f64) -> f64) -> f64 {
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    // 60 steps narrow the range by 12 orders of magnitude.
    for _ in 0..60 {
        let (left, right) = (high - ratio * (high - low), low + ratio * (high - low));
        if f(left) < f(right) { high = right } else { low = left }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_makes_confidence_equal_accuracy() {
        // Nine of ten are right, whatever the logits claim: calibrated confidence is 0.9, so the logit difference over
        // the temperature is ln 9.
        for claimed in [0.5_f32, 2.0, 20.0] {
            let logits = vec![vec![claimed, 0.0]; 10_000];
            let labels = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1].repeat(1000);
            let temperature = fit_temperature(&logits, &labels);
            assert!((f64::from(claimed) / temperature - 9.0_f64.ln()).abs() < 1e-2, "{claimed}: {temperature}");
        }
        // Five right answers are no proof of anything, and none at all is none.
        let temperature = fit_temperature(&vec![vec![2.0, 0.0]; 5], &[0; 5]);
        assert!((0.4..1.0).contains(&temperature), "{temperature}");
        assert!((fit_temperature(&[], &[]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn thresholds_promise_the_precision() {
        // The three best average to 0.96, the four best to 0.91.
        assert_eq!(threshold(vec![0.76, 0.94, 0.98, 0.96], 0.95), 0.94);
        assert!(threshold(vec![0.5, 0.6], 0.95) > 1.0);
        assert!(threshold(vec![], 0.95) > 1.0);
    }
}
