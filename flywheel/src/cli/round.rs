use anyhow::Result;
use clap::Args;

use super::{ProjectArgs, print_json};
use crate::{board, progress::Progress, project::Project, round};

/// Arguments of `round`.
#[derive(Debug, Args)]
#[command(after_help = "\
The first round trains on the labeled and unlabeled images and publishes the first model. Every later one first takes in \
what the devices sent, labels it anew with the current model, and trains afresh on all of it. A model that is worse \
on the test set does not go out. Interrupted anywhere, the same command goes on.

Examples:
  flywheel round
  flywheel round --json | jq .verdict")]
pub(super) struct RoundArgs {
    #[command(flatten)]
    project: ProjectArgs,
}

pub(super) fn run(args: RoundArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let progress = Progress::default();
    let record = round::run(&project, &progress)?;
    board::show(&project, &progress);
    if args.project.json { print_json(&record) } else { Ok(()) }
}
