//! Makes a round's bundle again, from its record.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use models::{Digest, durable};
use serde::Serialize;
use trainer::{config::TrainConfig, fit::MODEL_FILE};

use super::{Lineage, images::OwnImages, inputs, record, records};
use crate::{
    progress::Progress,
    project::{Project, ProjectData, round_name},
    steps::{ingest, train::train},
};

/// Says that a folder is one of this, and of which round.
const MARKER: &str = "rebuild.json";
const RUN: &str = "run";
const BUNDLE: &str = "bundle";

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// The round.
    pub round: u32,
    /// Weights that the record names, and those that were trained now.
    pub weights: [Digest; 2],
    /// Bundle that the record names, and the one that was made now.
    pub bundle: [Digest; 2],
}

impl Rebuilt {
    /// Whether both are the same, bit by bit.
    pub fn is_same(&self) -> bool {
        self.weights[0] == self.weights[1] && self.bundle[0] == self.bundle[1]
    }
}

/// Trains and exports a round anew, into a folder, with the configuration, the images, the labels and the seed that its record names,
/// and compares. Nothing is published. Interrupted, it goes on; done, it begins anew.
///
/// # Errors
/// If the round has no lineage, or something it was made from is gone or has changed: the error names it.
pub fn rebuild(project: &Project, round: u32, folder: &Path, progress: &Progress) -> Result<Rebuilt> {
    let all = records(project)?;
    let record = all.into_iter().find(|record| record.round == round);
    let record = record.with_context(|| format!("there is no finished round {round}"))?;
    let lineage = record.lineage.with_context(|| format!("round {round} is from before rounds had a lineage"))?;
    let path = record::file(project, round, "toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        Digest::of(text.as_bytes()) == lineage.config,
        "{} is not the configuration that round {round} ran with: expected sha256 {}",
        path.display(),
        lineage.config
    );
    let project = project.with_config(&text).with_context(|| format!("in {}", path.display()))?;
    let config = project.config();
    let mut data = ProjectData::load(&project)?;
    if let Some(images) = lineage.images {
        data = OwnImages::read(&project, images)?
            .among(&data)
            .with_context(|| format!("round {round} cannot be made again"))?;
    }
    let field = inputs::images(&project, &data, &record.inputs, &ingest::samples(&project)?)?;
    let training = data.training(&project, field);
    ensure!(
        training.digest() == lineage.data,
        "the images or labels are not those of round {round}: expected digest {}, found {}{}",
        lineage.data,
        training.digest(),
        if lineage.images.is_some() {
            ""
        } else {
            "; a file of data.labeled, data.unlabeled or data.test was added, removed or changed since"
        }
    );
    if lineage.program != Lineage::this_program() {
        let (then, now) = (&lineage.program, Lineage::this_program());
        progress.line(format!("round {round} was made by version {then}, this is {now}: the result may differ"));
    }
    claim(folder, round)?;
    let train_config = TrainConfig { seed: record.seed, ..config.train.clone() };
    let name = format!("{} again", round_name(round));
    let [run_folder, bundle_folder] = [RUN, BUNDLE].map(|name| folder.join(name));
    let weights = train(&name, &train_config, &config.network, &training, &run_folder, progress)?;
    let spinner = progress.spinner(format!("{name}: exporting"));
    let from_field = record.inputs.labels.len();
    let made = (record.parent, record.inputs.began);
    let (bundle, ..) = super::bundle(&project, &bundle_folder, round, &weights, &training, from_field, made)?;
    drop(spinner);
    Ok(Rebuilt {
        round,
        weights: [lineage.weights, Digest::of_file(&run_folder.join(MODEL_FILE))?],
        bundle: [record.bundle, bundle.digest()],
    })
}

/// Takes a folder that is new, or goes on in one that was begun for the same round; what is done in it goes: that the round could be made
/// again once says nothing of now.
fn claim(folder: &Path, round: u32) -> Result<()> {
    let marker = folder.join(MARKER);
    if marker.exists() {
        let began: u32 = serde_json::from_slice(&fs::read(&marker)?)
            .with_context(|| format!("{} names no round", marker.display()))?;
        ensure!(began == round, "{} is of round {began}: choose another folder by --out", folder.display());
        if folder.join(BUNDLE).exists() {
            for done in [RUN, BUNDLE].map(|name| folder.join(name)).into_iter().filter(|done| done.exists()) {
                fs::remove_dir_all(done)?;
            }
        }
        return Ok(());
    }
    let is_free = !folder.exists() || fs::read_dir(folder)?.next().is_none();
    ensure!(is_free, "{} is not empty and of no round: choose another folder by --out", folder.display());
    durable::create_folders(folder)?;
    Ok(durable::write_json(&marker, &round)?)
}
