//! Runs an ONNX graph. The only file that knows which engine does it.
//!
//! The batch is pinned to 1: the engine's fast convolutions exist for it alone. Many images go faster by running
//! [`Engine::logits`] on several threads than by a larger batch.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use tract_onnx::{
    prelude::*,
    tract_hir::{
        infer::{Factoid, ShapeFactoid},
        internal::DimLike,
    },
};

use crate::{Error, Result};

/// A graph made ready to run: one image in, one row of logits out.
#[derive(Debug)]
pub struct Engine {
    model: String,
    plan: Arc<TypedRunnableModel>,
    input: [usize; 4],
    classes: usize,
}

impl Engine {
    /// Loads a graph for inputs of `input_shape`: channels, height, width.
    ///
    /// # Errors
    /// [`Error::Engine`] for what is no ONNX graph or uses an unknown operator; [`Error::Shape`] for a graph of
    /// another input or of another output than one row of logits; [`Error::Models`] if the file cannot be read.
    pub fn load(path: &Path, input_shape: [usize; 3]) -> Result<Self> {
        let onnx = fs::read(path).map_err(models::Error::io("read", path))?;
        let model = path.display().to_string();
        caught(&model, || Self::prepare(model.clone(), &onnx, input_shape))
    }

    /// [`Engine::load`] on bytes in memory.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn from_bytes(onnx: &[u8], input_shape: [usize; 3]) -> Result<Self> {
        let model = "the graph";
        caught(model, || Self::prepare(model.into(), onnx, input_shape))
    }

    fn prepare(model: String, mut onnx: &[u8], [channels, height, width]: [usize; 3]) -> Result<Self> {
        let refused = |e: TractError| Error::Engine { model: model.clone(), reason: format!("{e:#}") };
        let shape = |expected: String, found: String| Error::Shape { model: model.clone(), expected, found };
        let input = [1, channels, height, width];

        let graph = tract_onnx::onnx().model_for_read(&mut onnx).map_err(refused)?;
        let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
        if (inputs, outputs) != (1, 1) {
            return Err(shape("one input and one output".into(), format!("{inputs} and {outputs}")));
        }
        let declared = graph.input_fact(0).map_err(refused)?;
        let float = declared.datum_type.concretize().is_none_or(|t| t == f32::datum_type());
        if !float || !can_be(&declared.shape, &input) {
            return Err(shape(format!("an f32 input of shape {input:?}"), format!("{declared:?}")));
        }

        let graph = graph
            .with_input_fact(0, f32::fact(input).into())
            .and_then(InferenceModelExt::into_optimized)
            .map_err(refused)?;
        let output = graph.output_fact(0).map_err(refused)?;
        let classes = match output.shape.as_concrete() {
            Some(&[1, classes]) if output.datum_type == f32::datum_type() => classes,
            _ => return Err(shape("an f32 output of shape [1, classes]".into(), format!("{output:?}"))),
        };
        let plan = graph.into_runnable().map_err(refused)?;
        Ok(Self { plan, input, classes, model })
    }

    /// Shape of one input: channels, height, width.
    pub fn input_shape(&self) -> [usize; 3] {
        let [_, channels, height, width] = self.input;
        [channels, height, width]
    }

    /// Length of a row of logits.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The logits of one input, which is laid out as [`models::Pixels::to_input`] does it.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input of another length; [`Error::Engine`] if the graph fails on it.
    pub fn logits(&self, input: &[f32]) -> Result<Vec<f32>> {
        let length: usize = self.input.iter().product();
        if input.len() != length {
            let expected = format!("{length} values, for an input of shape {:?}", self.input);
            return Err(Error::Shape { model: self.model.clone(), expected, found: format!("{}", input.len()) });
        }
        let run = || {
            let outputs = self.plan.run(tvec!(Tensor::from_shape(&self.input, input)?.into()))?;
            Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
        };
        let refused = |e: TractError| Error::Engine { model: self.model.clone(), reason: format!("{e:#}") };
        caught(&self.model, || run().map_err(refused))
    }
}

/// The engine panics on some damaged graphs. It holds nothing of ours then that could be half-changed.
fn caught<T>(model: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref().copied());
        let reason = format!("the engine panicked: {}", text.unwrap_or("without a message"));
        Err(Error::Engine { model: model.to_owned(), reason })
    })
}

/// Whether a declared shape, in which dimensions may be open, admits `shape`.
fn can_be(declared: &ShapeFactoid, shape: &[usize]) -> bool {
    let known: Vec<_> = declared.dims().map(|d| d.concretize().and_then(|d| d.to_usize().ok())).collect();
    let rank_fits = if declared.is_open() { known.len() <= shape.len() } else { known.len() == shape.len() };
    rank_fits && known.iter().zip(shape).all(|(known, &size)| known.is_none_or(|k| k == size))
}

#[cfg(test)]
mod tests {
    use models::tolerance::{CROSS_ENGINE, max_abs_diff};

    use super::*;
    use crate::fixture;

    #[test]
    fn computes_what_numpy_computes() -> Result<()> {
        let engine = Engine::from_bytes(fixture::ONNX, [1, 4, 4])?;
        assert_eq!((engine.input_shape(), engine.classes()), ([1, 4, 4], 3));
        for case in fixture::cases() {
            let found = engine.logits(&case.input())?;
            let difference = max_abs_diff(&found, &case.logits);
            assert!(difference <= CROSS_ENGINE.bound, "{found:?} instead of {:?}", case.logits);
        }
        Ok(())
    }

    #[test]
    fn a_graph_or_an_input_that_does_not_fit_is_an_error_with_both_shapes() -> Result<()> {
        let said = |result: Result<Engine>| result.err().map(|e| e.to_string()).unwrap_or_default();
        let other = said(Engine::from_bytes(fixture::ONNX, [3, 4, 4]));
        assert!(other.contains("[1, 3, 4, 4]") && other.contains("1,1,4,4"), "{other}");
        assert!(said(Engine::from_bytes(b"no graph", [1, 4, 4])).contains("cannot run"));

        let engine = Engine::from_bytes(fixture::ONNX, [1, 4, 4])?;
        let short = engine.logits(&[0.0; 15]).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(short.contains("16 values") && short.contains("15"), "{short}");
        Ok(())
    }

    /// Bundles come through a network and a disk: what is damaged must not take the device down.
    #[test]
    fn a_damaged_graph_never_panics() {
        for cut in 0..fixture::ONNX.len() {
            let _ = Engine::from_bytes(&fixture::ONNX[..cut], [1, 4, 4]);
        }
        for at in 0..fixture::ONNX.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = fixture::ONNX.to_vec();
                damaged[at] ^= flip;
                let _ = Engine::from_bytes(&damaged, [1, 4, 4]);
            }
        }
    }
}
