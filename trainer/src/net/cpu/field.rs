//! An image with its border, pixel by pixel, so that a row of a window is one stretch of numbers.

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

    /// Writes an image, `[channel, row, column]`, into a buffer; the zeros around it and channels it lacks stay.
    pub(super) fn fill(&self, buffer: &mut [f32], image: &[f32], [height, width]: [usize; 2]) {
        let pixels = height * width;
        let channels = image.len() / pixels;
        let corner = self.border[0] * self.row() + self.border[1] * self.channels;
        // Some planes at a time, each as it lies in memory.
        for channel in (0..channels).step_by(SIDE) {
            for (y, x) in (0..height).flat_map(|y| (0..width).step_by(SIDE).map(move |x| (y, x))) {
                let from = &image[channel * pixels + y * width + x..];
                let to = &mut buffer[corner + y * self.row() + x * self.channels + channel..];
                if channel + SIDE <= channels && x + SIDE <= width {
                    let square: [[f32; SIDE]; SIDE] = std::array::from_fn(|c| take(&from[c * pixels..]));
                    for i in 0..SIDE {
                        to[i * self.channels..][..SIDE].copy_from_slice(&square.map(|pixels| pixels[i]));
                    }
                    continue;
                }
                let rest =
                    (0..SIDE.min(channels - channel)).flat_map(|c| (0..SIDE.min(width - x)).map(move |i| (c, i)));
                rest.for_each(|(c, i)| to[i * self.channels + c] = from[c * pixels + i]);
            }
        }
    }
}

/// Channels and pixels that are turned together, in registers.
const SIDE: usize = 4;

fn take(values: &[f32]) -> [f32; SIDE] {
    *values.first_chunk().expect("a whole square")
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
            field.fill(&mut buffer, &values, image);
            for (pixel, start) in field.windows([0, 0], output, stride).into_iter().enumerate() {
                let (y, x) = (pixel / output[1] * stride, pixel % output[1] * stride);
                for (ky, kx, channel) in taps(kernel) {
                    let (row, column) = ((y + ky).wrapping_sub(border[0]), (x + kx).wrapping_sub(border[1]));
                    let inside = row < height && column < width;
                    let expected = if inside { values[(channel * height + row) * width + column] } else { 0.0 };
                    assert_eq!(buffer[start + ky * field.row() + 2 * kx + channel], expected, "{field:?} {y} {x}");
                }
            }
        }
    }

    fn taps(kernel: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..kernel).flat_map(move |y| (0..kernel).flat_map(move |x| (0..2).map(move |channel| (y, x, channel))))
    }
}
