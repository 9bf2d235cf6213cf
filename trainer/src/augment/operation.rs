//! The nineteen operations of CTAugment with their parameters.

use models::Pixels;
use rand::RngExt;

use super::{filters, pixel_ops as ops, rescale::rescale};
use crate::random::Stream;

/// An operation on an image. Parameters are fractions in `[0, 1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Blends towards full range in each channel.
    Autocontrast,
    /// Blends towards a blurred image.
    Blur,
    /// Darkens or brightens.
    Brightness,
    /// Bleaches or saturates.
    Color,
    /// Lowers or raises contrast.
    Contrast,
    /// Erases a square.
    Cutout,
    /// Blends towards a flat histogram in each channel.
    Equalize,
    /// Blends towards the negative.
    Invert,
    /// Nothing.
    Identity,
    /// Keeps the top bits.
    Posterize,
    /// Crops the middle and scales back.
    Rescale,
    /// Turns by up to 45 degrees either way.
    Rotate,
    /// Softens or sharpens.
    Sharpness,
    /// Shears rows.
    ShearX,
    /// Shears columns.
    ShearY,
    /// Blends towards a smoothed image.
    Smooth,
    /// Inverts what is bright.
    Solarize,
    /// Moves along the rows.
    TranslateX,
    /// Moves along the columns.
    TranslateY,
}

use Operation::*;

/// What geometric operations do at the border, and how far they reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Canvas {
    /// The value of pixels that come from outside.
    pub(crate) fill: u8,
    /// The largest shift.
    pub(crate) shift: Length,
    /// The most that is cropped from each side.
    pub(crate) crop: Length,
    /// The longest side of an erased square, in pixels; half the image's side at most in any case.
    pub(crate) largest_cutout: usize,
}

/// A distance on an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Length {
    /// In pixels.
    Pixels(f64),
    /// As a fraction of the height or width.
    Fraction(f64),
}

impl Length {
    fn of(self, side: usize) -> f64 {
        match self {
            Self::Pixels(pixels) => pixels,
            Self::Fraction(fraction) => fraction * side as f64,
        }
    }
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Autocontrast,
        Blur,
        Brightness,
        Color,
        Contrast,
        Cutout,
        Equalize,
        Invert,
        Identity,
        Posterize,
        Rescale,
        Rotate,
        Sharpness,
        ShearX,
        ShearY,
        Smooth,
        Solarize,
        TranslateX,
        TranslateY,
    ];

    /// How many bins each of its parameters is divided into.
    pub fn bins(self) -> &'static [usize] {
        match self {
            Identity => &[],
            Posterize => &[8],
            Rescale => &[17, 6],
            _ => &[17],
        }
    }

    /// Applies the operation with one parameter for each entry of [`Operation::bins`].
    ///
    /// Only [`Operation::Cutout`] draws from `random`: its centre.
    ///
    /// # Panics
    /// If a parameter is missing.
    pub(crate) fn apply(self, image: &Pixels, parameters: &[f64], canvas: Canvas, random: &mut Stream) -> Pixels {
        let level = || parameters[0];
        let towards = |other: Pixels| ops::blend(image, &other, level() as f32);
        let enhance = |degenerate: Pixels| ops::blend(&degenerate, image, (0.1 + 1.9 * level()) as f32);
        let signed = |range: f64| (2.0 * level() - 1.0) * range;
        match self {
            Autocontrast => towards(ops::autocontrast(image)),
            Blur => towards(filters::blur(image)),
            Brightness => enhance(ops::constant(image, 0)),
            Color => enhance(ops::grayscale(image)),
            Contrast => enhance(ops::constant(image, ops::mean_luma(image))),
            Cutout => {
                let centre = [image.height, image.width].map(|size| random.random_range(0..size));
                ops::cutout(image, cutout_side(image, level()).min(canvas.largest_cutout), centre)
            }
            Equalize => towards(ops::equalize(image)),
            Invert => towards(ops::map(image, |v| 255 - v)),
            Identity => image.clone(),
            Posterize => {
                let bits = 1 + (level() * 7.999) as u32;
                ops::map(image, |v| v & !(0xff_u32 >> bits) as u8)
            }
            Rescale => {
                let inset = |side| (level() * canvas.crop.of(side)).round_ties_even() as usize;
                rescale(image, [image.height, image.width].map(inset), parameters[1])
            }
            Rotate => ops::rotate(image, signed(45.0).round_ties_even() as i32, canvas.fill),
            Sharpness => enhance(filters::smooth(image)),
            ShearX => ops::affine(image, [1.0, signed(0.3), 0.0, 0.0, 1.0, 0.0], canvas.fill),
            ShearY => ops::affine(image, [1.0, 0.0, 0.0, signed(0.3), 1.0, 0.0], canvas.fill),
            TranslateX => {
                ops::affine(image, [1.0, 0.0, signed(canvas.shift.of(image.width)), 0.0, 1.0, 0.0], canvas.fill)
            }
            TranslateY => {
                ops::affine(image, [1.0, 0.0, 0.0, 0.0, 1.0, signed(canvas.shift.of(image.height))], canvas.fill)
            }
            Smooth => towards(filters::smooth(image)),
            Solarize => {
                let threshold = (level() * 255.999) as u8;
                ops::map(image, |v| if v < threshold { v } else { 255 - v })
            }
        }
    }
}

fn cutout_side(image: &Pixels, level: f64) -> usize {
    1 + (level * image.width.min(image.height) as f64 * 0.499) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::{augment::Geometry, random, vectors};

    fn named(name: &str) -> Operation {
        let found = Operation::ALL.into_iter().find(|op| format!("{op:?}").to_lowercase() == name.replace('_', ""));
        found.unwrap_or_else(|| panic!("no operation {name}"))
    }

    fn image(rows: Vec<Vec<[u8; 3]>>) -> Pixels {
        Pixels { height: rows.len(), width: rows[0].len(), channels: 3, data: rows.concat().concat() }
    }

    /// Case 19: every operation at three levels against Pillow.
    #[test]
    fn equals_pillow_byte_for_byte() {
        let case = vectors::case("19_cta_pixel_ops");
        let input = image(case.input("/image"));
        let expected: BTreeMap<String, Value> = case.expected("");
        assert_eq!(expected.len(), 51);
        for (key, value) in expected {
            let (name, levels) = key.split_once('@').expect("name@levels");
            let levels: Vec<f64> = levels.split(',').map(|v| v.parse().expect("a level")).collect();
            let found = named(name).apply(&input, &levels, Geometry::Original.canvas(), &mut random::stream(0, "test"));
            let expected =
                if value == "same" { input.clone() } else { image(serde_json::from_value(value).expect("pixels")) };
            assert_eq!(found, expected, "{key}");
        }
    }

    /// Case 19b: an image large enough for equalize to do something.
    #[test]
    fn equalize_and_solarize_equal_pillow_on_32_pixels() {
        let case = vectors::case("19b_equalize_32");
        let pixel = |y: usize, x: usize, c: usize| (((x * y * (c + 1) + 7 * x + 13 * y) % (60 + 40 * c)) + 40) as u8;
        let rows = (0..32).map(|y| (0..32).map(|x| [0, 1, 2].map(|c| pixel(y, x, c))).collect()).collect();
        let input = image(rows);
        let sum = |image: &Pixels| image.data.iter().map(|&v| u64::from(v)).sum::<u64>();
        assert_eq!(sum(&input), case.expected::<u64>("/input_sum"));
        let equalized = ops::equalize(&input);
        let solarized = Operation::Solarize.apply(
            &input,
            &[90.5 / 255.999],
            Geometry::Original.canvas(),
            &mut random::stream(0, "test"),
        );
        for (found, name) in [(equalized, "equalize"), (solarized, "solarize90")] {
            let rows: Vec<Vec<[u8; 3]>> = case.expected(&format!("/{name}_rows01"));
            assert_eq!(found.data[..2 * 32 * 3], rows.concat().concat(), "{name}");
            assert_eq!(sum(&found), case.expected::<u64>(&format!("/{name}_sum")), "{name}");
        }
    }

    /// With 0.4 of the full range both ways: 0.12 of 32 pixels as a shift, and 0.7 * 0.25 of them cropped a side.
    #[test]
    fn the_papers_geometry_goes_by_the_size_of_the_image() {
        let ramp = Pixels { height: 1, width: 32, channels: 1, data: (0..32).collect() };
        let apply = |operation: Operation, geometry: Geometry| {
            operation.apply(&ramp, &[0.7, 0.9], geometry.canvas(), &mut random::stream(0, "test")).data
        };
        let shifted = apply(TranslateX, Geometry::Paper);
        assert_eq!((shifted[0], shifted[27], shifted[28]), (4, 31, 0));
        let scaled = apply(Rescale, Geometry::Paper);
        assert_eq!((scaled[0], scaled[31]), (6, 25));
        assert_eq!(apply(TranslateY, Geometry::Paper), ramp.data);
        assert!(apply(TranslateX, Geometry::FixMatch) == ramp.data && apply(Rescale, Geometry::FixMatch) == scaled);
    }

    /// Case 21: the side drawn and the side erased away from the border.
    #[test]
    fn cutout_erases_the_stated_square() {
        let case = vectors::case("21_cutout_size");
        let white = Pixels { height: 32, width: 32, channels: 3, data: vec![255; 32 * 32 * 3] };
        let levels: Vec<f64> = case.input("/levels");
        for (level, [side, erased]) in levels.into_iter().zip(case.expected::<Vec<[usize; 2]>>("")) {
            assert_eq!(cutout_side(&white, level), side);
            let cut = ops::cutout(&white, side, [16, 16]);
            assert_eq!(cut.data.iter().filter(|&&v| v == 127).count(), erased * erased * 3);
            let corner = ops::cutout(&white, side, [0, 31]);
            let half = side / 2;
            assert_eq!(corner.data.iter().filter(|&&v| v == 127).count(), half * (half + 1) * 3);
        }
    }

    /// Case 20: what an 8-bit value is as an input.
    #[test]
    fn values_are_inputs_between_minus_one_and_one() {
        let case = vectors::case("20_quantise");
        let data: Vec<u8> = case.expected("/u8");
        let input = Pixels { height: 1, width: data.len(), channels: 1, data }.to_input();
        let input: Vec<f64> = input.into_iter().map(f64::from).collect();
        vectors::assert_same(&input, &case.expected::<Vec<f64>>("/back"));
    }
}
