//! Our kernels as operators of the engine, on images `[1, row, column, channel]`.

use tract_onnx::tract_core::internal::*;

use crate::engine::kernels::{Affine, Convolution, Rounding};

/// An image, and perhaps one that is added to the result.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ConvolutionOp(pub(super) Convolution);

impl Eq for ConvolutionOp {}

impl Op for ConvolutionOp {
    fn name(&self) -> StaticName {
        "flywheel.Convolution".into()
    }

    op_as_typed_op!();
}

impl EvalOp for ConvolutionOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let sizes = self.0.sizes();
        let residual = inputs.get(1).map(|residual| residual.to_plain_array_view::<f32>()).transpose()?;
        let residual = residual.as_ref().map(numbers).transpose()?;
        let mut y = Tensor::zero::<f32>(&[1, sizes.result[0], sizes.result[1], sizes.outputs])?;
        let mut view = y.to_plain_array_view_mut::<f32>()?;
        let x = inputs[0].to_plain_array_view::<f32>()?;
        self.0.run(numbers(&x)?, residual, view.as_slice_mut().context(ORDER)?);
        Ok(tvec!(y.into()))
    }
}

impl TypedOp for ConvolutionOp {
    as_op!();

    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let sizes = self.0.sizes();
        Ok(tvec!(f32::fact([1, sizes.result[0], sizes.result[1], sizes.outputs])))
    }
}

/// One image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AffineOp(pub(super) Affine);

impl Eq for AffineOp {}

impl Op for AffineOp {
    fn name(&self) -> StaticName {
        "flywheel.Affine".into()
    }

    op_as_typed_op!();
}

impl EvalOp for AffineOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        in_shape(&inputs[0], |x, y| self.0.run(x, y))
    }
}

impl TypedOp for AffineOp {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }
}

/// Numbers of any shape. The engine is not told that it works on each by itself: it would take the strides of convolutions to
/// before it, out of their reach.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RoundingOp(pub(super) Rounding);

impl Eq for RoundingOp {}

impl Op for RoundingOp {
    fn name(&self) -> StaticName {
        "flywheel.Rounding".into()
    }

    op_as_typed_op!();
}

impl EvalOp for RoundingOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        in_shape(&inputs[0], |x, y| self.0.run(x, y))
    }
}

impl TypedOp for RoundingOp {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }
}

/// What `run` makes of the numbers of a tensor, in the same shape.
fn in_shape(x: &Tensor, run: impl FnOnce(&[f32], &mut [f32])) -> TractResult<TVec<TValue>> {
    let mut y = Tensor::zero::<f32>(x.shape())?;
    let mut view = y.to_plain_array_view_mut::<f32>()?;
    let x = x.to_plain_array_view::<f32>()?;
    run(numbers(&x)?, view.as_slice_mut().context(ORDER)?);
    Ok(tvec!(y.into()))
}

const ORDER: &str = "a tensor is not in the order of its shape";

fn numbers<'a>(view: &'a tract_ndarray::ArrayViewD<f32>) -> TractResult<&'a [f32]> {
    view.as_slice().context(ORDER)
}
