//! Convolution and dense layers with the initialisation of the method's original code.

use burn::{
    module::{Module, Param},
    tensor::{Device, FloatDType, Tensor, TensorData, module::conv2d, ops::ConvOptions},
};
use models::network::same_padding;
use rand_distr::{Distribution, StandardNormal};

use super::{cpu, layout::Layout};
use crate::{device::is_cpu, random::Stream};

/// Standard deviation of a standard normal distribution cut off at two.
const TRUNCATED_DEVIATION: f64 = 0.879_625_661_034_239_8;

/// 2-D convolution with bias and "SAME" padding.
#[derive(Module, Debug)]
pub(crate) struct Convolution {
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    stride: usize,
    /// What the arithmetic is done in, if not in 32 bits; the weights stay in 32.
    #[module(skip)]
    cast: Option<FloatDType>,
}

impl Convolution {
    /// Kernels from a normal distribution of variance `2 / (k * k * outputs)`, biases zero.
    ///
    /// # Reference
    /// He et al. (2015), with the fan of the outputs.
    pub(crate) fn new(
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        random: &mut Stream,
        device: &Device,
    ) -> Self {
        let deviation = (2.0 / (kernel * kernel * outputs) as f64).sqrt();
        let shape = [outputs, inputs, kernel, kernel];
        let values = (0..shape.iter().product()).map(|_| (deviation * standard_normal(random)) as f32).collect();
        Self { weight: parameter(values, shape, device), bias: zeros(outputs, device), stride, cast: None }
    }

    /// The same layer, computing in other floats.
    pub(crate) fn computing_in(self, cast: Option<FloatDType>) -> Self {
        Self { cast, ..self }
    }

    /// Where its tensors live.
    pub(crate) fn device(&self) -> Device {
        self.bias.val().device()
    }

    /// # Shapes
    /// `inputs` channels of `height` by `width` pixels to `outputs` of `ceil(height / stride)` by `ceil(width / stride)`, in
    /// the device's [`Layout`].
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        if self.cast.is_none() && is_cpu(&x.device()) {
            return cpu::convolve(x, weight, bias, self.stride);
        }
        let layout = Layout::of(&x.device());
        let x = layout.leave(x);
        let [.., height, width] = x.dims();
        let [.., kernel, _] = weight.dims();
        let padding = [height, width].map(|size| same_padding(size, kernel, self.stride));
        let options = ConvOptions { stride: [self.stride; 2], padding, dilation: [1; 2], groups: 1 };
        let y = match self.cast {
            // The gradient of a cast is a cast back: those of weights and biases are in 32 bits.
            Some(cast) => conv2d(x.cast(cast), weight.cast(cast), Some(bias.cast(cast)), options).cast(FloatDType::F32),
            None => conv2d(x, weight, Some(bias), options),
        };
        layout.enter(y)
    }
}

/// Dense layer with bias.
#[derive(Module, Debug)]
pub(crate) struct Dense {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Dense {
    /// Kernels from a normal distribution cut off at two deviations, scaled to variance `2 / (inputs + outputs)`;
    /// biases zero.
    ///
    /// # Reference
    /// Glorot and Bengio (2010).
    pub(crate) fn new(inputs: usize, outputs: usize, random: &mut Stream, device: &Device) -> Self {
        let deviation = (2.0 / (inputs + outputs) as f64).sqrt() / TRUNCATED_DEVIATION;
        let draw = |_| {
            let within = std::iter::repeat_with(|| standard_normal(random)).find(|z| z.abs() <= 2.0);
            (deviation * within.unwrap_or_default()) as f32
        };
        let values = (0..inputs * outputs).map(draw).collect();
        Self { weight: parameter(values, [outputs, inputs], device), bias: zeros(outputs, device) }
    }

    /// # Shapes
    /// `[batch, inputs]` to `[batch, outputs]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze()
    }
}

fn standard_normal(random: &mut Stream) -> f64 {
    StandardNormal.sample(random)
}

fn parameter<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}

fn zeros(length: usize, device: &Device) -> Param<Tensor<1>> {
    Param::from_tensor(Tensor::zeros([length], device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net::numbers, random, vectors};

    /// Case 16: the windows of a stride of 2 start at pixel 0.
    #[test]
    fn stride_two_pads_at_the_end() {
        let case = vectors::case("16_same_stride2");
        let device = Device::flex();
        let mut layer = Convolution::new(1, 1, 3, 2, &mut random::stream(0, "test"), &device);
        let rows = |pointer| case.input::<Vec<Vec<f32>>>(pointer).concat();
        layer.weight = parameter(rows("/kernel"), [1, 1, 3, 3], &device);
        let x = Tensor::<1>::from_floats(rows("/x").as_slice(), &device).reshape([1, 4, 4, 1]);
        assert_eq!(numbers(layer.forward(x)), case.expected::<Vec<Vec<f64>>>("/tf_same").concat());
    }

    #[test]
    fn initial_deviations_are_the_stated_ones() {
        let device = Device::flex();
        let mut random = random::stream(1, "test");
        fn deviation<const D: usize>(weights: Param<Tensor<D>>) -> f64 {
            let values = numbers(weights.val());
            (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
        }
        let conv = Convolution::new(64, 128, 3, 1, &mut random, &device).weight;
        let dense = Dense::new(200, 300, &mut random, &device).weight;
        // Seeded; the sampling error of 60,000 draws and more is below one per cent.
        assert!((deviation(conv) / (2.0_f64 / (9.0 * 128.0)).sqrt() - 1.0).abs() < 0.01);
        assert!((deviation(dense) / (2.0_f64 / 500.0).sqrt() - 1.0).abs() < 0.01);
    }
}
