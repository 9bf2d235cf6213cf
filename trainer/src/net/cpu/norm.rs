//! Batch norm over groups of a batch and the leaky ReLU behind it, forward and backward.
//!
//! # Reference
//! Ioffe and Szegedy, "Batch Normalization" (2015), with the gradients of its section 3.

use std::ops::Range;

use rayon::prelude::*;

use super::simd::{BLOCK, blocks, put, sum, take, vectorized};

/// Pixels over which is summed in registers.
const STRETCH: usize = 256;

/// The sizes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Groups that are normalised by their own statistics.
    pub(super) groups: usize,
    /// Images in a group.
    pub(super) batch: usize,
    /// Channels.
    pub(super) channels: usize,
    /// Pixels of a channel.
    pub(super) pixels: usize,
}

/// What follows the normalisation, and what keeps it finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Constants {
    /// Added to the variance.
    pub(super) epsilon: f64,
    /// What negative results are multiplied by, between 0 and 1.
    pub(super) slope: f32,
}

/// Mean and biased variance of each channel of each group: `[groups * channels]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: Vec<f32>,
    pub(super) variance: Vec<f32>,
}

/// Scale and shift of each channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine<'a> {
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
}

impl Sizes {
    fn image(&self) -> usize {
        self.channels * self.pixels
    }

    /// For each channel of each group, what `part` gives of the images, channel by channel, put together by `join`.
    fn over_groups<T: Clone + Default + Send + Sync>(
        &self,
        part: impl Fn(usize, &mut [T]) + Sync,
        join: impl Fn(&mut T, &T),
    ) -> Vec<T> {
        let Self { groups, batch, channels, .. } = *self;
        let mut parts = vec![T::default(); groups * batch * channels];
        parts.par_chunks_exact_mut(channels).enumerate().for_each(|(image, parts)| part(image, parts));
        let mut joined = vec![T::default(); groups * channels];
        for (joined, parts) in joined.chunks_exact_mut(channels).zip(parts.chunks_exact(batch * channels)) {
            for part in parts.chunks_exact(channels) {
                joined.iter_mut().zip(part).for_each(|(joined, part)| join(joined, part));
            }
        }
        joined
    }
}

/// Mean of some numbers, and the sum of their squares around it.
#[derive(Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    /// Of these and others: Chan et al. (1979).
    fn join(&mut self, other: &Self) {
        let (count, difference) = (self.count + other.count, other.mean - self.mean);
        self.squares += other.squares + difference * difference * self.count * other.count / count;
        self.mean += difference * other.count / count;
        self.count = count;
    }
}

impl Moments {
    /// Of a batch `[groups * batch, pixels, channels]`.
    pub(super) fn of(sizes: &Sizes, x: &[f32]) -> Self {
        let channels = sizes.channels;
        let of_image = |image: usize, spreads: &mut [Spread]| {
            for x in x[image * sizes.image()..][..sizes.image()].chunks(STRETCH * channels) {
                let count = x.len() / channels;
                for block in blocks(channels) {
                    let (means, squares) = vectorized(
                        #[inline(always)]
                        || {
                            let means = sum(x, channels, &block, |_, x| x).map(|sum| sum / count as f32);
                            (means, sum(x, channels, &block, |i, x| (x - means[i]) * (x - means[i])))
                        },
                    );
                    for ((spread, mean), squares) in spreads[block].iter_mut().zip(means).zip(squares) {
                        spread.join(&Spread { count: count as f64, mean: mean.into(), squares: squares.into() });
                    }
                }
            }
        };
        let spreads = sizes.over_groups(of_image, Spread::join);
        let (mean, variance) = spreads.iter().map(|s| (s.mean as f32, (s.squares / s.count) as f32)).unzip();
        Self { mean, variance }
    }
}

/// What normalises a block of channels of a group.
struct Normal {
    mean: [f32; BLOCK],
    /// One through the standard deviation.
    factor: [f32; BLOCK],
    weight: [f32; BLOCK],
    bias: [f32; BLOCK],
}

impl Normal {
    fn new(moments: &Moments, epsilon: f64, affine: Affine, group: usize, block: &Range<usize>) -> Self {
        let first = group * affine.weight.len();
        let of_group = first + block.start..first + block.end;
        let factor = |variance: f32| (1.0 / (f64::from(variance) + epsilon).sqrt()) as f32;
        Self {
            mean: take(&moments.mean[of_group.clone()]),
            factor: take(&moments.variance[of_group]).map(factor),
            weight: take(&affine.weight[block.clone()]),
            bias: take(&affine.bias[block.clone()]),
        }
    }

    /// A number, normalised, and its gradient before it goes back through scale and shift.
    #[inline(always)]
    fn before(&self, slope: f32, i: usize, x: f32, gradient: f32) -> (f32, f32) {
        let normal = (x - self.mean[i]) * self.factor[i];
        let slope = if normal * self.weight[i] + self.bias[i] > 0.0 { 1.0 } else { slope };
        (normal, slope * gradient)
    }
}

/// `leaky(weight * (x - mean) / sqrt(variance + epsilon) + bias)`, in the shape of `x`.
pub(super) fn forward(sizes: &Sizes, constants: Constants, x: &[f32], affine: Affine, moments: &Moments) -> Vec<f32> {
    let (channels, slope) = (sizes.channels, constants.slope);
    let mut y = vec![0.0; x.len()];
    let images = y.par_chunks_exact_mut(sizes.image()).zip(x.par_chunks_exact(sizes.image()));
    images.enumerate().for_each(|(image, (y, x))| {
        for block in blocks(channels) {
            let Normal { mean, factor, weight, bias } =
                Normal::new(moments, constants.epsilon, affine, image / sizes.batch, &block);
            let scale: [f32; BLOCK] = std::array::from_fn(|i| factor[i] * weight[i]);
            vectorized(
                #[inline(always)]
                || {
                    for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                        let mut z = take(&x[block.clone()]);
                        for i in 0..BLOCK {
                            z[i] = (z[i] - mean[i]) * scale[i] + bias[i];
                            z[i] = z[i].max(slope * z[i]);
                        }
                        put(&mut y[block.clone()], &z);
                    }
                },
            );
        }
    });
    y
}

/// What [`backward`] gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gradients {
    /// Of the batch.
    pub(super) x: Vec<f32>,
    /// Of the scale.
    pub(super) weight: Vec<f32>,
    /// Of the shift.
    pub(super) bias: Vec<f32>,
}

/// The gradients, through the statistics as well; the result of [`forward`] is computed again on the way.
pub(super) fn backward(
    sizes: &Sizes,
    constants: Constants,
    x: &[f32],
    affine: Affine,
    moments: &Moments,
    gradient: &[f32],
) -> Gradients {
    let Sizes { batch, channels, pixels, .. } = *sizes;
    let Constants { epsilon, slope } = constants;
    // Of each channel of each group: the sums of the gradient behind the normalisation, as such and times what was
    // normalised.
    let of_image = |image: usize, sums: &mut [[f64; 2]]| {
        let [x, gradient] =
            [x, gradient].map(|all| all[image * sizes.image()..][..sizes.image()].chunks(STRETCH * channels));
        for (x, gradient) in x.zip(gradient) {
            for block in blocks(channels) {
                let normal = Normal::new(moments, epsilon, affine, image / batch, &block);
                let (plain, times) = vectorized(
                    #[inline(always)]
                    || {
                        let (mut plain, mut times) = ([0.0; BLOCK], [0.0; BLOCK]);
                        for (x, gradient) in x.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
                            let (x, gradient) = (take(&x[block.clone()]), take(&gradient[block.clone()]));
                            for i in 0..BLOCK {
                                let (normal, dz) = normal.before(slope, i, x[i], gradient[i]);
                                plain[i] += dz;
                                times[i] += dz * normal;
                            }
                        }
                        (plain, times)
                    },
                );
                for (sums, own) in sums[block].iter_mut().zip(plain.into_iter().zip(times)) {
                    sums[0] += f64::from(own.0);
                    sums[1] += f64::from(own.1);
                }
            }
        }
    };
    let sums = sizes.over_groups(of_image, |sums, own| (0..2).for_each(|i| sums[i] += own[i]));
    let over_groups = |which: usize| {
        (0..channels).map(|c| sums.iter().skip(c).step_by(channels).map(|s| s[which]).sum::<f64>() as f32).collect()
    };

    let count = (batch * pixels) as f64;
    let means: [Vec<f32>; 2] = [0, 1].map(|which| sums.iter().map(|s| (s[which] / count) as f32).collect());
    let mut dx = vec![0.0; x.len()];
    let images = dx.par_chunks_exact_mut(sizes.image()).zip(x.par_chunks_exact(sizes.image()));
    images.zip(gradient.par_chunks_exact(sizes.image())).enumerate().for_each(|(image, ((dx, x), gradient))| {
        let group = image / batch;
        for block in blocks(channels) {
            let normal = Normal::new(moments, epsilon, affine, group, &block);
            let [plain, times] = [0, 1].map(|which| take(&means[which][group * channels..][block.clone()]));
            let scale: [f32; BLOCK] = std::array::from_fn(|i| normal.factor[i] * normal.weight[i]);
            vectorized(
                #[inline(always)]
                || {
                    let pixels = x.chunks_exact(channels).zip(gradient.chunks_exact(channels));
                    for (dx, (x, gradient)) in dx.chunks_exact_mut(channels).zip(pixels) {
                        let (x, gradient) = (take(&x[block.clone()]), take(&gradient[block.clone()]));
                        let mut result = [0.0; BLOCK];
                        for i in 0..BLOCK {
                            let (normal, dz) = normal.before(slope, i, x[i], gradient[i]);
                            result[i] = scale[i] * (dz - plain[i] - normal * times[i]);
                        }
                        put(&mut dx[block.clone()], &result);
                    }
                },
            );
        }
    });
    Gradients { x: dx, weight: over_groups(1), bias: over_groups(0) }
}
