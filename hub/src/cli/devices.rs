use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets::NOTHING};

use super::{DataArgs, print, print_json};

/// Arguments of `devices`.
#[derive(Debug, Args)]
#[command(after_help = "\
A bundle that a device takes over first answers beside the one that serves (shadow), then serves while it has still to show that it \
does well (probation), and is good, or refused: then the device went back to the one before, and never takes it again.

Examples:
  flywheel-hub devices
  flywheel-hub devices --json | jq '.[] | select(.update.stage == \"refused\")'")]
pub(super) struct DevicesArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Print what each device said last, as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: DevicesArgs) -> Result<()> {
    let mut statuses = Vec::new();
    args.data.folder().database().await?.each_status(|status| statuses.push(status)).await?;
    if args.json {
        return print_json(&statuses);
    }
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_header(["device", "channel", "bundle", "sequence", "update", "samples", "to send", "reported"]);
    for status in &statuses {
        table.add_row([
            status.device.clone(),
            status.channel.clone(),
            status.bundle.short(),
            status.sequence.to_string(),
            status
                .update
                .as_ref()
                .map_or(String::new(), |u| format!("{} {}: {}", u.bundle.short(), u.stage.name(), u.detail)),
            status.counters.samples.to_string(),
            format!("{} samples, {} segments", status.unsealed, status.backlog),
            status.reported.to_string(),
        ]);
    }
    print(&table.to_string())
}
