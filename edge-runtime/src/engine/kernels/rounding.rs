//! Numbers in 8 bits: to the nearest of 256 levels, and back to 32 bits.

use pulp::{Simd, WithSimd};

use super::registers::{dispatch, load, store};

/// Adding this to a number of less than 2^22 leaves no place for its fraction; halves go to the even side.
const WHOLE: f32 = 12_582_912.0;

/// 256 levels at equal distances, one of them zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rounding {
    /// Levels a unit.
    pub(crate) inverse: f32,
    /// Which of the levels is zero.
    pub(crate) zero_point: u8,
    /// From one level to the next.
    pub(crate) scale: f32,
}

impl Rounding {
    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, simd: S, values: S::f32s) -> S::f32s {
        let zero = f32::from(self.zero_point);
        let [inverse, lowest, highest, whole, scale] =
            [self.inverse, -zero, 255.0 - zero, WHOLE, self.scale].map(|value| simd.splat_f32s(value));
        let levels = simd.min_f32s(simd.max_f32s(simd.mul_f32s(values, inverse), lowest), highest);
        simd.mul_f32s(simd.sub_f32s(simd.add_f32s(levels, whole), whole), scale)
    }

    /// Of one number.
    pub(super) fn one(self, value: f32) -> f32 {
        let zero = f32::from(self.zero_point);
        (value * self.inverse).clamp(-zero, 255.0 - zero).round_ties_even() * self.scale
    }

    /// Of numbers in any order.
    pub(crate) fn run(self, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len(), "rounding {} numbers to {}", x.len(), y.len());
        dispatch(Run { rounding: self, x, y });
    }
}

struct Run<'a> {
    rounding: Rounding,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let (x, y) = (self.x.chunks_exact(lanes), self.y.chunks_exact_mut(lanes));
        for (x, y) in x.zip(y) {
            store::<S>(y, self.rounding.apply(simd, load::<S>(x)));
        }
        let rest = self.x.len() / lanes * lanes;
        for (x, y) in self.x[rest..].iter().zip(&mut self.y[rest..]) {
            *y = self.rounding.one(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::registers::MOST_LANES, *};

    #[test]
    fn every_width_of_registers_rounds_as_onnx_defines_it() {
        let rounding = Rounding { inverse: 8.0, zero_point: 100, scale: 0.125 };
        // Halves to the even side, what is outside to the ends: saturate(round(x / scale) + zero_point), and back.
        let cases = [(0.0, 0.0), (0.0625, 0.0), (0.1875, 0.25), (-0.0625, 0.0), (-0.1875, -0.25), (0.07, 0.125)];
        let ends = [(1e9, 19.375), (-1e9, -12.5), (f32::INFINITY, 19.375), (19.4, 19.375), (-12.5, -12.5)];
        let (x, expected): (Vec<f32>, Vec<f32>) = cases.iter().chain(&ends).cycle().take(43).copied().unzip();
        for lanes in [usize::MAX, 8, 1] {
            MOST_LANES.set(lanes);
            let mut y = vec![f32::NAN; x.len()];
            rounding.run(&x, &mut y);
            assert_eq!(y, expected, "{lanes} lanes");
        }
    }
}
