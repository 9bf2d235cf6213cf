//! Convolution of one image, and what follows it in a network: a bias, another image that is added, leaky ReLU; in a network of 8
//! bits also rounding.
//!
//! Images are laid out pixel by pixel, `[row, column, channel]`: neighbouring channels fill a register, and a row of a
//! window is one stretch of numbers.

use std::sync::Arc;

use pulp::{Simd, WithSimd};

use super::{
    direct::Direct,
    registers::{dispatch, leaky, load, store},
    rounding::Rounding,
    winograd::Winograd,
};

/// Output channels that are computed together.
pub(super) const BLOCK: usize = 16;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Channels in.
    pub(crate) inputs: usize,
    /// Channels out.
    pub(crate) outputs: usize,
    /// Rows and columns of the window.
    pub(crate) kernel: [usize; 2],
    /// Step of the window.
    pub(crate) stride: [usize; 2],
    /// Zeros above and to the left of the image. There are as many below and to the right as the windows need.
    pub(crate) border: [usize; 2],
    /// Height and width of the image.
    pub(crate) image: [usize; 2],
    /// Height and width of the result.
    pub(crate) result: [usize; 2],
}

/// A convolution with its weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Convolution {
    sizes: Sizes,
    kernel: Arc<Kernel>,
    /// One for each output channel.
    pub(crate) bias: Vec<f32>,
    /// Of the sums with their bias.
    pub(crate) rounding: Option<Rounding>,
    /// Of the leaky ReLU behind it; 1 if there is none.
    pub(crate) slope: f32,
    /// Of the result, at the end.
    pub(crate) result_rounding: Option<Rounding>,
}

#[derive(Debug, PartialEq)]
enum Kernel {
    Winograd(Winograd),
    Direct(Direct),
}

impl Convolution {
    /// From weights `[output, input, row, column]`; none if no kernel here is made for such sizes.
    pub(crate) fn new(sizes: Sizes, weights: &[f32], bias: Vec<f32>) -> Option<Self> {
        let Sizes { inputs, outputs, kernel, .. } = sizes;
        let fits = weights.len() == outputs * inputs * kernel[0] * kernel[1] && bias.len() == outputs;
        let sides = [sizes.image, sizes.result, kernel, sizes.stride];
        if !fits || !outputs.is_multiple_of(BLOCK) || inputs == 0 || sides.as_flattened().contains(&0) {
            return None;
        }
        let kernel = match Winograd::new(sizes, weights) {
            Some(winograd) => Kernel::Winograd(winograd),
            None => Kernel::Direct(Direct::new(sizes, weights)),
        };
        Some(Self { sizes, kernel: Arc::new(kernel), bias, rounding: None, slope: 1.0, result_rounding: None })
    }

    /// Its sizes.
    pub(crate) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// # Shapes
    /// `x`: `[height, width, inputs]`; `residual`, if any, and `y`: `[rows, columns, outputs]`.
    pub(crate) fn run(&self, x: &[f32], residual: Option<&[f32]>, y: &mut [f32]) {
        let Sizes { inputs, outputs, image, result, .. } = self.sizes;
        let [lengths, numbers] = [[image[0] * image[1] * inputs, result[0] * result[1] * outputs], [x.len(), y.len()]];
        assert!(lengths == numbers && residual.is_none_or(|r| r.len() == y.len()), "{numbers:?} are not {lengths:?}");
        let Self { bias, rounding, slope, result_rounding, .. } = self;
        let after = After { bias, rounding: *rounding, residual, slope: *slope, result_rounding: *result_rounding };
        match &*self.kernel {
            Kernel::Winograd(kernel) => kernel.run(x, &after, y),
            Kernel::Direct(kernel) => kernel.run(x, &after, y),
        }
    }
}

/// What is done to a sum before it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct After<'a> {
    bias: &'a [f32],
    rounding: Option<Rounding>,
    residual: Option<&'a [f32]>,
    slope: f32,
    result_rounding: Option<Rounding>,
}

impl After<'_> {
    /// Whether anything is rounded.
    pub(super) fn rounds(&self) -> bool {
        self.rounding.is_some() || self.result_rounding.is_some()
    }

    /// To a register of channels, from `channel` on, whose place in the result is `at`. `ROUNDS` is as [`After::rounds`] says:
    /// where nothing is rounded, nothing asks.
    #[inline(always)]
    pub(super) fn apply<S: Simd, const ROUNDS: bool>(
        &self,
        simd: S,
        sums: S::f32s,
        channel: usize,
        at: usize,
    ) -> S::f32s {
        let mut sums = simd.add_f32s(sums, load::<S>(&self.bias[channel..]));
        if ROUNDS {
            sums = rounded(simd, self.rounding, sums);
        }
        if let Some(residual) = self.residual {
            sums = simd.add_f32s(sums, load::<S>(&residual[at..]));
        }
        let result = leaky(simd, self.slope, sums);
        if ROUNDS { rounded(simd, self.result_rounding, result) } else { result }
    }
}

#[inline(always)]
fn rounded<S: Simd>(simd: S, rounding: Option<Rounding>, values: S::f32s) -> S::f32s {
    match rounding {
        Some(rounding) => rounding.apply(simd, values),
        None => values,
    }
}

/// A factor and a shift for each channel, then leaky ReLU: batch norm where no convolution precedes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Affine {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    /// As in [`Convolution`].
    pub(crate) slope: f32,
    /// Of the result, at the end.
    pub(crate) rounding: Option<Rounding>,
}

impl Affine {
    /// Whether there can be so many channels.
    pub(crate) fn takes(channels: usize) -> bool {
        channels > 0 && channels.is_multiple_of(BLOCK)
    }

    /// # Shapes
    /// `x` and `y`: `[height, width, channels]`.
    pub(crate) fn run(&self, x: &[f32], y: &mut [f32]) {
        dispatch(RunAffine { affine: self, x, y });
    }
}

struct RunAffine<'a> {
    affine: &'a Affine,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for RunAffine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Affine { scale, shift, slope, rounding } = self.affine;
        for (x, y) in self.x.chunks_exact(scale.len()).zip(self.y.chunks_exact_mut(scale.len())) {
            for channel in (0..scale.len()).step_by(S::F32_LANES) {
                let [x, scale, shift] = [x, scale, shift].map(|values| load::<S>(&values[channel..]));
                let bent = leaky(simd, *slope, simd.mul_add_e_f32s(x, scale, shift));
                store::<S>(&mut y[channel..], rounded(simd, *rounding, bent));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use models::tolerance::{CROSS_ENGINE, max_abs_diff};

    use super::{super::registers::MOST_LANES, *};

    /// Numbers between -1 and 1 without a pattern.
    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 8) as f32 / 8_388_608.0 - 1.0)
        };
        std::iter::repeat_n((), count).scan(seed, |state, ()| next(state)).collect()
    }

    /// As it is defined, in 64 bits.
    fn defined(sizes: &Sizes, x: &[f32], weights: &[f32], after: &After) -> Vec<f32> {
        let Sizes { inputs, outputs, kernel, stride, border, image, result } = *sizes;
        let mut y = Vec::new();
        for (row, column, output) in (0..result[0])
            .flat_map(|row| (0..result[1]).flat_map(move |column| (0..outputs).map(move |o| (row, column, o))))
        {
            let mut sum = f64::from(after.bias[output]) + f64::from(after.residual.map_or(0.0, |r| r[y.len()]));
            for (ky, kx) in (0..kernel[0]).flat_map(|ky| (0..kernel[1]).map(move |kx| (ky, kx))) {
                let at = |axis: usize, i: usize, k: usize| (i * stride[axis] + k).checked_sub(border[axis]);
                let (Some(py), Some(px)) = (at(0, row, ky), at(1, column, kx)) else { continue };
                if py < image[0] && px < image[1] {
                    for input in 0..inputs {
                        let weight = weights[((output * inputs + input) * kernel[0] + ky) * kernel[1] + kx];
                        sum += f64::from(weight) * f64::from(x[(py * image[1] + px) * inputs + input]);
                    }
                }
            }
            y.push(sum.max(f64::from(after.slope) * sum) as f32);
        }
        y
    }

    #[test]
    fn every_kernel_computes_the_definition() {
        let mut kinds = [0, 0, 0];
        for (channels, kernel, stride, image) in [
            // Winograd: whole tiles, cut ones, several bands, a single tile.
            ([16, 16], 3, 1, [8, 8]),
            ([32, 32], 3, 1, [5, 7]),
            ([48, 16], 3, 1, [70, 61]),
            ([16, 48], 3, 1, [3, 2]),
            // Winograd's smaller tiles, for many channels: cut ones, and a single one.
            ([128, 96], 3, 1, [7, 9]),
            ([128, 128], 3, 1, [1, 2]),
            // Direct: a stem, halving with an odd and an even side, a shortcut, and too many weights for a tile.
            ([3, 16], 3, 1, [6, 5]),
            ([3, 16], 3, 2, [7, 8]),
            ([16, 32], 1, 2, [9, 4]),
            ([256, 256], 3, 1, [2, 3]),
        ] {
            let [inputs, outputs] = channels;
            let result = image.map(|side: usize| side.div_ceil(stride));
            let border = [0, 1].map(|axis| ((result[axis] - 1) * stride + kernel).saturating_sub(image[axis]) / 2);
            let sizes = Sizes { inputs, outputs, kernel: [kernel; 2], stride: [stride; 2], border, image, result };
            let x = noise(image[0] * image[1] * inputs, 1);
            let weights: Vec<f32> = noise(outputs * inputs * kernel * kernel, 2).iter().map(|w| 0.1 * w).collect();
            let (bias, other) = (noise(outputs, 3), noise(result[0] * result[1] * outputs, 4));
            let mut convolution = Convolution::new(sizes, &weights, bias.clone()).expect("sizes for a kernel");
            kinds[match &*convolution.kernel {
                Kernel::Winograd(winograd) => winograd.out / 2 - 1,
                Kernel::Direct(_) => 2,
            }] += 1;
            // The widest registers of this processor, those of half the width, and none.
            for (residual, slope, lanes) in [
                (None, 1.0, usize::MAX),
                (Some(other.as_slice()), 0.1, usize::MAX),
                (Some(other.as_slice()), 0.1, 8),
                (None, 0.1, 1),
            ] {
                convolution.slope = slope;
                MOST_LANES.set(lanes);
                let mut y = vec![f32::NAN; other.len()];
                convolution.run(&x, residual, &mut y);
                let after = After { bias: &bias, rounding: None, residual, slope, result_rounding: None };
                let expected = defined(&sizes, &x, &weights, &after);
                let difference = max_abs_diff(&y, &expected);
                assert!(difference <= CROSS_ENGINE.bound, "{sizes:?}, {lanes} lanes: {difference}");
            }
            assert_rounds(convolution, &x, &other);
        }
        assert_eq!(kinds, [2, 4, 4], "every kernel is tested");
    }

    /// Rounding changes nothing in the sums themselves: with it comes out, to the bit, what rounding makes of them.
    fn assert_rounds(mut convolution: Convolution, x: &[f32], other: &[f32]) {
        let rounding = |steps| Rounding { inverse: steps, zero_point: 90, scale: 1.0 / steps };
        let (first, last, slope) = (rounding(64.0), rounding(40.0), 0.1);
        for lanes in [usize::MAX, 8, 1] {
            MOST_LANES.set(lanes);
            let run = |convolution: &Convolution, residual| {
                let mut y = vec![f32::NAN; other.len()];
                convolution.run(x, residual, &mut y);
                y
            };
            (convolution.slope, convolution.rounding, convolution.result_rounding) = (1.0, None, None);
            let sums = run(&convolution, None);
            (convolution.slope, convolution.rounding, convolution.result_rounding) = (slope, Some(first), Some(last));
            let found = run(&convolution, Some(other));
            for ((found, sum), other) in found.iter().zip(&sums).zip(other) {
                let sum = first.one(*sum) + other;
                assert_eq!(*found, last.one(sum.max(slope * sum)), "{:?}, {lanes} lanes", convolution.sizes);
            }
        }
    }

    #[test]
    fn sizes_that_no_kernel_is_made_for_are_left_to_others() {
        let sizes = Sizes {
            inputs: 8,
            outputs: 16,
            kernel: [3, 3],
            stride: [1, 1],
            border: [1, 1],
            image: [4, 4],
            result: [4, 4],
        };
        let new = |sizes: Sizes, weights: usize| Convolution::new(sizes, &vec![0.0; weights], vec![0.0; sizes.outputs]);
        assert!(new(sizes, 8 * 16 * 9).is_some());
        assert!(new(sizes, 8 * 16 * 9 - 1).is_none());
        assert!(new(Sizes { outputs: 10, ..sizes }, 8 * 10 * 9).is_none());
        assert!(new(Sizes { image: [4, 0], ..sizes }, 8 * 16 * 9).is_none());
    }

    #[test]
    fn affine_scales_shifts_and_bends_each_channel() {
        let affine = Affine { scale: noise(16, 1), shift: noise(16, 2), slope: 0.1, rounding: None };
        let (x, mut y) = (noise(3 * 16, 3), vec![0.0; 3 * 16]);
        affine.run(&x, &mut y);
        for (i, (x, y)) in x.iter().zip(y).enumerate() {
            let z = f64::from(*x) * f64::from(affine.scale[i % 16]) + f64::from(affine.shift[i % 16]);
            assert!((f64::from(y) - z.max(0.1 * z)).abs() < 1e-6);
        }
    }
}
