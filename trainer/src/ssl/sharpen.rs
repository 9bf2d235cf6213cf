//! Sharpening: lowers the entropy of guessed labels.
//!
//! # Reference
//! Berthelot et al., "MixMatch" (2019), equation 7.

use burn::tensor::Tensor;

/// Each row to the power `1 / temperature`, normalised.
///
/// # Shapes
/// `[batch, class]` to the same.
pub(crate) fn sharpen(probs: Tensor<2>, temperature: f64) -> Tensor<2> {
    // The largest becomes 1 first, so that a low temperature cannot turn a whole row into zeros.
    let largest = probs.clone().max_dim(1);
    normalize((probs / largest).powf_scalar(1.0 / temperature))
}

/// Each row divided by its sum.
pub(super) fn normalize(rows: Tensor<2>) -> Tensor<2> {
    rows.clone() / rows.sum_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ssl::tests::*,
        vectors::{self, assert_same},
    };

    /// Case 02.
    #[test]
    fn half_squares_and_one_leaves_alone() {
        let case = vectors::case("02_sharpen");
        for (key, temperature) in [("/T05", 0.5), ("/T1", 1.0), ("/T025", 0.25)] {
            let sharpened = sharpen(matrix(&case.input::<Vec<_>>("/p")), temperature);
            assert_same(&values(sharpened), &case.expected::<Vec<Vec<f64>>>(key).concat());
        }
    }
}
