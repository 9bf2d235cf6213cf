//! The wide ResNet of [`models::network`] as a module that learns.

mod batch_norm;
mod cpu;
mod layers;
mod tensors;
mod wide_resnet;

pub(crate) use batch_norm::{Mode, Statistics};
pub(crate) use tensors::{NamedTensors, floats, gradients, load, numbers, tensors};
pub(crate) use wide_resnet::WideResNet;
