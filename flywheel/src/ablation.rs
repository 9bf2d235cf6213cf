//! Variants of a project's training run, trained one after another and compared.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use trainer::{
    ablation::Ablation,
    config::TrainConfig,
    metrics::{self, METRICS_FILE, Record, Summary},
};

use crate::{
    progress::Progress,
    project::{Field, Project, ProjectData},
    steps,
};

/// What to train.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The project's configuration.
    pub config: PathBuf,
    /// The variants, in the order of the table.
    pub variants: Vec<Ablation>,
    /// Each variant is trained once for each of these, which decide the labels' choice and all randomness.
    pub seeds: Vec<u32>,
    /// Optimiser steps, if not those of the configuration.
    pub steps: Option<u64>,
    /// Name of the runs' folder.
    pub name: String,
}

/// A variant's outcomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the variant.
    pub variant: String,
    /// What it does.
    pub about: String,
    /// One for each seed.
    pub runs: Vec<RunResult>,
    /// Mean over the seeds of the median of the last 20 test accuracies.
    pub mean: f64,
    /// Standard deviation over the seeds, if there are several.
    pub deviation: Option<f64>,
}

/// A run of a variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The seed.
    pub seed: u32,
    /// Its test accuracies.
    pub accuracy: Summary,
    /// Test accuracies over its steps.
    pub curve: Vec<(u64, f64)>,
    /// Images a second while training, every view counted: the median of the log's lines.
    pub images_per_second: f64,
}

/// Trains what is not trained yet and returns one row a variant.
///
/// # Errors
/// If the project or a run fails; after Ctrl-C, one that says where it stopped. The same plan goes on from there.
pub fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Row>> {
    ensure!(!plan.variants.is_empty() && !plan.seeds.is_empty(), "expected at least one variant and one seed");
    let mut runs = vec![Vec::new(); plan.variants.len()];
    for &seed in &plan.seeds {
        let mut trained: Vec<(TrainConfig, RunResult)> = Vec::new();
        for (variant, runs) in plan.variants.iter().zip(&mut runs) {
            let project = Project::open_as(&plan.config, Some(variant.algorithm))?.with_seed(seed);
            let config = variant.of(project.config().train.clone());
            let config = TrainConfig { steps: plan.steps.unwrap_or(config.steps), ..config };
            let result = match trained.iter().find(|(same, _)| *same == config) {
                Some((_, result)) => result.clone(),
                None => train(plan, variant, &project, &config, seed, progress)?,
            };
            runs.push(result.clone());
            trained.push((config, result));
        }
    }
    Ok(plan.variants.iter().zip(runs).map(|(variant, runs)| row(variant, runs)).collect())
}

fn train(
    plan: &Plan,
    variant: &Ablation,
    project: &Project,
    config: &TrainConfig,
    seed: u32,
    progress: &Progress,
) -> Result<RunResult> {
    let name = format!("{}-seed-{seed}", variant.name);
    let folder = project.run_folder(&plan.name).join(&name);
    config.validate_input(&project.config().preprocessing)?;
    let data = ProjectData::load(project)?.training(project, Field::default());
    steps::train::train(&name, config, &project.config().network, &data, &folder, progress)?;
    result(&folder, seed)
}

fn result(folder: &Path, seed: u32) -> Result<RunResult> {
    let records = metrics::read(&folder.join(METRICS_FILE))?;
    let accuracy = metrics::summary(&records)
        .with_context(|| format!("{} has no test accuracy: expected a project with a test set", folder.display()))?;
    let curve = records.iter().filter_map(|record| match record {
        Record::Evaluation(record) => Some((record.step, record.test?.accuracy)),
        Record::Train(_) => None,
    });
    let mut speeds: Vec<f64> = records.iter().filter_map(Record::images_per_second).collect();
    speeds.sort_by(f64::total_cmp);
    Ok(RunResult {
        seed,
        accuracy,
        curve: curve.collect(),
        images_per_second: speeds.get(speeds.len() / 2).copied().unwrap_or(0.0),
    })
}

fn row(variant: &Ablation, runs: Vec<RunResult>) -> Row {
    let count = runs.len() as f64;
    let accuracies = || runs.iter().map(|run| run.accuracy.median_of_last_20);
    let mean = accuracies().sum::<f64>() / count;
    let squares: f64 = accuracies().map(|accuracy| (accuracy - mean).powi(2)).sum();
    Row {
        variant: variant.name.into(),
        about: variant.about.into(),
        mean,
        deviation: (runs.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
        runs,
    }
}
