//! Many rounds on images whose truth is known and held back, with what goes wrong in the field, with our guards and without.
//!
//! The rounds are real: a project on disk, its remote, the same steps. The devices are in this process, with the engine and the policy of
//! real ones. Only the simulation knows the truth: it labels audit samples as a person would, and measures.
//!
//! | module | what it holds |
//! |---|---|
//! | `scenario` | what happens to the devices |
//! | `world` | the images, divided, and what devices see of them |
//! | `device` | a device |
//! | `guarded`, `unguarded` | the loop as it is, and as it is often built |
//! | `coverage` | how often the gate's intervals hold |
//! | `outcome` | what came of it |

mod coverage;
mod device;
mod guarded;
mod outcome;
mod scenario;
mod unguarded;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use models::{CollectionPolicy, Digest, Weights, collection::NearDuplicates, durable};
use serde::{Deserialize, Serialize};
use trainer::{
    augment::WeakAugment,
    config::{NetworkConfig, ReMixMatchConfig, TrainConfig},
    data::LabeledImages,
    fit::MODEL_FILE,
};

#[cfg(test)]
pub(crate) use self::device::upload;
use self::world::World;
pub use self::{
    coverage::Coverage,
    outcome::{Audited, Replaced, RoundOutcome, Run, Simulation},
    scenario::Scenario,
    world::Source,
};
use crate::{
    interrupt,
    progress::Progress,
    project::{
        CalibrationConfig, ChoiceConfig, DataConfig, ExportConfig, Field, GateConfig, Project, ProjectConfig,
        ProjectData, StoreConfig,
    },
    report,
    steps::train::train,
};

/// Name of the numbers in a simulation's folder.
pub const SIMULATION_FILE: &str = "simulation.json";
/// Name of the page.
pub const PAGE_FILE: &str = "simulation.html";
/// Name of the charts alone.
pub const PLOT_FILE: &str = "simulation.svg";
/// Says what a folder's runs were played with.
const SETTINGS_FILE: &str = "settings.json";
const RUN_FILE: &str = "run.json";
const CONFIG_FILE: &str = "flywheel.toml";
const TEACHER: &str = "teacher";
/// Devices; the last one sends wrong labels, where one does.
const DEVICES: u32 = 4;
/// Images on which an accuracy is measured.
const TRUTH: usize = 2000;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for everything.
    pub folder: PathBuf,
    /// What happens.
    pub scenarios: Vec<Scenario>,
    /// Each scenario is played once for each.
    pub seeds: Vec<u32>,
    /// Rounds.
    pub rounds: u32,
    /// Optimiser steps of each round.
    pub steps: u64,
    /// Labeled images of each class that everything begins with.
    pub labels_per_class: u32,
    /// Images that each device sees in a round.
    pub images: usize,
    /// Audit samples that somebody labels in a round.
    pub reviews: usize,
    /// Other samples that somebody labels in a round: those that models contradict or are unsure of.
    pub labels: usize,
    /// Whether the shares of classes are estimated, as `choice.estimate_shares`.
    pub estimate_shares: bool,
}

/// What all runs of a folder have in common.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    rounds: u32,
    steps: u64,
    labels_per_class: u32,
    images: usize,
    reviews: usize,
    labels: usize,
    estimate_shares: bool,
    /// Of the images.
    source: Digest,
}

impl Settings {
    /// Marks a folder that is new, or proves that its runs were played with the same.
    fn claim(options: &Options, source: &Source) -> Result<()> {
        let Options { rounds, steps, labels_per_class, images, reviews, labels, estimate_shares, ref folder, .. } =
            *options;
        let source = source.digest();
        let here = Self { rounds, steps, labels_per_class, images, reviews, labels, estimate_shares, source };
        let path = folder.join(SETTINGS_FILE);
        if path.exists() {
            let there: Self = serde_json::from_slice(&fs::read(&path)?)
                .with_context(|| format!("{} says nothing of a simulation", path.display()))?;
            ensure!(there == here, "{} was played with {there:?}: choose another folder by --out", folder.display());
            return Ok(());
        }
        let is_free = !folder.exists() || fs::read_dir(folder)?.next().is_none();
        ensure!(is_free, "{} is not empty and no simulation's: choose another folder by --out", folder.display());
        durable::create_folders(folder)?;
        Ok(durable::write_json(&path, &here)?)
    }
}

/// A scenario that is played with a seed.
struct Play<'a> {
    world: &'a World,
    project: Project,
    scenario: Scenario,
    options: &'a Options,
    seed: u32,
}

impl Play<'_> {
    /// The devices by number, and whether each sends wrong labels.
    fn devices(&self) -> impl Iterator<Item = (u32, bool)> {
        let lies = self.scenario == Scenario::WrongDevice;
        (0..DEVICES).map(move |number| (number, lies && number == DEVICES - 1))
    }

    /// Images such as devices see in a round.
    fn truth(&self, round: u32) -> LabeledImages {
        self.world.truth(round, TRUTH)
    }

    /// Images such as those with labels.
    fn truth_of_labels(&self) -> LabeledImages {
        self.world.truth_of_labels(TRUTH)
    }
}

/// Plays every scenario with every seed. What is done already, in the same folder, is not played again; one that was cut off begins anew.
///
/// # Errors
/// If there are too few images of a class, a step fails, or after Ctrl-C.
pub fn run(options: &Options, source: &Source, progress: &Progress) -> Result<Simulation> {
    Settings::claim(options, source)?;
    let mut runs = Vec::new();
    for &scenario in &options.scenarios {
        for &seed in &options.seeds {
            interrupt::check()?;
            let folder = options.folder.join(format!("{}-{seed}", scenario.name()));
            let run = play(options, source, scenario, seed, &folder, progress);
            let run = run.with_context(|| format!("in {}", folder.display()))?;
            progress.line(format!("{} with seed {seed}: {}", scenario.name(), told(&run)));
            runs.push(run);
        }
    }
    let simulation = Simulation::of(runs, &GateConfig::default());
    durable::write_json(&options.folder.join(SIMULATION_FILE), &simulation)?;
    durable::write(&options.folder.join(PAGE_FILE), report::simulation_page(&simulation).as_bytes())?;
    durable::write(&options.folder.join(PLOT_FILE), report::simulation_svg(&simulation).as_bytes())?;
    Ok(simulation)
}

fn told(run: &Run) -> String {
    let of = |rounds: &[RoundOutcome]| {
        let each = rounds.iter().map(|round| format!("{:.1}", 100.0 * round.field_accuracy));
        each.collect::<Vec<_>>().join(" ")
    };
    format!("in the field {} %, without guards {} %", of(&run.guarded), of(&run.unguarded))
}

fn play(
    options: &Options,
    source: &Source,
    scenario: Scenario,
    seed: u32,
    folder: &Path,
    progress: &Progress,
) -> Result<Run> {
    let done = folder.join(RUN_FILE);
    if done.exists() {
        return Ok(serde_json::from_slice(&fs::read(&done)?)?);
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let world = World::new(source, scenario, options.labels_per_class as usize, options.rounds, seed)?;
    world.write(&folder.join("images"))?;
    let config = config(&world, scenario, options, seed);
    durable::write(&folder.join(CONFIG_FILE), toml::to_string_pretty(&config)?.as_bytes())?;
    let project = Project::open(&folder.join(CONFIG_FILE))?;
    let play = Play { world: &world, project, scenario, options, seed };
    let teacher = (scenario == Scenario::PoisonedTeacher).then(|| poisoned(&play, folder, progress)).transpose()?;
    let (guarded, first) = guarded::play(&play, progress)?;
    let unguarded = unguarded::play(&play, &folder.join("unguarded"), &first, teacher.as_ref(), progress)?;
    let run = Run { scenario, seed, guarded, unguarded };
    durable::write_json(&done, &run)?;
    Ok(run)
}

/// A teacher that was taught the next class for each.
fn poisoned(play: &Play<'_>, folder: &Path, progress: &Progress) -> Result<Weights> {
    let config = play.project.config();
    let mut data = ProjectData::load(&play.project)?.training(&play.project, Field::default());
    let classes = data.labels.len();
    data.labeled.labels.iter_mut().for_each(|label| *label = (*label + 1) % classes);
    train(TEACHER, &config.train, &config.network, &data, &folder.join(TEACHER), progress)
}

/// Settings for images of a few pixels and a few minutes. What is not named here is as in the papers, or the default.
fn config(world: &World, scenario: Scenario, options: &Options, seed: u32) -> ProjectConfig {
    let side = world.preprocessing.width;
    let teacher = (scenario == Scenario::PoisonedTeacher).then(|| Path::new(TEACHER).join(MODEL_FILE));
    ProjectConfig {
        preset: None,
        data: DataConfig {
            labeled: Some("images/labeled".into()),
            set: None,
            set_folder: PathBuf::new(),
            unlabeled: Some("images/unlabeled".into()),
            test: Some("images/test".into()),
            test_fraction: 0.0,
            labels: None,
            split_seed: 0,
        },
        preprocessing: world.preprocessing.clone(),
        network: NetworkConfig::wide_resnet(10, 1),
        train: TrainConfig {
            seed: u64::from(seed),
            steps: options.steps,
            batch: 32,
            ema_decay: 0.99,
            norm_rate: 0.05,
            evaluate_every: options.steps.max(1),
            log_every: 10,
            checkpoint_every: options.steps.max(1),
            weak: WeakAugment { flip: false, shift: (side as usize / 8).max(1) },
            remixmatch: ReMixMatchConfig {
                strong_views: 2,
                ramp_steps: (options.steps / 4).max(1),
                ..ReMixMatchConfig::default()
            },
            ..TrainConfig::default()
        },
        calibration: CalibrationConfig::default(),
        collection: CollectionPolicy {
            audit_probability: 0.2,
            // Images of few pixels all look much alike.
            near_duplicates: NearDuplicates { window: if side < 16 { 0 } else { 500 }, ..Default::default() },
            ..Default::default()
        },
        choice: ChoiceConfig { teacher, estimate_shares: options.estimate_shares, ..ChoiceConfig::default() },
        export: ExportConfig::default(),
        gate: GateConfig::default(),
        store: StoreConfig::default(),
    }
}
