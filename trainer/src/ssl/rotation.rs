//! The rotation task: which of four turns was an image given?
//!
//! # Reference
//! Gidaris et al. (2018), as ReMixMatch uses it: the turn is set by the position in the batch, so that all four are
//! equally frequent and every image appears once.

use burn::tensor::Tensor;
use models::network::ROTATIONS;

/// The first quarter as it is, the second turned by 180 degrees, the third by 90 degrees counter-clockwise, the last
/// by 90 degrees clockwise. The label of a row is its quarter.
///
/// # Shapes
/// `[batch, channel, side, side]` to the same.
///
/// # Panics
/// If the batch has no quarters or the images are not square; the configuration has been checked.
pub(crate) fn rotate(images: Tensor<4>) -> Tensor<4> {
    let [batch, _, height, width] = images.dims();
    assert!(batch % ROTATIONS == 0 && height == width, "cannot turn a quarter each of {:?}", images.dims());
    let quarters = images.chunk(ROTATIONS, 0);
    let turn = |(quarter, images): (usize, Tensor<4>)| match quarter {
        0 => images,
        1 => images.flip([2, 3]),
        2 => images.swap_dims(2, 3).flip([2]),
        _ => images.swap_dims(2, 3).flip([3]),
    };
    Tensor::cat(quarters.into_iter().enumerate().map(turn).collect(), 0)
}

/// The label of each row of [`rotate`].
pub(crate) fn labels(batch: usize) -> Vec<usize> {
    (0..batch).map(|row| row * ROTATIONS / batch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ssl::tests::*,
        vectors::{self, assert_same},
    };

    /// Case 13.
    #[test]
    fn turns_each_quarter_its_own_way() {
        let case = vectors::case("13_rotation");
        let images = case.input::<Vec<Vec<Vec<f64>>>>("/images").concat();
        let rotated = rotate(matrix(&images).reshape([4, 1, 2, 2]));
        assert_same(&values(rotated), &case.expected::<Vec<Vec<Vec<f64>>>>("/images").concat().concat());
        assert_eq!(labels(4), case.expected::<Vec<usize>>("/labels"));
    }
}
