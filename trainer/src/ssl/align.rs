//! Distribution alignment: guessed labels should follow the class distribution of the labels.
//!
//! # Reference
//! Berthelot et al., "ReMixMatch" (2020), section 3.1.

use std::collections::VecDeque;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::sharpen::normalize;

const EPSILON: f64 = 1e-6;

/// Multiplies each row by `(1e-6 + p_data) / (1e-6 + p_model)` and normalises it.
///
/// # Shapes
/// `probs`: `[batch, class]`; the distributions: one value a class.
pub(crate) fn align(probs: Tensor<2>, p_data: &[f64], p_model: &[f64]) -> Tensor<2> {
    let ratio: Vec<f32> =
        p_data.iter().zip(p_model).map(|(data, model)| ((EPSILON + data) / (EPSILON + model)) as f32).collect();
    let ratio = Tensor::<1>::from_floats(ratio.as_slice(), &probs.device());
    normalize(probs * ratio.unsqueeze())
}

/// The two running class distributions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marginals {
    /// Mean anchor probabilities of the last batches, the oldest first.
    window: VecDeque<Vec<f64>>,
    /// Moving average of the labels seen.
    p_data: Vec<f64>,
    /// What one batch leaves of that average.
    keep: f64,
}

impl Marginals {
    /// Uniform distributions.
    pub(crate) fn new(classes: usize, window: usize, keep: f64) -> Self {
        let uniform = vec![1.0 / classes as f64; classes];
        Self { window: vec![uniform.clone(); window].into(), p_data: uniform, keep }
    }

    /// The same where the unlabeled images are known to follow a distribution, whatever the labels follow.
    pub(crate) fn towards(prior: &[f64], window: usize) -> Self {
        Self { p_data: prior.to_vec(), ..Self::new(prior.len(), window, 1.0) }
    }

    /// The mean of the window, normalised.
    pub(crate) fn p_model(&self) -> Vec<f64> {
        let sums = (0..self.p_data.len()).map(|class| self.window.iter().map(|row| row[class]).sum()).collect();
        normalized(sums)
    }

    /// The average of the labels, normalised.
    pub(crate) fn p_data(&self) -> Vec<f64> {
        normalized(self.p_data.clone())
    }

    /// Takes in a step's batch, after it was aligned: the mean of its raw anchor probabilities and its labels.
    pub(crate) fn push(&mut self, mean_probs: Vec<f64>, labels: &[usize]) {
        self.window.pop_front();
        self.window.push_back(mean_probs);
        for (class, p) in self.p_data.iter_mut().enumerate() {
            let share = labels.iter().filter(|&&label| label == class).count() as f64 / labels.len() as f64;
            *p = self.keep * *p + (1.0 - self.keep) * share;
        }
    }
}

fn normalized(mut values: Vec<f64>) -> Vec<f64> {
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|v| *v /= sum);
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ssl::{sharpen::sharpen, tests::*},
        vectors::{self, assert_same},
    };

    #[test]
    fn a_known_distribution_stays_whatever_labels_come() {
        let prior = [0.7, 0.2, 0.1];
        let mut marginals = Marginals::towards(&prior, 4);
        marginals.push(vec![0.1, 0.1, 0.8], &[2, 2, 2]);
        assert_same(&marginals.p_data(), &prior);
        assert_same(&marginals.p_model(), &[1.1 / 4.0, 1.1 / 4.0, 1.8 / 4.0]);
    }

    /// Cases 01 and 01b.
    #[test]
    fn aligns_also_a_class_never_predicted() {
        for name in ["01_dist_align", "01b_dist_align_zero_pmodel"] {
            let case = vectors::case(name);
            let aligned = align(
                matrix(&case.input::<Vec<_>>("/p")),
                &case.input::<Vec<f64>>("/p_data"),
                &case.input::<Vec<f64>>("/p_model"),
            );
            assert_same(&values(aligned), &case.expected::<Vec<Vec<f64>>>("").concat());
        }
    }

    /// Case 03: first align, then sharpen.
    #[test]
    fn alignment_comes_before_sharpening() {
        let case = vectors::case("03_align_then_sharpen");
        let aligned = align(
            matrix(&case.input::<Vec<_>>("/p")),
            &case.input::<Vec<f64>>("/p_data"),
            &case.input::<Vec<f64>>("/p_model"),
        );
        let guessed = sharpen(aligned, case.input("/T"));
        assert_same(&values(guessed), &case.expected::<Vec<Vec<f64>>>("/q").concat());
    }

    /// Case 04: five steps with a window of four; state is read before the batch goes in.
    #[test]
    fn marginals_follow_raw_probabilities() {
        let case = vectors::case("04_running_marginals");
        let batches: Vec<Vec<Vec<f64>>> = case.input("/weak_probs");
        let labels: Vec<Vec<usize>> = case.input("/labels");
        let mut marginals = Marginals::new(3, case.input("/window"), case.input("/decay"));
        for (i, (probs, labels)) in batches.iter().zip(&labels).enumerate() {
            assert_same(&marginals.p_model(), &case.expected::<Vec<f64>>(&format!("/steps/{i}/p_model_used")));
            assert_same(&marginals.p_data(), &case.expected::<Vec<f64>>(&format!("/steps/{i}/p_data_used")));
            let guessed = sharpen(align(matrix(probs), &marginals.p_data(), &marginals.p_model()), 0.5);
            assert_same(&values(guessed), &case.expected::<Vec<Vec<f64>>>(&format!("/steps/{i}/target")).concat());
            let mean = (0..3).map(|c| probs.iter().map(|row| row[c]).sum::<f64>() / probs.len() as f64).collect();
            marginals.push(mean, labels);
        }
        let window: Vec<f64> = marginals.window.iter().flatten().copied().collect();
        assert_same(&window, &case.expected::<Vec<Vec<f64>>>("/final_buffer").concat());
        assert_same(&marginals.p_data, &case.expected::<Vec<f64>>("/final_p_data"));
    }
}
