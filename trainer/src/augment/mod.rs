//! Augmentation of 8-bit images: weak for the anchor, strong (CTAugment after weak) for everything trained on.

pub mod ct_augment;
mod filters;
pub mod operation;
mod pixel_ops;
mod weak;

pub use ct_augment::{CtAugment, CtAugmentConfig};
pub use weak::WeakAugment;
