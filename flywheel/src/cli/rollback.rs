use anyhow::Result;
use clap::Args;

use super::{ProjectArgs, print, print_json};
use crate::{project::Project, round};

/// Arguments of `rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
Devices take only newer bundles over, so that nobody who can merely write to the remote brings an old fault back. This \
signs an order, with export.signing_key, that names the bundle to go back to; devices with trusted keys follow it once. \
The next round is judged against that bundle and goes out as ever.

Examples:
  flywheel rollback --to 3")]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Round whose bundle devices go back to
    #[arg(long, value_name = "ROUND")]
    to: u32,
}

pub(super) fn run(args: RollbackArgs) -> Result<()> {
    let order = round::rollback(&Project::open(&args.project.config)?, args.to)?;
    if args.project.json {
        return print_json(&order);
    }
    print(&format!(
        "devices of {:?} go back from round {} to round {}, bundle {}",
        order.channel,
        order.from,
        order.to.sequence,
        order.to.bundle.short()
    ))
}
