//! Convolutions of one image, in safe Rust over the registers that the processor has.
//!
//! `winograd.rs` is for windows of 3x3 pixels with stride 1, `direct.rs` for all others.

mod convolution;
mod direct;
mod registers;
mod rounding;
mod winograd;

pub(crate) use convolution::{Affine, Convolution, Sizes};
pub(crate) use rounding::Rounding;
