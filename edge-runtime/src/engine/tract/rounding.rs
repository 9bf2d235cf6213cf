//! QuantizeLinear and then DequantizeLinear as one operator on 32-bit numbers.
//!
//! The engine itself makes tables and integer products of them, which take longer than the products in 32 bits that they replace.

use tract_onnx::tract_core::{
    internal::*,
    ops::{
        element_wise::ElementWiseOp,
        quant::{DequantizeLinearF32, QuantizeLinearU8},
    },
};

use super::operators::RoundingOp;
use crate::engine::kernels::Rounding;

/// The same graph, with every such pair as a [`RoundingOp`].
///
/// # Errors
/// What the engine says of a graph that is not sound.
pub(super) fn join(mut graph: TypedModel) -> TractResult<TypedModel> {
    for id in graph.eval_order()? {
        let node = graph.node(id);
        let quantize = node.op_as::<ElementWiseOp>().and_then(|op| op.0.downcast_ref::<QuantizeLinearU8>());
        let (Some(quantize), Some(next)) = (quantize, graph.single_succ(id)?) else { continue };
        let Some(dequantize) = next.op_as::<DequantizeLinearF32>() else { continue };
        let same = dequantize.zero_point == i32::from(quantize.zero_point)
            && dequantize.scale.recip() == quantize.scale
            && graph.node_input_facts(id)?[0].datum_type == f32::datum_type();
        if !same {
            continue;
        }
        let op =
            RoundingOp(Rounding { inverse: quantize.scale, zero_point: quantize.zero_point, scale: dequantize.scale });
        let mut patch = TypedModelPatch::default();
        let source = patch.tap_model(&graph, node.inputs[0])?;
        let rounded = patch.wire_node(next.name.clone(), op, &[source])?;
        patch.shunt_outside(&graph, next.id.into(), rounded[0])?;
        patch.apply(&mut graph)?;
    }
    Ok(graph)
}
