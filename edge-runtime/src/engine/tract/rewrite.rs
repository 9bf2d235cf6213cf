//! Puts our convolutions into a graph, with what follows them: batch norm, the shortcut of a residual block, leaky ReLU.
//!
//! Between them, images lie pixel by pixel; wherever an operator of the engine needs them plane by plane, they are turned.

use std::collections::HashMap;

use tract_onnx::tract_core::{
    internal::*,
    ops::{
        Downsample,
        binary::TypedBinOp,
        cnn::{Conv, KernelFormat, PaddingSpec},
        einsum::EinSum,
        element_wise::ElementWiseOp,
        konst::Const,
        math,
        nn::{DataFormat, LeakyRelu, Reduce},
        source::TypedSource,
    },
};

use super::operators::{AffineOp, ConvolutionOp, RoundingOp};
use crate::engine::kernels::{Affine, Convolution, Rounding, Sizes};

/// The same graph, with our operators where they fit.
///
/// # Errors
/// What the engine says of a graph that is not sound.
pub(super) fn rewrite(graph: &TypedModel) -> TractResult<TypedModel> {
    let mut rewriter = Rewriter { graph, new: TypedModel::default(), wires: HashMap::new() };
    for id in graph.eval_order()? {
        let node = graph.node(id);
        match rewriter.ours(node)? {
            Some(pixels) => drop(rewriter.wires.insert(id.into(), Wire::Pixels(pixels))),
            None => rewriter.theirs(node)?,
        }
    }
    let outputs =
        graph.output_outlets()?.iter().map(|outlet| rewriter.planes(*outlet)).collect::<TractResult<Vec<_>>>()?;
    rewriter.new.select_output_outlets(&outputs)?;
    rewriter.new.into_decluttered()
}

/// Where a value of the old graph is in the new one.
#[derive(Clone, Copy)]
enum Wire {
    /// As it was; an image is `[1, channel, row, column]`.
    Planes(OutletId),
    /// An image `[1, row, column, channel]`.
    Pixels(OutletId),
}

struct Rewriter<'a> {
    graph: &'a TypedModel,
    new: TypedModel,
    wires: HashMap<OutletId, Wire>,
}

impl Rewriter<'_> {
    /// Our operator in the place of a node, if there is one.
    fn ours(&mut self, node: &TypedNode) -> TractResult<Option<OutletId>> {
        if let Some(conv) = node.op_as::<Conv>() {
            return self.convolution(node, conv);
        }
        if let Some(product) = node.op_as::<EinSum>() {
            return self.shortcut(node, product);
        }
        if let Some(ElementWiseOp(op, _)) = node.op_as::<ElementWiseOp>() {
            return Ok(op.downcast_ref::<LeakyRelu>().and_then(|leaky| self.leaky(node, leaky.alpha)));
        }
        if let Some(RoundingOp(rounding)) = node.op_as() {
            return self.rounding(node, *rounding);
        }
        let Some(TypedBinOp(op, _)) = node.op_as::<TypedBinOp>() else { return self.pool(node) };
        if op.is::<math::Add>()
            && let Some(sum) = self.residual(node)?
        {
            return Ok(Some(sum));
        }
        if op.is::<math::Add>() || op.is::<math::Mul>() { self.affine(node, op.is::<math::Add>()) } else { Ok(None) }
    }

    /// The node as it is.
    fn theirs(&mut self, node: &TypedNode) -> TractResult<()> {
        let inputs = node.inputs.iter().map(|input| self.planes(*input)).collect::<TractResult<Vec<_>>>()?;
        let outlets = match node.op_is::<TypedSource>() {
            true => tvec!(self.new.add_source(node.name.clone(), node.outputs[0].fact.clone())?),
            false => self.new.wire_node(node.name.clone(), node.op.clone(), &inputs)?,
        };
        for (slot, outlet) in outlets.into_iter().enumerate() {
            self.wires.insert(OutletId::new(node.id, slot), Wire::Planes(outlet));
        }
        Ok(())
    }

    /// A convolution that one of our kernels is made for.
    fn convolution(&mut self, node: &TypedNode, conv: &Conv) -> TractResult<Option<OutletId>> {
        let Conv { pool_spec: spec, kernel_fmt, group, q_params } = conv;
        let is_plain = (spec.data_format, *kernel_fmt, *group) == (DataFormat::NCHW, KernelFormat::OIHW, 1)
            && q_params.is_none()
            && spec.dilations.iter().flatten().all(|step| *step == 1);
        let PaddingSpec::Explicit(border, _) = &spec.padding else { return Ok(None) };
        let stride = spec.strides.clone().unwrap_or(tvec!(1, 1));
        let sides = [&spec.kernel_shape, &stride, border].map(|sides| <[usize; 2]>::try_from(sides.as_slice()).ok());
        let ([Some(kernel), Some(stride), Some(border)], true) = (sides, is_plain) else { return Ok(None) };
        let (Some(weights), Some(bias)) = (self.constant(node.inputs[1]), self.constant(node.inputs[2])) else {
            return Ok(None);
        };
        let bias = if bias.len() == 1 { vec![bias[0]; spec.output_channels] } else { bias };
        self.wire_convolution(node, node.inputs[0], kernel, stride, border, &weights, bias)
    }

    /// A convolution of 1x1 pixels with a stride, which the engine has taken apart: rows, columns, a product.
    fn shortcut(&mut self, node: &TypedNode, product: &EinSum) -> TractResult<Option<OutletId>> {
        let axes: Vec<char> = product.axes.to_string().chars().collect();
        let &[n, i, h, w, ',', o, i2, '-', '>', n2, o2, h2, w2] = axes.as_slice() else { return Ok(None) };
        let (mut source, mut stride) = (node.inputs[0], [1, 1]);
        for axis in [1, 0] {
            let before = self.graph.node(source.node);
            if let Some(&Downsample { axis: along, stride: step @ 1.., modulo: 0 }) = before.op_as::<Downsample>()
                && along == axis + 2
            {
                (source, stride[axis]) = (before.inputs[0], step.unsigned_abs());
            }
        }
        match self.constant(node.inputs[1]) {
            Some(weights) if [n, i, h, w, o] == [n2, i2, h2, w2, o2] => {
                let outputs = self.image(node.id.into()).map_or(0, |[channels, ..]| channels);
                self.wire_convolution(node, source, [1, 1], stride, [0, 0], &weights, vec![0.0; outputs])
            }
            _ => Ok(None),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a convolution has as many properties")]
    fn wire_convolution(
        &mut self,
        node: &TypedNode,
        source: OutletId,
        kernel: [usize; 2],
        stride: [usize; 2],
        border: [usize; 2],
        weights: &[f32],
        bias: Vec<f32>,
    ) -> TractResult<Option<OutletId>> {
        let (Some([inputs, image @ ..]), Some([outputs, result @ ..])) =
            (self.image(source), self.image(node.id.into()))
        else {
            return Ok(None);
        };
        let sizes = Sizes { inputs, outputs, kernel, stride, border, image, result };
        let Some(convolution) = Convolution::new(sizes, weights, bias) else { return Ok(None) };
        let source = self.pixels(source)?;
        Ok(Some(self.new.wire_node(node.name.clone(), ConvolutionOp(convolution), &[source])?[0]))
    }

    /// Leaky ReLU as the end of what comes before it.
    fn leaky(&mut self, node: &TypedNode, alpha: f32) -> Option<OutletId> {
        let outlet = self.open(node.inputs[0]).filter(|_| (0.0..=1.0).contains(&alpha))?;
        let op = &mut self.new.node_mut(outlet.node).op;
        match op.downcast_mut::<ConvolutionOp>() {
            Some(convolution) => convolution.0.slope = alpha,
            None => op.downcast_mut::<AffineOp>()?.0.slope = alpha,
        }
        Some(outlet)
    }

    /// Rounding as the end of what comes before it, or by itself.
    fn rounding(&mut self, node: &TypedNode, rounding: Rounding) -> TractResult<Option<OutletId>> {
        let source = node.inputs[0];
        if let Some(outlet) = self.unrounded(source) {
            let new = self.new.node_mut(outlet.node);
            let adds_nothing = new.inputs.len() == 1;
            if let Some(ConvolutionOp(convolution)) = new.op.downcast_mut() {
                match convolution.slope == 1.0 && adds_nothing && convolution.rounding.is_none() {
                    true => convolution.rounding = Some(rounding),
                    false => convolution.result_rounding = Some(rounding),
                }
                return Ok(Some(outlet));
            }
            if let Some(AffineOp(affine)) = new.op.downcast_mut() {
                affine.rounding = Some(rounding);
                return Ok(Some(outlet));
            }
        }
        let (Some(&Wire::Pixels(outlet)), Some([channels, ..])) = (self.wires.get(&source), self.image(source)) else {
            return Ok(None);
        };
        let (scale, shift) = (vec![1.0; channels], vec![0.0; channels]);
        let affine = AffineOp(Affine { scale, shift, slope: 1.0, rounding: Some(rounding) });
        Ok(Some(self.new.wire_node(node.name.clone(), affine, &[outlet])?[0]))
    }

    /// A sum of two images, one of them the result of a convolution that can add the other.
    fn residual(&mut self, node: &TypedNode) -> TractResult<Option<OutletId>> {
        let &[a, b] = node.inputs.as_slice() else { return Ok(None) };
        if self.image(a).is_none() || self.image(a) != self.image(b) {
            return Ok(None);
        }
        for (own, other) in [(b, a), (a, b)] {
            if let Some(outlet) = self.open(own)
                && self.new.node(outlet.node).op_is::<ConvolutionOp>()
                && self.new.node(outlet.node).inputs.len() == 1
                && let Some(Wire::Pixels(other)) = self.wires.get(&other)
            {
                self.new.add_edge(*other, InletId::new(outlet.node, 1))?;
                return Ok(Some(outlet));
            }
        }
        Ok(None)
    }

    /// A constant for each channel, added or multiplied.
    fn affine(&mut self, node: &TypedNode, is_sum: bool) -> TractResult<Option<OutletId>> {
        let &[a, b] = node.inputs.as_slice() else { return Ok(None) };
        for (source, constant) in [(a, b), (b, a)] {
            let (Some([channels, ..]), Some(Wire::Pixels(outlet))) = (self.image(source), self.wires.get(&source))
            else {
                continue;
            };
            let outlet = *outlet;
            let Some(values) = self.constant(constant).filter(|_| self.image(constant) == Some([channels, 1, 1]))
            else {
                continue;
            };
            if is_sum && let Some(outlet) = self.open(source) {
                let op = &mut self.new.node_mut(outlet.node).op;
                let shift = match op.downcast_mut::<ConvolutionOp>() {
                    Some(convolution) => convolution.0.rounding.is_none().then_some(&mut convolution.0.bias),
                    None => op.downcast_mut::<AffineOp>().map(|affine| &mut affine.0.shift),
                };
                if let Some(shift) = shift {
                    shift.iter_mut().zip(values).for_each(|(shift, value)| *shift += value);
                    return Ok(Some(outlet));
                }
            }
            if !Affine::takes(channels) {
                return Ok(None);
            }
            let (scale, shift) = if is_sum { (vec![1.0; channels], values) } else { (values, vec![0.0; channels]) };
            let affine = AffineOp(Affine { scale, shift, slope: 1.0, rounding: None });
            return Ok(Some(self.new.wire_node(node.name.clone(), affine, &[outlet])?[0]));
        }
        Ok(None)
    }

    /// A sum over all pixels, which is cheaper than turning them.
    fn pool(&mut self, node: &TypedNode) -> TractResult<Option<OutletId>> {
        let (Some(reduce), Some(source)) = (node.op_as::<Reduce>(), node.inputs.first()) else { return Ok(None) };
        let Some(Wire::Pixels(source)) = self.wires.get(source).filter(|_| reduce.axes.as_slice() == [2, 3]) else {
            return Ok(None);
        };
        let reduce = Reduce { axes: tvec!(1, 2), ..reduce.clone() };
        Ok(Some(self.new.wire_node(node.name.clone(), reduce, &[*source])?[0]))
    }

    /// The place of an image whose node nothing else reads, and which ends neither with leaky ReLU nor with rounding yet.
    fn open(&self, outlet: OutletId) -> Option<OutletId> {
        self.unrounded(outlet).filter(|new| {
            let op = &self.new.node(new.node).op;
            match op.downcast_ref::<ConvolutionOp>() {
                Some(convolution) => convolution.0.slope == 1.0,
                None => op.downcast_ref::<AffineOp>().is_some_and(|affine| affine.0.slope == 1.0),
            }
        })
    }

    /// The place of an image whose node nothing else reads, and which does not end with rounding yet.
    fn unrounded(&self, outlet: OutletId) -> Option<OutletId> {
        let Some(&Wire::Pixels(new)) = self.wires.get(&outlet) else { return None };
        let op = &self.new.node(new.node).op;
        let rounding = match op.downcast_ref::<ConvolutionOp>() {
            Some(convolution) => convolution.0.result_rounding,
            None => op.downcast_ref::<AffineOp>()?.0.rounding,
        };
        let is_output = self.graph.output_outlets().is_ok_and(|outputs| outputs.contains(&outlet));
        (rounding.is_none() && !is_output && self.graph.outlet_successors(outlet).len() == 1).then_some(new)
    }

    /// Channels, height and width of a value, if it is one image of 32-bit numbers.
    fn image(&self, outlet: OutletId) -> Option<[usize; 3]> {
        let fact = self.graph.outlet_fact(outlet).ok().filter(|fact| fact.datum_type == f32::datum_type())?;
        match fact.shape.as_concrete()? {
            &[1, channels, height, width] => Some([channels, height, width]),
            _ => None,
        }
    }

    /// The numbers of a constant.
    fn constant(&self, outlet: OutletId) -> Option<Vec<f32>> {
        let tensor = self.graph.node(outlet.node).op_as::<Const>()?.val();
        Some(tensor.to_plain_array_view::<f32>().ok()?.iter().copied().collect())
    }

    fn planes(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        match self.wires[&outlet] {
            Wire::Planes(new) => Ok(new),
            Wire::Pixels(new) => self.turn(outlet, new, "planes", AxisOp::Move(3, 1)),
        }
    }

    fn pixels(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        match self.wires[&outlet] {
            Wire::Pixels(new) => Ok(new),
            Wire::Planes(new) => self.turn(outlet, new, "pixels", AxisOp::Move(1, 3)),
        }
    }

    fn turn(&mut self, outlet: OutletId, new: OutletId, into: &str, turn: AxisOp) -> TractResult<OutletId> {
        let name = format!("{}.{into}", self.graph.node(outlet.node).name);
        let name = self.new.unique_name(name).into_owned();
        Ok(self.new.wire_node(name, turn, &[new])?[0])
    }
}

#[cfg(test)]
mod tests;
