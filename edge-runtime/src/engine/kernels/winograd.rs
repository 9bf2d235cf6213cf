//! 3x3 convolution of stride 1 by Winograd's minimal filtering: F(4x4, 3x3) needs a quarter of the multiplications, F(2x2, 3x3)
//! less than half, with less than half of the weights to read.
//!
//! Tiles that overlap by two pixels, and the weights, are brought into another basis, where the convolution of a tile is one
//! product at each of its places: over all tiles and channels a small matrix product a place. Then the pixels of the result
//! are read off each tile.
//!
//! # Reference
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016): `B^T`, `G` and `A^T` of sections 4.1 and 4.2.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};

use super::{
    convolution::{After, BLOCK, Sizes},
    registers::{dispatch, load, store},
};

/// Widest register that channels have to fill.
const LANES: usize = 16;
/// Numbers between two places beyond those of the first, so that not all of them compete for the same lines of a cache.
const GAP: usize = 16;
/// Numbers in a band of tiles, which stay in a cache.
const BAND: usize = 1 << 17;
/// Weights of large tiles, for every four of them, and at least: above, small ones are faster, with less than half to read.
const CACHED: usize = 1 << 18;
/// Weights for each small tile, at most: above, reading them takes longer than the multiplications that they save.
const WEIGHTS: usize = 1 << 18;

thread_local! {
    /// A band of tiles, `[place, tile, input]`, and of their products, `[place, tile, output]`; places a gap apart.
    static BANDS: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// A basis in which `TILE x TILE` pixels give `OUT x OUT` of the result.
trait Basis<const OUT: usize, const TILE: usize> {
    /// `G g`.
    fn filter(g: [f32; 3]) -> [f32; TILE];
    /// `B^T d`.
    fn enter<S: Simd>(simd: S, d: [S::f32s; TILE]) -> [S::f32s; TILE];
    /// `A^T m`.
    fn leave<S: Simd>(simd: S, m: [S::f32s; TILE]) -> [S::f32s; OUT];
}

/// F(4x4, 3x3).
struct Four;
/// F(2x2, 3x3).
struct Two;

/// Weights in another basis.
#[derive(Debug, PartialEq)]
pub(super) struct Winograd {
    sizes: Sizes,
    /// Pixels along a side that a tile gives: 4 or 2.
    pub(super) out: usize,
    /// `[place, block of outputs, input, output]`.
    weights: Vec<[f32; BLOCK]>,
}

impl Winograd {
    /// From weights `[output, input, 3, 3]`; none if it is not made for such a convolution, or not faster than its definition.
    pub(super) fn new(sizes: Sizes, weights: &[f32]) -> Option<Self> {
        let Sizes { inputs, outputs, kernel, stride, border, image, result } = sizes;
        let is_same = (kernel, stride, border) == ([3, 3], [1, 1], [1, 1]) && image == result;
        let tiles = |out: usize| result[0].div_ceil(out) * result[1].div_ceil(out);
        let pays = 16 * inputs * outputs <= WEIGHTS * tiles(2);
        if !is_same || !pays || !inputs.is_multiple_of(LANES) || !outputs.is_multiple_of(BLOCK) {
            return None;
        }
        let (out, weights) = match 36 * inputs * outputs <= CACHED * (tiles(4) / 4).max(1) {
            true => (4, transformed::<Four, 4, 6>(inputs, outputs, weights)),
            false => (2, transformed::<Two, 2, 4>(inputs, outputs, weights)),
        };
        Some(Self { sizes, out, weights })
    }

    /// # Shapes
    /// `x`: `[height, width, inputs]`; `y`: `[height, width, outputs]`.
    pub(super) fn run(&self, x: &[f32], after: &After, y: &mut [f32]) {
        BANDS.with_borrow_mut(|[tiles, products]| {
            dispatch(Run { winograd: self, x, after, y, tiles, products });
        });
    }
}

fn transformed<B: Basis<OUT, TILE>, const OUT: usize, const TILE: usize>(
    inputs: usize,
    outputs: usize,
    weights: &[f32],
) -> Vec<[f32; BLOCK]> {
    let blocks = outputs / BLOCK;
    let mut transformed = vec![[0.0; BLOCK]; TILE * TILE * blocks * inputs];
    for (i, kernel) in weights.chunks_exact(9).enumerate() {
        let (output, input) = (i / inputs, i % inputs);
        let rows = [0, 1, 2].map(|row| B::filter([0, 1, 2].map(|column| kernel[3 * row + column])));
        for x in 0..TILE {
            for (y, value) in B::filter(rows.map(|row| row[x])).into_iter().enumerate() {
                let block = (y * TILE + x) * blocks + output / BLOCK;
                transformed[block * inputs + input][output % BLOCK] = value;
            }
        }
    }
    transformed
}

struct Run<'a> {
    winograd: &'a Winograd,
    x: &'a [f32],
    after: &'a After<'a>,
    y: &'a mut [f32],
    tiles: &'a mut Vec<f32>,
    products: &'a mut Vec<f32>,
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.winograd.out {
            4 => self.bands::<S, Four, 4, 6>(simd),
            _ => self.bands::<S, Two, 2, 4>(simd),
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    fn bands<S: Simd, B: Basis<OUT, TILE>, const OUT: usize, const TILE: usize>(mut self, simd: S) {
        let Winograd { sizes: Sizes { inputs, outputs, image, .. }, ref weights, .. } = *self.winograd;
        let places = TILE * TILE;
        let [rows, columns] = image.map(|side| side.div_ceil(OUT));
        let band = (BAND / (places * columns * (inputs + outputs))).clamp(1, rows);
        for first in (0..rows).step_by(band) {
            let last = (first + band).min(rows);
            let corners = || (first..last).flat_map(|row| (0..columns).map(move |column| [OUT * row, OUT * column]));
            let tiles = (last - first) * columns;
            let strides = [tiles * inputs + GAP, tiles * outputs + GAP];
            self.tiles.resize(places * strides[0], 0.0);
            self.products.resize(places * strides[1], 0.0);
            for (tile, corner) in corners().enumerate() {
                self.enter::<S, B, OUT, TILE>(simd, corner, tile, strides[0]);
            }
            for (place, weights) in weights.chunks_exact(outputs / BLOCK * inputs).enumerate() {
                let rows = &self.tiles[place * strides[0]..][..tiles * inputs];
                let products = &mut self.products[place * strides[1]..][..tiles * outputs];
                multiply(simd, rows, weights, inputs, products);
            }
            for (tile, corner) in corners().enumerate() {
                match self.after.rounds() {
                    true => self.leave::<S, B, OUT, TILE, true>(simd, corner, tile, strides[1]),
                    false => self.leave::<S, B, OUT, TILE, false>(simd, corner, tile, strides[1]),
                }
            }
        }
    }

    /// Brings the tile whose results start at a corner into the other basis.
    #[inline(always)]
    fn enter<S: Simd, B: Basis<OUT, TILE>, const OUT: usize, const TILE: usize>(
        &mut self,
        simd: S,
        [top, left]: [usize; 2],
        tile: usize,
        stride: usize,
    ) {
        let Sizes { inputs, image: [height, width], .. } = self.winograd.sizes;
        for channel in (0..inputs).step_by(S::F32_LANES) {
            let mut rows = [[simd.splat_f32s(0.0); TILE]; TILE];
            for (i, row) in rows.iter_mut().enumerate() {
                let y = (top + i).wrapping_sub(1);
                if y >= height {
                    continue;
                }
                let mut pixels = [simd.splat_f32s(0.0); TILE];
                for (i, pixel) in pixels.iter_mut().enumerate() {
                    let x = (left + i).wrapping_sub(1);
                    if x < width {
                        *pixel = load::<S>(&self.x[(y * width + x) * inputs + channel..]);
                    }
                }
                *row = B::enter(simd, pixels);
            }
            for x in 0..TILE {
                let column = B::enter(simd, column(&rows, x));
                for (y, values) in column.into_iter().enumerate() {
                    store::<S>(&mut self.tiles[(y * TILE + x) * stride + tile * inputs + channel..], values);
                }
            }
        }
    }

    /// Reads a tile's results off.
    #[inline(always)]
    fn leave<S: Simd, B: Basis<OUT, TILE>, const OUT: usize, const TILE: usize, const ROUNDS: bool>(
        &mut self,
        simd: S,
        [top, left]: [usize; 2],
        tile: usize,
        stride: usize,
    ) {
        let Sizes { outputs, image: [height, width], .. } = self.winograd.sizes;
        for channel in (0..outputs).step_by(S::F32_LANES) {
            let mut rows = [[simd.splat_f32s(0.0); OUT]; TILE];
            for (y, row) in rows.iter_mut().enumerate() {
                let mut places = [simd.splat_f32s(0.0); TILE];
                for (x, place) in places.iter_mut().enumerate() {
                    *place = load::<S>(&self.products[(y * TILE + x) * stride + tile * outputs + channel..]);
                }
                *row = B::leave(simd, places);
            }
            for x in 0..OUT.min(width - left) {
                let column = B::leave(simd, column(&rows, x));
                for (y, values) in column.into_iter().enumerate().take(height - top) {
                    let at = ((top + y) * width + left + x) * outputs + channel;
                    store::<S>(&mut self.y[at..], self.after.apply::<S, ROUNDS>(simd, values, channel, at));
                }
            }
        }
    }
}

/// Column `x` of a tile.
#[inline(always)]
fn column<T: Copy, const N: usize, const TILE: usize>(rows: &[[T; N]; TILE], x: usize) -> [T; TILE] {
    let mut column = [rows[0][x]; TILE];
    for (value, row) in column.iter_mut().zip(rows) {
        *value = row[x];
    }
    column
}

impl Basis<4, 6> for Four {
    fn filter([a, b, c]: [f32; 3]) -> [f32; 6] {
        let (even, odd) = (a / 24.0 + c / 6.0, b / 12.0);
        [a / 4.0, -(a + b + c) / 6.0, -(a - b + c) / 6.0, even + odd, even - odd, c]
    }

    #[inline(always)]
    fn enter<S: Simd>(simd: S, [d0, d1, d2, d3, d4, d5]: [S::f32s; 6]) -> [S::f32s; 6] {
        let times = |factor, value, sum| simd.mul_add_e_f32s(simd.splat_f32s(factor), value, sum);
        let (p, q) = (times(-4.0, d2, d4), times(-4.0, d1, d3));
        let (r, s) = (simd.sub_f32s(d4, d2), simd.sub_f32s(d3, d1));
        [
            times(4.0, d0, times(-5.0, d2, d4)),
            simd.add_f32s(p, q),
            simd.sub_f32s(p, q),
            times(2.0, s, r),
            times(-2.0, s, r),
            times(4.0, d1, times(-5.0, d3, d5)),
        ]
    }

    #[inline(always)]
    fn leave<S: Simd>(simd: S, [m0, m1, m2, m3, m4, m5]: [S::f32s; 6]) -> [S::f32s; 4] {
        let times = |factor, value, sum| simd.mul_add_e_f32s(simd.splat_f32s(factor), value, sum);
        let (a, b) = (simd.add_f32s(m1, m2), simd.sub_f32s(m1, m2));
        let (c, d) = (simd.add_f32s(m3, m4), simd.sub_f32s(m3, m4));
        [
            simd.add_f32s(simd.add_f32s(m0, a), c),
            times(2.0, d, b),
            times(4.0, c, a),
            simd.add_f32s(times(8.0, d, b), m5),
        ]
    }
}

impl Basis<2, 4> for Two {
    fn filter([a, b, c]: [f32; 3]) -> [f32; 4] {
        [a, (a + b + c) / 2.0, (a - b + c) / 2.0, c]
    }

    #[inline(always)]
    fn enter<S: Simd>(simd: S, [d0, d1, d2, d3]: [S::f32s; 4]) -> [S::f32s; 4] {
        [simd.sub_f32s(d0, d2), simd.add_f32s(d1, d2), simd.sub_f32s(d2, d1), simd.sub_f32s(d1, d3)]
    }

    #[inline(always)]
    fn leave<S: Simd>(simd: S, [m0, m1, m2, m3]: [S::f32s; 4]) -> [S::f32s; 2] {
        [simd.add_f32s(simd.add_f32s(m0, m1), m2), simd.sub_f32s(simd.sub_f32s(m1, m2), m3)]
    }
}

/// `products[row][output] = sum over inputs of rows[row][input] * weights[block][input][output]`.
#[inline(always)]
fn multiply<S: Simd>(simd: S, rows: &[f32], weights: &[[f32; BLOCK]], inputs: usize, products: &mut [f32]) {
    match BLOCK / S::F32_LANES {
        1 => blocks::<S, 1>(simd, rows, weights, inputs, products),
        2 => blocks::<S, 2>(simd, rows, weights, inputs, products),
        4 => blocks::<S, 4>(simd, rows, weights, inputs, products),
        _ => blocks::<S, BLOCK>(simd, rows, weights, inputs, products),
    }
}

#[inline(always)]
fn blocks<S: Simd, const R: usize>(
    simd: S,
    rows: &[f32],
    weights: &[[f32; BLOCK]],
    inputs: usize,
    products: &mut [f32],
) {
    let outputs = weights.len() / inputs * BLOCK;
    let count = rows.len() / inputs;
    for (block, weights) in weights.chunks_exact(inputs).enumerate() {
        let mut row = 0;
        while row < count {
            let rows = &rows[row * inputs..];
            let products = &mut products[row * outputs + block * BLOCK..];
            row += match count - row {
                // One register of weights and twelve of sums, or two and six times two: as many as keep AVX-512, or AVX2,
                // busy.
                12.. if R == 1 => compute::<S, R, 12>(simd, rows, weights, products, outputs),
                6.. => compute::<S, R, 6>(simd, rows, weights, products, outputs),
                4.. => compute::<S, R, 4>(simd, rows, weights, products, outputs),
                2.. => compute::<S, R, 2>(simd, rows, weights, products, outputs),
                _ => compute::<S, R, 1>(simd, rows, weights, products, outputs),
            };
        }
    }
}

/// Computes `P` rows of a block; returns `P`.
#[inline(always)]
fn compute<S: Simd, const R: usize, const P: usize>(
    simd: S,
    rows: &[f32],
    weights: &[[f32; BLOCK]],
    products: &mut [f32],
    outputs: usize,
) -> usize {
    let mut sums = [[simd.splat_f32s(0.0); R]; P];
    let mut inputs = [&rows[..0]; P];
    for (row, inputs) in inputs.iter_mut().enumerate() {
        *inputs = &rows[row * weights.len()..][..weights.len()];
    }
    for (i, weights) in weights.iter().enumerate() {
        let weights: &[_; R] = S::as_simd_f32s(weights).0.first_chunk().expect("a block fills whole registers");
        for (sums, inputs) in sums.iter_mut().zip(inputs) {
            let value = simd.splat_f32s(inputs[i]);
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add_e_f32s(value, *weight, *sum);
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (register, sum) in sums.into_iter().enumerate() {
            store::<S>(&mut products[row * outputs + register * S::F32_LANES..], sum);
        }
    }
    P
}
