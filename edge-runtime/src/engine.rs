//! Runs an ONNX graph: one image in, one row of logits out.
//!
//! tract runs it, with convolutions of our own (`kernels`), which carry nearly all of the work; only `engine/tract.rs` and
//! what is below it know tract. With the feature `onnxruntime`, an ONNX Runtime of the device can run it instead.
//!
//! The batch is 1: many images go faster by running [`Engine::logits`] on several threads than by a larger batch.

mod accelerator;
mod kernels;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod tract;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use models::{Pixels, preprocess::InputSpec};

pub use self::accelerator::Accelerator;
use crate::{Error, Result};

/// The output that is read, if a graph has several.
const LOGITS: &str = "logits";

/// What runs a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend<'a> {
    /// tract, which is inside this program.
    #[default]
    Tract,
    /// An ONNX Runtime of the device's.
    OnnxRuntime {
        /// Its library file. A process uses the first that it loads.
        library: &'a Path,
        /// What it is to run graphs on, the first that can; what none of them can runs on the processor.
        accelerators: &'a [Accelerator],
    },
}

impl<'a> Backend<'a> {
    /// The ONNX Runtime in a library file, on the processor.
    pub fn onnxruntime(library: &'a Path) -> Self {
        Self::OnnxRuntime { library, accelerators: &[] }
    }
}

/// A graph made ready to run. Shared between threads freely.
#[derive(Debug)]
pub struct Engine {
    model: String,
    input: InputSpec,
    classes: usize,
    graph: Graph,
}

#[derive(Debug)]
enum Graph {
    Tract(tract::Graph),
    #[cfg(feature = "onnxruntime")]
    OnnxRuntime(onnxruntime::Graph),
}

/// What a graph is given.
enum Input<'a> {
    /// `[channels, height, width]`.
    F32(Vec<f32>),
    /// `[height, width, channels]`.
    Rgb8(&'a [u8]),
}

/// Type and shape of a graph's input or output; a dimension that is left open, or that the engine does not know, is none.
#[derive(Debug)]
struct Declared {
    is_type: bool,
    shape: Option<Vec<Option<usize>>>,
    text: String,
}

impl Engine {
    /// Loads a graph that takes such inputs.
    ///
    /// # Errors
    /// [`Error::Engine`] for what is no ONNX graph or uses an unknown operator, and for a backend that is not there;
    /// [`Error::Shape`] for a graph of another input or without a row of logits; [`Error::Models`] if the file cannot be
    /// read.
    pub fn load(path: &Path, input: InputSpec, backend: Backend) -> Result<Self> {
        let onnx = fs::read(path).map_err(models::Error::io("read", path))?;
        Self::prepare(path.display().to_string(), onnx, input, backend)
    }

    /// [`Engine::load`] on bytes in memory.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn from_bytes(onnx: &[u8], input: InputSpec, backend: Backend) -> Result<Self> {
        Self::prepare("the graph".into(), onnx.to_vec(), input, backend)
    }

    fn prepare(model: String, onnx: Vec<u8>, input: InputSpec, backend: Backend) -> Result<Self> {
        let (graph, classes) = caught(&model, || match backend {
            Backend::Tract => {
                tract::Graph::load(&model, onnx, input).map(|(graph, classes)| (Graph::Tract(graph), classes))
            }
            #[cfg(feature = "onnxruntime")]
            Backend::OnnxRuntime { library, accelerators } => {
                onnxruntime::Graph::load(&model, onnx, input, library, accelerators)
                    .map(|(graph, classes)| (Graph::OnnxRuntime(graph), classes))
            }
            #[cfg(not(feature = "onnxruntime"))]
            Backend::OnnxRuntime { .. } => {
                let reason = "this build has no ONNX Runtime: expected one with the feature \"onnxruntime\"";
                Err(Error::Engine { model: model.clone(), reason: reason.into() })
            }
        })?;
        Ok(Self { model, input, classes, graph })
    }

    /// What one input is.
    pub fn input(&self) -> InputSpec {
        self.input
    }

    /// Length of a row of logits.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The logits of one image.
    ///
    /// # Errors
    /// [`Error::Shape`] for an image of another shape; [`Error::Engine`] if the graph fails on it.
    pub fn logits(&self, image: &Pixels) -> Result<Vec<f32>> {
        if image.shape() != self.input.shape {
            let text =
                |[channels, height, width]: [usize; 3]| format!("{channels} channels of {height}x{width} pixels");
            let (expected, found) = (text(self.input.shape), text(image.shape()));
            return Err(Error::Shape { model: self.model.clone(), expected, found });
        }
        let input = match self.input.layout {
            models::preprocess::InputLayout::F32 => Input::F32(image.to_input()),
            models::preprocess::InputLayout::Rgb8 => Input::Rgb8(&image.data),
        };
        caught(&self.model, || {
            let logits = match &self.graph {
                Graph::Tract(graph) => graph.run(self.input, input),
                #[cfg(feature = "onnxruntime")]
                Graph::OnnxRuntime(graph) => graph.run(self.input, input),
            };
            let refused = |reason| Error::Engine { model: self.model.clone(), reason };
            match logits.map_err(refused)? {
                logits if logits.len() == self.classes => Ok(logits),
                other => Err(refused(format!("it gave {} logits where it had declared {}", other.len(), self.classes))),
            }
        })
    }
}

/// An engine may panic on a damaged graph. It holds nothing of ours then that could be half-changed. Where panics end the
/// process, as in the profile `device`, the mark of the bundle being tried takes over: see [`crate::update`].
fn caught<T>(model: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref().copied());
        let reason = format!("the engine panicked: {}", text.unwrap_or("without a message"));
        Err(Error::Engine { model: model.to_owned(), reason })
    })
}

/// The number of classes of a graph whose input admits `input` and whose output is one row.
///
/// # Errors
/// [`Error::Shape`] with what the graph declares instead.
fn check(model: &str, input: InputSpec, declared: &Declared, output: &Declared) -> Result<usize> {
    let shape = |expected: String, declared: &Declared| Error::Shape {
        model: model.to_owned(),
        expected,
        found: declared.text.clone(),
    };
    let admits = |shape: &Vec<Option<usize>>| {
        shape.len() == 4 && shape.iter().zip(input.dims()).all(|(known, size)| known.is_none_or(|known| known == size))
    };
    if !declared.is_type || !declared.shape.as_ref().is_none_or(admits) {
        return Err(shape(
            format!("an input of {} numbers and shape {:?}", input.layout.number(), input.dims()),
            declared,
        ));
    }
    match output.shape.as_deref() {
        Some(&[None | Some(1), Some(classes)]) if output.is_type => Ok(classes),
        _ => Err(shape("an f32 output of shape [1, classes]".into(), output)),
    }
}

#[cfg(test)]
mod tests;
