//! Trained weights in a safetensors file, with the spec of what they belong to in its metadata.

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Digest, Error, LabelSet, NetworkSpec, Preprocessing, Result, durable,
    tolerance::{CROSS_ENGINE, ROUNDED_LAYERS, Tolerance},
};

/// One key alone: safetensors writes several in any order, and the same model should make the same bytes.
const METADATA_KEY: &str = "flywheel";

/// Everything about a model but its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The network.
    pub network: NetworkSpec,
    /// The classes, in the order of the logits.
    pub labels: LabelSet,
    /// From an image file to the network's input.
    pub preprocessing: Preprocessing,
}

impl ModelSpec {
    /// The spec itself, if its parts fit each other.
    ///
    /// # Errors
    /// [`Error::Network`].
    pub fn validate(self) -> Result<Self> {
        let network = self.network.clone().validate()?;
        if network.classes != self.labels.len() {
            return Err(Error::Network(format!("{} classes for {} labels", network.classes, self.labels.len())));
        }
        if network.input != self.preprocessing.shape() {
            return Err(Error::Network(format!(
                "the network's input is {:?}, preprocessing makes {:?}",
                network.input,
                self.preprocessing.shape()
            )));
        }
        Ok(self)
    }
}

/// What a model was trained on, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingFacts {
    /// Labeled images.
    pub labeled: usize,
    /// Images without labels, the labeled ones counted again if they served as such.
    pub unlabeled: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Root seed.
    pub seed: u64,
}

/// How a model computes what lies between its first convolution and its classifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// In 32 bits.
    #[default]
    F32,
    /// In 8 bits with a scale for each feature map, kernels being stored so: engines may use whole numbers.
    Int8,
}

impl Arithmetic {
    /// Whether it is in 32 bits.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }

    /// How closely engines agree on it.
    pub fn tolerance(self) -> Tolerance {
        match self {
            Self::F32 => CROSS_ENGINE,
            Self::Int8 => ROUNDED_LAYERS,
        }
    }
}

/// How a model's file stores kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// As they were trained.
    #[default]
    F32,
    /// In 16 bits: half of the size.
    F16,
    /// In 8 bits with a scale for each output channel: a quarter of the size.
    Int8,
}

impl Storage {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    spec: ModelSpec,
    training: TrainingFacts,
}

/// A model: its spec and every tensor of [`NetworkSpec::tensors`], by name, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// What the tensors belong to.
    pub spec: ModelSpec,
    /// How it came about.
    pub training: TrainingFacts,
    /// The numbers.
    pub tensors: BTreeMap<String, Vec<f32>>,
}

impl Weights {
    /// Writes the file, durably.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] if a tensor is missing or has the wrong size.
    pub fn write(&self, path: &Path) -> Result<()> {
        let what = path.display().to_string();
        let mut views = Vec::new();
        for tensor in self.spec.network.tensors() {
            let missing = || Error::malformed(&what, format!("tensor {}", tensor.name), "none");
            let bytes = f32_bytes(self.tensors.get(&tensor.name).ok_or_else(missing)?);
            views.push((tensor.name, tensor.shape, bytes));
        }
        let views = views
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| Error::malformed(&what, "tensors of the network's shapes", e))?;
        let header = Header { spec: self.spec.clone(), training: self.training };
        let header = serde_json::to_string(&header).map_err(|e| Error::malformed(&what, "a header", e))?;
        let bytes = safetensors::serialize(views, Some([(METADATA_KEY.to_owned(), header)].into()))
            .map_err(|e| Error::malformed(&what, "safetensors", e))?;
        durable::write(path, &bytes)
    }

    /// The digest of the tensors, names and numbers: the same for the same network, wherever it is written to.
    pub fn digest(&self) -> Digest {
        let tensor = |(name, values): (&String, &Vec<f32>)| [name.as_bytes(), &[0], &f32_bytes(values)].concat();
        Digest::of_parts(self.tensors.iter().map(tensor))
    }

    /// Reads the file and checks it against the spec it carries.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] that names the tensor; [`Error::Network`].
    pub fn read(path: &Path) -> Result<Self> {
        let what = path.display().to_string();
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let malformed = |found: &dyn std::fmt::Display| Error::malformed(&what, "weights in safetensors form", found);
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| malformed(&e))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| malformed(&e))?;
        let text = header.metadata().as_ref().and_then(|m| m.get(METADATA_KEY));
        let text = text.ok_or_else(|| malformed(&format!("no {METADATA_KEY:?} in its metadata")))?;
        let Header { spec, training } = serde_json::from_str(text).map_err(|e| malformed(&e))?;
        let spec = spec.validate()?;
        let mut tensors = BTreeMap::new();
        for tensor in spec.network.tensors() {
            let view = file.tensor(&tensor.name).map_err(|e| malformed(&e))?;
            if view.dtype() != Dtype::F32 || view.shape() != tensor.shape {
                return Err(Error::malformed(
                    format!("{what}, tensor {}", tensor.name),
                    format!("f32 of shape {:?}", tensor.shape),
                    format!("{:?} of shape {:?}", view.dtype(), view.shape()),
                ));
            }
            tensors.insert(tensor.name, f32_values(view.data()));
        }
        Ok(Self { spec, training, tensors })
    }
}

/// Numbers as little-endian bytes.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Little-endian bytes as numbers; a rest of less than four bytes is ignored.
pub fn f32_values(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
