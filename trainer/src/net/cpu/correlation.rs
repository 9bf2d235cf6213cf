//! The two inner loops: sums of products over windows, and over pixels.
//!
//! Both keep a tile of results in registers, some numbers by [`BLOCK`] output channels, and read their factors in
//! the order in which they lie.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::simd::{BLOCK, blocks, put, take};

/// Weights in the order in which [`Correlation`] reads them: a block of output channels, row of the window, column,
/// input channel.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    weights: Vec<[f32; BLOCK]>,
    /// Rows of a window, and numbers in one.
    window: [usize; 2],
}

impl Packed {
    /// Takes `weight(output, [row, column], input)`; channels that fill up the last block are zero.
    pub(super) fn new(
        outputs: usize,
        inputs: usize,
        [rows, columns]: [usize; 2],
        weight: impl Fn(usize, [usize; 2], usize) -> f32,
    ) -> Self {
        let mut weights = Vec::with_capacity(outputs.div_ceil(BLOCK) * rows * columns * inputs);
        for first in (0..outputs).step_by(BLOCK) {
            for tap in (0..rows).flat_map(|row| (0..columns).map(move |column| [row, column])) {
                for input in 0..inputs {
                    let at = |i: usize| if first + i < outputs { weight(first + i, tap, input) } else { 0.0 };
                    weights.push(std::array::from_fn(at));
                }
            }
        }
        Self { weights, window: [rows, columns * inputs] }
    }
}

/// `out[place(p)][o] = bias[o] + sum over the window of weight[o][row][i] * field[start(p)][row][i]`.
pub(super) struct Correlation<'a> {
    /// The image in its field.
    pub(super) field: &'a [f32],
    /// Numbers of a row of the field.
    pub(super) row: usize,
    /// Where the window of each output pixel starts.
    pub(super) starts: &'a [usize],
    /// Weights.
    pub(super) weights: &'a Packed,
    /// One for each output channel, or none at all.
    pub(super) bias: &'a [f32],
    /// `[pixel, output channel]`.
    pub(super) output: &'a mut [f32],
    /// Which pixel of the output is each window's.
    pub(super) places: &'a [usize],
    /// Output channels.
    pub(super) outputs: usize,
}

impl WithSimd for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match BLOCK / S::F32_LANES {
            1 => self.run::<S, 1>(simd),
            2 => self.run::<S, 2>(simd),
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, BLOCK>(simd),
        }
    }
}

impl Correlation<'_> {
    /// With `R` registers to a block.
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let Self { field, row, starts, weights, bias, output, places, outputs } = self;
        let [rows, length] = weights.window;
        for (channels, weights) in blocks(outputs).zip(weights.weights.chunks_exact(rows * length)) {
            let first = take(bias.get(channels.clone()).unwrap_or_default());
            let mut tiles = Tiles { field, row, starts, length, weights, first, output, places, outputs, channels };
            let mut pixel = 0;
            while pixel < starts.len() {
                pixel += match starts.len() - pixel {
                    // Twelve registers, one of weights; pixels' numbers come from memory as they are multiplied.
                    12.. if R == 1 => tiles.compute::<S, R, 12>(simd, pixel),
                    // Five by two registers, two of weights and some of pixels' numbers: as many as there are with AVX2. Six would
                    // fit on paper; compiled, one of them goes to memory and back at every number, at half the speed.
                    5.. => tiles.compute::<S, R, 5>(simd, pixel),
                    4.. => tiles.compute::<S, R, 4>(simd, pixel),
                    2.. => tiles.compute::<S, R, 2>(simd, pixel),
                    _ => tiles.compute::<S, R, 1>(simd, pixel),
                };
            }
        }
    }
}

/// A block of output channels.
struct Tiles<'a> {
    field: &'a [f32],
    row: usize,
    starts: &'a [usize],
    /// Numbers in a row of a window.
    length: usize,
    weights: &'a [[f32; BLOCK]],
    /// What every sum starts from.
    first: [f32; BLOCK],
    output: &'a mut [f32],
    places: &'a [usize],
    outputs: usize,
    /// The block's channels among the outputs.
    channels: Range<usize>,
}

impl Tiles<'_> {
    /// Computes `P` pixels from `pixel` on; returns `P`.
    #[inline(always)]
    fn compute<S: Simd, const R: usize, const P: usize>(&mut self, simd: S, pixel: usize) -> usize {
        let mut sums = [*registers::<S, R>(&self.first); P];
        let mut starts = [0; P];
        starts.copy_from_slice(&self.starts[pixel..][..P]);
        for (y, weights) in self.weights.chunks_exact(self.length).enumerate() {
            let mut windows = [&self.field[..0]; P];
            for (window, start) in windows.iter_mut().zip(starts) {
                *window = &self.field[start + y * self.row..][..weights.len()];
            }
            for (i, weights) in weights.iter().enumerate() {
                let weights = registers::<S, R>(weights);
                for (sums, window) in sums.iter_mut().zip(windows) {
                    let value = simd.splat_f32s(window[i]);
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = simd.mul_add_e_f32s(value, *weight, *sum);
                    }
                }
            }
        }
        for (place, sums) in self.places[pixel..][..P].iter().zip(sums) {
            let mut results = [0.0; BLOCK];
            *registers_mut::<S, R>(&mut results) = sums;
            put(&mut self.output[place * self.outputs..][self.channels.clone()], &results);
        }
        P
    }
}

/// `gradient[block][row][i][o] += sum over images and pixels of outer[p][block][o] * field[start(p)][row][i]`.
pub(super) struct OuterSum<'a> {
    /// Images in their fields, one after another.
    pub(super) field: &'a [f32],
    /// Numbers of an image in its field.
    pub(super) image: usize,
    /// Numbers of a row of the field.
    pub(super) row: usize,
    /// Where the window of each output pixel starts.
    pub(super) starts: &'a [usize],
    /// Rows of a window, and numbers in one.
    pub(super) window: [usize; 2],
    /// Gradients of the same images, `[image, pixel, block, output channel]`.
    pub(super) outer: &'a [[f32; BLOCK]],
    /// Blocks of output channels.
    pub(super) blocks: usize,
    /// `[block, row, i, output channel]`.
    pub(super) gradient: &'a mut [[f32; BLOCK]],
}

impl WithSimd for OuterSum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match BLOCK / S::F32_LANES {
            1 => self.run::<S, 1>(simd),
            2 => self.run::<S, 2>(simd),
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, BLOCK>(simd),
        }
    }
}

impl OuterSum<'_> {
    /// With `R` registers to a block.
    #[inline(always)]
    fn run<S: Simd, const R: usize>(mut self, simd: S) {
        let [rows, length] = self.window;
        for (block, row) in (0..self.blocks).flat_map(|block| (0..rows).map(move |row| (block, row))) {
            let mut i = 0;
            while i < length {
                i += match length - i {
                    12.. if R == 1 => self.compute::<S, R, 12>(simd, block, row, i),
                    6.. => self.compute::<S, R, 6>(simd, block, row, i),
                    3.. => self.compute::<S, R, 3>(simd, block, row, i),
                    _ => self.compute::<S, R, 1>(simd, block, row, i),
                };
            }
        }
    }

    /// Adds to `N` numbers of a row of a block's windows, from `i` on; returns `N`.
    #[inline(always)]
    fn compute<S: Simd, const R: usize, const N: usize>(
        &mut self,
        simd: S,
        block: usize,
        row: usize,
        i: usize,
    ) -> usize {
        let mut sums = [[simd.splat_f32s(0.0); R]; N];
        let images = self.field.chunks_exact(self.image).zip(self.outer.chunks_exact(self.starts.len() * self.blocks));
        for (field, outer) in images {
            let field = &field[row * self.row + i..];
            for (start, outer) in self.starts.iter().zip(outer.chunks_exact(self.blocks)) {
                let outer = registers::<S, R>(&outer[block]);
                let window = &field[*start..][..N];
                for (sums, value) in sums.iter_mut().zip(window) {
                    let value = simd.splat_f32s(*value);
                    for (sum, outer) in sums.iter_mut().zip(outer) {
                        *sum = simd.mul_add_e_f32s(value, *outer, *sum);
                    }
                }
            }
        }
        let [rows, length] = self.window;
        let gradient = &mut self.gradient[(block * rows + row) * length + i..][..N];
        for (gradient, sums) in gradient.iter_mut().zip(sums) {
            for (gradient, sum) in registers_mut::<S, R>(gradient).iter_mut().zip(sums) {
                *gradient = simd.add_f32s(*gradient, sum);
            }
        }
        N
    }
}

/// A block as registers.
#[inline(always)]
fn registers<S: Simd, const R: usize>(block: &[f32; BLOCK]) -> &[S::f32s; R] {
    S::as_simd_f32s(block).0.first_chunk().expect("a block fills whole registers")
}

#[inline(always)]
fn registers_mut<S: Simd, const R: usize>(block: &mut [f32; BLOCK]) -> &mut [S::f32s; R] {
    S::as_mut_simd_f32s(block).0.first_chunk_mut().expect("a block fills whole registers")
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// So that these kernels do the same on another machine. Passes without a look where there is no AVX-512.
    #[test]
    fn avx_512_gives_the_bits_of_avx_2() {
        let (Some(wide), Some(narrow)) = (pulp::x86::V4::try_new(), pulp::x86::V3::try_new()) else { return };
        let number = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 509.0 - 1.0;
        // 24 windows, tiles of 12, 5, 4, 2 and 1, of 3 by 22 numbers, tiles of 12, 6, 3 and 1; and 18 output channels.
        let (row, outputs) = (24 + 22, 18);
        let field: Vec<f32> = (0..3 * row).map(number).collect();
        let starts: Vec<usize> = (0..24).collect();
        let places: Vec<usize> = (0..24).rev().collect();
        let weights = Packed::new(outputs, 22, [3, 1], |o, [y, _], i| number(o * 66 + y * 22 + i));
        let correlation = |run: &dyn Fn(Correlation)| {
            let mut output = vec![0.0; 24 * outputs];
            run(Correlation {
                field: &field,
                row,
                starts: &starts,
                weights: &weights,
                bias: &[],
                output: &mut output,
                places: &places,
                outputs,
            });
            output
        };
        let outer: Vec<[f32; BLOCK]> = (0..48).map(|i| std::array::from_fn(|j| number(i * BLOCK + j))).collect();
        let outer_sum = |run: &dyn Fn(OuterSum)| {
            let mut gradient = vec![[0.0; BLOCK]; 2 * 3 * 22];
            run(OuterSum {
                field: &field,
                image: field.len(),
                row,
                starts: &starts,
                window: [3, 22],
                outer: &outer,
                blocks: 2,
                gradient: &mut gradient,
            });
            gradient
        };
        let wide_first = correlation(&|op| Simd::vectorize(wide, op));
        assert!(wide_first.iter().all(|v| *v != 0.0));
        assert_eq!(wide_first, correlation(&|op| Simd::vectorize(narrow, op)));
        assert_eq!(outer_sum(&|op| Simd::vectorize(wide, op)), outer_sum(&|op| Simd::vectorize(narrow, op)));
    }
}
