//! Batch norm over groups of a batch, and the leaky ReLU that follows it everywhere.
//!
//! The method normalises every batch of a step by its own statistics. Run as groups of one large batch, all passes of a
//! step that need a gradient (twelve, with eight strong views) become one with the same numbers.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, activation::relu, module::batch_norm_train},
};
use models::network::{LEAKY_SLOPE, NORM_EPSILON};

use super::{
    cpu::{self, Normalized},
    layout::Layout,
};
use crate::device::is_cpu;

/// How a forward pass normalises.
pub(crate) enum Mode<'a> {
    /// By the running statistics.
    Evaluate,
    /// By the statistics of each group; those of one group are recorded.
    Train {
        /// The batch consists of so many groups of equal size, one after another.
        groups: usize,
        /// Where the statistics of a group go, and which group: one entry a layer, in the order of the layers.
        record: Option<(&'a mut Vec<Statistics>, usize)>,
    },
}

/// Mean and variance of one group in one layer, `[channels]` each, without gradient.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    /// Mean.
    pub(crate) mean: Tensor<1>,
    /// Variance, unbiased: what the running variance follows.
    pub(crate) variance: Tensor<1>,
}

/// Batch norm with scale and shift, then leaky ReLU.
#[derive(Module, Debug)]
pub(crate) struct BatchNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    running_mean: Param<Tensor<1>>,
    running_var: Param<Tensor<1>>,
}

impl BatchNorm {
    /// Scale 1, shift 0, running mean 0, running variance 1.
    pub(crate) fn new(channels: usize, device: &Device) -> Self {
        let ones = || Tensor::ones([channels], device);
        let zeros = || Tensor::zeros([channels], device);
        Self {
            weight: Param::from_tensor(ones()),
            bias: Param::from_tensor(zeros()),
            running_mean: Param::from_tensor(zeros()).set_require_grad(false),
            running_var: Param::from_tensor(ones()).set_require_grad(false),
        }
    }

    /// # Shapes
    /// `[groups * batch, channels, height, width]` to the same, in the device's [`Layout`].
    pub(crate) fn forward(&self, x: Tensor<4>, mode: &mut Mode) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let Mode::Train { groups, record } = mode else {
            let layout = Layout::of(&x.device());
            let scale = weight / (self.running_var.val() + NORM_EPSILON).sqrt();
            let shift = bias - self.running_mean.val() * scale.clone();
            return leaky_relu(x * layout.broadcast(scale) + layout.broadcast(shift));
        };
        let (rows, channels, groups) = (x.dims()[0], weight.dims()[0], *groups);
        assert_eq!(rows % groups, 0, "{rows} rows do not make {groups} groups of equal size");
        let count = (x.shape().num_elements() / (groups * channels)) as f64;

        let Normalized { output, mean, variance } = if is_cpu(&x.device()) {
            cpu::norm_leaky_relu(x, weight, bias, groups)
        } else {
            norm_leaky_relu(x, weight, bias, groups)
        };
        if let Some((statistics, group)) = record {
            let channels_of_group = *group * channels..(*group + 1) * channels;
            let unbias = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
            statistics.push(Statistics {
                mean: mean.detach().slice([channels_of_group.clone()]).inner(),
                variance: variance.detach().slice([channels_of_group]).inner() * unbias,
            });
        }
        output
    }

    /// Moves the running statistics a fraction `rate` towards `statistics`.
    pub(crate) fn follow(self, statistics: Statistics, rate: f64) -> Self {
        let towards = |old: Param<Tensor<1>>, new: Tensor<1>| {
            let like = old.val();
            let new = if like.is_autodiff() { Tensor::from_inner(new) } else { new };
            old.map(|old| (old.detach() * (1.0 - rate) + new * rate).detach().set_require_grad(false))
        };
        Self {
            running_mean: towards(self.running_mean, statistics.mean),
            running_var: towards(self.running_var, statistics.variance),
            ..self
        }
    }
}

/// The same as [`cpu::norm_leaky_relu`] out of the framework's own operations: groups become channels of their own,
/// `[batch, groups * channels, pixels]`.
fn norm_leaky_relu(x: Tensor<4>, weight: Tensor<1>, bias: Tensor<1>, groups: usize) -> Normalized {
    let [rows, channels, height, width] = x.dims();
    let batch = rows / groups;
    let x = x.reshape([groups, batch, channels, height * width]).swap_dims(0, 1);
    let x = x.reshape([batch, groups * channels, height * width]);
    let result = batch_norm_train(x, weight.repeat(&[groups]), bias.repeat(&[groups]), NORM_EPSILON);
    let y = result.output.reshape([batch, groups, channels, height * width]).swap_dims(0, 1);
    Normalized {
        output: leaky_relu(y.reshape([rows, channels, height, width])),
        mean: result.mean,
        variance: result.variance,
    }
}

/// `max(x, slope * x)`, written over `relu`, whose gradient is computed in one pass.
fn leaky_relu(x: Tensor<4>) -> Tensor<4> {
    x.clone() * LEAKY_SLOPE + relu(x) * (1.0 - LEAKY_SLOPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::{numbers as values, tests::quarters},
        vectors::{self, assert_same},
    };

    /// Case 14.
    #[test]
    fn normalises_biased_and_follows_unbiased() {
        let case = vectors::case("14_bn_leaky");
        let device = Device::flex();
        let norm = BatchNorm::new(1, &device);
        let x = Tensor::<1>::from_floats(case.input::<Vec<f32>>("/x").as_slice(), &device).reshape([1, 2, 2, 1]);
        let mut statistics = Vec::new();
        let y = norm.forward(x, &mut Mode::Train { groups: 1, record: Some((&mut statistics, 0)) });
        assert_same(&values(y), &case.expected::<Vec<f64>>("/leaky"));
        let norm = norm.follow(statistics.remove(0), 0.001);
        assert_same(&values(norm.running_mean.val()), &[case.expected("/running_mean")]);
        assert_same(&values(norm.running_var.val()), &[case.expected("/running_var")]);
    }

    /// Against central differences of the same sum in numpy.
    #[test]
    fn gradient_flows_through_the_statistics() {
        let device = Device::flex().autodiff();
        let row = |values: [f32; 4]| Tensor::<1>::from_floats(values, &device).reshape([4, 1, 1, 1]);
        let x = row([1.0, 2.0, 4.0, 9.0]).require_grad();
        // The shift keeps the leaky ReLU out of it.
        let shift = Param::from_tensor(Tensor::full([1], 10.0, &device));
        let norm = BatchNorm { bias: shift, ..BatchNorm::new(1, &device) };
        let y = norm.forward(x.clone(), &mut Mode::Train { groups: 1, record: None });
        let gradients = (y * row([0.3, -0.2, 0.5, 0.1])).sum().backward();
        let expected = [0.040_553_221, -0.121_659_663, 0.105_438_374, -0.024_331_933];
        assert_same(&values(x.grad(&gradients).expect("dx")), &expected);
    }

    /// The processor's kernel and the framework's operations are the same function, with the same gradients.
    #[test]
    fn both_ways_to_normalise_agree() {
        let x = quarters([12, 13, 21, 17], "x").require_grad();
        let [weight, bias] = ["weight", "bias"].map(|name| quarters([17], name).require_grad());
        let upstream = quarters([12, 13, 21, 17], "upstream");
        type Norm = fn(Tensor<4>, Tensor<1>, Tensor<1>, usize) -> Normalized;
        let frameworks: Norm = |x, weight, bias, groups| {
            let layout = Layout::ChannelsLast;
            let normalized = norm_leaky_relu(layout.leave(x), weight, bias, groups);
            Normalized { output: layout.enter(normalized.output), ..normalized }
        };
        let [found, expected] = [cpu::norm_leaky_relu as Norm, frameworks].map(|norm| {
            let Normalized { output, mean, variance } = norm(x.clone(), weight.clone(), bias.clone(), 3);
            let gradients = (output.clone() * upstream.clone()).sum().backward();
            let gradient = |tensor: &Tensor<1>| values(tensor.grad(&gradients).expect("a gradient"));
            let dx = values(x.grad(&gradients).expect("a gradient"));
            [values(output), values(mean), values(variance), dx, gradient(&weight), gradient(&bias)]
        });
        found.iter().zip(&expected).for_each(|(found, expected)| assert_same(found, expected));
    }

    /// One pass over three groups gives the values, statistics and gradients of three passes.
    #[test]
    fn groups_equal_separate_passes() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(5, &device);
        let x = quarters([12, 3, 2, 5], "x").require_grad();
        let weights = quarters([12, 3, 2, 5], "weights");

        let mut together = Vec::new();
        let y = norm.forward(x.clone(), &mut Mode::Train { groups: 3, record: Some((&mut together, 1)) });
        let grads = (y.clone() * weights.clone()).sum().backward();
        let (dx, dw) = (x.grad(&grads).expect("dx"), norm.weight.val().grad(&grads).expect("dw"));

        let x_again = x.detach().require_grad();
        let mut separate = Vec::new();
        let parts = (0..3).map(|g| {
            let part = x_again.clone().narrow(0, 4 * g, 4);
            norm.forward(part, &mut Mode::Train { groups: 1, record: Some((&mut separate, 0)) })
        });
        let y_again = Tensor::cat(parts.collect(), 0);
        let grads = (y_again.clone() * weights).sum().backward();

        assert_same(&values(y), &values(y_again));
        assert_same(&values(dx), &values(x_again.grad(&grads).expect("dx")));
        assert_same(&values(dw), &values(norm.weight.val().grad(&grads).expect("dw")));
        assert_same(&values(together[0].mean.clone()), &values(separate[1].mean.clone()));
        assert_same(&values(together[0].variance.clone()), &values(separate[1].variance.clone()));
    }
}
