//! CTAugment: strong augmentation whose strength is learned while training.
//!
//! Each parameter of each operation is divided into bins. A bin's rate says how well the model still recognises
//! labeled images that were augmented with a value of that bin; values between two bins with low rates are no longer
//! drawn.
//!
//! # Reference
//! Berthelot et al., "ReMixMatch" (2020), section 3.2.2, with the constants of the original code. FixMatch's code draws values in
//! another way, and its `Rescale` crops: [`CtAugmentConfig::fixmatch`].

use models::Pixels;
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Canvas, Length, Operation};
use crate::random::Stream;

/// Settings of CTAugment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CtAugmentConfig {
    /// Operations applied one after another. Default 2: ReMixMatch, section 3.2.2.
    pub depth: usize,
    /// Bins whose rate, as a fraction of the best bin's, is below this add nothing to the chance of being drawn.
    /// Default 0.8: the original code's flag, over its class default of 0.85.
    pub threshold: f64,
    /// What one observation leaves of a rate. Default 0.99: ReMixMatch, section 3.2.2.
    pub decay: f64,
    /// Where in the range of a parameter values are drawn. Default "segments"; FixMatch "bins".
    pub sampling: Sampling,
    /// How far images are moved and cropped. Default "original"; FixMatch "fixmatch".
    pub geometry: Geometry,
}

/// Where values are drawn for training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Between the centres of two bins, by the sum of their weights: the original code of ReMixMatch.
    #[default]
    Segments,
    /// In a bin, by its weight: the original code of FixMatch.
    Bins,
}

/// How far `TranslateX`, `TranslateY` and `Rescale` go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Geometry {
    /// As in the original code, which takes the paper's fractions for pixels: all three change nothing.
    #[default]
    Original,
    /// As in the original code of FixMatch: up to a quarter is cropped from each side; shifts change nothing.
    #[serde(rename = "fixmatch")]
    FixMatch,
    /// As in the paper's appendix: shifts by up to 0.3 of the side, and no less than its middle half scaled to the whole.
    Paper,
}

impl Geometry {
    pub(super) fn canvas(self) -> Canvas {
        let (shift, crop) = match self {
            Self::Original => (Length::Pixels(0.3), Length::Pixels(0.25)),
            Self::FixMatch => (Length::Pixels(0.3), Length::Fraction(0.25)),
            Self::Paper => (Length::Fraction(0.3), Length::Fraction(0.25)),
        };
        Canvas { fill: 0, shift, crop, largest_cutout: usize::MAX }
    }
}

impl Default for CtAugmentConfig {
    fn default() -> Self {
        let (sampling, geometry) = (Sampling::default(), Geometry::default());
        Self { depth: 2, threshold: 0.8, decay: 0.99, sampling, geometry }
    }
}

impl CtAugmentConfig {
    /// As in the original code of FixMatch.
    pub fn fixmatch() -> Self {
        Self { sampling: Sampling::Bins, geometry: Geometry::FixMatch, ..Self::default() }
    }
}

/// Operations with their parameters, to be applied in order.
pub type Policy = Vec<(Operation, Vec<f64>)>;

/// The learned rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CtAugment {
    config: CtAugmentConfig,
    /// One row of bins for each parameter of each of [`Operation::ALL`].
    rates: Vec<Vec<Vec<f64>>>,
}

impl CtAugment {
    /// All rates at 1.
    pub fn new(config: CtAugmentConfig) -> Self {
        let ones = |op: Operation| op.bins().iter().map(|&bins| vec![1.0; bins]).collect();
        Self { config, rates: Operation::ALL.map(ones).to_vec() }
    }

    /// A policy for training, its values drawn in bins in good standing, or between two of which at least one is.
    pub fn policy(&self, random: &mut Stream) -> Policy {
        let CtAugmentConfig { decay, threshold, sampling, .. } = self.config;
        self.draw(random, |rates, random| {
            let bins = bin_weights(rates, decay, threshold);
            let weights = match sampling {
                Sampling::Segments => segment_weights(&bins),
                Sampling::Bins => bins,
            };
            sample(&weights, random.random(), random.random())
        })
    }

    /// A policy for measuring: its values are uniform.
    pub fn probe(&self, random: &mut Stream) -> Policy {
        self.draw(random, |_, random| random.random())
    }

    /// Applies a policy to an image.
    pub fn apply(&self, policy: &Policy, image: Pixels, random: &mut Stream) -> Pixels {
        apply(policy, image, self.config.geometry.canvas(), random)
    }

    fn draw(&self, random: &mut Stream, value: impl Fn(&[f64], &mut Stream) -> f64) -> Policy {
        let draw_one = |_| {
            let index = random.random_range(0..Operation::ALL.len());
            let parameters = self.rates[index].iter().map(|rates| value(rates, random)).collect();
            (Operation::ALL[index], parameters)
        };
        (0..self.config.depth).map(draw_one).collect()
    }

    /// Takes in how well a probed image was recognised: `match_` is the probability given to its label.
    pub fn update(&mut self, probe: &Policy, match_: f64) {
        let decay = self.config.decay;
        for (operation, parameters) in probe {
            for (rates, value) in self.rates[*operation as usize].iter_mut().zip(parameters) {
                let bin = bin(*value, rates.len());
                rates[bin] = decay * rates[bin] + (1.0 - decay) * match_;
            }
        }
    }
}

/// Applies operations to an image, one after another.
pub(super) fn apply(policy: &Policy, image: Pixels, canvas: Canvas, random: &mut Stream) -> Pixels {
    policy.iter().fold(image, |image, (operation, parameters)| operation.apply(&image, parameters, canvas, random))
}

/// Rates as fractions of the best one, those below the threshold as 0.
fn bin_weights(rates: &[f64], decay: f64, threshold: f64) -> Vec<f64> {
    let weights: Vec<f64> = rates.iter().map(|rate| rate + (1.0 - decay)).collect();
    let best = weights.iter().copied().fold(0.0, f64::max);
    weights.into_iter().map(|w| w / best).map(|w| if w < threshold { 0.0 } else { w }).collect()
}

/// A value falls between the centres of two bins: the weight of each such segment.
fn segment_weights(bins: &[f64]) -> Vec<f64> {
    bins.windows(2).map(|pair| pair[0] + pair[1]).collect()
}

/// The value at fraction `within` of the segment, or bin, that `which` falls into.
fn sample(weights: &[f64], which: f64, within: f64) -> f64 {
    let target = which * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let reached = weights.iter().position(|weight| {
        sum += weight;
        target < sum
    });
    let segment = reached.unwrap_or(weights.len() - 1);
    (segment as f64 + within) / weights.len() as f64
}

/// The bin that a value belongs to.
fn bin(value: f64, bins: usize) -> usize {
    (value * bins as f64 * 0.999) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        random,
        vectors::{self, assert_same},
    };

    /// Case 10.
    #[test]
    fn draws_between_bins_by_their_weights() {
        let case = vectors::case("10_cta_weights");
        let weights = bin_weights(&case.input::<Vec<f64>>("/rate"), case.input("/decay"), case.input("/th"));
        assert_same(&weights, &case.expected::<Vec<f64>>("/p"));
        let segments = segment_weights(&weights);
        assert_same(&segments, &case.expected::<Vec<f64>>("/segments"));
        let draws: Vec<[f64; 2]> = case.input("/draws");
        for (i, [which, within]) in draws.into_iter().enumerate() {
            assert_same(&[sample(&segments, which, within)], &[case.expected(&format!("/samples/{i}/1"))]);
        }
    }

    /// Of eight bins the third alone is in good standing: FixMatch's code draws in it, ReMixMatch's in the two segments of seven that end
    /// in its centre or begin there.
    #[test]
    fn values_are_drawn_where_each_method_draws_them() {
        let drawn = |config: CtAugmentConfig| {
            let mut augment = CtAugment::new(config);
            let rates = &mut augment.rates[Operation::Posterize as usize][0];
            *rates = (0..8).map(|bin| if bin == 2 { 1.0 } else { 0.1 }).collect();
            let random = &mut random::stream(0, "test");
            let policies: Vec<Policy> = (0..4000).map(|_| augment.policy(random)).collect();
            let values = policies.concat().into_iter().filter(|(op, _)| *op == Operation::Posterize).map(|(_, v)| v[0]);
            values.fold((1.0, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)))
        };
        let is_about = |(low, high): (f64, f64), from: f64, to: f64| {
            (from..from + 0.01).contains(&low) && (to - 0.01..to).contains(&high)
        };
        assert!(is_about(drawn(CtAugmentConfig::fixmatch()), 2.0 / 8.0, 3.0 / 8.0));
        assert!(is_about(drawn(CtAugmentConfig::default()), 1.0 / 7.0, 3.0 / 7.0));
    }

    /// Case 10b.
    #[test]
    fn values_belong_to_bins_as_in_the_original() {
        let case = vectors::case("10b_cta_bin_index");
        let values: Vec<f64> = case.input("/values");
        let bins: Vec<usize> = case.input("/n");
        let found: Vec<usize> = values.iter().zip(bins).map(|(&v, n)| bin(v, n)).collect();
        assert_eq!(found, case.expected::<Vec<usize>>(""));
    }

    /// Case 10c.
    #[test]
    fn rates_follow_the_probability_of_the_label() {
        let case = vectors::case("10c_cta_rate_update");
        let mut augment = CtAugment::new(CtAugmentConfig::default());
        let rotate = Operation::ALL.iter().position(|op| *op == Operation::Rotate).expect("it is one of them");
        let updates: Vec<(f64, String)> = case.input("/updates");
        for (i, (value, label)) in updates.into_iter().enumerate() {
            let label: usize = case.input(&format!("/label_{label}"));
            let match_: f64 = case.input(&format!("/p/{label}"));
            augment.update(&vec![(Operation::Rotate, vec![value])], match_);
            let bin: usize = case.expected(&format!("/bin_and_new_rate/{i}/0"));
            assert_same(&[augment.rates[rotate][0][bin]], &[case.expected(&format!("/bin_and_new_rate/{i}/1"))]);
        }
    }

    #[test]
    fn policies_have_the_depth_and_every_operation_occurs() {
        let augment = CtAugment::new(CtAugmentConfig { depth: 3, ..Default::default() });
        let mut random = random::stream(0, "test");
        let policies: Vec<Policy> = (0..300).map(|_| augment.policy(&mut random)).collect();
        assert!(policies.iter().all(|p| p.len() == 3));
        for operation in Operation::ALL {
            assert!(policies.iter().flatten().any(|(op, p)| *op == operation && p.len() == op.bins().len()));
        }
    }
}
