//! The way from logits to probabilities that mean what they say, and from those to pseudo-labels.
//!
//! # Reference
//! Guo et al., "On Calibration of Modern Neural Networks" (2017): temperature scaling.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How a model's logits are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Logits are divided by it before the softmax. 1 leaves them alone, more makes the model less sure.
    pub temperature: f64,
    /// For each class, the probability from which a prediction becomes a pseudo-label. Above 1 means never.
    pub thresholds: Vec<f64>,
}

/// What a model says of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The most probable class.
    pub class: usize,
    /// Its calibrated probability.
    pub confidence: f64,
    /// Calibrated probabilities of all classes.
    pub probs: Vec<f64>,
}

impl Prediction {
    /// How far the most probable class is ahead of the next one.
    pub fn margin(&self) -> f64 {
        let others = self.probs.iter().enumerate().filter(|(class, _)| *class != self.class);
        self.confidence - others.map(|(_, &p)| p).fold(0.0, f64::max)
    }

    /// Entropy of the probabilities as a fraction of the largest there is with so many classes: 0 sure, 1 no idea.
    pub fn entropy(&self) -> f64 {
        let terms = self.probs.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln());
        let largest = (self.probs.len() as f64).ln();
        if largest > 0.0 { terms.sum::<f64>() / largest } else { 0.0 }
    }
}

impl Calibration {
    /// The calibration itself, if it fits `classes` classes.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn validate(self, classes: usize) -> Result<Self> {
        let found = format!("{self:?}");
        let temperature_ok = self.temperature.is_finite() && self.temperature > 0.0;
        if temperature_ok && self.thresholds.len() == classes && self.thresholds.iter().all(|t| t.is_finite()) {
            return Ok(self);
        }
        Err(Error::malformed("calibration", format!("a positive temperature and {classes} thresholds"), found))
    }

    /// Calibrated probabilities and the most probable class of one row of logits.
    pub fn predict(&self, logits: &[f32]) -> Prediction {
        let probs = softmax(logits, self.temperature);
        let class = argmax(&probs);
        Prediction { class, confidence: probs[class], probs }
    }

    /// Whether a prediction is confident enough to become a pseudo-label.
    pub fn is_confident(&self, prediction: &Prediction) -> bool {
        prediction.confidence >= self.thresholds[prediction.class]
    }
}

/// `softmax(logits / temperature)`, in `f64`.
pub fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut probs: Vec<f64> = logits.iter().map(|&z| (f64::from(z - max) / temperature).exp()).collect();
    let sum: f64 = probs.iter().sum();
    probs.iter_mut().for_each(|p| *p /= sum);
    probs
}

/// Index of the largest value, the first one on ties.
///
/// # Panics
/// If `values` is empty.
pub fn argmax<T: PartialOrd + Copy>(values: &[T]) -> usize {
    let better = |best: usize, i: usize| if values[i] > values[best] { i } else { best };
    (1..values.len()).fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tolerance::SAME_MATH;

    #[test]
    fn temperature_softens_and_keeps_the_class() {
        let sharp = Calibration { temperature: 1.0, thresholds: vec![0.9, 0.5, 0.5] };
        let soft = Calibration { temperature: 4.0, ..sharp.clone() };
        let logits = [2.0, 0.0, 0.0];
        // e^2 / (e^2 + 2) and e^0.5 / (e^0.5 + 2).
        assert!(SAME_MATH.same(sharp.predict(&logits).confidence, 0.786_986_042_161_598_4));
        assert!(SAME_MATH.same(soft.predict(&logits).confidence, 0.451_862_761_877_605_2));
        assert_eq!(sharp.predict(&logits).class, soft.predict(&logits).class);
        assert!(!sharp.is_confident(&sharp.predict(&logits)), "0.787 is below class 0's threshold of 0.9");
    }

    #[test]
    fn margin_and_entropy_say_how_unsure_a_prediction_is() {
        let prediction = |probs: &[f64]| {
            let class = argmax(probs);
            Prediction { class, confidence: probs[class], probs: probs.to_vec() }
        };
        let two = prediction(&[0.5, 0.4, 0.1, 0.0]);
        // In bits: 0.5 + 0.4 * log2(2.5) + 0.1 * log2(10) = 1.360964, of two that four classes allow.
        assert!(SAME_MATH.same(two.margin(), 0.1) && SAME_MATH.same(two.entropy(), 0.680_482_023_721_841_6));
        assert!(SAME_MATH.same(prediction(&[0.25; 4]).entropy(), 1.0));
        let sure = prediction(&[0.0, 1.0]);
        assert_eq!((sure.margin(), sure.entropy()), (1.0, 0.0));
    }
}
