use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use super::{ProjectArgs, print, print_json};
use crate::{progress::Progress, project::Project, round};

/// Arguments of `rebuild`.
#[derive(Debug, Args)]
#[command(after_help = "\
Trains and exports the round anew with the configuration, the images, the labels and the seed that its record names, and compares the \
bundle bit by bit. On the processor it has to be the same; GPUs add up in an order of their own. Interrupted, the same command goes \
on; done, it begins anew.

Examples:
  flywheel rebuild 3
  flywheel rebuild 3 --out again --json | jq .bundle")]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Number of the round
    #[arg(value_name = "ROUND")]
    round: u32,
    /// Folder for the run and the bundle [default: rebuilt-ROUND]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: RebuildArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let folder = args.out.unwrap_or_else(|| format!("rebuilt-{}", args.round).into());
    let rebuilt = round::rebuild(&project, args.round, &folder, &Progress::default())?;
    let [recorded, made] = rebuilt.bundle;
    if args.project.json {
        print_json(&rebuilt)?;
    } else if rebuilt.is_same() {
        print(&format!("round {} makes the same bundle again, bit by bit: {made}", args.round))?;
    }
    ensure!(
        rebuilt.is_same(),
        "round {} made bundle {recorded}, and now {made}: the trained weights are {}",
        args.round,
        if rebuilt.weights[0] == rebuilt.weights[1] { "the same" } else { "others" }
    );
    Ok(())
}
