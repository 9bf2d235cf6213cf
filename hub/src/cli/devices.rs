use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use models::sync::{DeviceStatus, Stage};

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
    let statuses = args.data.folder().database().await?.statuses().await?;
    if args.json {
        return print_json(&statuses);
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["device", "bundle", "sequence", "update", "samples", "to send", "reported"]);
    for status in &statuses {
        table.add_row([
            status.device.clone(),
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
    print(&table.to_string())?;
    for line in rollout(&statuses) {
        print(&line)?;
    }
    Ok(())
}

/// How far the fleet is with each bundle that it was given last.
fn rollout(statuses: &[DeviceStatus]) -> Vec<String> {
    let mut bundles: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    for update in statuses.iter().filter_map(|status| status.update.as_ref()) {
        *bundles.entry(update.bundle.short()).or_default().entry(update.stage.name()).or_default() += 1;
    }
    let stages = [Stage::Shadow, Stage::Probation, Stage::Good, Stage::Refused].map(Stage::name);
    let line = |(bundle, counts): (String, BTreeMap<&str, usize>)| {
        let counts: Vec<String> =
            stages.iter().filter_map(|stage| Some(format!("{} {stage}", counts.get(stage)?))).collect();
        format!("bundle {bundle}: {}", counts.join(", "))
    };
    bundles.into_iter().map(line).collect()
}
