//! RandAugment as FixMatch uses it: strong augmentation without anything to learn.
//!
//! # Reference
//! Cubuk et al., "RandAugment" (2020); Sohn et al., "FixMatch" (2020), section 2.3, with the operations, ranges and chances of
//! its code. One thing is simpler here: what comes from outside the image is grey at once. There it is transparent, and grey in
//! the end, unless Autocontrast, Equalize, Posterize or Solarize come after it and take it for black.

use rand::RngExt;

use super::{
    ct_augment::Policy,
    operation::{Canvas, Length, Operation},
};
use crate::random::Stream;

/// Operations drawn for an image, with replacement.
const DEPTH: usize = 2;
/// The chance with which one of them is applied.
const CHANCE: f64 = 0.5;
/// Magnitudes are whole, from 1 to less than this.
const MAGNITUDES: u8 = 10;

/// What geometric operations do beyond the border, how far they shift, and how much the square at the end of a view erases.
pub(super) const CANVAS: Canvas =
    Canvas { fill: 127, shift: Length::Pixels(10.0), crop: Length::Pixels(0.0), largest_cutout: 16 };

const OPERATIONS: [Operation; 14] = [
    Operation::Identity,
    Operation::Autocontrast,
    Operation::Equalize,
    Operation::Rotate,
    Operation::Solarize,
    Operation::Color,
    Operation::Contrast,
    Operation::Brightness,
    Operation::Sharpness,
    Operation::ShearX,
    Operation::TranslateX,
    Operation::TranslateY,
    Operation::Posterize,
    Operation::ShearY,
];

/// Operations for an image.
pub(super) fn policy(random: &mut Stream) -> Policy {
    let draw = |_| {
        let operation = OPERATIONS[random.random_range(0..OPERATIONS.len())];
        let (magnitude, negative) = (random.random_range(1..MAGNITUDES), random.random());
        random.random_bool(CHANCE).then(|| (operation, parameters(operation, f64::from(magnitude) / 10.0, negative)))
    };
    (0..DEPTH).filter_map(draw).collect()
}

/// The parameters with which an operation does what FixMatch's code does at a magnitude from 0 to 1.
fn parameters(operation: Operation, magnitude: f64, negative: bool) -> Vec<f64> {
    // A fraction of the range of an operation that goes both ways.
    let signed = |fraction: f64| 0.5 + if negative { -fraction } else { fraction } / 2.0;
    match operation {
        Operation::Identity => Vec::new(),
        // Wholly, at any magnitude.
        Operation::Autocontrast | Operation::Equalize => vec![1.0],
        // Whole degrees up to 30, of a range of 45.
        Operation::Rotate => vec![signed((30.0 * magnitude).floor() / 45.0)],
        Operation::ShearX | Operation::ShearY | Operation::TranslateX | Operation::TranslateY => {
            vec![signed(magnitude)]
        }
        // Inverts from 256 less a part of 256 on.
        Operation::Solarize => vec![(256.0 - (256.0 * magnitude).floor() + 0.5) / 255.999],
        // Keeps four bits less a part of four.
        Operation::Posterize => vec![(3.5 - (4.0 * magnitude).floor()) / 7.999],
        // A factor from 0.1 to 1.9, of which the magnitude reaches 1.8 tenths.
        _ => vec![1.8 * magnitude / 1.9],
    }
}

#[cfg(test)]
mod tests {
    use models::Pixels;

    use super::*;
    use crate::random;

    /// What FixMatch's code passes to Pillow at magnitude 7, worked out by hand.
    #[test]
    fn magnitudes_mean_what_fixmatch_means() {
        let ramp = Pixels { height: 1, width: 256, channels: 1, data: (0..=255).collect() };
        let apply = |operation: Operation, negative| {
            let parameters = parameters(operation, 0.7, negative);
            operation.apply(&ramp, &parameters, CANVAS, &mut random::stream(0, "test")).data
        };
        // int(7 * 256 / 10) = 179: values from 77 on are inverted.
        let solarized = apply(Operation::Solarize, false);
        assert_eq!((solarized[76], solarized[77]), (76, 178));
        // 4 - int(7 * 4 / 10) = 2 bits.
        assert_eq!(apply(Operation::Posterize, false)[255], 0b1100_0000);
        // 0.7 * 1.8 + 0.1 = 1.36 times as bright.
        assert_eq!(apply(Operation::Brightness, false)[100], 136);
        // Seven pixels either way, grey behind them.
        let (right, left) = (apply(Operation::TranslateX, true), apply(Operation::TranslateX, false));
        assert_eq!((right[6], right[7], right[8]), (127, 0, 1));
        assert_eq!((left[0], left[248], left[249]), (7, 255, 127));
        // int(7 * 30 / 10) = 21 degrees: 0.5 + 21 / 90 is what the operation takes for them.
        assert_eq!(((2.0 * parameters(Operation::Rotate, 0.7, false)[0] - 1.0) * 45.0).round(), 21.0);
    }

    /// As many pixels on an image of any size; no more than half of its side.
    #[test]
    fn the_square_at_the_end_is_that_of_fixmatch() {
        for (side, erased) in [(96, 16), (32, 16), (8, 4)] {
            let white = Pixels { height: side, width: side, channels: 1, data: vec![255; side * side] };
            let grey = |stream: &str| {
                let image = Operation::Cutout.apply(&white, &[1.0], CANVAS, &mut random::stream(0, stream));
                image.data.iter().filter(|value| **value == 127).count()
            };
            let most = (0..40).map(|i| grey(&i.to_string())).max();
            assert_eq!(most, Some(erased * erased), "{side} pixels");
        }
    }

    #[test]
    fn applies_up_to_two_operations_half_of_the_time_each() {
        let mut random = random::stream(1, "test");
        let lengths: Vec<usize> = (0..4000).map(|_| policy(&mut random).len()).collect();
        let with = |length| lengths.iter().filter(|l| **l == length).count();
        assert!((900..1100).contains(&with(0)) && (900..1100).contains(&with(2)), "{} {}", with(0), with(2));
    }
}
