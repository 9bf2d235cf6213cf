//! Convolution as it is defined, over an image with its border.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};

use super::{
    convolution::{After, BLOCK, Sizes},
    registers::{dispatch, store},
};

thread_local! {
    /// An image with its border.
    static FIELD: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Weights for any window and stride.
#[derive(Debug, PartialEq)]
pub(super) struct Direct {
    sizes: Sizes,
    /// `[block of outputs, row, column, input, output]`.
    weights: Vec<[f32; BLOCK]>,
}

impl Direct {
    /// From weights `[output, input, row, column]`.
    pub(super) fn new(sizes: Sizes, weights: &[f32]) -> Self {
        let Sizes { inputs, outputs, kernel, .. } = sizes;
        let window = kernel[0] * kernel[1];
        let mut packed = vec![[0.0; BLOCK]; outputs / BLOCK * window * inputs];
        for (i, weight) in weights.iter().enumerate() {
            let (output, input, tap) = (i / (inputs * window), i / window % inputs, i % window);
            packed[(output / BLOCK * window + tap) * inputs + input][output % BLOCK] = *weight;
        }
        Self { sizes, weights: packed }
    }

    /// # Shapes
    /// `x`: `[height, width, inputs]`; `y`: `[rows, columns, outputs]`.
    pub(super) fn run(&self, x: &[f32], after: &After, y: &mut [f32]) {
        let Sizes { inputs, kernel, stride, border, image, result, .. } = self.sizes;
        let side = |axis: usize| ((result[axis] - 1) * stride[axis] + kernel[axis]).max(border[axis] + image[axis]);
        let (size, row) = ([side(0), side(1)], side(1) * inputs);
        if size == image {
            return dispatch(Run { direct: self, field: x, row, after, y });
        }
        FIELD.with_borrow_mut(|field| {
            field.clear();
            field.resize(size[0] * row, 0.0);
            let rows = field.chunks_exact_mut(row).skip(border[0]);
            for (to, from) in rows.zip(x.chunks_exact(image[1] * inputs)) {
                to[border[1] * inputs..][..from.len()].copy_from_slice(from);
            }
            dispatch(Run { direct: self, field, row, after, y });
        });
    }
}

struct Run<'a> {
    direct: &'a Direct,
    /// The image with its border.
    field: &'a [f32],
    /// Numbers of a row of the field.
    row: usize,
    after: &'a After<'a>,
    y: &'a mut [f32],
}

impl WithSimd for Run<'_> {
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

impl Run<'_> {
    /// With `R` registers to a block.
    #[inline(always)]
    fn run<S: Simd, const R: usize>(mut self, simd: S) {
        let Sizes { inputs, kernel, result, .. } = self.direct.sizes;
        let pixels = result[0] * result[1];
        for (block, weights) in self.direct.weights.chunks_exact(kernel[0] * kernel[1] * inputs).enumerate() {
            let mut pixel = 0;
            while pixel < pixels {
                pixel += match pixels - pixel {
                    // As in Winograd's products.
                    12.. if R == 1 => self.compute::<S, R, 12>(simd, block, weights, pixel),
                    6.. => self.compute::<S, R, 6>(simd, block, weights, pixel),
                    4.. => self.compute::<S, R, 4>(simd, block, weights, pixel),
                    2.. => self.compute::<S, R, 2>(simd, block, weights, pixel),
                    _ => self.compute::<S, R, 1>(simd, block, weights, pixel),
                };
            }
        }
    }

    /// Computes `P` pixels of a block from `pixel` on; returns `P`.
    #[inline(always)]
    fn compute<S: Simd, const R: usize, const P: usize>(
        &mut self,
        simd: S,
        block: usize,
        weights: &[[f32; BLOCK]],
        pixel: usize,
    ) -> usize {
        let Sizes { inputs, outputs, kernel, stride, result, .. } = self.direct.sizes;
        let mut starts = [0; P];
        for (i, start) in starts.iter_mut().enumerate() {
            let (y, x) = ((pixel + i) / result[1], (pixel + i) % result[1]);
            *start = y * stride[0] * self.row + x * stride[1] * inputs;
        }
        let mut sums = [[simd.splat_f32s(0.0); R]; P];
        for (y, weights) in weights.chunks_exact(kernel[1] * inputs).enumerate() {
            let mut windows = [&self.field[..0]; P];
            for (window, start) in windows.iter_mut().zip(starts) {
                *window = &self.field[start + y * self.row..][..weights.len()];
            }
            for (i, weights) in weights.iter().enumerate() {
                let weights: &[_; R] = S::as_simd_f32s(weights).0.first_chunk().expect("a block fills whole registers");
                for (sums, window) in sums.iter_mut().zip(windows) {
                    let value = simd.splat_f32s(window[i]);
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = simd.mul_add_e_f32s(value, *weight, *sum);
                    }
                }
            }
        }
        let first = pixel * outputs + block * BLOCK;
        match self.after.rounds() {
            true => self.leave::<S, R, P, true>(simd, sums, block, first),
            false => self.leave::<S, R, P, false>(simd, sums, block, first),
        }
        P
    }

    /// Writes the sums of pixels, the first of them to `first`.
    #[inline(always)]
    fn leave<S: Simd, const R: usize, const P: usize, const ROUNDS: bool>(
        &mut self,
        simd: S,
        sums: [[S::f32s; R]; P],
        block: usize,
        first: usize,
    ) {
        for (i, sums) in sums.into_iter().enumerate() {
            for (register, sum) in sums.into_iter().enumerate() {
                let lane = register * S::F32_LANES;
                let at = first + i * self.direct.sizes.outputs + lane;
                let result = self.after.apply::<S, ROUNDS>(simd, sum, block * BLOCK + lane, at);
                store::<S>(&mut self.y[at..], result);
            }
        }
    }
}
