//! The two fixed filters of CTAugment, as Pillow computes them: border pixels are copied, the rest rounded half up.

use models::Pixels;

/// 3x3 smoothing, the centre weighted five times: `(1 1 1; 1 5 1; 1 1 1) / 13`.
pub(super) fn smooth(image: &Pixels) -> Pixels {
    convolve(image, 1, |neighbour| {
        let mut sum = 4 * neighbour(0, 0);
        for dy in -1..=1 {
            for dx in -1..=1 {
                sum += neighbour(dy, dx);
            }
        }
        (2 * sum + 13) / 26
    })
}

/// 5x5 blur by the ring of the 16 outer pixels.
pub(super) fn blur(image: &Pixels) -> Pixels {
    convolve(image, 2, |neighbour| {
        let mut sum = 0;
        for i in -2..=2 {
            sum += neighbour(-2, i) + neighbour(2, i);
        }
        for i in -1..=1 {
            sum += neighbour(i, -2) + neighbour(i, 2);
        }
        (sum + 8) / 16
    })
}

/// Replaces each value further than `border` from the edge by `kernel` of its neighbours in the same channel.
fn convolve(image: &Pixels, border: usize, kernel: impl Fn(&dyn Fn(isize, isize) -> u32) -> u32) -> Pixels {
    let mut filtered = image.clone();
    let stride = image.width * image.channels;
    for y in border..image.height.saturating_sub(border) {
        for x in border..image.width.saturating_sub(border) {
            for channel in 0..image.channels {
                let centre = y * stride + x * image.channels + channel;
                let neighbour = |dy: isize, dx: isize| {
                    let offset = dy * stride as isize + dx * image.channels as isize;
                    u32::from(image.data[centre.wrapping_add_signed(offset)])
                };
                filtered.data[centre] = kernel(&neighbour) as u8;
            }
        }
    }
    filtered
}
