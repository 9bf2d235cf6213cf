//! Where the channels are in a batch of images.

use burn::tensor::{Device, Tensor};

use crate::device::is_cpu;

/// Order of a batch's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[batch, channels, height, width]`, as in the framework's operations.
    ChannelsFirst,
    /// `[batch, height, width, channels]`, as in our own kernels.
    ChannelsLast,
}

impl Layout {
    /// What a network on a device computes in.
    pub(super) fn of(device: &Device) -> Self {
        if is_cpu(device) { Self::ChannelsLast } else { Self::ChannelsFirst }
    }

    /// From `[batch, channels, height, width]`.
    pub(super) fn enter(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::ChannelsFirst => x,
            Self::ChannelsLast => x.permute([0, 2, 3, 1]),
        }
    }

    /// To `[batch, channels, height, width]`.
    pub(super) fn leave(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::ChannelsFirst => x,
            Self::ChannelsLast => x.permute([0, 3, 1, 2]),
        }
    }

    /// One number a channel, to compute with all pixels of a batch.
    pub(super) fn broadcast(self, channels: Tensor<1>) -> Tensor<4> {
        let [length] = channels.dims();
        match self {
            Self::ChannelsFirst => channels.reshape([1, length, 1, 1]),
            Self::ChannelsLast => channels.reshape([1, 1, 1, length]),
        }
    }

    /// The mean over all pixels: `[batch, channels]`.
    pub(super) fn pool(self, x: Tensor<4>) -> Tensor<2> {
        let [batch, a, b, c] = x.dims();
        match self {
            Self::ChannelsFirst => x.reshape([batch, a, b * c]).mean_dim(2).reshape([batch, a]),
            Self::ChannelsLast => x.reshape([batch, a * b, c]).mean_dim(1).reshape([batch, c]),
        }
    }
}
