//! Convolution with "SAME" padding, forward and backward.

use models::network::same_padding;
use rayon::prelude::*;

use super::{
    correlation::{BLOCK, Correlation, OuterSum, Packed},
    field::Field,
    simd::{dispatch, sum, vectorized},
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

    fn output_pixels(&self) -> usize {
        self.output()[0] * self.output()[1]
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
/// `x`: `[batch, inputs, height, width]`; `weight`: `[outputs, inputs, kernel, kernel]`; `bias`: `[outputs]`.
pub(super) fn forward(sizes: &Sizes, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let field = sizes.field();
    let starts = field.windows([0, 0], sizes.output(), sizes.stride);
    let weights = Packed::new(sizes.outputs, sizes.inputs, [sizes.kernel; 2], |output, tap, input| {
        weight[sizes.weight(output, input, tap)]
    });

    let length = sizes.outputs * sizes.output_pixels();
    let mut y = vec![0.0; x.len() / sizes.input_length() * length];
    let images = y.par_chunks_exact_mut(length).zip(x.par_chunks_exact(sizes.input_length()));
    images.for_each_init(
        || field.buffer(1),
        |buffer, (y, x)| {
            field.fill(buffer, x, sizes.image);
            dispatch(Correlation {
                field: buffer,
                row: field.row(),
                starts: &starts,
                weights: &weights,
                bias,
                output: y,
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

    let (length, pixels) = (sizes.input_length(), sizes.outputs * sizes.output_pixels());
    let mut dx = vec![0.0; gradient.len() / pixels * length];
    let images = dx.par_chunks_exact_mut(length).zip(gradient.par_chunks_exact(pixels));
    images.for_each_init(
        || (field.buffer(1), Vec::new()),
        |(buffer, part), (dx, gradient)| {
            field.fill(buffer, gradient, sizes.output());
            for phase in &phases {
                part.resize(sizes.inputs * phase.starts.len(), 0.0);
                let whole = sizes.stride == 1;
                dispatch(Correlation {
                    field: buffer,
                    row: field.row(),
                    starts: &phase.starts,
                    weights: &phase.weights,
                    bias: &[],
                    output: if whole { dx } else { part },
                });
                if !whole {
                    phase.scatter(sizes, part, dx);
                }
            }
        },
    );
    dx
}

/// The pixels of the images that are seen by the same taps.
struct Phase {
    /// The first such pixel.
    first: [usize; 2],
    /// How many there are in a row.
    columns: usize,
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
        Some(Self { first, columns: count[1], starts: field.windows(earliest, count, 1), weights })
    }

    /// Puts the phase's pixels in their places.
    fn scatter(&self, sizes: &Sizes, part: &[f32], dx: &mut [f32]) {
        let [height, width] = sizes.image;
        let planes = part.chunks_exact(self.starts.len()).zip(dx.chunks_exact_mut(height * width));
        for (part, plane) in planes {
            let rows = plane.chunks_exact_mut(width).skip(self.first[0]).step_by(sizes.stride);
            for (part, row) in part.chunks_exact(self.columns).zip(rows) {
                let pixels = row.iter_mut().skip(self.first[1]).step_by(sizes.stride);
                pixels.zip(part).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

/// The gradients of weights and biases.
pub(super) fn gradient_of_weights(sizes: &Sizes, x: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (length, pixels) = (sizes.input_length(), sizes.outputs * sizes.output_pixels());
    let part = (x.len() / length).div_ceil(PARTS).max(1);
    let parts = x.par_chunks(part * length).zip(gradient.par_chunks(part * pixels));
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
    let (output, pixels) = (sizes.output(), sizes.output_pixels());
    let blocks = sizes.outputs.div_ceil(BLOCK);
    let field = sizes.field();
    let outer = Field::new(output, 1, 1, output, [0, 0], blocks * BLOCK);
    let starts = field.windows([0, 0], output, sizes.stride);
    let window = [sizes.kernel, sizes.kernel * sizes.inputs];

    let together = (PIXELS / pixels).max(1);
    let (mut fields, mut outers) = (field.buffer(together), outer.buffer(together));
    let mut sums = vec![[0.0; BLOCK]; blocks * window[0] * window[1]];
    let mut biases = vec![0.0; sizes.outputs];
    let (length, gradients) = (sizes.input_length(), sizes.outputs * pixels);
    for (x, gradient) in x.chunks(together * length).zip(gradient.chunks(together * gradients)) {
        for (x, field_of) in x.chunks_exact(length).zip(fields.chunks_exact_mut(field.length())) {
            field.fill(field_of, x, sizes.image);
        }
        for (gradient, outer_of) in gradient.chunks_exact(gradients).zip(outers.chunks_exact_mut(outer.length())) {
            outer.fill(outer_of, gradient, output);
            biases.iter_mut().zip(gradient.chunks_exact(pixels)).for_each(|(bias, plane)| {
                *bias += vectorized(
                    #[inline(always)]
                    move || sum(plane, |v| v),
                )
            });
        }
        let images = x.len() / length;
        dispatch(OuterSum {
            field: &fields[..images * field.length()],
            image: field.length(),
            row: field.row(),
            starts: &starts,
            window,
            outer: outers[..images * outer.length()].as_chunks().0,
            blocks,
            gradient: &mut sums,
        });
    }
    (sums, biases)
}
