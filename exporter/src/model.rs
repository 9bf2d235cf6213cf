use models::{Weights, weights::ModelSpec};
use prost::Message;
use serde_json::json;

use crate::{
    Result,
    onnx_proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto},
    wide_resnet,
};

/// Version of ONNX's operators that models are written in.
pub const OPSET: i64 = 17;
/// Version of ONNX's file format, the one that came with [`OPSET`].
pub const IR_VERSION: i64 = 8;
/// Name of the model's input.
pub const INPUT: &str = "image";
/// Name of the model's output.
pub const OUTPUT: &str = "logits";

/// The ONNX model that computes what the trained network computes in evaluation.
///
/// The same weights make the same bytes. Tensors that the network does not have, such as a rotation head, are left
/// out. The file's metadata carries `labels` and `preprocessing` as JSON.
///
/// # Shapes
/// [`INPUT`] is f32 `[1, channels, height, width]` with values from -1 to 1, [`OUTPUT`] f32 `[1, classes]`.
///
/// # Errors
/// [`Error::MissingTensor`](crate::Error::MissingTensor), [`Error::TensorSize`](crate::Error::TensorSize) and
/// [`Error::NotFinite`](crate::Error::NotFinite) name the tensor; [`Error::Models`](crate::Error::Models) if the spec
/// describes no network.
pub fn to_onnx(weights: &Weights) -> Result<Vec<u8>> {
    weights.spec.clone().validate()?;
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "flywheel exporter".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(wide_resnet::graph(weights)?),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata(&weights.spec),
    };
    Ok(model.encode_to_vec())
}

fn metadata(spec: &ModelSpec) -> Vec<StringStringEntryProto> {
    [("labels", json!(spec.labels)), ("preprocessing", json!(spec.preprocessing))]
        .map(|(key, value)| StringStringEntryProto { key: key.to_owned(), value: value.to_string() })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn carries_labels_and_preprocessing_for_whoever_finds_the_file_alone() -> Result<(), Box<dyn std::error::Error>> {
        let weights = testing::weights(10, 1, [1, 8, 6], 3)?;
        let model = ModelProto::decode(to_onnx(&weights)?.as_slice())?;
        let value = |key: &str| model.metadata_props.iter().find(|p| p.key == key).map_or("", |p| &p.value);
        assert_eq!(value("labels"), r#"["class 0","class 1","class 2"]"#);
        assert_eq!(serde_json::from_str::<models::Preprocessing>(value("preprocessing"))?, weights.spec.preprocessing);
        Ok(())
    }
}
