//! An image with its border, so that a row of a window is one stretch of numbers.

/// How an image lies in a buffer: `[row, column, channel]`, zeros around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Rows and columns, the border with them.
    size: [usize; 2],
    /// Zeros above and to the left.
    border: [usize; 2],
    channels: usize,
}

impl Field {
    /// For windows of `kernel` pixels that move by `stride` and give `output` rows and columns, over images of `image` rows
    /// and columns that lie behind a border.
    pub(super) fn new(
        output: [usize; 2],
        kernel: usize,
        stride: usize,
        image: [usize; 2],
        border: [usize; 2],
        channels: usize,
    ) -> Self {
        let side = |axis: usize| ((output[axis] - 1) * stride + kernel).max(border[axis] + image[axis]);
        Self { size: [side(0), side(1)], border, channels }
    }

    /// Numbers from a row to the next.
    pub(super) fn row(&self) -> usize {
        self.size[1] * self.channels
    }

    /// Numbers of an image.
    pub(super) fn length(&self) -> usize {
        self.size[0] * self.row()
    }

    /// Where the windows of `count` rows and columns start, the first of them at `first`, each `stride` behind the last.
    pub(super) fn windows(&self, first: [usize; 2], count: [usize; 2], stride: usize) -> Vec<usize> {
        let start = |y: usize, x: usize| (first[0] + stride * y) * self.row() + (first[1] + stride * x) * self.channels;
        (0..count[0]).flat_map(|y| (0..count[1]).map(move |x| start(y, x))).collect()
    }

    /// A buffer of zeros for so many images.
    pub(super) fn buffer(&self, images: usize) -> Vec<f32> {
        vec![0.0; images * self.length()]
    }

    /// Writes an image, `[row, column, channel]`, `width` columns wide, into a buffer; the zeros around it stay.
    pub(super) fn fill(&self, buffer: &mut [f32], image: &[f32], width: usize) {
        let rows = buffer.chunks_exact_mut(self.row()).skip(self.border[0]);
        for (to, from) in rows.zip(image.chunks_exact(width * self.channels)) {
            to[self.border[1] * self.channels..][..from.len()].copy_from_slice(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_reads_its_pixels_or_zero() {
        let image = [5_usize, 7];
        let [height, width] = image;
        let values: Vec<f32> = (1..=2 * height * width).map(|v| v as f32).collect();
        for (kernel, stride, border) in [(3, 1, [1, 1]), (3, 2, [0, 1]), (3, 2, [1, 0]), (1, 2, [0, 0]), (1, 1, [0, 0])]
        {
            let output = image.map(|side| side.div_ceil(stride));
            let field = Field::new(output, kernel, stride, image, border, 2);
            let mut buffer = field.buffer(1);
            field.fill(&mut buffer, &values, width);
            for (pixel, start) in field.windows([0, 0], output, stride).into_iter().enumerate() {
                let (y, x) = (pixel / output[1] * stride, pixel % output[1] * stride);
                for (ky, kx, channel) in taps(kernel) {
                    let (row, column) = ((y + ky).wrapping_sub(border[0]), (x + kx).wrapping_sub(border[1]));
                    let inside = row < height && column < width;
                    let expected = if inside { values[(row * width + column) * 2 + channel] } else { 0.0 };
                    assert_eq!(buffer[start + ky * field.row() + 2 * kx + channel], expected, "{field:?} {y} {x}");
                }
            }
        }
    }

    fn taps(kernel: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..kernel).flat_map(move |y| (0..kernel).flat_map(move |x| (0..2).map(move |channel| (y, x, channel))))
    }
}
