//! Guessing labels from several views of the same images.
//!
//! # Reference
//! Berthelot et al., "MixMatch" (2019), equation 6.

use burn::tensor::Tensor;

/// Mean probabilities of an image over its views.
///
/// # Shapes
/// `[views * batch, class]`, view by view, to `[batch, class]`.
pub(crate) fn mean_of_views(probs: Tensor<2>, views: usize) -> Tensor<2> {
    let [rows, classes] = probs.dims();
    assert_eq!(rows % views, 0, "{rows} rows are not {views} views of the same images");
    probs.reshape([views, rows / views, classes]).mean_dim(0).reshape([rows / views, classes])
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::softmax;

    use super::*;
    use crate::{
        ssl::{sharpen::sharpen, tests::*},
        vectors::{self, assert_same},
    };

    /// Case 08b: the mean of the probabilities, not of the logits, and then sharpened.
    #[test]
    fn is_the_mean_of_the_probabilities() {
        let case = vectors::case("08b_mixmatch_guess");
        let logits = [case.input::<Vec<Vec<f64>>>("/logits_view1"), case.input("/logits_view2")].concat();
        let mean = mean_of_views(softmax(matrix(&logits), 1), 2);
        assert_same(&values(mean.clone()), &case.expected::<Vec<Vec<f64>>>("/mean").concat());
        assert_same(&values(sharpen(mean, 0.5)), &case.expected::<Vec<Vec<f64>>>("/target").concat());
    }
}
