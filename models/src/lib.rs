//! What two programs must agree on: the network, the labels, the preprocessing, the bundle, the samples.
//!
//! Every other crate of the workspace depends on this one and on nothing else of ours. It holds formats and
//! the rules that both sides of a format must apply in the same way. It has no features, no threads, no network
//! and no clock: times and paths come in as arguments.
//!
//! ```
//! use models::{LabelSet, NetworkSpec};
//!
//! let network = NetworkSpec::wide_resnet(28, 2, [3, 32, 32], 10)?;
//! let parameters: usize = network.tensors().iter().filter(|t| t.role.is_trained()).map(|t| t.len()).sum();
//! assert_eq!(parameters, 1_469_642);
//! assert_eq!(LabelSet::new(["cat", "dog"])?.name(1), "dog");
//! # Ok::<(), models::Error>(())
//! ```
//!
//! | module | what it fixes |
//! |---|---|
//! | [`network`] | the layers of a network and the names and shapes of its tensors |
//! | [`weights`] | the file that carries trained weights and what they belong to |
//! | [`preprocess`] | the way from an image file to the network's input |
//! | [`calibration`] | the way from logits to probabilities and pseudo-labels |
//! | [`collection`] | which samples a device keeps |
//! | [`bundle`] | the folder that a device runs |
//! | [`signing`] | who made a bundle: keys, signatures, orders to go back |
//! | [`sample`], [`segment`] | a kept image with its record; a sealed file of them |
//! | [`review`] | what people say of kept images |
//! | [`board`] | what the pages show |
//! | [`sync`] | names and messages in the store between devices and workstation |
//! | [`hub`] | who may do what over HTTP |
//! | [`durable`] | writing files so that a power cut leaves the old or the new content, never half of it |
//! | [`tolerance`] | how far two computations of the same number may be apart |

pub mod board;
pub mod bundle;
pub mod calibration;
pub mod collection;
mod digest;
pub mod durable;
mod error;
mod estimate;
pub mod hub;
mod labels;
pub mod network;
mod perceptual;
pub mod preprocess;
pub mod review;
pub mod sample;
pub mod segment;
pub mod signing;
pub mod sync;
pub mod tolerance;
pub mod weights;

pub use board::Board;
pub use bundle::{Bundle, Manifest, ReportCard};
pub use calibration::{Calibration, Prediction};
pub use collection::CollectionPolicy;
pub use digest::Digest;
pub use error::{Error, Result};
pub use estimate::Estimate;
pub use labels::LabelSet;
pub use network::NetworkSpec;
pub use perceptual::PerceptualHash;
pub use preprocess::{Pixels, Preprocessing};
pub use review::{Review, Reviews, Said};
pub use sample::{Dropped, Reason, ReasonKind, Sample, SampleRecord};
pub use weights::{ModelSpec, TrainingFacts, Weights};
