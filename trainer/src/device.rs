//! Where tensors live. The only place that knows which backends were built in.

use burn::tensor::{Device, FloatDType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor, all cores.
    #[default]
    Cpu,
    /// The first NVIDIA GPU; needs a build with `--features cuda`.
    Cuda,
}

/// What convolutions are computed in while training. Weights, batch norm, losses and every evaluation are in 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 on a GPU, f32 on the processor.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits, with the exponent of 32: what tensor cores are fastest at.
    Bf16,
}

impl Precision {
    /// What convolutions are cast to on a device, if they are.
    pub(crate) fn cast(self, device: DeviceKind) -> Option<FloatDType> {
        match (self, device) {
            (Self::Bf16, _) | (Self::Auto, DeviceKind::Cuda) => Some(FloatDType::BF16),
            (Self::F32, _) | (Self::Auto, DeviceKind::Cpu) => None,
        }
    }
}

/// Whether tensors on a device are the processor's, with or without gradient.
pub(crate) fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

impl DeviceKind {
    /// The device itself, without gradients.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if this build lacks the backend.
    pub(crate) fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda => {
                use cubecl_cuda::compiler::CudaBackend;

                // The other compiler is not in this build: trainer/cubecl-llvm stands in for it.
                assert_eq!(CudaBackend::default(), CudaBackend::Cpp, "cubecl-cuda was built without its feature `cpp`");
                Ok(Device::cuda(0))
            }
            #[cfg(not(feature = "cuda"))]
            Self::Cuda => Err(crate::Error::Config {
                key: "train.device",
                expected: "\"cpu\", or a build with `--features cuda`".into(),
                found: "\"cuda\"".into(),
            }),
        }
    }
}
