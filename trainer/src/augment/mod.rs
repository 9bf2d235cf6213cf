//! Augmentation of 8-bit images: weak for the anchor, strong (CTAugment after weak) for everything trained on.

pub mod ct_augment;
mod filters;
pub mod operation;
mod pixel_ops;
mod strong;
mod weak;

pub use ct_augment::{CtAugment, CtAugmentConfig};
pub(crate) use strong::StrongAugment;
pub use strong::{Strong, View};
pub use weak::WeakAugment;
