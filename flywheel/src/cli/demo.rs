use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use comfy_table::Table;

use super::{percent, print, print_json};
use crate::{
    demo::{self, Options, REPORT_FILE, SUMMARY_FILE, Summary},
    progress::Progress,
};

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Trains on 40 labeled and 700 unlabeled handwritten digits, gives the model to two devices that see 600 more, takes in \
what they kept, trains again, and gives them the better model. Everything is left in the folder to look at: a project as \
`flywheel init` makes one, the devices' state, summary.json and report.html.")]
pub(super) struct DemoArgs {
    /// Folder for everything; one left by an earlier demo is replaced
    #[arg(long, value_name = "FOLDER", default_value = "flywheel-demo")]
    out: PathBuf,
    /// Decides which digits are labeled, and all randomness
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Rounds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Optimiser steps of each round
    #[arg(long, default_value_t = 1200, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: DemoArgs) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let options = Options { folder: args.out, seed: args.seed, rounds: args.rounds, steps: args.steps, program };
    let summary = demo::run(&options, &Progress::default())?;
    if args.json {
        return print_json(&summary);
    }
    let [summary_file, report] = [SUMMARY_FILE, REPORT_FILE].map(|name| options.folder.join(name));
    print(&format!(
        "{}\nbaseline {}, all labels {}; {:.0} s\n{}\n{}",
        table(&summary),
        percent(summary.baseline_accuracy),
        percent(summary.all_labels_accuracy),
        summary.seconds,
        summary_file.display(),
        report.display()
    ))
}

fn table(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED).set_header([
        "round",
        "test",
        "devices",
        "collected",
        "audit",
        "pseudo-labels right",
        "published",
    ]);
    for round in &summary.rounds {
        table.add_row([
            round.round.to_string(),
            percent(round.test_accuracy),
            percent(round.device_accuracy),
            round.collected.to_string(),
            round.audit.to_string(),
            round.pseudo_label_precision.map_or("none".into(), percent),
            if round.published { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table
}
