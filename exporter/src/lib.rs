//! Trained weights in, ONNX out, and a bundle once the ONNX model has proven that it is the trained one.
//!
//! The crate knows neither the framework that trains nor the engine that runs: weights arrive as
//! [`models::Weights`], and whoever wants a graph checked hands in a function that runs it.
//!
//! ```
//! use exporter::{OnnxOptions, parity, to_onnx};
//! use models::{
//!     LabelSet, ModelSpec, NetworkSpec, Pixels, Preprocessing, TrainingFacts, Weights, bundle::Golden, preprocess::Color,
//!     tolerance::CROSS_ENGINE,
//! };
//!
//! // Weights of nothing but zeros, whose logits are zeros.
//! let network = NetworkSpec::wide_resnet(10, 1, [1, 8, 8], 2)?;
//! let tensors = network.tensors().into_iter().map(|t| (t.name.clone(), vec![0.0; t.len()])).collect();
//! let labels = LabelSet::new(["cat", "dog"])?;
//! let preprocessing = Preprocessing { color: Color::Gray, height: 8, width: 8 };
//! let training = TrainingFacts { labeled: 40, unlabeled: 700, steps: 1200, seed: 1 };
//! let weights = Weights { spec: ModelSpec { network, labels, preprocessing }, training, tensors };
//! let onnx: Vec<u8> = to_onnx(&weights, &OnnxOptions::default())?;
//! assert!(onnx.len() > 4 * 77_000);
//!
//! // An engine would run `onnx`; any function from an image to its logits will do.
//! let image = Pixels { height: 8, width: 8, channels: 1, data: vec![128; 64] };
//! let golden = Golden { images: vec![image], logits: vec![vec![0.0, 0.0]] };
//! let engine = |_: &Pixels| Ok::<_, std::io::Error>(vec![0.0, 1e-6]);
//! assert!(parity(&golden, CROSS_ENGINE, engine).is_err(), "within tolerance, but another class");
//! let engine = |_: &Pixels| Ok::<_, std::io::Error>(vec![1e-6, 0.0]);
//! assert!(parity(&golden, CROSS_ENGINE, engine)?.max_abs_diff < 2e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | item | what it does |
//! |---|---|
//! | [`to_onnx()`] | weights to the bytes of an ONNX model, with [`OnnxOptions`] |
//! | [`rounded()`] | the network that a model with kernels in fewer bits is |
//! | [`Observations`] | the ranges of a model that computes in 8 bits |
//! | [`parity()`] | golden images through an engine, compared with the golden logits |
//! | [`bundle()`] | both, and only then the bundle's folder |

mod bundle;
mod check;
mod error;
mod graph;
mod int8;
mod model;
/// ONNX's own messages, as `exporter/proto` writes them from `onnx.proto`.
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, dead_code, missing_docs, unreachable_pub)]
mod onnx_proto;
mod storage;
#[cfg(test)]
mod testing;
mod wide_resnet;

pub use bundle::{Parts, bundle};
pub use check::{Parity, parity};
pub use error::{BoxError, Error, Result};
pub use graph::Batch;
pub use int8::{Observations, RangeMethod, Ranges};
pub use model::{EMBEDDING, INPUT, IR_VERSION, OPSET, OUTPUT, OnnxOptions, PROBS, to_onnx};
pub use storage::rounded;
