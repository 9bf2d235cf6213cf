//! The memory of a run: everything needed to go on as if it had never stopped.
//!
//! A safetensors file. Tensors: the network (`network.`), the EMA model (`ema.`), Adam's moments (`mean.`, `square.`).
//! Metadata: settings, data digest, step, the method's state with all random streams, and the log's running means.

use std::{collections::BTreeMap, fs, path::Path};

use burn::tensor::{Device, Tensor};
use models::{
    Digest, ModelSpec, durable,
    network::TensorSpec,
    weights::{f32_bytes, f32_values},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    algorithm::Method,
    config::{NetworkConfig, TrainConfig},
    net::{NamedTensors, floats},
};

const METADATA_KEY: &str = "flywheel";

/// The group of the raw network.
pub(crate) const NETWORK: &str = "network";
/// The group of the EMA model.
pub(crate) const EMA: &str = "ema";
/// The group of Adam's first moments.
pub(crate) const MEAN: &str = "mean";
/// The group of Adam's second moments.
pub(crate) const SQUARE: &str = "square";

/// Tensors by the group they belong to.
pub(crate) type Groups = BTreeMap<&'static str, NamedTensors>;

/// What identifies a run: a checkpoint of another one is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) train: TrainConfig,
    pub(crate) network: NetworkConfig,
    pub(crate) data: Digest,
}

impl Identity {
    /// What another run differs in, if it is another one.
    pub(crate) fn differs(&self, other: &Self) -> Option<&'static str> {
        match self {
            _ if self.train != other.train => Some("train"),
            _ if self.network != other.network => Some("network"),
            _ if self.data != other.data => Some("data"),
            _ => None,
        }
    }

    /// Writes the settings as they were understood, with the digest of the data.
    pub(crate) fn write_config(&self, path: &Path) -> Result<()> {
        let text = toml::to_string_pretty(self).map_err(|e| models::Error::malformed(path.display(), "TOML", e))?;
        Ok(durable::write(path, text.as_bytes())?)
    }
}

/// The part of a run's state that is not tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) identity: Identity,
    pub(crate) step: u64,
    pub(crate) method: Method,
    pub(crate) running: crate::fit::RunningMeans,
}

/// Writes a checkpoint, durably: a cut leaves the one before.
pub(crate) fn write(path: &Path, state: &State, groups: &Groups) -> Result<()> {
    let malformed = |e: &dyn std::fmt::Display| Error::Checkpoint { path: path.to_owned(), reason: e.to_string() };
    let named = |(group, tensors): (&&str, &NamedTensors)| {
        tensors.iter().map(|(name, t)| (format!("{group}.{name}"), f32_bytes(&floats(t.clone())))).collect::<Vec<_>>()
    };
    let tensors: Vec<(String, Vec<u8>)> = groups.iter().flat_map(named).collect();
    let views = tensors
        .iter()
        .map(|(name, bytes)| Ok((name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| malformed(&e))?;
    let state = serde_json::to_string(state).map_err(|e| malformed(&e))?;
    let bytes =
        safetensors::serialize(views, Some([(METADATA_KEY.to_owned(), state)].into())).map_err(|e| malformed(&e))?;
    Ok(durable::write(path, &bytes)?)
}

/// Reads a checkpoint.
///
/// # Errors
/// [`Error::Checkpoint`] or [`models::Error::Io`].
pub(crate) fn read(path: &Path, device: &Device) -> Result<(State, Groups)> {
    let malformed = |e: &dyn std::fmt::Display| Error::Checkpoint { path: path.to_owned(), reason: e.to_string() };
    let bytes = fs::read(path).map_err(models::Error::io("read", path))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| malformed(&e))?;
    let state =
        header.metadata().as_ref().and_then(|m| m.get(METADATA_KEY)).ok_or_else(|| malformed(&"it has no state"))?;
    let state: State = serde_json::from_str(state).map_err(|e| malformed(&e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| malformed(&e))?;
    let mut groups: Groups = [NETWORK, EMA, MEAN, SQUARE].map(|group| (group, NamedTensors::new())).into();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(malformed(&format!("tensor {name:?} holds {:?}", view.dtype())));
        }
        let (group, name) = name.split_once('.').ok_or_else(|| malformed(&format!("unexpected tensor {name:?}")))?;
        let tensors = groups.get_mut(group).ok_or_else(|| malformed(&format!("unexpected group {group:?}")))?;
        tensors.insert(name.to_owned(), Tensor::from_floats(f32_values(view.data()).as_slice(), device));
    }
    Ok((state, groups))
}

/// Checks that each group holds exactly the tensors that the network of this run has.
///
/// # Errors
/// [`Error::Checkpoint`] with the tensor.
pub(crate) fn check(path: &Path, step: u64, groups: &Groups, spec: &ModelSpec) -> Result<()> {
    let network: Vec<TensorSpec> = spec.network.tensors().into_iter().chain(spec.network.rotation_head()).collect();
    let lengths = |is_in: &dyn Fn(&&TensorSpec) -> bool| -> BTreeMap<String, usize> {
        network.iter().filter(is_in).map(|t| (t.name.clone(), t.len())).collect()
    };
    let all = lengths(&|_| true);
    // What no loss reaches has no moments: the rotation head of a method without rotation.
    let moments = lengths(&|t| step > 0 && t.role.is_trained() && !t.name.starts_with("rotation."));
    for (group, expected) in [(NETWORK, &all), (EMA, &all), (MEAN, &moments), (SQUARE, &moments)] {
        let found = groups.get(group).into_iter().flatten().map(|(name, t)| (name, t.dims()[0]));
        let found: BTreeMap<&String, usize> = found.collect();
        let missing = expected.iter().find(|(name, length)| found.get(name) != Some(length));
        let unknown = found.iter().find(|(name, length)| all.get(**name) != Some(length));
        if let Some(name) = missing.map(|(name, _)| name).or(unknown.map(|(name, _)| *name)) {
            let reason = format!("tensor {group}.{name} is missing, unknown, or of another size");
            return Err(Error::Checkpoint { path: path.to_owned(), reason });
        }
    }
    Ok(())
}
