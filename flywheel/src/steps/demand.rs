//! Tells the devices what the workstation has of each class, and what it wants more of.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use edge_runtime::sync::{Remote, demand};
use jiff::Timestamp;
use models::{
    LabelSet, Sample,
    sync::{self, Demand, Wish},
};

use crate::project::Project;

/// Tells how many confident samples of each class came in from the whole fleet. What was asked for stays.
///
/// # Errors
/// If the remote fails, or holds a demand that is none.
pub fn tell_held(project: &Project, remote: &Remote, labels: &LabelSet, samples: &[Sample]) -> Result<()> {
    let mut held: BTreeMap<String, u64> = labels.names().iter().map(|label| (label.clone(), 0)).collect();
    let classes = samples.iter().filter_map(|sample| sample.record.pseudo_label());
    for label in classes.filter_map(|class| labels.names().get(class)) {
        *held.entry(label.clone()).or_default() += 1;
    }
    let before = asked(project, remote)?;
    if before.held == held {
        return Ok(());
    }
    write(project, remote, &Demand { held, ..before })
}

/// What is told now.
///
/// # Errors
/// As [`tell_held`].
pub fn asked(project: &Project, remote: &Remote) -> Result<Demand> {
    Ok(demand(remote, &project.config().store.channel)?)
}

/// Asks every device for so many samples of each of these labels, from now on, and for nothing else.
///
/// # Errors
/// If a label is none of the project's; as [`tell_held`].
pub fn ask(
    project: &Project,
    remote: &Remote,
    labels: &LabelSet,
    wanted: &[(String, u32)],
    now: Timestamp,
) -> Result<Demand> {
    for (label, _) in wanted {
        ensure!(labels.index(label).is_some(), "{label:?}: expected one of {}", labels.names().join(", "));
    }
    let wish = |(label, per_device): &(String, u32)| (label.clone(), Wish { per_device: *per_device, asked: now });
    let demand = Demand { wanted: wanted.iter().map(wish).collect(), ..asked(project, remote)? };
    write(project, remote, &demand)?;
    Ok(demand)
}

fn write(project: &Project, remote: &Remote, demand: &Demand) -> Result<()> {
    Ok(remote.put(&sync::demand(&project.config().store.channel), serde_json::to_vec_pretty(demand)?)?)
}
