//! The middle of an image, scaled up to the whole, as the paper describes an operation that the original code leaves
//! without effect.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use models::Pixels;

/// In the order of the original code.
const METHODS: [ResizeAlg; 6] = [
    ResizeAlg::Convolution(FilterType::Lanczos3),
    // Bicubic with a = -0.5, as Pillow's.
    ResizeAlg::Convolution(FilterType::CatmullRom),
    ResizeAlg::Convolution(FilterType::Bilinear),
    ResizeAlg::Convolution(FilterType::Box),
    ResizeAlg::Convolution(FilterType::Hamming),
    ResizeAlg::Nearest,
];

/// Cuts `inset` rows and columns off each side and scales back, by the method that `method` from 0 to 1 names.
pub(super) fn rescale(image: &Pixels, inset: [usize; 2], method: f64) -> Pixels {
    if inset == [0, 0] {
        return image.clone();
    }
    let pixel_type = if image.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let [top, left] = inset;
    let (height, width) = (image.height - 2 * top, image.width - 2 * left);
    let rows = image.data.chunks_exact(image.width * image.channels).skip(top).take(height);
    let middle: Vec<u8> =
        rows.flat_map(|row| &row[left * image.channels..(left + width) * image.channels]).copied().collect();
    let from = ImageRef::new(width as u32, height as u32, &middle, pixel_type).expect("as many values as stated");
    let mut scaled = Image::new(image.width as u32, image.height as u32, pixel_type);
    let options = ResizeOptions::new().resize_alg(METHODS[(method * 5.99) as usize]);
    Resizer::new().resize(&from, &mut scaled, &options).expect("images of the same kind of pixel");
    Pixels { data: scaled.into_vec(), ..*image }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of what Pillow makes of the middle 10x10 pixels of 16x16. Pillow scales rows first, fast_image_resize
    /// columns, and each rounds in between.
    #[test]
    fn scales_the_middle_as_pillow_does() {
        let value = |i: usize| (i % 16 * (i % 16) / 2 + 5 * (i / 16)) as u8;
        let image = Pixels { height: 16, width: 16, channels: 1, data: (0..256).map(value).collect() };
        let rows: [[u8; 16]; 6] = [
            [34, 35, 38, 41, 44, 48, 51, 55, 61, 65, 70, 77, 83, 89, 98, 103],
            [34, 35, 38, 41, 44, 48, 51, 55, 60, 65, 71, 77, 83, 89, 98, 103],
            [34, 36, 38, 41, 44, 48, 51, 56, 61, 66, 71, 77, 83, 89, 97, 102],
            [34, 34, 38, 42, 42, 48, 54, 54, 62, 62, 70, 80, 80, 90, 102, 102],
            [34, 35, 38, 41, 43, 48, 52, 54, 62, 65, 70, 79, 81, 90, 98, 102],
            [34, 34, 38, 42, 42, 48, 54, 54, 62, 62, 70, 80, 80, 90, 102, 102],
        ];
        for (method, expected) in rows.into_iter().enumerate() {
            let scaled = rescale(&image, [3, 3], (method as f64 + 0.5) / 5.99);
            let found = &scaled.data[5 * 16..6 * 16];
            assert!(found.iter().zip(expected).all(|(f, e)| f.abs_diff(e) <= 1), "{method}: {found:?}");
        }
    }
}
