use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use edge_runtime::sync::{Address, Remote};
use hub::{admin::Order, cli::HubCommand};
use serde_json::Value;

use super::forget::tell;
use crate::{project::Project, steps::forget::forget};

/// Arguments of `hub`.
#[derive(Debug, Args)]
#[command(after_help = "\
In a project whose store.remote is a hub, the commands ask that hub, by a key that was enrolled there with the role admin. With --data, \
--database or --objects, or without a project, they work on a hub's own files.

Examples:
  flywheel hub serve --data hub --name hub.local               as flywheel-hub serve
  flywheel hub token cam-1                                     at the project's hub
  flywheel hub revoke cam-7 && flywheel hub forget cam-7       at the hub, and here")]
pub(super) struct HubArgs {
    /// The project's configuration
    #[arg(long, value_name = "FILE", default_value = "flywheel.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: HubCommand,
}

pub(super) fn run(args: HubArgs) -> Result<()> {
    let project = args.config.exists().then(|| Project::open(&args.config)).transpose()?;
    let elsewhere = project.as_ref().filter(|project| matches!(project.remote(), Address::Hub(_)));
    let Some(project) = elsewhere else { return hub::cli::execute(args.command, None) };
    let ask = |order: &Order| -> Result<Value> {
        if let Order::Forget { device } = order
            && project.segments_folder().join(device).exists()
        {
            // Here first: a round that is going on would put them on the pages again.
            tell(device, &forget(project, device)?)?;
        }
        let remote = Remote::open(&project.remote(), &project.credentials())?;
        let answer = remote.administrate(&serde_json::to_vec(order)?)?;
        serde_json::from_slice(&answer).context("the hub's answer is no JSON")
    };
    hub::cli::execute(args.command, Some(&ask))
}
