use anyhow::Result;
use clap::Args;

use super::{ProjectArgs, print, print_json};
use crate::{
    board,
    project::Project,
    steps::forget::{Dropped, forget},
};

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Its segments are deleted here, and not taken in again from the remote. A round that had begun with some of its samples begins anew. \
Models that were trained on them are named: go back to an earlier one by `flywheel rollback`, or let the next round, which trains \
from fresh weights without them, take their place. Its images go from the pages at a hub.

At a hub, take its key away and delete what is there and here: `flywheel hub revoke cam-7 && flywheel hub forget cam-7`.

Examples:
  flywheel forget cam-7")]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// The device
    device: String,
}

pub(super) fn run(args: ForgetArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let dropped = forget(&project, &args.device)?;
    if args.project.json {
        print_json(&dropped)?;
    } else {
        tell(&args.device, &dropped)?;
    }
    board::show_less(&project)
}

/// Says what was dropped, for people.
pub(super) fn tell(device: &str, dropped: &Dropped) -> Result<()> {
    let Dropped { segments, images, restarted, trained } = dropped;
    print(&format!(
        "deleted {segments} segments of {device} here, with {images} images that no other device has sent"
    ))?;
    if let Some(round) = restarted {
        print(&format!("round {round} had begun with some of them, and begins anew"))?;
    }
    if !trained.is_empty() {
        let rounds: Vec<String> = trained.iter().map(u32::to_string).collect();
        print(&format!("trained on some of them, and published: round {}", rounds.join(", ")))?;
    }
    Ok(())
}
