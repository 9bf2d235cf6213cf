//! Where tensors live. The only place that knows which backends were built in.

use burn::tensor::Device;
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
