use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use trainer::{
    Classifier,
    evaluate::Evaluation,
    fit::MODEL_FILE,
    metrics::{self, METRICS_FILE, Summary},
};

use super::{ProjectArgs, percent, print, print_json};
use crate::{
    progress::Progress,
    project::{Field, Project, ProjectData},
    steps,
};

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(after_help = "\
The run's folder gets config.toml (every setting as it was understood), metrics.jsonl (losses, accuracies, speed), the \
same for TensorBoard, report.html (curves, to look at while it trains), checkpoint.safetensors and, at the end, \
model.safetensors. It is flywheel/runs/RUN, with `store.folder` in place of flywheel. Ctrl-C loses nothing, and a power cut the steps \
since the last checkpoint: the same command goes on, with the same result as an uninterrupted run.

Examples:
  flywheel train
  flywheel train --config cats.toml --run first-try")]
pub(super) struct TrainArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Name of the run
    #[arg(long, default_value = "train")]
    run: String,
}

#[derive(Serialize)]
struct Output {
    model: PathBuf,
    labeled_images: usize,
    unlabeled_images: usize,
    test: Evaluation,
    accuracy: Option<Summary>,
}

pub(super) fn run(args: TrainArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let config = project.config();
    config.train.validate_input(&config.preprocessing)?;
    let data = ProjectData::load(&project)?.training(&project, Field::default());
    let folder = project.run_folder(&args.run);
    let weights = steps::train::train(&args.run, &config.train, &config.network, &data, &folder, &Progress::default())?;
    let output = Output {
        model: folder.join(MODEL_FILE),
        labeled_images: data.labeled.len(),
        unlabeled_images: data.unlabeled.len(),
        test: Classifier::new(&weights, config.train.first_device())?.evaluate(&data.test)?,
        accuracy: metrics::summary(&metrics::read(&folder.join(METRICS_FILE))?),
    };
    if args.project.json {
        return print_json(&output);
    }
    let mut text = format!("{}: test accuracy {}", output.model.display(), percent(output.test.accuracy));
    if let Some(Summary { evaluations, median_of_last_20, best, last }) = output.accuracy {
        let over = evaluations.min(metrics::LAST);
        text += &format!(
            "\nevaluations: last {}; median of the last {over} {}, as papers report; best {}, which was chosen on the test set",
            percent(last),
            percent(median_of_last_20),
            percent(best)
        );
    }
    print(&text)
}
