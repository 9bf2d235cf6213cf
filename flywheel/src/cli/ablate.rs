use std::path::PathBuf;

use anyhow::Result;
use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser},
};
use comfy_table::Table;
use models::durable;
use trainer::ablation::{ABLATIONS, Ablation};

use super::{ProjectArgs, percent, print, print_json};
use crate::{
    ablation::{self, Plan, Row},
    progress::Progress,
    report::{Curve, comparison_svg},
};

/// Arguments of `ablate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each variant is trained once for each seed, in a run of its own, flywheel/runs/ablate/VARIANT-seed-SEED (`store.folder` and \
--name change the first and the third part). A seed decides which images keep their labels and all randomness, so that \
variants differ in nothing else; two that are the same by the configuration, as `k8` and `remixmatch` by default, one call trains \
once. What is printed is the median of the last 20 test accuracies, as in the papers. Interrupted anywhere, the same command \
goes on; variants can be added later.

Examples:
  flywheel ablate                                     # all: the ablations of the ReMixMatch paper and the other methods
  flywheel ablate --only remixmatch,no-rotation,k1 --seeds 1,2,3 --steps 20000
  flywheel ablate --only supervised,mixmatch,fixmatch,remixmatch --plot methods.svg")]
pub(super) struct AblateArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// The variants [default: all]
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(ABLATIONS.map(|a| PossibleValue::new(a.name).help(a.about))))]
    only: Vec<String>,
    /// The seeds
    #[arg(long, value_delimiter = ',', default_value = "1")]
    seeds: Vec<u32>,
    /// Optimiser steps [default: those of the configuration]
    #[arg(long)]
    steps: Option<u64>,
    /// Name of the folder of runs
    #[arg(long, default_value = "ablate")]
    name: String,
    /// Draw the accuracies over the steps, means over the seeds, into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

pub(super) fn run(args: AblateArgs) -> Result<()> {
    let variants: Vec<Ablation> = match args.only.is_empty() {
        true => ABLATIONS.to_vec(),
        false => args.only.iter().filter_map(|name| Ablation::named(name)).collect(),
    };
    let plan = Plan { config: args.project.config, variants, seeds: args.seeds, steps: args.steps, name: args.name };
    let rows = ablation::run(&plan, &Progress::default())?;
    if let Some(path) = args.plot {
        let curves: Vec<Curve> = rows.iter().map(mean_curve).collect();
        durable::write(&path, comparison_svg(&curves).as_bytes())?;
    }
    if args.project.json {
        return print_json(&rows);
    }
    print(&table(&rows).to_string())
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    let seeds = rows.iter().take(1).flat_map(|row| &row.runs).map(|run| format!("seed {}", run.seed));
    let header = ["variant", "", "median of last 20"].map(str::to_owned).into_iter();
    table.set_header(header.chain(seeds).chain(["to the first".into(), "images/s".into()]));
    for row in rows {
        let spread = row.deviation.map(|deviation| format!(" ± {:.1}", 100.0 * deviation)).unwrap_or_default();
        let mean = format!("{:.1}{spread} %", 100.0 * row.mean);
        let runs = row.runs.iter().map(|run| percent(run.accuracy.median_of_last_20));
        let difference = format!("{:+.1}", 100.0 * (row.mean - rows[0].mean));
        let mut speeds: Vec<f64> = row.runs.iter().map(|run| run.images_per_second).collect();
        speeds.sort_by(f64::total_cmp);
        let speed = format!("{:.0}", speeds[speeds.len() / 2]);
        let cells = [row.variant.clone(), row.about.clone(), mean].into_iter();
        table.add_row(cells.chain(runs).chain([difference, speed]));
    }
    table
}

/// Means over the seeds at the steps that all of them have.
fn mean_curve(row: &Row) -> Curve {
    let steps = row.runs.iter().map(|run| run.curve.len()).min().unwrap_or(0);
    let mean = |i: usize| row.runs.iter().map(|run| run.curve[i].1).sum::<f64>() / row.runs.len() as f64;
    let points = (0..steps).map(|i| (row.runs[0].curve[i].0, mean(i))).collect();
    Curve { name: row.variant.clone(), points }
}
