//! Runs a graph with tract.

mod operators;
mod rewrite;
mod rounding;

use std::sync::Arc;

use models::preprocess::{InputLayout, InputSpec};
use tract_onnx::{
    prelude::*,
    tract_hir::{infer::Factoid, internal::DimLike},
};

use super::{Declared, Input, LOGITS, check};
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct Graph(Arc<TypedRunnableModel>);

impl Graph {
    /// The graph, and how many classes it knows.
    pub(super) fn load(model: &str, onnx: Vec<u8>, input: InputSpec) -> Result<(Self, usize)> {
        let refused = |e: TractError| Error::Engine { model: model.to_owned(), reason: format!("{e:#}") };
        let mut graph = tract_onnx::onnx().model_for_read(&mut onnx.as_slice()).map_err(refused)?;
        // The weights are in the graph now; soon they are there in a third form.
        drop(onnx);
        if graph.outputs.len() > 1 {
            graph.select_outputs_by_name([LOGITS]).map_err(refused)?;
        }
        let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
        if (inputs, outputs) != (1, 1) {
            let (expected, found) = ("one input and one output".into(), format!("{inputs} and {outputs}"));
            return Err(Error::Shape { model: model.to_owned(), expected, found });
        }
        let number = match input.layout {
            InputLayout::F32 => f32::datum_type(),
            InputLayout::Rgb8 => u8::datum_type(),
        };
        let taken = declared(graph.input_fact(0).map_err(refused)?, number);

        let graph = graph
            .with_input_fact(0, InferenceFact::dt_shape(number, input.dims()))
            .and_then(InferenceModelExt::into_typed)
            .and_then(rounding::join)
            .and_then(TypedModel::into_decluttered)
            .and_then(|graph| rewrite::rewrite(&graph)?.into_optimized());
        // A graph for other inputs fails somewhere inside: that says less than what it declares.
        let given = match &graph {
            Ok(graph) => declared(&graph.output_fact(0).map_err(refused)?.into(), f32::datum_type()),
            Err(_) => Declared { is_type: true, shape: Some(vec![None, Some(0)]), text: String::new() },
        };
        let classes = check(model, input, &taken, &given)?;
        Ok((Self(graph.and_then(TypedModel::into_runnable).map_err(refused)?), classes))
    }

    /// The logits of one input, or why there are none.
    pub(super) fn run(&self, spec: InputSpec, input: Input) -> Result<Vec<f32>, String> {
        let run = || {
            let tensor = match input {
                Input::F32(values) => Tensor::from_shape(&spec.dims(), &values)?,
                Input::Rgb8(values) => Tensor::from_shape(&spec.dims(), values)?,
            };
            let outputs = self.0.run(tvec!(tensor.into()))?;
            Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
        };
        run().map_err(|e: TractError| format!("{e:#}"))
    }
}

fn declared(fact: &InferenceFact, number: DatumType) -> Declared {
    let dims = || fact.shape.dims().map(|dim| dim.concretize().and_then(|dim| dim.to_usize().ok())).collect();
    Declared {
        is_type: fact.datum_type.concretize().is_none_or(|found| found == number),
        shape: (!fact.shape.is_open()).then(dims),
        text: format!("{fact:?}"),
    }
}
