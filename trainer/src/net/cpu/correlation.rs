//! The two inner loops: sums of products over a window, and over an image.

use pulp::{Simd, WithSimd};

use super::simd::{load, store};

/// Output channels that are computed together.
pub(super) const BLOCK: usize = 4;
/// Registers of pixels that are computed together: more would not stay in the sixteen registers there are.
const PIXELS: usize = 2;
/// Taps that are computed together.
const TAPS: usize = 3;

/// Weights in the order in which [`Correlation`] reads them: a block of output channels, input channel, tap.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    weights: Vec<[f32; BLOCK]>,
    per_block: usize,
}

impl Packed {
    /// Takes `weight(output, input, tap)`; channels that fill up the last block are zero.
    pub(super) fn new(outputs: usize, inputs: usize, taps: usize, weight: impl Fn(usize, usize, usize) -> f32) -> Self {
        let mut weights = Vec::with_capacity(outputs.div_ceil(BLOCK) * inputs * taps);
        for first in (0..outputs).step_by(BLOCK) {
            for input in 0..inputs {
                for tap in 0..taps {
                    let at = |i: usize| if first + i < outputs { weight(first + i, input, tap) } else { 0.0 };
                    weights.push(std::array::from_fn(at));
                }
            }
        }
        Self { weights, per_block: inputs * taps }
    }
}

/// Pixels of a window that lie one behind the other, at most three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    start: usize,
    length: usize,
}

impl Run {
    /// The runs of a window whose pixels lie at `taps`.
    pub(super) fn of(taps: impl IntoIterator<Item = usize>) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for tap in taps {
            match runs.last_mut() {
                Some(run) if run.start + run.length == tap && run.length < 3 => run.length += 1,
                _ => runs.push(Self { start: tap, length: 1 }),
            }
        }
        runs
    }
}

/// `out[o][p] = bias[o] + sum over channels and taps of weight[o][c][t] * field[c][base(p) + t]`.
pub(super) struct Correlation<'a> {
    /// The image in its field, channel by channel.
    pub(super) field: &'a [f32],
    /// Numbers of a channel.
    pub(super) plane: usize,
    /// Where the pixels of a window lie.
    pub(super) taps: &'a [Run],
    /// Weights.
    pub(super) weights: &'a Packed,
    /// One for each output channel.
    pub(super) bias: &'a [f32],
    /// Where the windows of a row of output pixels start, row by row.
    pub(super) rows: &'a [usize],
    /// Output pixels in a row.
    pub(super) columns: usize,
    /// `[output channel, row, column]`.
    pub(super) output: &'a mut [f32],
}

impl WithSimd for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { field, plane, taps, weights, bias, rows, columns, output } = self;
        let per_row = columns.div_ceil(S::F32_LANES);
        let count = rows.len() * per_row;
        let pixels = rows.len() * columns;
        let blocks = output.chunks_mut(BLOCK * pixels).zip(bias.chunks(BLOCK));
        for ((output, bias), weights) in blocks.zip(weights.weights.chunks_exact(weights.per_block)) {
            let mut target = Target { output, bias, rows, columns, per_row };
            let mut first = 0;
            while first < count {
                if first + PIXELS <= count {
                    let sums = windows(simd, field, plane, taps, weights, target.bases::<S, PIXELS>(first));
                    target.emit(simd, first, sums);
                    first += PIXELS;
                } else {
                    let sums = windows(simd, field, plane, taps, weights, target.bases::<S, 1>(first));
                    target.emit(simd, first, sums);
                    first += 1;
                }
            }
        }
    }
}

/// A block of output channels, in registers of neighbouring pixels: register `i` is the `i % per_row`-th of row
/// `i / per_row`.
struct Target<'a> {
    output: &'a mut [f32],
    bias: &'a [f32],
    rows: &'a [usize],
    columns: usize,
    per_row: usize,
}

impl Target<'_> {
    /// Where the windows of `N` registers start.
    #[inline(always)]
    fn bases<S: Simd, const N: usize>(&self, first: usize) -> [usize; N] {
        std::array::from_fn(|i| self.rows[(first + i) / self.per_row] + (first + i) % self.per_row * S::F32_LANES)
    }

    /// Writes `N` registers of each channel.
    #[inline(always)]
    fn emit<S: Simd, const N: usize>(&mut self, simd: S, first: usize, sums: [[S::f32s; N]; BLOCK]) {
        let Self { rows, columns, per_row, .. } = *self;
        for ((plane, sums), bias) in self.output.chunks_exact_mut(rows.len() * columns).zip(sums).zip(self.bias) {
            let bias = simd.splat_f32s(*bias);
            for (i, sum) in (first..).zip(sums) {
                let (row, column) = (i / per_row, i % per_row * S::F32_LANES);
                let pixels = &mut plane[row * columns..][column..columns];
                store(simd, simd.add_f32s(sum, bias), pixels);
            }
        }
    }
}

/// The windows at `bases`, for a block of output channels.
#[inline(always)]
fn windows<S: Simd, const N: usize>(
    simd: S,
    field: &[f32],
    plane: usize,
    taps: &[Run],
    mut weights: &[[f32; BLOCK]],
    bases: [usize; N],
) -> [[S::f32s; N]; BLOCK] {
    let mut sums = [[simd.splat_f32s(0.0); N]; BLOCK];
    for channel in field.chunks_exact(plane) {
        for run in taps {
            let (of_run, rest) = weights.split_at(run.length);
            weights = rest;
            let starts = bases.map(|base| base + run.start);
            match of_run {
                [a, b, c] => accumulate(simd, channel, starts, [a, b, c], &mut sums),
                [a, b] => accumulate(simd, channel, starts, [a, b], &mut sums),
                _ => of_run.iter().for_each(|a| accumulate(simd, channel, starts, [a], &mut sums)),
            }
        }
    }
    sums
}

/// Adds the products of a run of `K` pixels.
#[inline(always)]
fn accumulate<S: Simd, const N: usize, const K: usize>(
    simd: S,
    channel: &[f32],
    starts: [usize; N],
    weights: [&[f32; BLOCK]; K],
    sums: &mut [[S::f32s; N]; BLOCK],
) {
    let mut runs = [&channel[..0]; N];
    for (run, start) in runs.iter_mut().zip(starts) {
        *run = &channel[start..][..S::F32_LANES + K - 1];
    }
    for (k, weights) in weights.into_iter().enumerate() {
        let mut pixels = [simd.splat_f32s(0.0); N];
        for (pixels, run) in pixels.iter_mut().zip(runs) {
            *pixels = load(simd, run, k);
        }
        for (sums, weight) in sums.iter_mut().zip(weights) {
            let weight = simd.splat_f32s(*weight);
            for (sum, pixels) in sums.iter_mut().zip(pixels) {
                *sum = simd.mul_add_e_f32s(weight, pixels, *sum);
            }
        }
    }
}

/// `gradient[o][j] += sum over images and pixels of outer[o][p] * field[offset_j + base(p)]`.
pub(super) struct OuterSum<'a> {
    /// Images in their fields, one after another.
    pub(super) field: &'a [f32],
    /// Numbers of an image in its field.
    pub(super) image: usize,
    /// Where channel and tap of each `j` lie.
    pub(super) offsets: &'a [usize],
    /// Gradients of the same images' output channels, each row filled up with zeros to whole registers.
    pub(super) outer: &'a [f32],
    /// Numbers of a channel of `outer`.
    pub(super) plane: usize,
    /// Output channels, a multiple of [`BLOCK`].
    pub(super) outputs: usize,
    /// Rows of `outer`: where they start, and where the windows of their pixels do.
    pub(super) rows: &'a [[usize; 2]],
    /// Pixels of a row that count.
    pub(super) columns: usize,
    /// `[output channel, j]`.
    pub(super) gradient: &'a mut [f32],
}

impl WithSimd for OuterSum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let whole = self.offsets.len() / TAPS * TAPS;
        for block in (0..self.outputs).step_by(BLOCK) {
            let gradient = &mut self.gradient[block * self.offsets.len()..];
            let outer = &self.outer[block * self.plane..];
            let shape = Outer { image: self.outputs * self.plane, plane: self.plane };
            let mut first = 0;
            while first < self.offsets.len() {
                let rows = (self.rows, self.columns);
                if first < whole {
                    let offsets: [usize; TAPS] = std::array::from_fn(|i| self.offsets[first + i]);
                    let sums = outer_sums(simd, (self.field, self.image), offsets, (outer, shape), rows);
                    add(simd, &mut gradient[first..], self.offsets.len(), sums);
                    first += TAPS;
                } else {
                    let sums = outer_sums(simd, (self.field, self.image), [self.offsets[first]], (outer, shape), rows);
                    add(simd, &mut gradient[first..], self.offsets.len(), sums);
                    first += 1;
                }
            }
        }
    }
}

/// Numbers of an image's gradients, and of one of its channels.
#[derive(Clone, Copy)]
struct Outer {
    image: usize,
    plane: usize,
}

/// Sums over all images and pixels, for a block of output channels and some channels' taps.
#[inline(always)]
fn outer_sums<S: Simd, const N: usize>(
    simd: S,
    (field, image): (&[f32], usize),
    offsets: [usize; N],
    (outer, shape): (&[f32], Outer),
    (rows, columns): (&[[usize; 2]], usize),
) -> [[S::f32s; N]; BLOCK] {
    let mut sums = [[simd.splat_f32s(0.0); N]; BLOCK];
    let registers = columns.div_ceil(S::F32_LANES);
    for (field, outer) in field.chunks_exact(image).zip(outer.chunks(shape.image)) {
        for &[from, base] in rows {
            let mut pixels: [&[S::f32s]; N] = [&[]; N];
            for (row, offset) in pixels.iter_mut().zip(offsets) {
                *row = row_of::<S>(field, offset + base, registers);
            }
            let mut outers: [&[S::f32s]; BLOCK] = [&[]; BLOCK];
            for (channel, row) in outers.iter_mut().enumerate() {
                *row = row_of::<S>(outer, channel * shape.plane + from, registers);
            }
            for register in 0..registers {
                for (sums, outer) in sums.iter_mut().zip(outers) {
                    for (sum, pixels) in sums.iter_mut().zip(pixels) {
                        *sum = simd.mul_add_e_f32s(outer[register], pixels[register], *sum);
                    }
                }
            }
        }
    }
    sums
}

/// The registers of a row that starts at `start`.
#[inline(always)]
fn row_of<S: Simd>(values: &[f32], start: usize, registers: usize) -> &[S::f32s] {
    &S::as_simd_f32s(&values[start..][..registers * S::F32_LANES]).0[..registers]
}

/// Adds the sums of a block to its rows of `length` numbers.
#[inline(always)]
fn add<S: Simd, const N: usize>(simd: S, gradient: &mut [f32], length: usize, sums: [[S::f32s; N]; BLOCK]) {
    for (row, sums) in gradient.chunks_mut(length).zip(sums) {
        row.iter_mut().zip(sums).for_each(|(gradient, sum)| *gradient += simd.reduce_sum_f32s(sum));
    }
}
