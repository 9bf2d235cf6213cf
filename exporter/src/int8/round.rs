//! Where a network is rounded, and the nodes that do it.
//!
//! What every convolution reads and gives is rounded, but for the first, which sees the image itself; so are their kernels. The
//! sums of residual blocks, batch norm and the classifier stay in 32 bits: they take little time and lose the most.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use models::weights::f32_values;

use super::fold::tensor;
use crate::{
    graph::{GraphBuilder, int},
    onnx_proto::{
        GraphProto, NodeProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto::dimension, type_proto,
    },
    storage::Stored,
};

/// Steps of a bias from zero, at most: half of what 32 bits hold.
const MOST_STEPS: f32 = 1_073_741_824.0;
/// Name of [`observe`]'s output.
const OBSERVED: &str = "observed";

/// Replaces a graph's outputs by one row of every number that [`round`] would round. Returns the places in the row's order, with
/// their lengths.
pub(super) fn observe(graph: &mut GraphProto) -> Vec<(String, usize)> {
    let places = Places::of(&graph.node);
    let lengths = lengths(graph);
    let places: Vec<_> = places.all().map(|name| (name.clone(), lengths[name])).collect();
    graph.output.clear();
    let mut builder = GraphBuilder::resume(std::mem::take(graph));
    let flat: Vec<String> = places.iter().map(|(name, _)| format!("{name}.flat")).collect();
    for (flat, (name, _)) in flat.iter().zip(&places) {
        builder.node(flat, "Flatten", &[], std::slice::from_ref(name), vec![int("axis", 1)]);
    }
    let row = builder.node(OBSERVED, "Concat", &[], &flat, vec![int("axis", 1)]);
    builder.output(&row, OBSERVED, &[places.iter().map(|(_, length)| length).sum()], "every number that is rounded");
    *graph = builder.finish();
    places
}

/// Puts the rounding of a graph's values to these ranges, and of its kernels, into it.
pub(super) fn round(graph: &mut GraphProto, ranges: &BTreeMap<String, [f32; 2]>) {
    let places = Places::of(&graph.node);
    let nodes = std::mem::take(&mut graph.node);
    let mut builder = GraphBuilder::resume(std::mem::take(graph));
    for mut node in nodes {
        let output = node.output[0].clone();
        if places.convolutions.contains(node.name()) {
            let step = Step::of(ranges[&node.input[0]]);
            let [kernel, bias] = [1, 2].map(|i| node.input[i].clone());
            let [(shape, kernels), (_, biases)] = [&kernel, &bias].map(|name| take(&mut builder, name));
            // A channel whose kernel is next to nothing must not have steps so small that its bias does not fit.
            let least: Vec<f32> = biases.iter().map(|bias| bias.abs() / (MOST_STEPS * step.scale)).collect();
            let stored = Stored::int8(&kernels, &least);
            if let Stored::Int8(_, scales) = &stored {
                let scales: Vec<f32> = scales.iter().map(|scale| scale * step.scale).collect();
                builder.bias(&bias, &biases, &scales);
            }
            builder.kernel(&kernel, &shape, stored);
            node.input[0] = rounded(&node.input[0]);
        } else {
            for input in node.input.iter_mut().filter(|input| places.outputs.contains(*input)) {
                *input = rounded(input);
            }
        }
        builder.push(node);
        if places.all().any(|place| *place == output) {
            Step::of(ranges[&output]).insert(&mut builder, &output);
        }
    }
    *graph = builder.finish();
}

/// The values that are rounded, and the convolutions between them.
struct Places {
    convolutions: BTreeSet<String>,
    /// What convolutions read; others read it as it was.
    inputs: BTreeSet<String>,
    /// What they give; others read it rounded.
    outputs: BTreeSet<String>,
}

impl Places {
    fn of(nodes: &[NodeProto]) -> Self {
        let convolutions: Vec<_> = nodes.iter().filter(|node| node.op_type() == "Conv").skip(1).collect();
        Self {
            convolutions: convolutions.iter().map(|node| node.name().to_owned()).collect(),
            inputs: convolutions.iter().map(|node| node.input[0].clone()).collect(),
            outputs: convolutions.iter().map(|node| node.output[0].clone()).collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.inputs.union(&self.outputs)
    }
}

/// 256 levels at equal distances, one of them zero.
#[derive(Clone, Copy)]
struct Step {
    scale: f32,
    zero_point: u8,
}

impl Step {
    fn of([least, greatest]: [f32; 2]) -> Self {
        let scale = (greatest - least) / 255.0;
        // A map of nothing but zeros.
        let scale = if scale.is_normal() { scale } else { 1.0 };
        Self { scale, zero_point: (-least / scale).round() as u8 }
    }

    fn insert(self, builder: &mut GraphBuilder, name: &str) {
        let constants = ["scale", "zero_point"].map(|part| format!("{name}.{part}"));
        builder.initializer(&constants[0], &[], &[self.scale]);
        builder.raw(&constants[1], DataType::Uint8, &[], vec![self.zero_point]);
        let with = |value: &str| [vec![value.to_owned()], constants.to_vec()].concat();
        let quantized = format!("{name}.quantized");
        builder.node(&quantized, "QuantizeLinear", &[], &with(name), vec![]);
        builder.node(&rounded(name), "DequantizeLinear", &[], &with(&quantized), vec![]);
    }
}

fn rounded(name: &str) -> String {
    format!("{name}.rounded")
}

/// Takes a constant out of the graph.
fn take(builder: &mut GraphBuilder, name: &str) -> (Vec<usize>, Vec<f32>) {
    let graph = builder.graph_mut();
    let found = tensor(graph, name).clone();
    graph.initializer.retain(|tensor| tensor.name() != name);
    (found.dims.iter().map(|size| *size as usize).collect(), f32_values(found.raw_data()))
}

/// Numbers of every feature map of one image.
fn lengths(graph: &GraphProto) -> HashMap<String, usize> {
    let mut maps: HashMap<String, [usize; 3]> = HashMap::new();
    let ints = |node: &NodeProto, name: &str| {
        let found = node.attribute.iter().find(|attribute| attribute.name() == name);
        found.map(|attribute| attribute.ints.iter().map(|v| *v as usize).collect::<Vec<_>>()).unwrap_or_default()
    };
    maps.extend(graph.input.iter().filter_map(|input| Some((input.name().to_owned(), image(input)?))));
    for node in &graph.node {
        let Some(&[channels, height, width]) = maps.get(&node.input[0]) else { continue };
        let map = match node.op_type() {
            "Transpose" => [width, channels, height],
            "Conv" => {
                let kernel = graph.initializer.iter().find(|tensor| tensor.name() == node.input[1]);
                let dims = kernel.map(|kernel| kernel.dims.iter().map(|v| *v as usize).collect::<Vec<_>>());
                let (dims, pads, strides) = (dims.unwrap_or_default(), ints(node, "pads"), ints(node, "strides"));
                let side = |axis: usize, size: usize| {
                    (size + pads[axis] + pads[axis + 2] - dims[axis + 2]) / strides[axis] + 1
                };
                [dims[0], side(0, height), side(1, width)]
            }
            _ => [channels, height, width],
        };
        maps.insert(node.output[0].clone(), map);
    }
    maps.into_iter().map(|(name, map)| (name, map.iter().product())).collect()
}

fn image(input: &ValueInfoProto) -> Option<[usize; 3]> {
    let type_proto::Value::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()? else { return None };
    let size = |dim: &crate::onnx_proto::tensor_shape_proto::Dimension| match dim.value {
        Some(dimension::Value::DimValue(size)) => size as usize,
        _ => 0,
    };
    let dims: Vec<usize> = tensor.shape.as_ref()?.dim.iter().map(size).collect();
    dims.get(1..)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OnnxOptions, testing, wide_resnet};

    /// A channel that training has given up is a constant: its bias is all that it says.
    #[test]
    fn a_bias_survives_a_kernel_of_next_to_nothing() -> Result<(), Box<dyn std::error::Error>> {
        let mut weights = testing::weights(10, 1, [1, 8, 8], 2)?;
        for (channel, size) in [1e-9, 0.0].into_iter().enumerate() {
            let kernel = weights.tensors.get_mut("groups.0.blocks.0.conv2.weight").ok_or("no kernel")?;
            let length = kernel.len() / 16;
            kernel[channel * length..][..length].fill(size);
            weights.tensors.get_mut("groups.0.blocks.0.conv2.bias").ok_or("no bias")?[channel] = 0.3;
        }
        let mut graph = wide_resnet::graph(&weights, &OnnxOptions::default())?;
        let ranges = Places::of(&graph.node).all().map(|name| (name.clone(), [-1.0, 4.1])).collect();
        round(&mut graph, &ranges);
        let mut raw = |part: &str| {
            let name = format!("groups.0.blocks.0.conv2.bias.{part}");
            tensor(&mut graph, &name).raw_data().to_vec()
        };
        let (steps, scales) = (raw("int32"), f32_values(&raw("scale")));
        for (steps, scale) in steps.as_chunks::<4>().0.iter().zip(scales).take(2) {
            let bias = i32::from_le_bytes(*steps) as f32 * scale;
            assert!((bias - 0.3).abs() < 1e-6, "{bias}");
        }
        Ok(())
    }
}
