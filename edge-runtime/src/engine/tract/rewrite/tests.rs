use models::tolerance::{CROSS_ENGINE, max_abs_diff};
use tract_onnx::tract_core::ops::{
    cnn::PoolSpec,
    nn::{Reducer, leaky_relu},
};

use super::*;

/// Numbers of the same size without a pattern.
fn tensor(shape: &[usize], seed: usize) -> TractResult<Tensor> {
    let count: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1000) as f32 / 500.0 - 1.0).collect();
    Tensor::from_shape(shape, &numbers)
}

struct Builder(TypedModel);

impl Builder {
    fn constant(&mut self, shape: &[usize], seed: usize) -> TractResult<OutletId> {
        let name = format!("constant {}", self.0.nodes().len());
        self.0.add_const(name, tensor(shape, seed)?)
    }

    fn node(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> TractResult<OutletId> {
        let name = format!("node {}", self.0.nodes().len());
        Ok(self.0.wire_node(name, op, inputs)?[0])
    }

    fn convolution(
        &mut self,
        x: OutletId,
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> TractResult<OutletId> {
        let weights = self.constant(&[channels[1], channels[0], kernel, kernel], kernel + channels[1])?;
        let bias = self.constant(&[channels[1]], 3)?;
        let border: TVec<usize> = tvec!(kernel / 2; 2);
        let spec = PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: tvec!(kernel; 2),
            padding: PaddingSpec::Explicit(border.clone(), border),
            dilations: None,
            strides: Some(tvec!(stride; 2)),
            input_channels: channels[0],
            output_channels: channels[1],
        };
        self.node(
            Conv { pool_spec: spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None },
            &[x, weights, bias],
        )
    }

    fn norm(&mut self, x: OutletId, channels: usize) -> TractResult<OutletId> {
        let (scale, shift) = (self.constant(&[1, channels, 1, 1], 5)?, self.constant(&[1, channels, 1, 1], 6)?);
        let scaled = self.node(TypedBinOp(Box::new(math::Mul), None), &[x, scale])?;
        let shifted = self.node(TypedBinOp(Box::new(math::Add), None), &[scaled, shift])?;
        self.node(leaky_relu(0.1), &[shifted])
    }
}

fn run(graph: TypedModel, input: &Tensor) -> TractResult<Vec<f32>> {
    let output = graph.into_optimized()?.into_runnable()?.run(tvec!(input.clone().into()))?;
    Ok(output[0].to_plain_array_view::<f32>()?.iter().copied().collect())
}

/// A residual block of a network in 8 bits, as `exporter` writes it, and a shortcut that reads the sum of it.
#[test]
fn rounding_ends_the_operators_before_it() -> TractResult<()> {
    let mut graph = Builder(TypedModel::default());
    let rounding = |steps: f32| RoundingOp(Rounding { inverse: steps, zero_point: 128, scale: 1.0 / steps });
    let image = graph.0.add_source("image", f32::fact([1, 3, 8, 6]))?;
    let stem = graph.convolution(image, [3, 16], 3, 1)?;
    let stem = graph.node(leaky_relu(0.1), &[stem])?;
    let h = graph.node(rounding(60.0), &[stem])?;
    let h = graph.convolution(h, [16, 16], 3, 1)?;
    let h = graph.node(rounding(50.0), &[h])?;
    let h = graph.node(leaky_relu(0.1), &[h])?;
    let h = graph.node(rounding(40.0), &[h])?;
    let h = graph.convolution(h, [16, 16], 3, 1)?;
    let h = graph.node(rounding(30.0), &[h])?;
    let x = graph.node(TypedBinOp(Box::new(math::Add), None), &[stem, h])?;
    let shortcut = graph.node(rounding(20.0), &[x])?;
    let shortcut = graph.convolution(shortcut, [16, 32], 1, 2)?;
    let shortcut = graph.node(rounding(20.0), &[shortcut])?;
    let h = graph.norm(x, 16)?;
    let h = graph.node(rounding(25.0), &[h])?;
    let h = graph.convolution(h, [16, 32], 3, 2)?;
    let h = graph.node(rounding(15.0), &[h])?;
    let x = graph.node(TypedBinOp(Box::new(math::Add), None), &[shortcut, h])?;
    graph.0.select_output_outlets(&[x])?;

    let graph = graph.0.into_decluttered()?;
    let rewritten = rewrite(&graph)?;
    let count = |name: &str| rewritten.nodes().iter().filter(|node| node.op.name() == name).count();
    // By themselves: what several read, before it is rounded for one of them.
    assert_eq!([count("flywheel.Convolution"), count("flywheel.Affine")], [5, 3]);
    assert_eq!(["flywheel.Rounding", "Conv", "EinSum", "Add", "LeakyRelu"].map(count), [0; 5]);

    // A sum close to the middle between two levels may go to either.
    let input = tensor(&[1, 3, 8, 6], 1)?;
    let (found, expected) = (run(rewritten, &input)?, run(graph, &input)?);
    let apart = found.iter().zip(&expected).filter(|(a, b)| !CROSS_ENGINE.same(f64::from(**a), f64::from(**b))).count();
    assert!(apart * 50 < found.len(), "{apart} of {} differ", found.len());
    Ok(())
}

/// Two residual blocks, one with a convolution in its shortcut and one without, and a pool.
#[test]
fn residual_blocks_become_our_operators_and_compute_the_same() -> TractResult<()> {
    let mut graph = Builder(TypedModel::default());
    let image = graph.0.add_source("image", f32::fact([1, 3, 9, 6]))?;
    let stem = graph.convolution(image, [3, 16], 3, 1)?;
    let activated = graph.norm(stem, 16)?;
    let h = graph.convolution(activated, [16, 32], 3, 2)?;
    let h = graph.norm(h, 32)?;
    let h = graph.convolution(h, [32, 32], 3, 1)?;
    let shortcut = graph.convolution(stem, [16, 32], 1, 2)?;
    let x = graph.node(TypedBinOp(Box::new(math::Add), None), &[shortcut, h])?;
    let h = graph.norm(x, 32)?;
    let h = graph.convolution(h, [32, 32], 3, 1)?;
    let x = graph.node(TypedBinOp(Box::new(math::Add), None), &[x, h])?;
    let pooled = graph.node(Reduce { axes: tvec!(2, 3), reducer: Reducer::Sum }, &[x])?;
    graph.0.select_output_outlets(&[pooled])?;

    let graph = graph.0.into_decluttered()?;
    let rewritten = rewrite(&graph)?;
    let count = |name: &str| rewritten.nodes().iter().filter(|node| node.op.name() == name).count();
    assert_eq!([count("flywheel.Convolution"), count("flywheel.Affine")], [5, 2]);
    assert_eq!(["Conv", "EinSum", "Add", "Mul", "LeakyRelu"].map(count), [0; 5]);

    let input = tensor(&[1, 3, 9, 6], 1)?;
    let (found, expected) = (run(rewritten, &input)?, run(graph, &input)?);
    let size = expected.iter().fold(0.0, |size: f32, value| size.max(value.abs()));
    let difference = max_abs_diff(&found, &expected) / f64::from(size);
    assert!(difference <= CROSS_ENGINE.bound, "{difference} of {size}");
    Ok(())
}

/// What must not be taken for the end of the operator before it: in each of these graphs, something comes after a rounding.
#[test]
fn what_follows_a_rounding_stays_behind_it() -> TractResult<()> {
    type Tail = fn(&mut Builder, OutletId) -> TractResult<OutletId>;
    fn round(graph: &mut Builder, x: OutletId) -> TractResult<OutletId> {
        graph.node(RoundingOp(Rounding { inverse: 2.0, zero_point: 128, scale: 0.5 }), &[x])
    }
    let tails: [(&str, Tail); 3] = [
        ("a bias", |graph, x| {
            let x = graph.convolution(x, [16, 16], 3, 1)?;
            let (x, shift) = (round(graph, x)?, graph.constant(&[1, 16, 1, 1], 8)?);
            graph.node(TypedBinOp(Box::new(math::Add), None), &[x, shift])
        }),
        ("a rounding behind a sum", |graph, x| {
            let y = graph.convolution(x, [16, 16], 3, 1)?;
            let sum = graph.node(TypedBinOp(Box::new(math::Add), None), &[x, y])?;
            round(graph, sum)
        }),
        ("leaky ReLU behind a rounded norm", |graph, x| {
            let (scale, shift) = (graph.constant(&[1, 16, 1, 1], 5)?, graph.constant(&[1, 16, 1, 1], 6)?);
            let x = graph.node(TypedBinOp(Box::new(math::Mul), None), &[x, scale])?;
            let x = graph.node(TypedBinOp(Box::new(math::Add), None), &[x, shift])?;
            let x = round(graph, x)?;
            graph.node(leaky_relu(0.1), &[x])
        }),
    ];
    for (what, tail) in tails {
        let mut graph = Builder(TypedModel::default());
        let image = graph.0.add_source("image", f32::fact([1, 3, 4, 4]))?;
        let stem = graph.convolution(image, [3, 16], 3, 1)?;
        // Read twice, so that nothing but the end of each tail can become a part of it.
        let stem = graph.node(leaky_relu(0.1), &[stem])?;
        let end = tail(&mut graph, stem)?;
        graph.0.select_output_outlets(&[end, stem])?;
        let graph = graph.0.into_decluttered()?;
        let input = tensor(&[1, 3, 4, 4], 1)?;
        let (found, expected) = (run(rewrite(&graph)?, &input)?, run(graph, &input)?);
        // Steps of a half: a sum close to the middle may go either way, and nothing else may differ.
        let apart =
            found.iter().zip(&expected).filter(|(a, b)| !CROSS_ENGINE.same(f64::from(**a), f64::from(**b))).count();
        assert!(apart * 50 < found.len(), "{what}: {apart} of {} differ", found.len());
    }
    Ok(())
}
