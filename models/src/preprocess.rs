//! The way from an image file to the network's input. It exists once, here.

use std::io::Cursor;

use image::{DynamicImage, ImageEncoder, ImageReader, Limits, codecs::png::PngEncoder, imageops::FilterType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, Error, Result};

/// No image may be wider or higher: a small file can declare a huge picture.
const MAX_SIDE: u32 = 16_384;
/// Bytes that decoding one image may allocate.
const MAX_ALLOC: u64 = 256 << 20;

/// How images become inputs of one fixed shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Grey or colour.
    pub color: Color,
    /// Height in pixels.
    pub height: u32,
    /// Width in pixels.
    pub width: u32,
}

/// Channels of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// One channel: luma.
    Gray,
    /// Three channels: red, green, blue.
    Rgb,
}

impl Color {
    /// How many channels.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

/// How a graph takes an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputLayout {
    /// f32 `[batch, channels, height, width]`, each value `u * 2/255 - 1`: what [`Pixels::to_input`] makes.
    #[default]
    F32,
    /// u8 `[batch, height, width, channels]`: the pixels as a decoder leaves them. Grey images have one channel.
    Rgb8,
}

impl InputLayout {
    /// The type of its numbers.
    pub fn number(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Rgb8 => "u8",
        }
    }
}

/// One input of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// How it takes an image.
    pub layout: InputLayout,
    /// Channels, height, width.
    pub shape: [usize; 3],
}

impl InputSpec {
    /// The dimensions in the order of the layout, for a batch of one.
    pub fn dims(&self) -> [usize; 4] {
        let [channels, height, width] = self.shape;
        match self.layout {
            InputLayout::F32 => [1, channels, height, width],
            InputLayout::Rgb8 => [1, height, width, channels],
        }
    }
}

/// An image of 8 bits a channel, rows first, channels together: `[height, width, channel]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Channels: 1 or 3.
    pub channels: usize,
    /// `height * width * channels` values.
    pub data: Vec<u8>,
}

impl Preprocessing {
    /// Shape of the network's input: channels, height, width.
    pub fn shape(&self) -> [usize; 3] {
        [self.color.channels(), self.height as usize, self.width as usize]
    }

    /// Decodes a JPEG or PNG and brings it to size: scaled until the shorter side fits, then cut around the
    /// centre. An image that already has the size keeps every pixel.
    ///
    /// `name` is only for the error.
    ///
    /// # Errors
    /// [`Error::Image`] or [`Error::Malformed`] for what is truncated, too large or no image.
    pub fn pixels(&self, name: &str, bytes: &[u8]) -> Result<Pixels> {
        if is_cut_off_jpeg(bytes) {
            return Err(Error::malformed(name, "a whole JPEG, with its end-of-image marker", "a truncated one"));
        }
        let image = decode(bytes).map_err(|source| Error::Image { what: name.to_owned(), source })?;
        let image = if (image.height(), image.width()) == (self.height, self.width) {
            image
        } else {
            image.resize_to_fill(self.width, self.height, FilterType::Triangle)
        };
        let data = match self.color {
            Color::Gray => image.into_luma8().into_raw(),
            Color::Rgb => image.into_rgb8().into_raw(),
        };
        let [channels, height, width] = self.shape();
        Ok(Pixels { height, width, channels, data })
    }
}

/// An image file as a PNG for people to look at, no larger than `side` pixels either way; a smaller one is as it is. `name` is only for
/// the error.
///
/// # Errors
/// As [`Preprocessing::pixels`].
pub fn thumbnail(name: &str, bytes: &[u8], side: u32) -> Result<Vec<u8>> {
    let error = |source| Error::Image { what: name.to_owned(), source };
    let image = decode(bytes).map_err(error)?;
    let image = if image.width().max(image.height()) > side { image.thumbnail(side, side) } else { image };
    let mut png = Vec::new();
    image.into_rgb8().write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).map_err(error)?;
    Ok(png)
}

/// The decoder fills what a truncated JPEG lacks with grey; so its segments and scans have to lead to the end-of-image marker.
/// What comes after that is not looked at: some phones append a film.
fn is_cut_off_jpeg(bytes: &[u8]) -> bool {
    const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
    let Some(mut rest) = bytes.strip_prefix(&START_OF_IMAGE) else { return false };
    // A marker is no stuffed 0xff, no fill byte and, inside a scan, no restart.
    let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0x01 | 0xd0..=0xd7 | 0xff);
    while let Some(at) = rest.windows(2).position(is_marker) {
        match rest[at..] {
            [_, 0xd9, ..] => return false,
            [_, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(at + 2 + length..).unwrap_or_default();
            }
            _ => return true,
        }
    }
    true
}

fn decode(bytes: &[u8]) -> image::ImageResult<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    reader.decode()
}

impl Pixels {
    /// Channels, height, width.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// The network's input: `[channel, height, width]`, each value `u * 2/255 - 1`.
    pub fn to_input(&self) -> Vec<f32> {
        let mut input = Vec::with_capacity(self.data.len());
        for channel in 0..self.channels {
            let values = self.data.iter().skip(channel).step_by(self.channels);
            input.extend(values.map(|&v| f32::from(v) * (2.0 / 255.0) - 1.0));
        }
        input
    }

    /// The image moved by whole pixels to the right and down; its edges are drawn out.
    pub fn moved(&self, right: isize, down: isize) -> Self {
        let from = |to: usize, by: isize, size: usize| to.saturating_add_signed(-by).min(size - 1);
        let mut data = Vec::with_capacity(self.data.len());
        for y in 0..self.height {
            for x in 0..self.width {
                let pixel = from(y, down, self.height) * self.width + from(x, right, self.width);
                data.extend_from_slice(&self.data[pixel * self.channels..][..self.channels]);
            }
        }
        Self { data, ..*self }
    }

    /// Digest of size and values: the same for the same picture, however its file was encoded.
    pub fn digest(&self) -> Digest {
        let size = [self.height, self.width, self.channels].map(|n| (n as u64).to_le_bytes()).concat();
        Digest::of_parts([&size, &self.data])
    }

    /// The image as a PNG file.
    ///
    /// # Errors
    /// [`Error::Image`] if the sizes do not fit the data.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let color = if self.channels == 1 { image::ExtendedColorType::L8 } else { image::ExtendedColorType::Rgb8 };
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&self.data, self.width as u32, self.height as u32, color)
            .map_err(|source| Error::Image { what: "pixels".into(), source })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;

    use super::*;

    #[test]
    fn a_png_of_the_right_size_keeps_every_pixel() -> Result<()> {
        let pixels = Pixels { height: 2, width: 3, channels: 3, data: (0..18).map(|v| v * 14).collect() };
        let preprocessing = Preprocessing { color: Color::Rgb, height: 2, width: 3 };
        assert_eq!(preprocessing.pixels("x.png", &pixels.to_png()?)?, pixels);
        let input = pixels.to_input();
        assert_eq!(input[0], -1.0);
        // Channels are planes: the second value of the red plane is the red of the second pixel.
        assert_eq!(input[1], 42.0 * 2.0 / 255.0 - 1.0);
        Ok(())
    }

    #[test]
    fn a_moved_image_draws_its_edges_out() {
        let pixels = Pixels { height: 2, width: 3, channels: 1, data: vec![1, 2, 3, 4, 5, 6] };
        assert_eq!(pixels.moved(1, 0).data, [1, 1, 2, 4, 4, 5]);
        assert_eq!(pixels.moved(-2, 0).data, [3, 3, 3, 6, 6, 6]);
        assert_eq!(pixels.moved(0, -1).data, [4, 5, 6, 4, 5, 6]);
    }

    #[test]
    fn a_truncated_image_is_an_error_that_names_it() -> Result<()> {
        let pixels = Pixels { height: 8, width: 8, channels: 1, data: (0..64).collect() };
        let png = pixels.to_png()?;
        let preprocessing = Preprocessing { color: Color::Gray, height: 8, width: 8 };
        let mut jpeg = Vec::new();
        let noise: Vec<u8> = (0..64 * 64_u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        let encoded = JpegEncoder::new(&mut jpeg).encode(&noise, 64, 64, image::ExtendedColorType::L8);
        assert!(encoded.is_ok());
        preprocessing.pixels("whole.jpg", &jpeg)?;
        preprocessing.pixels("padded.jpg", &[jpeg.as_slice(), &[0; 100]].concat())?;
        preprocessing.pixels("with-film.jpg", &[jpeg.as_slice(), b"\xff\xda"].concat())?;
        let cut = |file: &[u8]| (0..file.len()).map(|end| file[..end].to_vec()).collect::<Vec<_>>();
        for bytes in [cut(&png[..png.len() - 12]), cut(&jpeg), vec![b"text".to_vec()]].concat() {
            let error = preprocessing.pixels("cam/7.png", &bytes).err().map(|e| e.to_string());
            assert!(error.as_ref().is_some_and(|e| e.contains("cam/7.png")), "{error:?}");
        }
        Ok(())
    }
}
