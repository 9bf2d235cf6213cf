//! Convolution with "SAME" padding, forward and backward.

use models::network::same_padding;
use rayon::prelude::*;

use super::{
    correlation::{BLOCK, Correlation, OuterSum, Packed, Run},
    field::Field,
    simd::{dispatch, sum, vectorized},
};

/// Parts into which a batch is cut to sum over its images: however many cores help, the sum is the same.
const PARTS: usize = 16;
/// Output pixels over which the gradient of a weight is summed in registers before it goes to memory.
const PIXELS: usize = 256;
/// Numbers in the widest register.
const LANES: usize = 8;

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

    fn taps(&self) -> impl Iterator<Item = (usize, usize)> {
        let kernel = self.kernel;
        (0..kernel).flat_map(move |y| (0..kernel).map(move |x| (y, x)))
    }

    fn input_length(&self) -> usize {
        self.inputs * self.image[0] * self.image[1]
    }

    fn output_pixels(&self) -> usize {
        self.output()[0] * self.output()[1]
    }

    fn weight(&self, output: usize, input: usize, tap: (usize, usize)) -> usize {
        ((output * self.inputs + input) * self.kernel + tap.0) * self.kernel + tap.1
    }
}

/// The convolution of a batch.
///
/// # Shapes
/// `x`: `[batch, inputs, height, width]`; `weight`: `[outputs, inputs, kernel, kernel]`; `bias`: `[outputs]`.
pub(super) fn forward(sizes: &Sizes, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let [rows, columns] = sizes.output();
    let field = Field::new([rows, columns], sizes.kernel, sizes.stride, sizes.border());
    let mut taps: Vec<_> = sizes.taps().collect();
    taps.sort_by_key(|&(y, x)| field.tap(y, x));
    let weights = Packed::new(sizes.outputs, sizes.inputs, taps.len(), |output, input, tap| {
        weight[sizes.weight(output, input, taps[tap])]
    });
    let taps = Run::of(taps.into_iter().map(|(y, x)| field.tap(y, x)));
    let bases: Vec<usize> = (0..rows).map(|row| field.base(row, 0)).collect();

    let length = sizes.outputs * rows * columns;
    let mut y = vec![0.0; x.len() / sizes.input_length() * length];
    let images = y.par_chunks_exact_mut(length).zip(x.par_chunks_exact(sizes.input_length()));
    images.for_each_init(
        || field.buffer(sizes.inputs),
        |buffer, (y, x)| {
            field.fill(buffer, x, sizes.image);
            dispatch(Correlation {
                field: buffer,
                plane: field.plane(),
                taps: &taps,
                weights: &weights,
                bias,
                rows: &bases,
                columns,
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
    let field = Field::new(steps, reach + 1, 1, [reach; 2]);
    let phases: Vec<Phase> = (0..sizes.stride)
        .flat_map(|y| (0..sizes.stride).map(move |x| [y, x]))
        .filter_map(|phase| Phase::new(sizes, phase, &field, weight))
        .collect();
    let none = vec![0.0; sizes.inputs];

    let (length, pixels) = (sizes.input_length(), sizes.outputs * sizes.output_pixels());
    let mut dx = vec![0.0; gradient.len() / pixels * length];
    let images = dx.par_chunks_exact_mut(length).zip(gradient.par_chunks_exact(pixels));
    images.for_each_init(
        || (field.buffer(sizes.outputs), Vec::new()),
        |(buffer, part), (dx, gradient)| {
            field.fill(buffer, gradient, sizes.output());
            for phase in &phases {
                part.resize(sizes.inputs * phase.bases.len() * phase.columns, 0.0);
                let whole = sizes.stride == 1;
                dispatch(Correlation {
                    field: buffer,
                    plane: field.plane(),
                    taps: &phase.taps,
                    weights: &phase.weights,
                    bias: &none,
                    rows: &phase.bases,
                    columns: phase.columns,
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
    taps: Vec<Run>,
    bases: Vec<usize>,
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
        let offset = |&(y, x): &(usize, usize)| field.tap(reach - y / stride, reach - x / stride);
        let mut seen: Vec<_> =
            sizes.taps().filter(|&(y, x)| y % stride == phase[0] && x % stride == phase[1]).collect();
        if seen.is_empty() || count.contains(&0) {
            return None;
        }
        seen.sort_by_key(offset);
        let weights = Packed::new(sizes.inputs, sizes.outputs, seen.len(), |input, output, tap| {
            weight[sizes.weight(output, input, seen[tap])]
        });
        Some(Self {
            first,
            columns: count[1],
            taps: Run::of(seen.iter().map(offset)),
            bases: (start[0]..start[0] + count[0]).map(|row| field.base(row, start[1])).collect(),
            weights,
        })
    }

    /// Puts the phase's pixels in their places.
    fn scatter(&self, sizes: &Sizes, part: &[f32], dx: &mut [f32]) {
        let [height, width] = sizes.image;
        let planes = part.chunks_exact(self.bases.len() * self.columns).zip(dx.chunks_exact_mut(height * width));
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
    let sums: Vec<_> = parts.map(|(x, gradient)| sum_of_part(sizes, x, gradient)).collect();
    let mut sums = sums.into_iter();
    let (mut weights, mut biases) = sums.next().unwrap_or_default();
    for (weight, bias) in sums {
        weights.iter_mut().zip(weight).for_each(|(sum, part)| *sum += part);
        biases.iter_mut().zip(bias).for_each(|(sum, part)| *sum += part);
    }
    (weights, biases)
}

fn sum_of_part(sizes: &Sizes, x: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let [rows, columns] = sizes.output();
    let field = Field::new([rows, columns], sizes.kernel, sizes.stride, sizes.border());
    let outer = Field::new([rows, columns.next_multiple_of(LANES)], 1, 1, [0, 0]);
    let outputs = sizes.outputs.next_multiple_of(BLOCK);
    let taps: Vec<usize> = sizes.taps().map(|(y, x)| field.tap(y, x)).collect();
    let offsets: Vec<usize> = (0..sizes.inputs)
        .flat_map(|input| taps.iter().map(move |tap| (input, tap)))
        .map(|(input, tap)| input * field.plane() + tap)
        .collect();
    let starts: Vec<_> = (0..rows).map(|row| [outer.base(row, 0), field.base(row, 0)]).collect();

    let together = (PIXELS / (rows * columns)).max(1);
    let mut fields = field.buffer(together * sizes.inputs);
    let mut outers = outer.buffer(together * outputs);
    let mut weights = vec![0.0; outputs * offsets.len()];
    let mut biases = vec![0.0; sizes.outputs];
    let (length, pixels) = (sizes.input_length(), sizes.outputs * rows * columns);
    for (x, gradient) in x.chunks(together * length).zip(gradient.chunks(together * pixels)) {
        let images = x.len() / length;
        for (x, field_of) in x.chunks_exact(length).zip(fields.chunks_exact_mut(sizes.inputs * field.plane())) {
            field.fill(field_of, x, sizes.image);
        }
        for (gradient, outer_of) in gradient.chunks_exact(pixels).zip(outers.chunks_exact_mut(outputs * outer.plane()))
        {
            outer.fill(outer_of, gradient, [rows, columns]);
            let planes = gradient.chunks_exact(rows * columns);
            biases.iter_mut().zip(planes).for_each(|(bias, plane)| {
                *bias += vectorized(
                    #[inline(always)]
                    move || sum(plane, |v| v),
                )
            });
        }
        dispatch(OuterSum {
            field: &fields[..images * sizes.inputs * field.plane()],
            image: sizes.inputs * field.plane(),
            offsets: &offsets,
            outer: &outers[..images * outputs * outer.plane()],
            plane: outer.plane(),
            outputs,
            rows: &starts,
            columns,
            gradient: &mut weights,
        });
    }
    weights.truncate(sizes.outputs * offsets.len());
    (weights, biases)
}
