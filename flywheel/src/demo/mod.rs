//! The whole loop on real digits: two rounds, two devices in processes of their own, one report.
//!
//! The demo is a project like any other. It writes the embedded digits as image folders, and from there on does what a
//! person would do with the other commands. The only thing it knows more is the truth about the images whose labels it
//! holds back, and it uses that for the summary alone.

mod devices;
mod images;
mod pages;
mod references;
mod summary;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use models::{Bundle, durable};
use trainer::{
    augment::WeakAugment,
    config::{LossWeights, NetworkConfig, ReMixMatchConfig, TrainConfig},
    data::digits,
};

pub use summary::{RoundSummary, Summary};

use self::{
    devices::Fleet,
    summary::{Played, Wave},
};
use crate::{
    interrupt, keys,
    progress::Progress,
    project::{CalibrationConfig, DataConfig, ExportConfig, Project, ProjectConfig, StoreConfig},
    report, round,
    steps::ingest,
};

/// Name of the summary in the demo's folder.
pub const SUMMARY_FILE: &str = "summary.json";
/// Name of the report in the demo's folder.
pub const REPORT_FILE: &str = "report.html";
const CONFIG_FILE: &str = "flywheel.toml";
const KEYS: &str = "keys";
/// Says that a folder is a demo's and may be replaced by the next one.
const MARKER_FILE: &str = ".flywheel-demo";
const DEVICES: [&str; 2] = ["cam-1", "cam-2"];

/// How to run the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Folder for everything; one left by an earlier demo is replaced.
    pub folder: PathBuf,
    /// Decides the split of the digits and all randomness.
    pub seed: u32,
    /// Rounds; the field stream comes in as many parts.
    pub rounds: u32,
    /// Optimiser steps of each round.
    pub steps: u64,
    /// The program to start devices with: this one.
    pub program: PathBuf,
}

/// Runs the demo.
///
/// # Errors
/// If the folder is not a demo's, a step fails, or after Ctrl-C.
pub fn run(options: &Options, progress: &Progress) -> Result<Summary> {
    let started = Instant::now();
    prepare_folder(&options.folder)?;
    let split = digits::split(options.seed);
    let field = images::write(&options.folder, &split, &DEVICES, options.rounds)?;
    let keys = keys::generate(&options.folder.join(KEYS))?;
    let config = project_config(options);
    durable::write(&options.folder.join(CONFIG_FILE), toml::to_string_pretty(&config)?.as_bytes())?;
    let project = Project::open(&options.folder.join(CONFIG_FILE))?;
    progress.line(format!(
        "{} digits of 8x8 pixels: {} labeled, {} unlabeled, {} for the devices alone, {} to test on",
        split.labeled.len() + split.pool.len() + split.field.len() + split.test.len(),
        split.labeled.len(),
        split.pool.len(),
        split.field.len(),
        split.test.len()
    ));

    // Two models to compare with train beside the first round.
    let (references, first) = thread::scope(|scope| {
        let references = scope.spawn(|| references::train_both(&project, &split, progress));
        let first = round::run(&project, progress);
        (references.join(), first)
    });
    let references = references.map_err(|_| anyhow::anyhow!("training the reference models failed"))??;
    let mut records = vec![first?];
    progress.line(format!(
        "to compare: {:.1} % from the labels alone, {:.1} % if all images had labels",
        100.0 * references.baseline,
        100.0 * references.all_labels
    ));

    let mut fleet = Fleet::start(&project, &options.program, &field, &options.folder, &keys.public)?;
    let mut waves = Vec::new();
    loop {
        let record = records.last().context("there is a first round")?;
        let serving = records.iter().rfind(|r| r.published).context("no model was good enough to go out")?;
        let name = format!("round {}", record.round);
        let spinner = progress.spinner(format!("{name}: devices take bundle {} over", serving.bundle.short()));
        fleet.wait_for_bundle(u64::from(serving.round))?;
        spinner.text(format!("{name}: devices classify their images"));
        field.deliver(record.round)?;
        fleet.wait_until_synced(&field, record.round)?;
        waves.push(Wave::new(serving.round, fleet.predictions()?, &waves));
        drop(spinner);
        if record.round == options.rounds {
            break;
        }
        records.push(round::run(&project, progress)?);
    }
    let statuses = fleet.stop()?;
    ingest::ingest(&project, &round::open_remote(&project)?, Timestamp::now())?;

    let bundles = records.iter().map(|record| Ok(Bundle::open(&project.bundle_folder(record.round))?));
    let played = Played {
        seed: options.seed,
        references,
        bundles: bundles.collect::<Result<_>>()?,
        records,
        waves,
        samples: ingest::samples(&project)?,
        field,
        statuses,
    };
    let summary = summary::summarize(&played, started.elapsed().as_secs_f64())?;
    let page = pages::page(&project, &summary, &played)?;
    durable::write(&options.folder.join(REPORT_FILE), report::html(&page).as_bytes())?;
    durable::write_json(&options.folder.join(SUMMARY_FILE), &summary)?;
    Ok(summary)
}

/// Settings for 8x8 images and a few minutes on two cores. What is not named here is as in the papers.
fn project_config(options: &Options) -> ProjectConfig {
    ProjectConfig {
        preset: None,
        data: DataConfig {
            labeled: Some(images::LABELED.into()),
            set: None,
            set_folder: PathBuf::new(),
            unlabeled: Some(images::UNLABELED.into()),
            test: Some(images::TEST.into()),
            test_fraction: 0.0,
            labels: None,
            split_seed: 0,
        },
        preprocessing: digits::preprocessing(),
        network: NetworkConfig::wide_resnet(10, 1),
        train: TrainConfig {
            seed: u64::from(options.seed),
            steps: options.steps,
            batch: 32,
            // Averages over about a hundred steps instead of a thousand: the whole run is about a thousand.
            ema_decay: 0.99,
            norm_rate: 0.05,
            evaluate_every: 50,
            log_every: 10,
            checkpoint_every: 200,
            // Digits do not mirror; a pixel is as much of 8 as four are of 32.
            weak: WeakAugment { flip: false, shift: 1 },
            remixmatch: ReMixMatchConfig {
                strong_views: 4,
                ramp_steps: 300,
                weights: LossWeights::default(),
                ..ReMixMatchConfig::default()
            },
            ..TrainConfig::default()
        },
        calibration: CalibrationConfig::default(),
        collection: models::CollectionPolicy {
            confident_per_class: 60,
            audit_probability: 0.1,
            // Digits of 8x8 pixels all look much alike.
            near_duplicates: models::collection::NearDuplicates { window: 0, ..Default::default() },
            ..Default::default()
        },
        choice: Default::default(),
        export: ExportConfig { signing_key: Some(Path::new(KEYS).join(keys::PRIVATE_KEY)), ..ExportConfig::default() },
        gate: Default::default(),
        store: StoreConfig::default(),
    }
}

fn prepare_folder(folder: &Path) -> Result<()> {
    let is_empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if folder.exists() && !is_empty(folder) {
        ensure!(
            folder.join(MARKER_FILE).exists(),
            "{} is not empty and not an earlier demo's: choose another folder by --out",
            folder.display()
        );
        fs::remove_dir_all(folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    interrupt::check()?;
    durable::create_folders(folder)?;
    Ok(durable::write(&folder.join(MARKER_FILE), b"The next `flywheel demo` replaces this folder.\n")?)
}
