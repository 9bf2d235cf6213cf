//! Batch norm behind a convolution, taken over by the convolution: what is rounded is what the convolution then computes.

use models::{
    network::NORM_EPSILON,
    weights::{f32_bytes, f32_values},
};

use crate::onnx_proto::{GraphProto, NodeProto, TensorProto};

/// Folds every batch norm that is all that reads a convolution.
pub(super) fn fold(graph: &mut GraphProto) {
    let norms: Vec<_> = graph.node.iter().filter(|node| node.op_type() == "BatchNormalization").cloned().collect();
    for norm in norms {
        let readers = graph.node.iter().filter(|node| node.input.contains(&norm.input[0])).count();
        let is_convolution = |node: &&NodeProto| node.op_type() == "Conv" && node.output[0] == norm.input[0];
        let Some(convolution) = graph.node.iter().find(is_convolution).filter(|_| readers == 1).cloned() else {
            continue;
        };
        let [weight, bias, mean, variance] = [1, 2, 3, 4].map(|i| f32_values(tensor(graph, &norm.input[i]).raw_data()));
        let scale: Vec<f64> = weight
            .iter()
            .zip(&variance)
            .map(|(weight, variance)| f64::from(*weight) / (f64::from(*variance) + NORM_EPSILON).sqrt())
            .collect();
        change(tensor(graph, &convolution.input[1]), scale.len(), |channel, value| value * scale[channel]);
        change(tensor(graph, &convolution.input[2]), scale.len(), |channel, value| {
            (value - f64::from(mean[channel])) * scale[channel] + f64::from(bias[channel])
        });
        graph.initializer.retain(|tensor| !norm.input[1..].iter().any(|name| tensor.name() == name));
        graph.node.retain(|node| node.name() != norm.name());
        for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
            if *input == norm.output[0] {
                input.clone_from(&norm.input[0]);
            }
        }
    }
}

/// The constant of that name, which the graph has.
pub(super) fn tensor<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
    let found = graph.initializer.iter_mut().find(|tensor| tensor.name() == name);
    found.unwrap_or_else(|| panic!("the graph refers to a constant {name} that it does not have"))
}

/// Changes every number of a tensor `[channel, ...]`.
fn change(tensor: &mut TensorProto, channels: usize, new: impl Fn(usize, f64) -> f64) {
    let values = f32_values(tensor.raw_data());
    let length = values.len() / channels;
    let values: Vec<f32> =
        values.iter().enumerate().map(|(i, value)| new(i / length, f64::from(*value)) as f32).collect();
    tensor.raw_data = Some(f32_bytes(&values));
}
