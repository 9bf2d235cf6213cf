//! Augmentation of 8-bit images: weak, and strong (CTAugment or RandAugment after weak).

pub mod ct_augment;
mod filters;
pub mod operation;
mod pixel_ops;
mod rand_augment;
mod rescale;
mod strong;
mod weak;

pub use ct_augment::{CtAugment, CtAugmentConfig, Geometry, Sampling};
pub(crate) use strong::StrongAugment;
pub use strong::{Strong, View};
pub use weak::WeakAugment;
