use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets::NOTHING};

use super::{DataArgs, Place, print, print_json};
use crate::{admin::Order, database::LogEntry};

/// Arguments of `log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Entries, the latest first
    #[arg(long, value_name = "ENTRIES", default_value_t = 50)]
    last: u32,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: LogArgs, place: &Place<'_>) -> Result<()> {
    let entries: Vec<LogEntry> = place.ask(&args.data, Order::Log { last: args.last }).await?;
    if args.json {
        return print_json(&entries);
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["at", "who", "action", "detail"]);
    for entry in entries {
        table.add_row([entry.at.to_string(), entry.who, entry.action, entry.detail]);
    }
    print(&table.to_string())
}
