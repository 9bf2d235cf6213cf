use models::{Weights, preprocess::InputLayout, weights::Storage};
use prost::Message;
use serde_json::json;

use crate::{
    Ranges, Result,
    graph::Batch,
    int8,
    onnx_proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto},
    wide_resnet,
};

/// Version of ONNX's operators that models are written in.
pub const OPSET: i64 = 17;
/// Version of ONNX's file format, the one that came with [`OPSET`].
pub const IR_VERSION: i64 = 8;
/// Name of the model's input.
pub const INPUT: &str = "image";
/// Name of the model's first output.
pub const OUTPUT: &str = "logits";
/// Name of the output of calibrated probabilities.
pub const PROBS: &str = "probs";
/// Name of the output of the pooled features.
pub const EMBEDDING: &str = "embedding";

/// What an ONNX model takes and gives. The default is what devices run: one image, logits.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxOptions {
    /// Images at once.
    pub batch: Batch,
    /// How it takes them.
    pub input: InputLayout,
    /// The temperature of an output [`PROBS`]; none for a model without it.
    pub probs: Option<f64>,
    /// Whether there is an output [`EMBEDDING`].
    pub embedding: bool,
    /// How it stores kernels. What it then computes is the network of [`rounded`](crate::rounded) weights.
    pub weights: Storage,
    /// The ranges of a model that computes in 8 bits, its kernels then being stored so; none for one that computes in 32.
    pub ranges: Option<Ranges>,
    /// Under which terms the model may be used, for the file's metadata.
    pub licence: Option<String>,
}

impl Default for OnnxOptions {
    fn default() -> Self {
        Self {
            batch: Batch::Fixed(1),
            input: InputLayout::F32,
            probs: None,
            embedding: false,
            weights: Storage::F32,
            ranges: None,
            licence: None,
        }
    }
}

/// The ONNX model that computes what the trained network computes in evaluation.
///
/// The same weights and options make the same bytes. Tensors that the network does not have, such as a rotation head, are
/// left out. The file's metadata carries `labels` and `preprocessing` as JSON, the `digest` of the weights, and the
/// `licence`.
///
/// # Shapes
/// [`INPUT`] is as [`models::preprocess::InputLayout`] says, [`OUTPUT`] and [`PROBS`] are f32 `[batch, classes]`, [`EMBEDDING`]
/// f32 `[batch, features]`.
///
/// # Errors
/// [`Error::MissingTensor`](crate::Error::MissingTensor), [`Error::TensorSize`](crate::Error::TensorSize) and
/// [`Error::NotFinite`](crate::Error::NotFinite) name the tensor; [`Error::Models`](crate::Error::Models) if the spec
/// describes no network.
pub fn to_onnx(weights: &Weights, options: &OnnxOptions) -> Result<Vec<u8>> {
    weights.spec.clone().validate()?;
    let graph = match &options.ranges {
        None => wide_resnet::graph(weights, options)?,
        Some(ranges) => int8::graph(weights, options, ranges)?,
    };
    Ok(encode(graph, weights, options))
}

/// A graph as a file.
pub(crate) fn encode(graph: GraphProto, weights: &Weights, options: &OnnxOptions) -> Vec<u8> {
    let model = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("flywheel exporter".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(OPSET) }],
        metadata_props: metadata(weights, options),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

fn metadata(weights: &Weights, options: &OnnxOptions) -> Vec<StringStringEntryProto> {
    let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    let spec = &weights.spec;
    let mut entries = vec![
        entry("labels", json!(spec.labels).to_string()),
        entry("preprocessing", json!(spec.preprocessing).to_string()),
        entry("digest", weights.digest().to_string()),
    ];
    entries.extend(options.licence.clone().map(|licence| entry("licence", licence)));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn carries_what_one_has_to_know_for_whoever_finds_the_file_alone() -> Result<(), Box<dyn std::error::Error>> {
        let mut weights = testing::weights(10, 1, [1, 8, 6], 3)?;
        let options = OnnxOptions { licence: Some("CC-BY-4.0".into()), ..OnnxOptions::default() };
        let model = ModelProto::decode(to_onnx(&weights, &options)?.as_slice())?;
        let value = |key: &str| model.metadata_props.iter().find(|p| p.key() == key).map_or("", |p| p.value());
        assert_eq!(value("labels"), r#"["class 0","class 1","class 2"]"#);
        assert_eq!(serde_json::from_str::<models::Preprocessing>(value("preprocessing"))?, weights.spec.preprocessing);
        assert_eq!((value("digest"), value("licence")), (weights.digest().to_string().as_str(), "CC-BY-4.0"));
        // The digest is that of the weights, to the last bit.
        let digest = weights.digest();
        weights.tensors.get_mut("classifier.bias").expect("a bias")[0] += 1e-6;
        assert_ne!(weights.digest(), digest);
        Ok(())
    }
}
