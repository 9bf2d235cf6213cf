//! A wide ResNet as an ONNX graph, layer for layer as [`NetworkSpec`] lists them.
//!
//! Batch norm stays a node of its own: engines fold it into the convolutions themselves.
//!
//! # Reference
//! As [`models::network`]: pre-activation blocks, a bias in every convolution, leaky ReLU, "SAME" padding.

use models::{
    NetworkSpec, Weights,
    network::{BlockSpec, LEAKY_SLOPE, NORM_EPSILON, same_padding},
};

use crate::{
    Error, INPUT, OUTPUT, Result,
    graph::{GraphBuilder, Value, float, int, ints},
    onnx_proto::GraphProto,
};

/// The network of `weights`, for a batch of one.
pub(crate) fn graph(weights: &Weights) -> Result<GraphProto> {
    let network = &weights.spec.network;
    let [channels, height, width] = network.input;
    let mut graph = GraphBuilder::new(network.name());
    initializers(&mut graph, network, weights)?;

    let image = graph.input(INPUT, &[1, channels, height, width], "8-bit values u as u * 2/255 - 1, planes by channel");
    let mut x = convolution(&mut graph, "stem", &Map { value: image, size: [height, width] }, 3, network.stem_stride);
    for spec in network.blocks() {
        x = block(&mut graph, &spec, &x);
    }
    let h = activation(&mut graph, "norm", &x);
    let pooled = graph.node("pool", "GlobalAveragePool", &[&h.value], &[], vec![]);
    let features = graph.node("flatten", "Flatten", &[&pooled], &[], vec![int("axis", 1)]);
    let constants = tensors("classifier", ["weight", "bias"]);
    let logits = graph.node("classifier", "Gemm", &[&features], &constants, vec![int("transB", 1)]);
    Ok(graph.finish(&logits, OUTPUT, &[1, network.classes], "one number a class, in the order of the labels"))
}

/// A feature map: `[1, channels, height, width]`.
struct Map {
    value: Value,
    /// Height and width.
    size: [usize; 2],
}

fn initializers(graph: &mut GraphBuilder, network: &NetworkSpec, weights: &Weights) -> Result<()> {
    for spec in network.tensors() {
        let Some(values) = weights.tensors.get(&spec.name) else {
            return Err(Error::MissingTensor { tensor: spec.name, expected: spec.shape });
        };
        if values.len() != spec.len() {
            return Err(Error::TensorSize { tensor: spec.name, expected: spec.shape, found: values.len() });
        }
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { tensor: spec.name, index, found: values[index] });
        }
        graph.initializer(&spec.name, &spec.shape, values);
    }
    Ok(())
}

fn block(graph: &mut GraphBuilder, spec: &BlockSpec, x: &Map) -> Map {
    let name = |part: &str| format!("{}.{part}", spec.name);
    let activated = activation(graph, &name("norm1"), x);
    let h = convolution(graph, &name("conv1"), &activated, 3, spec.stride);
    let h = activation(graph, &name("norm2"), &h);
    let h = convolution(graph, &name("conv2"), &h, 3, 1);
    let source = if spec.activate_before_shortcut { &activated } else { x };
    let value = if spec.has_shortcut_convolution() {
        let shortcut = convolution(graph, &name("shortcut"), source, 1, spec.stride);
        graph.node(&name("add"), "Add", &[&shortcut.value, &h.value], &[], vec![])
    } else {
        graph.node(&name("add"), "Add", &[&source.value, &h.value], &[], vec![])
    };
    Map { value, size: h.size }
}

/// Batch norm by the running statistics, then leaky ReLU.
fn activation(graph: &mut GraphBuilder, name: &str, x: &Map) -> Map {
    let constants = tensors(name, ["weight", "bias", "running_mean", "running_var"]);
    let epsilon = vec![float("epsilon", NORM_EPSILON)];
    let norm = graph.node(name, "BatchNormalization", &[&x.value], &constants, epsilon);
    let slope = vec![float("alpha", LEAKY_SLOPE)];
    let value = graph.node(&format!("{name}.leaky"), "LeakyRelu", &[&norm], &[], slope);
    Map { value, size: x.size }
}

fn convolution(graph: &mut GraphBuilder, name: &str, x: &Map, kernel: usize, stride: usize) -> Map {
    let [(top, bottom), (left, right)] = x.size.map(|side| same_padding(side, kernel, stride));
    let attributes = vec![
        ints("kernel_shape", &[kernel, kernel]),
        ints("pads", &[top, left, bottom, right]),
        ints("strides", &[stride, stride]),
    ];
    let value = graph.node(name, "Conv", &[&x.value], &tensors(name, ["weight", "bias"]), attributes);
    Map { value, size: x.size.map(|side| side.div_ceil(stride)) }
}

fn tensors<const N: usize>(layer: &str, parts: [&str; N]) -> [String; N] {
    parts.map(|part| format!("{layer}.{part}"))
}

#[cfg(test)]
mod tests {
    use models::weights::f32_values;

    use super::*;
    use crate::{onnx_proto::AttributeProto, testing};

    #[test]
    fn every_tensor_is_in_the_graph_once_with_its_shape_and_values() -> Result<()> {
        let mut weights = testing::weights(10, 2, [3, 8, 8], 4)?;
        weights.tensors.insert("rotation.bias".into(), vec![0.0; 4]);
        let graph = graph(&weights)?;
        let expected: Vec<_> = weights.spec.network.tensors().into_iter().map(|t| (t.name, t.shape)).collect();
        let shape = |dims: &[i64]| dims.iter().map(|&d| d as usize).collect::<Vec<_>>();
        let found: Vec<_> = graph.initializer.iter().map(|t| (t.name.clone(), shape(&t.dims))).collect();
        assert_eq!(found, expected);
        for tensor in &graph.initializer {
            assert_eq!(f32_values(&tensor.raw_data), weights.tensors[&tensor.name], "{}", tensor.name);
            let uses = graph.node.iter().flat_map(|n| &n.input).filter(|input| **input == tensor.name);
            assert_eq!(uses.count(), 1, "{}", tensor.name);
        }
        Ok(())
    }

    /// Nodes as `name Operator(inputs) attributes`, with a layer's own tensors by their last name.
    fn lines(graph: &GraphProto, prefixes: &[&str]) -> Vec<String> {
        let attribute = |a: &AttributeProto| match (a.f, a.i) {
            (Some(value), _) => format!(" {}={value}", a.name),
            (_, Some(value)) => format!(" {}={value}", a.name),
            _ => format!(" {}={:?}", a.name, a.ints),
        };
        let nodes = graph.node.iter().filter(|n| prefixes.iter().any(|p| n.name.starts_with(p)));
        nodes
            .map(|n| {
                let own = format!("{}.", n.name);
                let inputs: Vec<_> = n.input.iter().map(|i| i.strip_prefix(&own).unwrap_or(i)).collect();
                let attributes: String = n.attribute.iter().map(attribute).collect();
                format!("{} {}({}){attributes}", n.name, n.op_type, inputs.join(", "))
            })
            .collect()
    }

    #[test]
    fn a_block_that_halves_pads_each_side_by_its_own_parity() -> Result<()> {
        // Height 5 is odd, width 6 is even: only the even side is padded at its end alone. Then both are 3.
        let graph = graph(&testing::weights(10, 1, [1, 5, 6], 2)?)?;
        assert_eq!(
            lines(&graph, &["groups.1.", "groups.2.blocks.0.conv1"]),
            [
                "groups.1.blocks.0.norm1 BatchNormalization(groups.0.blocks.0.add, weight, bias, running_mean, \
                 running_var) epsilon=0.001",
                "groups.1.blocks.0.norm1.leaky LeakyRelu(groups.1.blocks.0.norm1) alpha=0.1",
                "groups.1.blocks.0.conv1 Conv(groups.1.blocks.0.norm1.leaky, weight, bias) kernel_shape=[3, 3] \
                 pads=[1, 0, 1, 1] strides=[2, 2]",
                "groups.1.blocks.0.norm2 BatchNormalization(groups.1.blocks.0.conv1, weight, bias, running_mean, \
                 running_var) epsilon=0.001",
                "groups.1.blocks.0.norm2.leaky LeakyRelu(groups.1.blocks.0.norm2) alpha=0.1",
                "groups.1.blocks.0.conv2 Conv(groups.1.blocks.0.norm2.leaky, weight, bias) kernel_shape=[3, 3] \
                 pads=[1, 1, 1, 1] strides=[1, 1]",
                "groups.1.blocks.0.shortcut Conv(groups.0.blocks.0.add, weight, bias) kernel_shape=[1, 1] \
                 pads=[0, 0, 0, 0] strides=[2, 2]",
                "groups.1.blocks.0.add Add(groups.1.blocks.0.shortcut, groups.1.blocks.0.conv2)",
                "groups.2.blocks.0.conv1 Conv(groups.2.blocks.0.norm1.leaky, weight, bias) kernel_shape=[3, 3] \
                 pads=[1, 1, 1, 1] strides=[2, 2]",
            ]
        );
        Ok(())
    }

    #[test]
    fn only_the_first_shortcut_starts_after_the_activation() -> Result<()> {
        let sources = |depth, width| -> Result<Vec<String>> {
            let graph = graph(&testing::weights(depth, width, [1, 8, 8], 2)?)?;
            let nodes = ["groups.0.blocks.0.shortcut", "groups.0.blocks.0.add", "groups.0.blocks.1.add"];
            let nodes = nodes.iter().filter_map(|name| graph.node.iter().find(|n| n.name == *name));
            Ok(nodes.map(|n| n.input[0].clone()).collect())
        };
        // Sixteen channels in and out: no convolution in the shortcut of the first block.
        assert_eq!(sources(16, 1)?, ["groups.0.blocks.0.norm1.leaky", "groups.0.blocks.0.add"]);
        assert_eq!(
            sources(16, 2)?,
            ["groups.0.blocks.0.norm1.leaky", "groups.0.blocks.0.shortcut", "groups.0.blocks.0.add"]
        );
        Ok(())
    }

    #[test]
    fn the_head_pools_and_classifies() -> Result<()> {
        let graph = graph(&testing::weights(10, 1, [1, 8, 8], 2)?)?;
        assert_eq!(
            lines(&graph, &["norm", "pool", "flatten", "classifier"]),
            [
                "norm BatchNormalization(groups.2.blocks.0.add, weight, bias, running_mean, running_var) epsilon=0.001",
                "norm.leaky LeakyRelu(norm) alpha=0.1",
                "pool GlobalAveragePool(norm.leaky)",
                "flatten Flatten(pool) axis=1",
                "classifier Gemm(flatten, weight, bias) transB=1",
            ]
        );
        let last = graph.node.last().map(|n| n.output.as_slice());
        assert_eq!(last, Some(&[OUTPUT.to_owned()][..]));
        Ok(())
    }

    #[test]
    fn a_tensor_that_is_missing_cut_or_not_finite_is_named() -> Result<()> {
        let weights = testing::weights(10, 1, [1, 8, 8], 2)?;
        let name = "groups.2.blocks.0.conv2.bias";
        let break_it: [fn(&mut Vec<f32>) -> bool; 3] = [
            |_| false,
            |values| values.pop().is_some(),
            |values| {
                values[3] = f32::NAN;
                true
            },
        ];
        for break_it in break_it {
            let mut broken = weights.clone();
            broken.tensors.retain(|n, values| n != name || break_it(values));
            let error = graph(&broken).err().map(|e| e.to_string());
            assert!(error.as_ref().is_some_and(|e| e.contains(name)), "{error:?}");
        }
        Ok(())
    }
}
