//! Batch norm over groups of a batch and the leaky ReLU behind it, forward and backward.
//!
//! # Reference
//! Ioffe and Szegedy, "Batch Normalization" (2015), with the gradients of its section 3.

use rayon::prelude::*;

use super::simd::{sum, vectorized};

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

    /// The channel `place % channels` in all images of group `place / channels`.
    fn planes<'a>(&self, values: &'a [f32], place: usize) -> impl Iterator<Item = &'a [f32]> {
        let Self { batch, channels, pixels, .. } = *self;
        let images = values.chunks_exact(self.image()).skip(place / channels * batch).take(batch);
        images.map(move |image| &image[place % channels * pixels..][..pixels])
    }
}

impl Moments {
    /// Of a batch `[groups * batch, channels, pixels]`.
    pub(super) fn of(sizes: &Sizes, x: &[f32]) -> Self {
        let moments = |place: usize| {
            let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
            for plane in sizes.planes(x, place) {
                let n = plane.len() as f64;
                let (own_mean, own_squares) = vectorized(
                    #[inline(always)]
                    move || {
                        let mean = sum(plane, |v| v) / plane.len() as f32;
                        (mean, sum(plane, |v| (v - mean) * (v - mean)))
                    },
                );
                // Chan et al.: how means and squares of two sets make those of both.
                let difference = f64::from(own_mean) - mean;
                squares += f64::from(own_squares) + difference * difference * count * n / (count + n);
                mean += difference * n / (count + n);
                count += n;
            }
            (mean as f32, (squares / count) as f32)
        };
        let (mean, variance) = (0..sizes.groups * sizes.channels).into_par_iter().map(moments).unzip();
        Self { mean, variance }
    }

    /// Mean and factor of a channel.
    fn factor(&self, place: usize, epsilon: f64) -> (f32, f32) {
        (self.mean[place], (1.0 / (f64::from(self.variance[place]) + epsilon).sqrt()) as f32)
    }
}

/// `leaky(weight * (x - mean) / sqrt(variance + epsilon) + bias)`, in the shape of `x`.
pub(super) fn forward(sizes: &Sizes, constants: Constants, x: &[f32], affine: Affine, moments: &Moments) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let images = y.par_chunks_exact_mut(sizes.image()).zip(x.par_chunks_exact(sizes.image()));
    images.enumerate().for_each(|(image, (y, x))| {
        let first = image / sizes.batch * sizes.channels;
        let planes = y.chunks_exact_mut(sizes.pixels).zip(x.chunks_exact(sizes.pixels));
        for (channel, (y, x)) in planes.enumerate() {
            let (mean, factor) = moments.factor(first + channel, constants.epsilon);
            let (scale, bias, slope) = (factor * affine.weight[channel], affine.bias[channel], constants.slope);
            vectorized(
                #[inline(always)]
                move || {
                    for (y, x) in y.iter_mut().zip(x) {
                        let z = (x - mean) * scale + bias;
                        *y = z.max(slope * z);
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
    let Sizes { groups, batch, channels, pixels } = *sizes;
    let slope = constants.slope;
    // Of each channel of each group: the sums of the gradient behind the normalisation, as such and times what was
    // normalised.
    let sums = |place: usize| {
        let (mean, factor) = moments.factor(place, constants.epsilon);
        let (weight, bias) = (affine.weight[place % channels], affine.bias[place % channels]);
        let (mut plain, mut times) = (0.0, 0.0);
        for (x, gradient) in sizes.planes(x, place).zip(sizes.planes(gradient, place)) {
            let (own_plain, own_times) = vectorized(
                #[inline(always)]
                move || {
                    const LANES: usize = 16;
                    let (mut plain, mut times) = ([0.0; LANES], [0.0; LANES]);
                    for (x, gradient) in x.chunks(LANES).zip(gradient.chunks(LANES)) {
                        for (((x, gradient), plain), times) in x.iter().zip(gradient).zip(&mut plain).zip(&mut times) {
                            let normal = (x - mean) * factor;
                            let dz = if normal * weight + bias > 0.0 { *gradient } else { slope * gradient };
                            *plain += dz;
                            *times += dz * normal;
                        }
                    }
                    (plain.iter().sum::<f32>(), times.iter().sum::<f32>())
                },
            );
            plain += f64::from(own_plain);
            times += f64::from(own_times);
        }
        (plain, times)
    };
    let sums: Vec<(f64, f64)> = (0..groups * channels).into_par_iter().map(sums).collect();

    let count = (batch * pixels) as f64;
    let mut dx = vec![0.0; x.len()];
    let images = dx.par_chunks_exact_mut(sizes.image()).zip(x.par_chunks_exact(sizes.image()));
    images.zip(gradient.par_chunks_exact(sizes.image())).enumerate().for_each(|(image, ((dx, x), gradient))| {
        let first = image / batch * channels;
        let planes = dx.chunks_exact_mut(pixels).zip(x.chunks_exact(pixels)).zip(gradient.chunks_exact(pixels));
        for (channel, ((dx, x), gradient)) in planes.enumerate() {
            let (mean, factor) = moments.factor(first + channel, constants.epsilon);
            let (weight, bias) = (affine.weight[channel], affine.bias[channel]);
            let (plain, times) = sums[first + channel];
            let (plain, times) = ((plain / count) as f32, (times / count) as f32);
            vectorized(
                #[inline(always)]
                move || {
                    for ((dx, x), gradient) in dx.iter_mut().zip(x).zip(gradient) {
                        let normal = (x - mean) * factor;
                        let dz = if normal * weight + bias > 0.0 { *gradient } else { slope * gradient };
                        *dx = factor * weight * (dz - plain - normal * times);
                    }
                },
            );
        }
    });
    let over_groups = |sum: fn(&(f64, f64)) -> f64| {
        (0..channels).map(|c| sums.iter().skip(c).step_by(channels).map(sum).sum::<f64>() as f32).collect()
    };
    Gradients { x: dx, weight: over_groups(|sums| sums.1), bias: over_groups(|sums| sums.0) }
}
