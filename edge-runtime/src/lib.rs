//! Runs a bundle on a device, keeps the samples worth learning from, syncs them, takes new bundles over.
//!
//! A program that only wants to classify needs five lines; `examples/classify.rs` is one:
//!
//! ```no_run
//! use edge_runtime::Classifier;
//!
//! let classifier = Classifier::open("bundle".as_ref())?;
//! let prediction = classifier.classify("photo.jpg", &std::fs::read("photo.jpg")?)?;
//! let label = classifier.manifest().labels.name(prediction.class);
//! println!("{label} {:.1} %", 100.0 * prediction.confidence);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The whole loop of a device is [`device::run`]; the program `flywheel-edge` is [`cli::main`]. One thread
//! sees: it classifies the new images of the source, writes each prediction to the journal and each sample worth keeping to the
//! store. Another is in touch with the remote: it takes new bundles over after a trial, and while the remote is there, seals the
//! most useful samples into a segment, uploads segments, deletes those that the workstation has receipted, reports.
//!
//! | module | what it does |
//! |---|---|
//! | [`engine`] | runs an ONNX graph, with tract and kernels of our own, or with ONNX Runtime |
//! | [`classifier`] | opens a bundle, proves it by its golden vectors, classifies images |
//! | [`source`] | images in a folder, and frames of a camera |
//! | [`journal`] | every prediction exactly once, on disk |
//! | [`policy`] | which samples are kept and why |
//! | [`store`] | kept samples and sealed segments on disk |
//! | [`sync`] | segments out, receipts and pointers in, through an object store or a hub |
//! | [`update`] | takes a new bundle over after a trial, or refuses it |
//! | [`serve`] | classifies and answers over HTTP, with a page to look at |
//! | [`device`] | the loop over all of these |
//! | [`config`], [`event`], [`mod@bench`], [`cli`] | what the loop is told, what it tells, how fast it is, its program |
//!
//! What is in a device's state folder:
//!
//! ```text
//! lock                   held while a device runs, so that no second one uses the folder
//! config.json            the configuration of the last start, as it was understood
//! current.json           the bundle that serves, and the highest sequence number that ever did
//! trying.json            the bundle that is being tried, or with which the device went down
//! refused.json           bundles that did not do well here
//! bundles/DIGEST/        its files
//! predictions.jsonl      the journal; predictions.1.jsonl the one before
//! history.json           what the journals before add up to
//! hub/                   the device's key, and as whom a hub knows it
//! sent.json              what was sent in the last day, if that has a limit
//! store/open/            kept samples, not yet sealed
//! store/damaged/         what of the store the disk damaged
//! store/sealed/          segments without a receipt
//! ```

pub mod bench;
pub mod classifier;
pub mod cli;
pub mod config;
pub mod device;
pub mod engine;
mod error;
pub mod event;
pub mod journal;
pub mod policy;
pub mod serve;
pub mod source;
pub mod store;
pub mod sync;
pub mod update;

#[cfg(test)]
mod fixture;

pub use classifier::Classifier;
pub use config::EdgeConfig;
pub use engine::Engine;
pub use error::{Error, Result};
