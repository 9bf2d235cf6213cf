use models::Pixels;
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random::Stream;

/// Weak augmentation: a horizontal flip half of the time, then a shift over a reflected border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WeakAugment {
    /// Whether to flip at all. False where mirrored images mean something else, as for digits and text.
    /// Default true: CIFAR-10; the papers use false for SVHN.
    pub flip: bool,
    /// Largest shift in pixels, each way and in both axes. Default 4: the papers' value for 32x32; 12 for 96x96.
    pub shift: usize,
}

impl Default for WeakAugment {
    fn default() -> Self {
        Self { flip: true, shift: 4 }
    }
}

impl WeakAugment {
    /// A weakly augmented copy.
    pub fn apply(&self, image: &Pixels, random: &mut Stream) -> Pixels {
        let flip = self.flip && random.random();
        let mut offset = || random.random_range(0..=2 * self.shift) as isize - self.shift as isize;
        let (dy, dx) = (offset(), offset());
        shift(image, flip, dy, dx)
    }
}

/// The image moved up by `dy` and left by `dx`, continued by reflection that does not repeat the edge.
fn shift(image: &Pixels, flip: bool, dy: isize, dx: isize) -> Pixels {
    let channels = image.channels;
    let mut data = Vec::with_capacity(image.data.len());
    for y in 0..image.height {
        let row = reflect(y as isize + dy, image.height) * image.width;
        for x in 0..image.width {
            let column = reflect(x as isize + dx, image.width);
            let column = if flip { image.width - 1 - column } else { column };
            let pixel = (row + column) * channels;
            data.extend_from_slice(&image.data[pixel..pixel + channels]);
        }
    }
    Pixels { data, ..*image }
}

fn reflect(position: isize, size: usize) -> usize {
    let last = size as isize - 1;
    if last == 0 {
        return 0;
    }
    let position = position.rem_euclid(2 * last);
    position.min(2 * last - position) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{random, vectors};

    /// Case 15: crops of the padded image at offsets counted from its corner.
    #[test]
    fn shifts_over_a_reflected_border() {
        let case = vectors::case("15_reflect_shift");
        let pad: isize = case.input("/pad");
        let data = case.input::<Vec<Vec<u8>>>("/image").concat();
        let image = Pixels { height: 4, width: 4, channels: 1, data };
        let offsets: Vec<[isize; 2]> = case.input("/offsets");
        for (i, [dy, dx]) in offsets.into_iter().enumerate() {
            let expected = case.expected::<Vec<Vec<u8>>>(&format!("/crops/{i}")).concat();
            assert_eq!(shift(&image, false, dy - pad, dx - pad).data, expected);
        }
        assert_eq!(shift(&image, true, 0, 0).data[..4], [3, 2, 1, 0]);
    }

    #[test]
    fn reaches_every_shift_and_flips_only_if_asked() {
        let image = Pixels { height: 5, width: 5, channels: 1, data: (0..25).collect() };
        let mut random = random::stream(0, "test");
        for (flip, kinds) in [(false, 9), (true, 18)] {
            let weak = WeakAugment { flip, shift: 1 };
            let seen: std::collections::BTreeSet<_> = (0..500).map(|_| weak.apply(&image, &mut random).data).collect();
            assert_eq!(seen.len(), kinds);
        }
    }
}
