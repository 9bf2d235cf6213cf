//! Estimates with intervals: what a number from some images says of all images.
//!
//! | module | what it estimates |
//! |---|---|
//! | `proportion` | an accuracy, from images that all have labels |
//! | `matched` | the difference of two models, from the same images |
//! | `audit` | both, from audit samples, of which only some have labels |
//! | `two_samples` | whether images may be of the same kind as others |
//! | `calibration_error` | how far confidence and accuracy are apart, and how far by chance |

mod audit;
mod calibration_error;
mod matched;
mod proportion;
mod two_samples;

pub use audit::{Outcome, Pair, accuracy, difference};
pub use calibration_error::{error_by_chance, expected_calibration_error, reliability};
pub use matched::{is_enough, matched, needed};
pub use proportion::wilson;
pub use two_samples::{Difference, of_classes, of_numbers};

/// Two-sided 95 % quantile of the normal distribution.
const Z_TWO_SIDED: f64 = 1.959_963_984_540_054;
/// One-sided 95 % quantile of the normal distribution.
const Z_ONE_SIDED: f64 = 1.644_853_626_951_472_2;

/// How many equally weighted images say as much as these: `(sum w)^2 / sum w^2`.
///
/// # Reference
/// Kish, "Survey Sampling" (1965), section 8.2.
pub(crate) fn effective(weights: impl Iterator<Item = f64>) -> f64 {
    let (sum, squares) = weights.fold((0.0, 0.0), |(sum, squares), w| (sum + w, squares + w * w));
    if squares > 0.0 { sum * sum / squares } else { 0.0 }
}
