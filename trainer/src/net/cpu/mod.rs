//! Convolution and batch norm for training on the processor, with their gradients.
//!
//! The CPU backend builds both out of general operations that copy and transpose whole batches. These work image by image
//! in the caches, with neighbouring channels in the lanes of vector registers, and so with the channels last:
//! `[batch, height, width, channel]`.
//!
//! Images are divided among the cores; what is summed over images is summed in an order that does not depend on
//! them, so that the same run gives the same bits.

mod convolution;
mod correlation;
mod field;
mod norm;
mod ops;
mod simd;

pub(super) use ops::{Normalized, convolve, norm_leaky_relu};
