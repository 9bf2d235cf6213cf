//! The wide ResNet of [`models::network`] as a module that learns.

mod batch_norm;
mod cpu;
mod layers;
mod layout;
mod tensors;
mod wide_resnet;

pub(crate) use batch_norm::{Mode, Statistics};
#[cfg(test)]
pub(crate) use tensors::numbers;
pub(crate) use tensors::{NamedTensors, floats, gradients, load, tensors};
pub(crate) use wide_resnet::WideResNet;

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use rand::RngExt;

    use crate::random;

    /// Multiples of a quarter from -1 to 1, the same ones for the same name. Sums of a few thousand of their products
    /// are exact in `f32`, in any order.
    pub(super) fn quarters<const D: usize>(shape: [usize; D], name: &str) -> Tensor<D> {
        let mut rng = random::stream(0, name);
        let values = (0..shape.iter().product()).map(|_| rng.random_range(-4..=4) as f32 / 4.0).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff())
    }
}
