//! How replicas agree on a mean.

use std::{
    iter,
    sync::mpsc::{Receiver, Sender, channel},
};

use burn::tensor::{
    Device, Tensor,
    distributed::{ReduceOperation, all_reduce},
};
use models::network::TensorRole;

use crate::{device::is_cpu, net::NamedTensors};

/// One replica's end, for one step.
pub(super) enum Exchange {
    /// There is no other replica.
    Alone,
    /// All replicas are on the processor: every one of them gives its tensor to all, itself too, and adds up in the same order.
    Memory { to: Vec<Sender<Tensor<1>>>, from: Vec<Receiver<Tensor<1>>> },
    /// Each replica has a GPU: NCCL, over what connects them.
    Nccl(Vec<Device>),
}

impl Exchange {
    /// The ends of replicas on these devices.
    pub(super) fn among(devices: &[Device]) -> Vec<Self> {
        let count = devices.len();
        if !is_cpu(&devices[0]) {
            return devices.iter().map(|_| Self::Nccl(devices.to_vec())).collect();
        }
        let mut to: Vec<Vec<_>> = iter::repeat_with(Vec::new).take(count).collect();
        let mut from: Vec<Vec<_>> = iter::repeat_with(Vec::new).take(count).collect();
        for to in &mut to {
            for from in &mut from {
                let (sender, receiver) = channel();
                to.push(sender);
                from.push(receiver);
            }
        }
        to.into_iter().zip(from).map(|(to, from)| Self::Memory { to, from }).collect()
    }

    /// Puts the mean over all replicas in the place of every gradient and of every running statistic among `weights`.
    ///
    /// # Panics
    /// If another replica ended before.
    pub(super) fn average(self, gradients: &mut NamedTensors, weights: &mut NamedTensors) {
        if matches!(self, Self::Alone) {
            return;
        }
        let statistics = weights.iter_mut().filter(|(name, _)| TensorRole::of(name) == TensorRole::Statistic);
        let tensors: Vec<_> = gradients.values_mut().chain(statistics.map(|(_, tensor)| tensor)).collect();
        let lengths = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
        let mean = self.mean(Tensor::cat(tensors.iter().map(|tensor| (*tensor).clone()).collect(), 0));
        for (tensor, mean) in tensors.into_iter().zip(mean.split_with_sizes(lengths, 0)) {
            *tensor = mean;
        }
    }

    fn mean(self, tensor: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Alone => tensor,
            Self::Memory { to, from } => {
                for to in to {
                    // It can only fail if the other ended, and then there is nothing to receive from it either.
                    let _ = to.send(tensor.clone());
                }
                let count = from.len() as f64;
                let tensors = from.into_iter().map(|from| from.recv().expect("every replica gives its tensor"));
                tensors.reduce(|sum, tensor| sum + tensor).expect("at least its own") / count
            }
            Self::Nccl(devices) => all_reduce(tensor, ReduceOperation::Mean, devices).resolve(),
        }
    }
}
