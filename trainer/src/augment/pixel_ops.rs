//! The pixel operations of CTAugment, byte for byte as Pillow computes them.

use models::Pixels;

/// `from + t * (to - from)`, truncated; outside of `t` in 0..=1 clipped first.
pub(super) fn blend(from: &Pixels, to: &Pixels, t: f32) -> Pixels {
    let mix = |(&from, &to): (&u8, &u8)| {
        let (from, to) = (f32::from(from), f32::from(to));
        // A cast to u8 truncates towards zero and clips.
        (from + t * (to - from)) as u8
    };
    Pixels { data: from.data.iter().zip(&to.data).map(mix).collect(), ..*from }
}

/// An image of one value.
pub(super) fn constant(like: &Pixels, value: u8) -> Pixels {
    Pixels { data: vec![value; like.data.len()], ..*like }
}

/// Every value through `table`.
pub(super) fn map(image: &Pixels, table: impl Fn(u8) -> u8) -> Pixels {
    Pixels { data: image.data.iter().map(|&v| table(v)).collect(), ..*image }
}

/// The luma in every channel.
pub(super) fn grayscale(image: &Pixels) -> Pixels {
    let channels = image.channels;
    let data = image.data.chunks_exact(channels).flat_map(|pixel| std::iter::repeat_n(luma(pixel), channels)).collect();
    Pixels { data, ..*image }
}

/// The rounded mean luma.
pub(super) fn mean_luma(image: &Pixels) -> u8 {
    let pixels = image.data.chunks_exact(image.channels);
    let count = pixels.len() as f64;
    let sum: u64 = pixels.map(|pixel| u64::from(luma(pixel))).sum();
    (sum as f64 / count + 0.5) as u8
}

fn luma(pixel: &[u8]) -> u8 {
    match *pixel {
        [red, green, blue] => {
            ((19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue) + 32_768) >> 16) as u8
        }
        _ => pixel[0],
    }
}

/// Stretches each channel to the full range.
pub(super) fn autocontrast(image: &Pixels) -> Pixels {
    per_channel(image, |histogram| {
        let low = histogram.iter().position(|&n| n > 0)?;
        let high = histogram.iter().rposition(|&n| n > 0)?;
        if high <= low {
            return None;
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        Some(std::array::from_fn(|i| (i as f64 * scale + offset) as u8))
    })
}

/// Flattens each channel's histogram.
pub(super) fn equalize(image: &Pixels) -> Pixels {
    per_channel(image, |histogram| {
        let last = histogram[histogram.iter().rposition(|&n| n > 0)?];
        let step = (histogram.iter().sum::<u32>() - last) / 255;
        if step == 0 {
            return None;
        }
        let mut sum = step / 2;
        Some(std::array::from_fn(|i| {
            let value = (sum / step).min(255);
            sum += histogram[i];
            value as u8
        }))
    })
}

/// Maps each channel through a table made from its histogram, or leaves it alone.
fn per_channel(image: &Pixels, table: impl Fn(&[u32; 256]) -> Option<[u8; 256]>) -> Pixels {
    let mut mapped = image.clone();
    for channel in 0..image.channels {
        let mut histogram = [0; 256];
        image.data.iter().skip(channel).step_by(image.channels).for_each(|&v| histogram[usize::from(v)] += 1);
        if let Some(table) = table(&histogram) {
            let values = mapped.data.iter_mut().skip(channel).step_by(image.channels);
            values.for_each(|v| *v = table[usize::from(*v)]);
        }
    }
    mapped
}

/// A square of the given side around a centre, clipped to the image, becomes grey 127.
pub(super) fn cutout(image: &Pixels, side: usize, centre: [usize; 2]) -> Pixels {
    let half = side / 2;
    let range = |centre: usize, size: usize| centre.saturating_sub(half)..(centre + half).min(size);
    let mut cut = image.clone();
    for y in range(centre[0], image.height) {
        let columns = range(centre[1], image.width);
        let row = y * image.width;
        cut.data[(row + columns.start) * image.channels..(row + columns.end) * image.channels].fill(127);
    }
    cut
}

/// `out(x, y) = in(a x + b y + c, d x + e y + f)` for the matrix `[a, b, c, d, e, f]`: the nearest pixel, in 16.16 fixed
/// point, `fill` outside.
pub(super) fn affine(image: &Pixels, [a, b, c, d, e, f]: [f64; 6], fill: u8) -> Pixels {
    let fix = |value: f64| (value * 65_536.0 + 0.5).floor() as i64;
    let (x0, dx_x, dx_y) = (fix(c + 0.5 * a + 0.5 * b), fix(a), fix(b));
    let (y0, dy_x, dy_y) = (fix(f + 0.5 * d + 0.5 * e), fix(d), fix(e));
    let mut moved = constant(image, fill);
    let channels = image.channels;
    for (i, out) in moved.data.chunks_exact_mut(channels).enumerate() {
        let (x, y) = ((i % image.width) as i64, (i / image.width) as i64);
        let (from_x, from_y) = ((x0 + x * dx_x + y * dx_y) >> 16, (y0 + x * dy_x + y * dy_y) >> 16);
        if (0..image.width as i64).contains(&from_x) && (0..image.height as i64).contains(&from_y) {
            let from = (from_y as usize * image.width + from_x as usize) * channels;
            out.copy_from_slice(&image.data[from..from + channels]);
        }
    }
    moved
}

/// The image turned counter-clockwise about its centre by whole degrees.
pub(super) fn rotate(image: &Pixels, degrees: i32, fill: u8) -> Pixels {
    if degrees == 0 {
        return image.clone();
    }
    let round = |value: f64| (value * 1e15).round_ties_even() / 1e15;
    let angle = -f64::from(degrees.rem_euclid(360)).to_radians();
    let (cos, sin) = (round(angle.cos()), round(angle.sin()));
    let (centre_x, centre_y) = (image.width as f64 / 2.0, image.height as f64 / 2.0);
    let c = -cos * centre_x - sin * centre_y + centre_x;
    let f = sin * centre_x - cos * centre_y + centre_y;
    affine(image, [cos, sin, c, -sin, cos, f], fill)
}
