use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use models::sync::DeviceStatus;

use super::{DataArgs, Place, print, print_json};
use crate::admin::Order;

/// Arguments of `devices`.
#[derive(Debug, Args)]
#[command(after_help = "\
A bundle that a device takes over first answers beside the one that serves (shadow), then serves while it has still to show that it \
does well (probation), and is good, or refused: then the device went back to the one before, and never takes it again.

Examples:
  flywheel-hub devices
  flywheel-hub devices --json | jq '.[] | select(.update.stage == \"refused\")'")]
pub struct DevicesArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Print what each device said last, as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: DevicesArgs, place: &Place<'_>) -> Result<()> {
    let statuses: Vec<DeviceStatus> = place.ask(&args.data, Order::Devices {}).await?;
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
