//! The memory of a run: everything needed to go on as if it had never stopped.
//!
//! A safetensors file. Tensors: the network (`network.`), the EMA model (`ema.`), the optimiser's moments (`mean.`, `square.`).
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
    augment::StrongAugment,
    config::{NetworkConfig, Optimizer, TrainConfig},
    data::loader::Sampler,
    net::{NamedTensors, floats},
};

const METADATA_KEY: &str = "flywheel";

/// The group of the raw network.
pub(crate) const NETWORK: &str = "network";
/// The group of the EMA model.
pub(crate) const EMA: &str = "ema";
/// The group of the optimiser's first moments.
pub(crate) const MEAN: &str = "mean";
/// The group of the optimiser's second moments.
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
    /// The first thing in which another run differs, if it is another one. How often it measures, logs and saves does
    /// not make it one.
    pub(crate) fn difference(&self, other: &Self) -> Result<Option<String>> {
        let settings = |identity: &Self| {
            let TrainConfig { evaluate_every, log_every, checkpoint_every, .. } = other.train;
            let train = TrainConfig { evaluate_every, log_every, checkpoint_every, ..identity.train.clone() };
            toml::Value::try_from(Self { train, ..identity.clone() })
                .map_err(|e| models::Error::malformed("settings", "TOML", e))
        };
        Ok(difference("", &settings(self)?, &settings(other)?))
    }

    /// Writes the settings as they were understood, with the digest of the data.
    pub(crate) fn write_config(&self, path: &Path) -> Result<()> {
        let text = toml::to_string_pretty(self).map_err(|e| models::Error::malformed(path.display(), "TOML", e))?;
        Ok(durable::write(path, text.as_bytes())?)
    }
}

/// The path and both values of the first entry that differs.
fn difference(path: &str, was: &toml::Value, is: &toml::Value) -> Option<String> {
    match (was, is) {
        (toml::Value::Table(was), toml::Value::Table(is)) => was.keys().chain(is.keys()).find_map(|key| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (was.get(key), is.get(key)) {
                (Some(was), Some(is)) => difference(&path, was, is),
                _ => Some(format!("{path} is in one of them alone")),
            }
        }),
        _ if was != is => Some(format!("{path} was {was} and is {is}")),
        _ => None,
    }
}

/// The part of a run's state that is not tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) identity: Identity,
    pub(crate) step: u64,
    /// The method of each replica.
    pub(crate) methods: Vec<Method>,
    /// Strong augmentation with what it has learned by this step.
    pub(crate) strong: StrongAugment,
    /// What the next step's images are drawn from.
    pub(crate) sampler: Sampler,
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

/// Reads a checkpoint. Its tensors are the processor's.
///
/// # Errors
/// [`Error::Checkpoint`] or [`models::Error::Io`].
pub(crate) fn read(path: &Path) -> Result<(State, Groups)> {
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
        tensors.insert(name.to_owned(), Tensor::from_floats(f32_values(view.data()).as_slice(), &Device::flex()));
    }
    Ok((state, groups))
}

/// Checks that each group holds exactly the tensors that the network of this run has.
///
/// # Errors
/// [`Error::Checkpoint`] with the tensor.
pub(crate) fn check(path: &Path, state: &State, groups: &Groups, spec: &ModelSpec) -> Result<()> {
    let network: Vec<TensorSpec> = spec.network.tensors().into_iter().chain(spec.network.rotation_head()).collect();
    let lengths = |is_in: &dyn Fn(&&TensorSpec) -> bool| -> BTreeMap<String, usize> {
        network.iter().filter(is_in).map(|t| (t.name.clone(), t.len())).collect()
    };
    let all = lengths(&|_| true);
    // What no loss reaches has no moments: the rotation head of a method without rotation.
    let moments = lengths(&|t| state.step > 0 && t.role.is_trained() && !t.name.starts_with("rotation."));
    let squares = match state.identity.train.optimizer {
        Optimizer::Adam => moments.clone(),
        Optimizer::Sgd => BTreeMap::new(),
    };
    for (group, expected) in [(NETWORK, &all), (EMA, &all), (MEAN, &moments), (SQUARE, &squares)] {
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
