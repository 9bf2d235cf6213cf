//! Pseudo-labels: the most probable class of an image, where it is probable enough.
//!
//! # Reference
//! Sohn et al., "FixMatch" (2020), section 2.2.

use burn::tensor::Tensor;

/// The pseudo-labels of a batch.
pub(crate) struct PseudoLabels {
    /// One-hot: `[batch, class]`.
    pub(crate) targets: Tensor<2>,
    /// 1 where the label counts, 0 elsewhere: `[batch]`.
    pub(crate) counted: Tensor<1>,
}

impl PseudoLabels {
    /// Labels from probabilities; those of at least `threshold` count.
    ///
    /// # Shapes
    /// `[batch, class]`.
    pub(crate) fn new(probs: Tensor<2>, threshold: f64) -> Self {
        let [rows, classes] = probs.dims();
        let (confidence, class) = probs.max_dim_with_indices(1);
        Self {
            targets: class.reshape([rows]).one_hot::<2>(classes).float(),
            counted: confidence.reshape([rows]).greater_equal_scalar(threshold).float(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::numbers,
        ssl::{losses::masked_cross_entropy, tests::*},
        vectors::assert_same,
    };

    /// By hand: of three images one is sure enough, and its class has a probability of a quarter in the other view.
    #[test]
    fn only_what_is_sure_counts_and_the_mean_is_over_all() {
        let probs = matrix(&[vec![0.03, 0.96, 0.01], vec![0.5, 0.4, 0.1], vec![0.0, 0.06, 0.94]]);
        let labels = PseudoLabels::new(probs, 0.95);
        assert_eq!(numbers(labels.targets.clone()), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(numbers(labels.counted.clone()), [1.0, 0.0, 0.0]);
        let strong = matrix(&[vec![0.0, 0.0, 2.0_f64.ln()], vec![9.0, 0.0, 0.0], vec![0.0, 9.0, 0.0]]);
        let loss = masked_cross_entropy(labels.targets, strong, labels.counted);
        assert_same(&values(loss), &[4.0_f64.ln() / 3.0]);
    }
}
