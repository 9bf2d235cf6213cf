use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use models::Weights;
use trainer::{Classifier, fit::MODEL_FILE};

use super::{ProjectArgs, percent, print, print_json};
use crate::{
    project::{Project, ProjectData},
    steps::score,
};

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints accuracy with its 95 % interval (Wilson), the expected calibration error before and after temperature scaling, \
and how each class fared.

Examples:
  flywheel eval
  flywheel eval --model flywheel/runs/round-2/model.safetensors --json")]
pub(super) struct EvalArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Weights to measure [default: those of the run `train`]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

pub(super) fn run(args: EvalArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let path = args.model.unwrap_or_else(|| project.run_folder("train").join(MODEL_FILE));
    let weights = Weights::read(&path)?;
    let data = ProjectData::load(&project)?;
    data.check_fits(&project, &weights.spec, &path)?;
    let test = data.test_images();
    let logits = Classifier::new(&weights, project.config().train.first_device())?.logits(&test.images)?;
    let card = score::report_card(&logits, &test.labels, data.labels.len(), weights.training);
    if args.project.json {
        return print_json(&card);
    }
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY).set_header(["class", "images", "accuracy", "taken for"]);
    for (class, row) in card.confusion.iter().enumerate() {
        let others = row.iter().enumerate().filter(|(other, count)| *other != class && **count > 0);
        let others: Vec<_> = others.map(|(other, count)| format!("{} ({count})", data.labels.name(other))).collect();
        table.add_row([
            data.labels.name(class).to_owned(),
            row.iter().sum::<usize>().to_string(),
            percent(card.per_class_accuracy[class]),
            others.join(", "),
        ]);
    }
    let [low, high] = card.accuracy_interval;
    print(&format!(
        "{table}\naccuracy {} ({} to {}) on {} images; calibration error {} raw, {} calibrated",
        percent(card.accuracy),
        percent(low),
        percent(high),
        card.test_images,
        percent(card.ece_before),
        percent(card.ece_after)
    ))
}
