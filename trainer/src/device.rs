//! Where tensors live. The only place that knows which backends were built in.

use burn::tensor::{Device, ExecutionError, FloatDType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, config::TrainConfig};

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor, all cores.
    #[default]
    Cpu,
    /// NVIDIA GPUs; needs a build with `--features cuda`.
    Cuda,
}

/// One device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId {
    /// Its kind.
    pub kind: DeviceKind,
    /// Which of that kind, from 0. There is one processor: any index is its.
    pub index: usize,
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

/// What cubecl and its drivers say when memory is full.
const OUT_OF_MEMORY: [&str; 3] = ["out of device memory", "out-of-memory", "OUT_OF_MEMORY"];

/// An error that a device reported while it trained.
pub(crate) fn failure(error: &ExecutionError, config: &TrainConfig) -> Error {
    let (device, reason) = (config.device.name(), error.to_string());
    if OUT_OF_MEMORY.iter().any(|said| reason.contains(said)) {
        let (batch, unit) = (config.batch, config.batch_unit());
        let smaller = (batch / 2 / unit).max(1) * unit;
        let remedy = match smaller < batch {
            true => format!("train.batch = {smaller} instead of {batch}"),
            false => format!("fewer views or a smaller network: train.batch = {batch} is the least"),
        };
        return Error::OutOfMemory { device, images: config.images_per_step(), remedy };
    }
    Error::Device { device, reason }
}

impl DeviceKind {
    /// Its name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

impl DeviceId {
    /// The processor.
    pub const CPU: Self = Self { kind: DeviceKind::Cpu, index: 0 };

    /// The device itself, without gradients.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if this build lacks the backend, or this machine the device.
    pub(crate) fn open(self) -> Result<Device> {
        match self.kind {
            DeviceKind::Cpu => Ok(Device::flex()),
            DeviceKind::Cuda => cuda(self.index),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device> {
    use burn::tensor::DeviceType;
    use cubecl_cuda::compiler::CudaBackend;

    // The other compiler is not in this build: trainer/cubecl-llvm stands in for it.
    assert_eq!(CudaBackend::default(), CudaBackend::Cpp, "cubecl-cuda was built without its feature `cpp`");
    let count = Device::enumerate(DeviceType::Cuda).into_vec().len();
    if index >= count {
        let expected = format!("indices, from 0, of the {count} CUDA devices that this machine has");
        return Err(Error::Config { key: "train.devices", expected, found: index.to_string() });
    }
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device> {
    Err(Error::Config {
        key: "train.device",
        expected: "\"cpu\", or a build with `--features cuda`".into(),
        found: "\"cuda\"".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_memory_names_a_batch_size_to_try() {
        let said = |reason: &str, batch| {
            let error = ExecutionError::WithContext { reason: reason.into() };
            failure(&error, &TrainConfig { device: DeviceKind::Cuda, batch, ..TrainConfig::default() }).to_string()
        };
        let full = said("out of device memory allocating 1073741824 bytes", 64);
        assert!(full.contains("832 images") && full.contains("try train.batch = 32 instead of 64"), "{full}");
        let least = said("out of device memory allocating 1073741824 bytes", 4);
        assert!(least.contains("try fewer views or a smaller network"), "{least}");
        assert_eq!(said("unplugged", 64).lines().next(), Some("cuda failed: An error happened during execution"));
    }
}
