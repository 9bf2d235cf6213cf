use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use models::{Preprocessing, preprocess::Color};

use super::{percent, print, print_json};
use crate::{
    progress::Progress,
    project::GateConfig,
    simulate::{self, Coverage, Options, PAGE_FILE, RoundOutcome, SIMULATION_FILE, Scenario, Simulation, Source},
};

/// Arguments of `simulate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Plays whole rounds on images whose truth is held back: the embedded digits, or a folder with a sub-folder of images for each class. Four \
devices see them, and in each scenario something else happens to them. The same is played without guards: what the model is sure of \
becomes a label, and every model goes out. Then the gate is asked again and again with other audit samples and test sets, to count how \
often its 95 % intervals hold the truth.

What is done is kept in the folder and not played again: interrupted, the same command goes on with the next run.

Examples:
  flywheel simulate
  flywheel simulate --scenario drift --scenario wrong-device --seeds 1,2,3 --json
  flywheel simulate --images photos --side 32 --labels-per-class 25 --steps 2000")]
pub(super) struct SimulateArgs {
    /// What happens to the devices; several may be given [default: all]
    #[arg(long, value_name = "NAME")]
    scenario: Vec<Scenario>,
    /// Seeds, each of which plays every scenario once
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1")]
    seeds: Vec<u32>,
    /// Rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=50))]
    rounds: u32,
    /// Optimiser steps of each round
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Labeled images of each class that everything begins with
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    labels_per_class: u32,
    /// Images that each device sees in a round
    #[arg(long, default_value_t = 150)]
    seen: usize,
    /// Audit samples that somebody labels in a round
    #[arg(long, default_value_t = 60)]
    reviews: usize,
    /// Other samples that somebody labels in a round: those that models contradict or are unsure of
    #[arg(long, default_value_t = 20)]
    labels: usize,
    /// Align guessed labels with the labels' shares of classes instead of estimated ones, to compare
    #[arg(long)]
    shares_of_labels: bool,
    /// Folder with a sub-folder of images for each class, in place of the digits
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
    /// Width and height that the images of that folder are brought to, in pixels
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(8..=256))]
    side: u32,
    /// Folder for everything
    #[arg(long, value_name = "FOLDER", default_value = "flywheel-simulation")]
    out: PathBuf,
    /// Print the numbers as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: SimulateArgs) -> Result<()> {
    let source = match &args.images {
        Some(folder) => {
            let preprocessing = Preprocessing { color: Color::Rgb, height: args.side, width: args.side };
            Source::folder(folder, preprocessing)?
        }
        None => Source::digits(),
    };
    let all = <Scenario as clap::ValueEnum>::value_variants();
    let options = Options {
        folder: args.out,
        scenarios: if args.scenario.is_empty() { all.to_vec() } else { args.scenario },
        seeds: args.seeds,
        rounds: args.rounds,
        steps: args.steps,
        labels_per_class: args.labels_per_class,
        images: args.seen,
        reviews: args.reviews,
        labels: args.labels,
        estimate_shares: !args.shares_of_labels,
    };
    let simulation = simulate::run(&options, &source, &Progress::default())?;
    if args.json {
        return print_json(&simulation);
    }
    let [numbers, page] = [SIMULATION_FILE, PAGE_FILE].map(|name| options.folder.join(name));
    print(&format!("{}\n{}\n{}\n{}", table(&simulation), said(&simulation), numbers.display(), page.display()))
}

fn table(simulation: &Simulation) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED).set_header([
        "scenario",
        "in the field, by round",
        "without guards",
        "wrong labels",
        "without",
        "refused",
        "bad out",
        "without",
    ]);
    let gate = GateConfig::default();
    let mut scenarios: Vec<Scenario> = simulation.runs.iter().map(|run| run.scenario).collect();
    scenarios.dedup();
    for scenario in scenarios {
        let runs: Vec<_> = simulation.runs.iter().filter(|run| run.scenario == scenario).collect();
        let guarded: Vec<&[RoundOutcome]> = runs.iter().map(|run| run.guarded.as_slice()).collect();
        let unguarded: Vec<&[RoundOutcome]> = runs.iter().map(|run| run.unguarded.as_slice()).collect();
        let count = |arms: &[&[RoundOutcome]], is: &dyn Fn(&RoundOutcome) -> bool| {
            arms.iter().flat_map(|rounds| rounds.iter()).filter(|round| is(round)).count().to_string()
        };
        table.add_row([
            scenario.name(),
            by_round(&guarded),
            by_round(&unguarded),
            wrong(&guarded),
            wrong(&unguarded),
            count(&guarded, &|round| !round.published),
            count(&guarded, &|round| round.is_bad(&gate)),
            count(&unguarded, &|round| round.is_bad(&gate)),
        ]);
    }
    table
}

/// Mean accuracies of the serving model in the field.
fn by_round(arms: &[&[RoundOutcome]]) -> String {
    let rounds = arms.iter().map(|rounds| rounds.len()).min().unwrap_or(0);
    let mean = |i: usize| arms.iter().map(|rounds| rounds[i].field_accuracy).sum::<f64>() / arms.len() as f64;
    (0..rounds).map(|i| format!("{:.1}", 100.0 * mean(i))).collect::<Vec<_>>().join(" ")
}

/// How many of the last round's samples were chosen under a wrong label.
fn wrong(arms: &[&[RoundOutcome]]) -> String {
    let last = arms.iter().filter_map(|rounds| rounds.last());
    let (wrong, all) = last.fold((0, 0), |(wrong, all), r| (wrong + r.wrong_samples, all + r.field_samples));
    if all == 0 { "none".into() } else { percent(wrong as f64 / all as f64) }
}

fn said(simulation: &Simulation) -> String {
    let Coverage { draws, field, field_at_least, field_at_most, test, test_at_least, .. } = simulation.coverage;
    let of = |count: usize, all: usize| percent(count as f64 / all.max(1) as f64);
    let coverage = simulation.coverage;
    format!(
        "Intervals held the truth in {} of {draws} draws (accuracy in the field), {} and {} (its difference, from below and above), {} \
         (accuracy on the test set), {} (its difference).\nThe gate let {} of {} worse models pass, and refused {} of {} that were not \
         worse.\nModels that went out though they were worse: {} with guards, {} without.",
        of(field, draws),
        of(field_at_least, draws),
        of(field_at_most, draws),
        of(test, draws),
        of(test_at_least, draws),
        coverage.worse_passed,
        coverage.worse,
        coverage.not_worse_refused,
        coverage.not_worse,
        simulation.bad_published,
        simulation.bad_published_unguarded
    )
}
