//! Convolution with "SAME" padding, forward and backward.

use std::borrow::Cow;

use models::network::same_padding;
use rayon::prelude::*;

use super::{
    correlation::{Correlation, OuterSum, Packed},
    field::Field,
    simd::{self, BLOCK, dispatch, sum, take, vectorized},
};

/// Parts into which a batch is cut to sum over its images: however many cores help, the sum is the same.
const PARTS: usize = 16;
/// Output pixels over which the gradient of a weight is summed in registers before it goes to memory.
const PIXELS: usize = 256;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Channels in.
    pub(super) inputs: usize,
    /// Channels out.
    pub(super) outputs: usize,
    /// Side of the window.
    pub(super) kernel: usize,
    /// Step of the window.
    pub(super) stride: usize,
    /// Height and width of the images.
    pub(super) image: [usize; 2],
}

impl Sizes {
    /// Height and width of the result.
    pub(super) fn output(&self) -> [usize; 2] {
        self.image.map(|side| side.div_ceil(self.stride))
    }

    fn border(&self) -> [usize; 2] {
        self.image.map(|side| same_padding(side, self.kernel, self.stride).0)
    }

    fn input_length(&self) -> usize {
        self.inputs * self.image[0] * self.image[1]
    }

    fn output_length(&self) -> usize {
        self.outputs * self.output()[0] * self.output()[1]
    }

    fn weight(&self, output: usize, input: usize, tap: [usize; 2]) -> usize {
        ((output * self.inputs + input) * self.kernel + tap[0]) * self.kernel + tap[1]
    }

    /// The images, as windows move over them.
    fn field(&self) -> Field {
        Field::new(self.output(), self.kernel, self.stride, self.image, self.border(), self.inputs)
    }
}

/// The convolution of a batch.
///
/// # Shapes
/// `x`: `[batch, height, width, inputs]`; `weight`: `[outputs, inputs, kernel, kernel]`; `bias`: `[outputs]`.
pub(super) fn forward(sizes: &Sizes, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let field = sizes.field();
    let starts = field.windows([0, 0], sizes.output(), sizes.stride);
    let weights = Packed::new(sizes.outputs, sizes.inputs, [sizes.kernel; 2], |output, tap, input| {
        weight[sizes.weight(output, input, tap)]
    });

    let places: Vec<usize> = (0..starts.len()).collect();

    let length = sizes.output_length();
    let mut y = vec![0.0; x.len() / sizes.input_length() * length];
    let images = y.par_chunks_exact_mut(length).zip(x.par_chunks_exact(sizes.input_length()));
    images.for_each_init(
        || field.buffer(1),
        |buffer, (y, x)| {
            field.fill(buffer, x, sizes.image[1]);
            dispatch(Correlation {
                field: buffer,
                row: field.row(),
                starts: &starts,
                weights: &weights,
                bias,
                output: y,
                places: &places,
                outputs: sizes.outputs,
            });
        },
    );
    y
}

/// The gradient of the images.
///
/// A pixel in row `s q + a` is seen by tap `a + s j` of the window in row `q - j`. For each phase `a`, and the same along
/// the columns, this is a correlation over the gradient of the result.
pub(super) fn gradient_of_images(sizes: &Sizes, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
    let reach = (sizes.kernel - 1) / sizes.stride;
    let steps: [usize; 2] =
        std::array::from_fn(|axis| (sizes.image[axis] - 1 + sizes.border()[axis]) / sizes.stride + 1);
    let field = Field::new(steps, reach + 1, 1, sizes.output(), [reach; 2], sizes.outputs);
    let phases: Vec<Phase> = (0..sizes.stride)
        .flat_map(|y| (0..sizes.stride).map(move |x| [y, x]))
        .filter_map(|phase| Phase::new(sizes, phase, &field, weight))
        .collect();

    let mut dx = vec![0.0; gradient.len() / sizes.output_length() * sizes.input_length()];
    let images = dx.par_chunks_exact_mut(sizes.input_length()).zip(gradient.par_chunks_exact(sizes.output_length()));
    images.for_each_init(
        || field.buffer(1),
        |buffer, (dx, gradient)| {
            field.fill(buffer, gradient, sizes.output()[1]);
            for phase in &phases {
                dispatch(Correlation {
                    field: buffer,
                    row: field.row(),
                    starts: &phase.starts,
                    weights: &phase.weights,
                    bias: &[],
                    output: dx,
                    places: &phase.pixels,
                    outputs: sizes.inputs,
                });
            }
        },
    );
    dx
}

/// The pixels of the images that are seen by the same taps.
struct Phase {
    /// Which these are.
    pixels: Vec<usize>,
    /// Where the steps that see them start.
    starts: Vec<usize>,
    weights: Packed,
}

impl Phase {
    /// None if no tap sees them, or there are no such pixels.
    fn new(sizes: &Sizes, phase: [usize; 2], field: &Field, weight: &[f32]) -> Option<Self> {
        let Sizes { kernel, stride, image, .. } = *sizes;
        let border = sizes.border();
        let reach = (kernel - 1) / stride;
        // The first step q with a pixel inside the image, and the pixel: s q + a - border.
        let start = [0, 1].map(|axis| border[axis].saturating_sub(phase[axis]).div_ceil(stride));
        let first = [0, 1].map(|axis| stride * start[axis] + phase[axis] - border[axis]);
        let count = [0, 1].map(|axis| image[axis].saturating_sub(first[axis]).div_ceil(stride));
        // Taps a, a + s, .. see them, the last of them from the earliest step.
        let seen = phase.map(|a| kernel.saturating_sub(a).div_ceil(stride));
        if seen.contains(&0) || count.contains(&0) {
            return None;
        }
        let tap = |axis: usize, i: usize| phase[axis] + stride * (seen[axis] - 1 - i);
        let weights = Packed::new(sizes.inputs, sizes.outputs, seen, |input, [y, x], output| {
            weight[sizes.weight(output, input, [tap(0, y), tap(1, x)])]
        });
        let earliest = [0, 1].map(|axis| start[axis] + reach + 1 - seen[axis]);
        let pixel = |y: usize, x: usize| (first[0] + stride * y) * image[1] + first[1] + stride * x;
        let pixels = (0..count[0]).flat_map(|y| (0..count[1]).map(move |x| pixel(y, x))).collect();
        Some(Self { pixels, starts: field.windows(earliest, count, 1), weights })
    }
}

/// The gradients of weights and biases.
pub(super) fn gradient_of_weights(sizes: &Sizes, x: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let part = (x.len() / sizes.input_length()).div_ceil(PARTS).max(1);
    let parts = x.par_chunks(part * sizes.input_length()).zip(gradient.par_chunks(part * sizes.output_length()));
    let parts: Vec<_> = parts.map(|(x, gradient)| sum_of_part(sizes, x, gradient)).collect();
    let mut parts = parts.into_iter();
    let (mut sums, mut biases) = parts.next().unwrap_or_default();
    for (part, bias) in parts {
        sums.as_flattened_mut().iter_mut().zip(part.as_flattened()).for_each(|(sum, part)| *sum += part);
        biases.iter_mut().zip(bias).for_each(|(sum, part)| *sum += part);
    }
    let mut weights = vec![0.0; sizes.outputs * sizes.inputs * sizes.kernel * sizes.kernel];
    for (block, sums) in sums.chunks_exact(sizes.kernel * sizes.kernel * sizes.inputs).enumerate() {
        for (i, sums) in sums.iter().enumerate() {
            let (tap, input) = (i / sizes.inputs, i % sizes.inputs);
            for (output, sum) in (block * BLOCK..sizes.outputs).zip(sums) {
                weights[sizes.weight(output, input, [tap / sizes.kernel, tap % sizes.kernel])] = *sum;
            }
        }
    }
    (weights, biases)
}

/// The gradients of the weights, as [`OuterSum`] leaves them, and of the biases, over some of the images.
fn sum_of_part(sizes: &Sizes, x: &[f32], gradient: &[f32]) -> (Vec<[f32; BLOCK]>, Vec<f32>) {
    let field = sizes.field();
    let starts = field.windows([0, 0], sizes.output(), sizes.stride);
    let window = [sizes.kernel, sizes.kernel * sizes.inputs];
    let blocks = sizes.outputs.div_ceil(BLOCK);

    let together = (PIXELS / starts.len()).max(1);
    let mut fields = field.buffer(together);
    let mut sums = vec![[0.0; BLOCK]; blocks * window[0] * window[1]];
    let mut biases = vec![0.0; sizes.outputs];
    let (length, gradients) = (sizes.input_length(), sizes.output_length());
    for (x, gradient) in x.chunks(together * length).zip(gradient.chunks(together * gradients)) {
        let images = x.chunks_exact(length);
        let filled = images.len() * field.length();
        for (x, field_of) in images.zip(fields.chunks_exact_mut(field.length())) {
            field.fill(field_of, x, sizes.image[1]);
        }
        dispatch(OuterSum {
            field: &fields[..filled],
            image: field.length(),
            row: field.row(),
            starts: &starts,
            window,
            outer: &whole_blocks(gradient, sizes.outputs),
            blocks,
            gradient: &mut sums,
        });
        for block in simd::blocks(sizes.outputs) {
            let sums = vectorized(
                #[inline(always)]
                || sum(gradient, sizes.outputs, &block, |_, value| value),
            );
            biases[block].iter_mut().zip(sums).for_each(|(bias, sum)| *bias += sum);
        }
    }
    (sums, biases)
}

/// The channels of every pixel in blocks; zeros fill up the last.
fn whole_blocks(pixels: &[f32], channels: usize) -> Cow<'_, [[f32; BLOCK]]> {
    match channels % BLOCK {
        0 => Cow::Borrowed(pixels.as_chunks().0),
        _ => pixels.chunks_exact(channels).flat_map(|pixel| pixel.chunks(BLOCK).map(take)).collect(),
    }
}
