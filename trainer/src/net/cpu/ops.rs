//! The kernels as operations of the framework, with their gradients.

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, Flex, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        ops::FloatTensorOps,
        tensor::FloatTensor,
    },
    tensor::{Tensor, TensorData},
};
use models::network::{LEAKY_SLOPE, NORM_EPSILON};

use super::{
    convolution,
    norm::{self, Affine, Constants, Moments},
};

const CONSTANTS: Constants = Constants { epsilon: NORM_EPSILON, slope: LEAKY_SLOPE as f32 };

/// Convolution with "SAME" padding.
///
/// # Shapes
/// `x`: `[batch, height, width, inputs]`; `weight`: `[outputs, inputs, kernel, kernel]`; `bias`: `[outputs]`.
pub(in crate::net) fn convolve(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, stride: usize) -> Tensor<4> {
    let [x, weight] = [x, weight].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::convolution(x, weight, bias.into_dispatch(), stride))
}

/// What a normalisation by the batch's own statistics gives.
pub(in crate::net) struct Normalized {
    /// In the shape of the batch.
    pub(in crate::net) output: Tensor<4>,
    /// Of each channel of each group, without gradient: `[groups * channels]`.
    pub(in crate::net) mean: Tensor<1>,
    /// Biased, likewise.
    pub(in crate::net) variance: Tensor<1>,
}

/// Batch norm of groups of equal size by their own statistics, then leaky ReLU.
///
/// # Shapes
/// `x`: `[groups * batch, height, width, channels]`; `weight`, `bias`: `[channels]`.
pub(in crate::net) fn norm_leaky_relu(x: Tensor<4>, weight: Tensor<1>, bias: Tensor<1>, groups: usize) -> Normalized {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    let (output, mean, variance) = Dispatch::norm_leaky_relu(x, weight, bias, groups);
    Normalized {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
    }
}

/// The operations; each backend that is named has them.
#[backend_extension(Autodiff, Flex)]
trait Kernels: Backend {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self>;

    fn norm_leaky_relu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

type Numbers = FloatTensor<Flex>;

impl Kernels for Flex {
    fn convolution(x: Numbers, weight: Numbers, bias: Numbers, stride: usize) -> Numbers {
        let sizes = convolution_sizes(&x, &weight, stride);
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let y = convolution::forward(&sizes, slice(&x), slice(&weight), slice(&bias));
        let [height, width] = sizes.output();
        tensor(y, vec![x.shape()[0], height, width, sizes.outputs], &x)
    }

    fn norm_leaky_relu(x: Numbers, weight: Numbers, bias: Numbers, groups: usize) -> (Numbers, Numbers, Numbers) {
        let sizes = norm_sizes(&x, groups);
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let moments = Moments::of(&sizes, slice(&x));
        let affine = Affine { weight: slice(&weight), bias: slice(&bias) };
        let y = norm::forward(&sizes, CONSTANTS, slice(&x), affine, &moments);
        let statistics = |values: Vec<f32>| tensor(values, vec![groups * sizes.channels], &x);
        (tensor(y, x.shape().to_vec(), &x), statistics(moments.mean), statistics(moments.variance))
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let inputs = [x.primitive().clone(), weight.primitive().clone()];
        let output = Flex::convolution(inputs[0].clone(), inputs[1].clone(), bias.primitive().clone(), stride);
        match Convolution.prepare::<C>([x.node(), weight.node(), bias.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, stride), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn norm_leaky_relu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = [x.primitive().clone(), weight.primitive().clone(), bias.primitive().clone()];
        let [a, b, c] = inputs.clone();
        let (output, mean, variance) = Flex::norm_leaky_relu(a, b, c, groups);
        let nodes = [x.node(), weight.node(), bias.node()];
        let output = match NormLeakyRelu.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, [mean.clone(), variance.clone()], groups), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        (output, FloatTensor::<Self>::new(mean), FloatTensor::<Self>::new(variance))
    }
}

#[derive(Debug)]
struct Convolution;

impl Backward<Flex, 3> for Convolution {
    /// Images and weights, and the stride.
    type State = ([Numbers; 2], usize);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let ([x, weight], stride) = ops.state;
        let sizes = convolution_sizes(&x, &weight, stride);
        let [x, weight] = [x, weight].map(|tensor| tensor.to_contiguous());
        let [of_images, of_weights, of_biases] = ops.parents;
        if let Some(node) = of_images {
            let dx = convolution::gradient_of_images(&sizes, slice(&gradient), slice(&weight));
            grads.register::<Flex>(node.id, tensor(dx, x.shape().to_vec(), &x));
        }
        if of_weights.is_some() || of_biases.is_some() {
            let (weights, biases) = convolution::gradient_of_weights(&sizes, slice(&x), slice(&gradient));
            if let Some(node) = of_weights {
                grads.register::<Flex>(node.id, tensor(weights, weight.shape().to_vec(), &x));
            }
            if let Some(node) = of_biases {
                grads.register::<Flex>(node.id, tensor(biases, vec![sizes.outputs], &x));
            }
        }
    }
}

#[derive(Debug)]
struct NormLeakyRelu;

impl Backward<Flex, 3> for NormLeakyRelu {
    /// Batch, scale and shift; mean and variance; groups.
    type State = ([Numbers; 3], [Numbers; 2], usize);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (inputs, [mean, variance], groups) = ops.state;
        let sizes = norm_sizes(&inputs[0], groups);
        let [x, weight, bias] = inputs.map(|tensor| tensor.to_contiguous());
        let affine = Affine { weight: slice(&weight), bias: slice(&bias) };
        let moments = Moments { mean: slice(&mean).to_vec(), variance: slice(&variance).to_vec() };
        let found = norm::backward(&sizes, CONSTANTS, slice(&x), affine, &moments, slice(&gradient));
        let shapes = [x.shape().to_vec(), vec![sizes.channels], vec![sizes.channels]];
        for ((node, values), shape) in ops.parents.into_iter().zip([found.x, found.weight, found.bias]).zip(shapes) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(values, shape, &x));
            }
        }
    }
}

fn convolution_sizes(x: &Numbers, weight: &Numbers, stride: usize) -> convolution::Sizes {
    let (x, weight) = (x.shape(), weight.shape());
    assert!(x[3] == weight[1] && weight[2] == weight[3], "a window of {weight:?} over images of {x:?}");
    convolution::Sizes { inputs: x[3], outputs: weight[0], kernel: weight[2], stride, image: [x[1], x[2]] }
}

fn norm_sizes(x: &Numbers, groups: usize) -> norm::Sizes {
    let x = x.shape();
    assert_eq!(x[0] % groups, 0, "{} rows do not make {groups} groups of equal size", x[0]);
    norm::Sizes { groups, batch: x[0] / groups, channels: x[3], pixels: x[1] * x[2] }
}

/// The numbers of a contiguous tensor.
fn slice(tensor: &Numbers) -> &[f32] {
    tensor.as_slice().expect("contiguous and in 32 bits")
}

fn tensor(values: Vec<f32>, shape: Vec<usize>, like: &Numbers) -> Numbers {
    Flex::float_from_data(TensorData::new(values, shape), &like.device())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{module::conv2d, ops::ConvOptions};
    use models::network::same_padding;

    use super::*;
    use crate::net::{layout::Layout, numbers, tests::quarters};

    /// The framework's own convolution, and its gradients, for odd and even sizes, steps, windows and channels.
    #[test]
    fn convolution_and_gradients_are_the_frameworks() {
        for (batch, inputs, outputs, kernel, stride, height, width) in [
            (5, 3, 16, 3, 1, 8, 8),
            (3, 16, 5, 3, 1, 5, 13),
            (2, 4, 8, 3, 2, 8, 10),
            (2, 3, 4, 3, 2, 7, 9),
            (2, 8, 4, 1, 2, 9, 8),
            (3, 21, 18, 3, 2, 4, 5),
            (18, 2, 3, 1, 1, 1, 3),
            (1, 1, 1, 3, 2, 2, 1),
        ] {
            let x = quarters([batch, height, width, inputs], "x").require_grad();
            let weight = quarters([outputs, inputs, kernel, kernel], "weight").require_grad();
            let bias = quarters([outputs], "bias").require_grad();
            let padding = [height, width].map(|side| same_padding(side, kernel, stride));
            let options = ConvOptions { stride: [stride; 2], padding, dilation: [1; 2], groups: 1 };
            let layout = Layout::ChannelsLast;
            let expected = conv2d(layout.leave(x.clone()), weight.clone(), Some(bias.clone()), options);
            let expected = layout.enter(expected);
            let found = convolve(x.clone(), weight.clone(), bias.clone(), stride);
            let upstream = quarters(expected.dims(), "upstream");
            let gradients = |y: Tensor<4>| {
                let gradients = (y * upstream.clone()).sum().backward();
                let of = |g: Option<Vec<f64>>| g.expect("a gradient");
                [
                    of(x.grad(&gradients).map(numbers)),
                    of(weight.grad(&gradients).map(numbers)),
                    of(bias.grad(&gradients).map(numbers)),
                ]
            };
            // To the bit: no sum of such products is rounded.
            assert_eq!(numbers(found.clone()), numbers(expected.clone()));
            assert_eq!(gradients(found), gradients(expected));
        }
    }
}
