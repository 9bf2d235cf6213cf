//! MixUp over a pool of images and targets.
//!
//! # Reference
//! Zhang et al., "mixup" (2018), with MixMatch's equation 9: the larger weight stays with the row itself.

use burn::tensor::{Int, Tensor, TensorData};
use rand::seq::SliceRandom;
use rand_distr::{Beta, Distribution};

use crate::random::Stream;

/// What a pool is mixed with: one weight and one partner a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mixture {
    /// Weight of the row itself, at least one half.
    lambda: Vec<f32>,
    /// The row mixed in.
    partner: Vec<i64>,
}

impl Mixture {
    /// Weights from draws of a Beta distribution, and a permutation of the rows.
    fn new(draws: impl IntoIterator<Item = f64>, partner: Vec<i64>) -> Self {
        Self { lambda: draws.into_iter().map(|l| l.max(1.0 - l) as f32).collect(), partner }
    }

    /// One draw from Beta(alpha, alpha) for each row, one permutation for all.
    ///
    /// # Panics
    /// If `alpha` is not positive; the configuration has been checked.
    pub(crate) fn draw(rows: usize, alpha: f64, random: &mut Stream) -> Self {
        let beta = Beta::new(alpha, alpha).expect("alpha is positive");
        let draws: Vec<f64> = (0..rows).map(|_| beta.sample(random)).collect();
        let mut partner: Vec<i64> = (0..rows as i64).collect();
        partner.shuffle(random);
        Self::new(draws, partner)
    }

    /// `lambda * row + (1 - lambda) * partner`, row by row, for a tensor of any shape `[rows, ..]`.
    pub(crate) fn mix<const D: usize>(&self, pool: Tensor<D>) -> Tensor<D> {
        let rows = self.lambda.len();
        assert_eq!(pool.dims()[0], rows, "a mixture of {rows} rows for a pool of {:?}", pool.dims());
        let device = pool.device();
        let mut shape = [1; D];
        shape[0] = rows;
        let lambda = Tensor::<1>::from_floats(self.lambda.as_slice(), &device).reshape(shape);
        let partner = Tensor::<1, Int>::from_data(TensorData::new(self.partner.clone(), [rows]), &device);
        let partners = pool.clone().select(0, partner);
        partners.clone() + (pool - partners) * lambda
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        random,
        ssl::tests::*,
        vectors::{self, assert_same},
    };

    /// Case 05.
    #[test]
    fn mixes_images_and_targets_alike() {
        let case = vectors::case("05_mixup");
        let mixture = Mixture::new(case.input::<Vec<f64>>("/beta_draws"), case.input("/perm"));
        let x = mixture.mix(matrix(&case.input::<Vec<_>>("/x")));
        assert_same(&values(x), &case.expected::<Vec<Vec<f64>>>("/x").concat());
        let labels = mixture.mix(matrix(&case.input::<Vec<_>>("/labels")));
        assert_same(&values(labels), &case.expected::<Vec<Vec<f64>>>("/labels").concat());
    }

    /// The reference steps were computed with these. If this test fails as well as they do, `rand` draws otherwise than it did:
    /// put its draws into `fixtures/steps.json` and run `fixtures/make_steps.py`.
    #[test]
    fn draws_are_those_of_the_reference_steps() {
        for (method, rows) in [("mixmatch", 24), ("remixmatch", 32)] {
            let mut random = random::stream(1, "mixup");
            for step in 0..3 {
                let at = |part: &str| format!("/mixtures/{method}/{step}/{part}");
                let mixture = Mixture::draw(rows, 0.75, &mut random);
                assert_eq!(mixture.partner, vectors::steps::<Vec<i64>>(&at("partner")));
                let lambda: Vec<f64> = mixture.lambda.into_iter().map(f64::from).collect();
                assert_same(&lambda, &vectors::steps::<Vec<f64>>(&at("lambda")));
            }
        }
    }

    #[test]
    fn draws_a_weight_for_each_row_and_a_permutation() {
        let mixture = Mixture::draw(1000, 0.75, &mut random::stream(0, "test"));
        let mut partner = mixture.partner.clone();
        partner.sort_unstable();
        assert!(partner.into_iter().eq(0..1000));
        assert!(mixture.lambda.iter().all(|l| (0.5..=1.0).contains(l)));
        // E[max(l, 1 - l)] for Beta(0.75, 0.75), by numerical integration: 0.7755.
        let mean = mixture.lambda.iter().sum::<f32>() / 1000.0;
        assert!((mean - 0.7755).abs() < 0.02, "{mean}");
    }
}
