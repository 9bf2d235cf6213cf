//! What a round leaves behind: what it was made of, and what came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use models::{Digest, durable};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    project::{Project, round_name},
    steps::{choose::Choice, gate::Verdict, watch::Watched},
};

/// What a round was and did, as in `rounds/round-N.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundRecord {
    /// Number of the round, from 1. Also the sequence number of its bundle.
    pub round: u32,
    /// When it was done.
    pub finished: Timestamp,
    /// The bundle that devices ran when it started.
    pub parent: Option<Digest>,
    /// What it trained on.
    pub inputs: Inputs,
    /// Root seed of its training.
    pub seed: u64,
    /// What its bundle can be made from again; none in records from before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// The bundle it made.
    pub bundle: Digest,
    /// Accuracy of that bundle on the frozen test set.
    pub test_accuracy: f64,
    /// What the gate said.
    pub verdict: Verdict,
    /// What was watched besides; none without a model before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched: Option<Watched>,
    /// Whether devices were given the bundle.
    pub published: bool,
    /// When devices were ordered to go back to an older bundle, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Timestamp>,
}

impl RoundRecord {
    /// Whether devices may be running the bundle.
    pub fn is_out(&self) -> bool {
        self.published && self.withdrawn.is_none()
    }
}

/// What a round trains on besides the project's own images, as in `rounds/round-N.inputs.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// When the round began; also when its bundle was made, so that an interrupted round makes the same one.
    pub began: Timestamp,
    /// How many samples went which way.
    pub choice: Choice,
    /// The chosen samples without labels.
    pub samples: BTreeSet<Digest>,
    /// The samples that people have labeled, with their labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Digest, String>,
    /// How often people had said something by then.
    #[serde(default)]
    pub words: usize,
    /// Weights of the teacher whose labels chose the samples; none if it was the current model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Digest>,
    /// Why the teacher that the configuration names was not listened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_teacher: Option<String>,
    /// Share of each class among all unlabeled images, where it was estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<Vec<f64>>,
}

impl Inputs {
    /// Those of a round that trains on nothing from the field.
    pub fn none(began: Timestamp) -> Self {
        let (choice, samples, labels) = (Choice::default(), BTreeSet::new(), BTreeMap::new());
        Self { began, choice, samples, labels, words: 0, teacher: None, refused_teacher: None, prior: None }
    }

    /// Whether the round trains on an image.
    pub fn uses(&self, image: Digest) -> bool {
        self.samples.contains(&image) || self.labels.contains_key(&image)
    }

    /// Whether the round trains on any of these images.
    pub fn uses_any(&self, images: &BTreeSet<Digest>) -> bool {
        images.iter().any(|image| self.uses(*image))
    }
}

/// What a bundle can be made from again, bit by bit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// Version of this program.
    pub program: String,
    /// The configuration: `rounds/round-N.toml`.
    pub config: Digest,
    /// The project's own images: `rounds/images/SHA256.json`; none in records from before they were listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Digest>,
    /// Every image and label that it learned from or was measured on.
    pub data: Digest,
    /// The trained weights.
    pub weights: Digest,
}

impl Lineage {
    /// The version of this very program.
    pub fn this_program() -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }
}

/// What was decided of a round's bundle before it went out, as in `rounds/round-N.verdict.json`: a round that is cut off while it publishes
/// goes on with it, whatever has been labeled since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decided {
    /// The bundle.
    pub bundle: Digest,
    /// The one that it was judged against.
    pub parent: Option<Digest>,
    /// What the gate said.
    pub verdict: Verdict,
    /// What was watched besides.
    pub watched: Option<Watched>,
}

/// What was decided of a bundle, judged against this parent, if it was.
///
/// # Errors
/// If it cannot be read.
pub(super) fn decided(
    project: &Project,
    round: u32,
    bundle: Digest,
    parent: Option<Digest>,
) -> Result<Option<Decided>> {
    let path = file(project, round, "verdict.json");
    let found = path.exists().then(|| read_json::<Decided>(&path)).transpose()?;
    Ok(found.filter(|decided| decided.bundle == bundle && decided.parent == parent))
}

/// Writes a round's record.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(project: &Project, record: &RoundRecord) -> Result<()> {
    Ok(durable::write_json(&file(project, record.round, "json"), record)?)
}

/// The records of all finished rounds, in order.
///
/// # Errors
/// If a record cannot be read.
pub fn records(project: &Project) -> Result<Vec<RoundRecord>> {
    let mut records = Vec::new();
    loop {
        let path = file(project, records.len() as u32 + 1, "json");
        if !path.exists() {
            return Ok(records);
        }
        records.push(read_json(&path)?);
    }
}

/// File of what a round is trained on.
pub(crate) fn inputs_file(project: &Project, round: u32) -> PathBuf {
    file(project, round, "inputs.json")
}

/// What a round is trained on, if it has begun.
pub(crate) fn inputs(project: &Project, round: u32) -> Result<Option<Inputs>> {
    let path = inputs_file(project, round);
    if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
}

/// A file of a round, by what comes after its name.
pub(super) fn file(project: &Project, round: u32, extension: &str) -> PathBuf {
    project.rounds_folder().join(format!("{}.{extension}", round_name(round)))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not a round's record", path.display()))
}
