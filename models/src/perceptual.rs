use std::{fmt, str::FromStr};

use image::{DynamicImage, GrayImage, RgbImage, imageops::FilterType};
use serde::{Deserialize, Serialize};

use crate::{Error, Pixels, Result};

/// What an image looks like, in 64 bits: images that look alike differ in few of them, also after another compression, scaling
/// or a change of brightness. Written as 16 hexadecimal digits.
///
/// # Reference
/// The difference hash of N. Krawetz, "Kind of Like That" (2013): of the image in 9x8 grey pixels, whether each is brighter than
/// its left neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PerceptualHash(u64);

impl PerceptualHash {
    /// The hash of an image.
    pub fn of(pixels: &Pixels) -> Self {
        let small = grey(pixels).resize_exact(9, 8, FilterType::Triangle).into_luma8();
        let brighter = small.rows().flat_map(|row| {
            let values: Vec<u8> = row.map(|pixel| pixel.0[0]).collect();
            values.windows(2).map(|pair| pair[1] > pair[0]).collect::<Vec<_>>()
        });
        Self(brighter.fold(0, |bits, bit| bits << 1 | u64::from(bit)))
    }

    /// In how many of the 64 bits two hashes differ.
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}

fn grey(pixels: &Pixels) -> DynamicImage {
    let (width, height) = (pixels.width as u32, pixels.height as u32);
    let data = pixels.data.clone();
    let image = match pixels.channels {
        1 => GrayImage::from_raw(width, height, data).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, data).map(|image| DynamicImage::from(image).into_luma8().into()),
    };
    // Pixels whose size is not that of their data are a mistake of ours, and look like nothing.
    image.unwrap_or_default()
}

impl fmt::Display for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for PerceptualHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bits = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16 && !text.starts_with('+'));
        bits.map(Self).ok_or_else(|| Error::malformed("perceptual hash", "16 hexadecimal digits", format!("{text:?}")))
    }
}

impl TryFrom<String> for PerceptualHash {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PerceptualHash> for String {
    fn from(hash: PerceptualHash) -> Self {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(value: impl Fn(usize, usize) -> f64) -> Pixels {
        let data = (0..32 * 36).map(|i| value(i % 36, i / 36).clamp(0.0, 255.0) as u8).collect();
        Pixels { height: 32, width: 36, channels: 1, data }
    }

    #[test]
    fn the_bits_say_where_it_grows_brighter() -> Result<()> {
        let right = PerceptualHash::of(&picture(|x, _| 7.0 * x as f64));
        assert_eq!(right.to_string(), "ffffffffffffffff");
        assert_eq!(PerceptualHash::of(&picture(|x, _| 250.0 - 7.0 * x as f64)).to_string(), "0000000000000000");
        // The upper half grows brighter to the right, the lower half to the left.
        let halves = picture(|x, y| if y < 16 { 7.0 * x as f64 } else { 250.0 - 7.0 * x as f64 });
        assert_eq!(PerceptualHash::of(&halves).to_string(), "ffffffff00000000");
        assert_eq!("ffffffffffffffff".parse::<PerceptualHash>()?, right);
        assert!("ff".parse::<PerceptualHash>().is_err() && "+fffffffffffffff".parse::<PerceptualHash>().is_err());
        Ok(())
    }

    #[test]
    fn a_darker_and_noisier_copy_is_near_and_another_picture_is_far() {
        let wave = |x: usize, y: usize| 128.0 + 90.0 * (x as f64 / 4.0).sin() * (y as f64 / 5.0 + 1.0).cos();
        let noise = |x: usize, y: usize| ((7 * x + 13 * y) % 5) as f64 - 2.0;
        let one = PerceptualHash::of(&picture(wave));
        let copy = PerceptualHash::of(&picture(|x, y| 0.8 * wave(x, y) + noise(x, y)));
        let other = PerceptualHash::of(&picture(|x, y| 128.0 + 90.0 * ((x + 2 * y) as f64 / 3.0).cos()));
        assert!(one.distance(copy) <= 4, "{one} and {copy}");
        assert!(one.distance(other) > 12, "{one} and {other}");
    }
}
