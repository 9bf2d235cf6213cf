//! An image with its border, laid out so that every tap of a convolution reads whole registers.

/// Room behind each row for a register that starts at its last pixel.
const SLACK: usize = 8;

/// How an image of some channels lies in a buffer, for a window that moves by `stride`.
///
/// A row is divided into `stride` phases: columns 0, s, 2s, .., then 1, s + 1, .., so that neighbours in the output read
/// neighbours in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    stride: usize,
    /// Numbers from a row to the next phase.
    phase: usize,
    /// Rows.
    rows: usize,
    /// Zeros above and to the left.
    border: [usize; 2],
}

impl Field {
    /// For windows of `kernel` pixels that give `output` rows and columns, over images with a border.
    pub(super) fn new(output: [usize; 2], kernel: usize, stride: usize, border: [usize; 2]) -> Self {
        let [rows, columns] = output;
        Self { stride, phase: columns + (kernel - 1) / stride + SLACK, rows: (rows - 1) * stride + kernel, border }
    }

    fn row(&self) -> usize {
        self.stride * self.phase
    }

    /// Numbers of a channel.
    pub(super) fn plane(&self) -> usize {
        self.rows * self.row()
    }

    /// Where the window of an output pixel starts, in each channel.
    pub(super) fn base(&self, y: usize, x: usize) -> usize {
        self.stride * y * self.row() + x
    }

    /// Where a pixel of the window lies, from its start.
    pub(super) fn tap(&self, y: usize, x: usize) -> usize {
        y * self.row() + x % self.stride * self.phase + x / self.stride
    }

    /// A buffer of zeros for so many channels.
    pub(super) fn buffer(&self, channels: usize) -> Vec<f32> {
        vec![0.0; channels * self.plane()]
    }

    /// Writes an image of `width` columns into a buffer; the zeros around it stay.
    pub(super) fn fill(&self, buffer: &mut [f32], image: &[f32], [height, width]: [usize; 2]) {
        let planes = buffer.chunks_exact_mut(self.plane()).zip(image.chunks_exact(height * width));
        for (plane, image) in planes {
            let rows = plane.chunks_exact_mut(self.row()).skip(self.border[0]);
            for (row, pixels) in rows.zip(image.chunks_exact(width)) {
                if self.stride == 1 {
                    row[self.border[1]..][..width].copy_from_slice(pixels);
                    continue;
                }
                for (phase, row) in row.chunks_exact_mut(self.phase).enumerate() {
                    // The first column of the image in this phase, and where it goes.
                    let first = (phase + self.stride - self.border[1] % self.stride) % self.stride;
                    let start = (first + self.border[1]) / self.stride;
                    let pixels = pixels.iter().skip(first).step_by(self.stride);
                    row[start..].iter_mut().zip(pixels).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tap_of_every_window_reads_its_pixel_or_zero() {
        let [height, width] = [5_usize, 7];
        let image: Vec<f32> = (1..=2 * height * width).map(|v| v as f32).collect();
        for (kernel, stride, border) in [(3, 1, [1, 1]), (3, 2, [0, 1]), (3, 2, [1, 0]), (1, 2, [0, 0]), (1, 1, [0, 0])]
        {
            let output = [height.div_ceil(stride), width.div_ceil(stride)];
            let field = Field::new(output, kernel, stride, border);
            let mut buffer = field.buffer(2);
            field.fill(&mut buffer, &image, [height, width]);
            for (channel, plane) in buffer.chunks_exact(field.plane()).enumerate() {
                for (y, x, ky, kx) in windows(output, kernel) {
                    let (row, column) =
                        ((y * stride + ky).wrapping_sub(border[0]), (x * stride + kx).wrapping_sub(border[1]));
                    let expected = if row < height && column < width {
                        image[(channel * height + row) * width + column]
                    } else {
                        0.0
                    };
                    assert_eq!(plane[field.base(y, x) + field.tap(ky, kx)], expected, "{field:?} {y} {x} {ky} {kx}");
                }
            }
        }
    }

    fn windows([rows, columns]: [usize; 2], kernel: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let pixels = (0..rows).flat_map(move |y| (0..columns).map(move |x| (y, x)));
        pixels.flat_map(move |(y, x)| (0..kernel).flat_map(move |ky| (0..kernel).map(move |kx| (y, x, ky, kx))))
    }
}
