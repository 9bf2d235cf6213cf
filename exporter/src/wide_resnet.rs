//! A wide ResNet as an ONNX graph, layer for layer as [`NetworkSpec`] lists them.
//!
//! Batch norm stays a node of its own: engines fold it into the convolutions themselves.
//!
//! # Reference
//! As [`models::network`]: pre-activation blocks, a bias in every convolution, leaky ReLU, "SAME" padding.

use models::{
    Weights,
    network::{BlockSpec, LEAKY_SLOPE, NORM_EPSILON, TensorRole, same_padding},
    preprocess::InputLayout,
    weights::Storage,
};

use crate::{
    EMBEDDING, Error, INPUT, OUTPUT, OnnxOptions, PROBS, Result,
    graph::{GraphBuilder, Value, float, int, ints},
    onnx_proto::{GraphProto, tensor_proto::DataType},
    storage::Stored,
};

/// The network of `weights`.
pub(crate) fn graph(weights: &Weights, options: &OnnxOptions) -> Result<GraphProto> {
    let network = &weights.spec.network;
    let [channels, height, width] = network.input;
    let mut graph = GraphBuilder::new(network.name(), options.batch);
    let image = match options.input {
        InputLayout::F32 => {
            graph.input(INPUT, DataType::Float, &[channels, height, width], "8-bit values u as u * 2/255 - 1")
        }
        InputLayout::Rgb8 => {
            let image =
                graph.input(INPUT, DataType::Uint8, &[height, width, channels], "pixels, their channels together");
            preprocess(&mut graph, &image)
        }
    };
    initializers(&mut graph, weights, options.weights)?;

    let mut x = convolution(&mut graph, "stem", &Map { value: image, size: [height, width] }, 3, network.stem_stride);
    for spec in network.blocks() {
        x = block(&mut graph, &spec, &x);
    }
    let h = activation(&mut graph, "norm", &x);
    let pooled = graph.node("pool", "GlobalAveragePool", &[&h.value], &[], vec![]);
    let features = graph.node("flatten", "Flatten", &[&pooled], &[], vec![int("axis", 1)]);
    let constants = tensors("classifier", ["weight", "bias"]);
    let logits = graph.node("classifier", "Gemm", &[&features], &constants, vec![int("transB", 1)]);
    let classes = network.classes;
    let logits = graph.output(&logits, OUTPUT, &[classes], "one number a class, in the order of the labels");
    if let Some(temperature) = options.probs {
        graph.initializer("temperature", &[], &[temperature as f32]);
        let scaled = graph.node("probs.logits", "Div", &[&logits], &["temperature".into()], vec![]);
        let probs = graph.node("probs.softmax", "Softmax", &[&scaled], &[], vec![int("axis", 1)]);
        graph.output(&probs, PROBS, &[classes], "calibrated probabilities of the classes");
    }
    if options.embedding {
        let doc = "what the classifier is given: the last feature map's means";
        graph.output(&features, EMBEDDING, &[network.features()], doc);
    }
    Ok(graph.finish())
}

/// What [`models::Pixels::to_input`] does, inside the graph.
fn preprocess(graph: &mut GraphBuilder, image: &Value) -> Value {
    graph.initializer("image.scale", &[], &[2.0 / 255.0]);
    graph.initializer("image.offset", &[], &[1.0]);
    let float = graph.node("image.float", "Cast", &[image], &[], vec![int("to", DataType::Float as i64)]);
    let scaled = graph.node("image.scaled", "Mul", &[&float], &["image.scale".into()], vec![]);
    let centred = graph.node("image.centred", "Sub", &[&scaled], &["image.offset".into()], vec![]);
    graph.node("image.planes", "Transpose", &[&centred], &[], vec![ints("perm", &[0, 3, 1, 2])])
}

/// A feature map: `[batch, channels, height, width]`.
struct Map {
    value: Value,
    /// Height and width.
    size: [usize; 2],
}

fn initializers(graph: &mut GraphBuilder, weights: &Weights, storage: Storage) -> Result<()> {
    for spec in weights.spec.network.tensors() {
        let Some(values) = weights.tensors.get(&spec.name) else {
            return Err(Error::MissingTensor { tensor: spec.name, expected: spec.shape });
        };
        if values.len() != spec.len() {
            return Err(Error::TensorSize { tensor: spec.name, expected: spec.shape, found: values.len() });
        }
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { tensor: spec.name, index, found: values[index] });
        }
        match spec.role {
            TensorRole::Kernel => {
                graph.kernel(&spec.name, &spec.shape, Stored::new(values, spec.shape[0], storage));
            }
            TensorRole::Offset | TensorRole::Statistic => graph.initializer(&spec.name, &spec.shape, values),
        }
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
    use crate::{
        Batch,
        onnx_proto::{AttributeProto, tensor_shape_proto::dimension, type_proto},
        testing,
    };

    fn plain(weights: &Weights) -> Result<GraphProto> {
        graph(weights, &OnnxOptions::default())
    }

    #[test]
    fn every_tensor_is_in_the_graph_once_with_its_shape_and_values() -> Result<()> {
        let mut weights = testing::weights(10, 2, [3, 8, 8], 4)?;
        weights.tensors.insert("rotation.bias".into(), vec![0.0; 4]);
        let graph = plain(&weights)?;
        let expected: Vec<_> = weights.spec.network.tensors().into_iter().map(|t| (t.name, t.shape)).collect();
        let shape = |dims: &[i64]| dims.iter().map(|&d| d as usize).collect::<Vec<_>>();
        let found: Vec<_> = graph.initializer.iter().map(|t| (t.name().to_owned(), shape(&t.dims))).collect();
        assert_eq!(found, expected);
        for tensor in &graph.initializer {
            assert_eq!(f32_values(tensor.raw_data()), weights.tensors[tensor.name()], "{}", tensor.name());
            let uses = graph.node.iter().flat_map(|n| &n.input).filter(|input| *input == tensor.name());
            assert_eq!(uses.count(), 1, "{}", tensor.name());
        }
        Ok(())
    }

    /// Nodes as `name Operator(inputs) attributes`, with a layer's own tensors by their last name.
    fn lines(graph: &GraphProto, prefixes: &[&str]) -> Vec<String> {
        let attribute = |a: &AttributeProto| match (a.f, a.i) {
            (Some(value), _) => format!(" {}={value}", a.name()),
            (_, Some(value)) => format!(" {}={value}", a.name()),
            _ => format!(" {}={:?}", a.name(), a.ints),
        };
        let nodes = graph.node.iter().filter(|n| prefixes.iter().any(|p| n.name().starts_with(p)));
        nodes
            .map(|n| {
                let own = format!("{}.", n.name());
                let inputs: Vec<_> = n.input.iter().map(|i| i.strip_prefix(&own).unwrap_or(i)).collect();
                let attributes: String = n.attribute.iter().map(attribute).collect();
                format!("{} {}({}){attributes}", n.name(), n.op_type(), inputs.join(", "))
            })
            .collect()
    }

    #[test]
    fn a_block_that_halves_pads_each_side_by_its_own_parity() -> Result<()> {
        // Height 5 is odd, width 6 is even: only the even side is padded at its end alone. Then both are 3.
        let graph = plain(&testing::weights(10, 1, [1, 5, 6], 2)?)?;
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
            let graph = plain(&testing::weights(depth, width, [1, 8, 8], 2)?)?;
            let nodes = ["groups.0.blocks.0.shortcut", "groups.0.blocks.0.add", "groups.0.blocks.1.add"];
            let nodes = nodes.iter().filter_map(|name| graph.node.iter().find(|n| n.name() == *name));
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
        let graph = plain(&testing::weights(10, 1, [1, 8, 8], 2)?)?;
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
            let error = plain(&broken).err().map(|e| e.to_string());
            assert!(error.as_ref().is_some_and(|e| e.contains(name)), "{error:?}");
        }
        Ok(())
    }

    #[test]
    fn options_change_the_input_the_batch_and_the_outputs() -> Result<()> {
        let weights = testing::weights(10, 1, [3, 8, 6], 2)?;
        let options = OnnxOptions {
            batch: Batch::Symbolic,
            input: InputLayout::Rgb8,
            probs: Some(1.5),
            embedding: true,
            ..OnnxOptions::default()
        };
        let graph = graph(&weights, &options)?;
        assert_eq!(
            lines(&graph, &["image", "stem", "pool", "flatten", "classifier", "probs"]),
            [
                "image.float Cast(image) to=1",
                "image.scaled Mul(image.float, image.scale)",
                "image.centred Sub(image.scaled, image.offset)",
                "image.planes Transpose(image.centred) perm=[0, 3, 1, 2]",
                "stem Conv(image.planes, weight, bias) kernel_shape=[3, 3] pads=[1, 1, 1, 1] strides=[1, 1]",
                "pool GlobalAveragePool(norm.leaky)",
                "flatten Flatten(pool) axis=1",
                "classifier Gemm(embedding, weight, bias) transB=1",
                "probs.logits Div(logits, temperature)",
                "probs.softmax Softmax(probs.logits) axis=1",
            ]
        );
        let declared = |info: &crate::onnx_proto::ValueInfoProto| {
            let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref())
            else {
                panic!("{info:?} is no tensor")
            };
            let dims = tensor.shape.iter().flat_map(|shape| &shape.dim).filter_map(|dim| dim.value.as_ref());
            let dims: Vec<_> = dims
                .map(|dim| match dim {
                    dimension::Value::DimValue(size) => size.to_string(),
                    dimension::Value::DimParam(name) => name.clone(),
                })
                .collect();
            format!("{} {:?} {}", info.name(), tensor.elem_type(), dims.join(","))
        };
        let values: Vec<_> = graph.input.iter().chain(&graph.output).map(declared).collect();
        assert_eq!(values, ["image 2 batch,8,6,3", "logits 1 batch,2", "probs 1 batch,2", "embedding 1 batch,64"]);
        Ok(())
    }
}
