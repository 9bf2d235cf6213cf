//! Learns an image classifier from a handful of labels and many unlabeled images.
//!
//! The methods are MixMatch, ReMixMatch and FixMatch as their authors' code runs them; `algorithm/remixmatch.rs` is one
//! page that can be held beside the paper. What it is made of lies one idea a file in `ssl` and [`augment`], and
//! [`fit()`] is the loop.
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//! use trainer::{Classifier, Outcome, config::{NetworkConfig, TrainConfig}, data::digits, device::DeviceId};
//!
//! let data = digits::split(1).training();
//! let (config, network) = (TrainConfig { steps: 1000, ..TrainConfig::default() }, NetworkConfig::default());
//! let stop = AtomicBool::new(false);
//! if let Outcome::Finished(weights) = trainer::fit(&config, &network, &data, "run".as_ref(), &stop, &mut |_| {})? {
//!     println!("{:?}", Classifier::new(&weights, DeviceId::CPU)?.evaluate(&data.test)?);
//! }
//! # Ok::<(), trainer::Error>(())
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | every setting, its unit and where its default comes from |
//! | [`preset`], [`ablation`] | the papers' experiments by name, and variants of them |
//! | [`data`] | images and labels: the digits, folders, splits, batches |
//! | [`augment`] | weak augmentation, CTAugment and its pixel operations |
//! | `net` | the wide ResNet with grouped batch norm |
//! | `ssl` | guessed labels, pseudo-labels, alignment, sharpening, mixup, losses, ramp: tensors in and out |
//! | `algorithm` | one training step of each method |
//! | `optimizer`, `ema` | what turns gradients into weights |
//! | `parallel` | the replicas of a step, one a device |
//! | [`memory`] | memory that a program keeps from step to step |
//! | [`doctor`] | whether a device computes what the processor computes |
//! | [`mod@fit`], [`evaluate`], `checkpoint`, [`metrics`] | the loop, its measurements, its memory |
//!
//! No type of the learning framework leaves this crate: [`models::Weights`] does.

pub mod ablation;
mod algorithm;
pub mod augment;
mod checkpoint;
pub mod config;
pub mod data;
pub mod device;
pub mod doctor;
mod ema;
mod error;
pub mod evaluate;
pub mod fit;
pub mod memory;
pub mod metrics;
mod net;
mod optimizer;
mod parallel;
pub mod preset;
pub mod random;
mod ssl;
#[cfg(test)]
mod vectors;

pub use error::{Error, Result};
pub use evaluate::Classifier;
pub use fit::{Outcome, fit};
