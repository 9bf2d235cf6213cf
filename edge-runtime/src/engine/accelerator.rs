use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an ONNX Runtime may run parts of a graph on, if its library was built for it: one of its execution providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Accelerator {
    /// Arm Compute Library.
    Acl,
    /// Apple's Core ML.
    CoreMl,
    /// NVIDIA GPUs.
    Cuda,
    /// Android's neural networks API.
    Nnapi,
    /// Intel's processors, GPUs and NPUs.
    OpenVino,
    /// Qualcomm's NPUs.
    Qnn,
    /// Rockchip's NPUs.
    Rknpu,
    /// NVIDIA GPUs, by TensorRT.
    TensorRt,
    /// Processors, by XNNPACK.
    Xnnpack,
}
