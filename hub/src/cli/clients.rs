use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets::NOTHING};

use super::{DataArgs, Place, print, print_json};
use crate::{
    admin::{Forgotten, KnownKey, Order},
    database::Session,
};

/// Arguments of `clients`.
#[derive(Debug, Args)]
pub struct ClientsArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Arguments of `sessions`.
#[derive(Debug, Args)]
pub struct SessionsArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Arguments of `revoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
From the next request on, the key is unknown, and who has signed in at the pages by that name is out; so is who has a token for that and \
has not used it. What was sent stays; `flywheel-hub forget` deletes it. A new token can enrol a new key under the same name.

Examples:
  flywheel-hub revoke cam-7")]
pub struct RevokeArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Whose
    name: String,
}

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Its segments, receipts and status are deleted from the hub. Revoke its key first, or it may send them again. What a workstation has fetched \
is still there; `flywheel forget` deletes it.

Examples:
  flywheel-hub revoke cam-7 && flywheel-hub forget cam-7")]
pub struct ForgetArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The device
    pub device: String,
}

pub(super) async fn run(args: ClientsArgs, place: &Place<'_>) -> Result<()> {
    let rows: Vec<KnownKey> = place.ask(&args.data, Order::Clients {}).await?;
    if args.json {
        return print_json(&rows);
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["name", "role", "key", "enrolled", "revoked"]);
    for row in rows {
        let revoked = row.revoked.map_or(String::new(), |at| at.to_string());
        table.add_row([row.name, row.role.name().to_owned(), row.key.short(), row.enrolled.to_string(), revoked]);
    }
    print(&table.to_string())
}

pub(super) async fn sessions(args: SessionsArgs, place: &Place<'_>) -> Result<()> {
    let rows: Vec<Session> = place.ask(&args.data, Order::Sessions {}).await?;
    if args.json {
        return print_json(&rows);
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["name", "role", "signed in", "until"]);
    for Session { name, role, began, expires } in rows {
        table.add_row([name, role.name().to_owned(), began.to_string(), expires.to_string()]);
    }
    print(&table.to_string())
}

pub(super) async fn revoke(args: RevokeArgs, place: &Place<'_>) -> Result<()> {
    let name = args.name.clone();
    let () = place.ask(&args.data, Order::Revoke { name }).await?;
    print(&format!("the key of {} is worth nothing any more, and its sessions are over", args.name))
}

pub(super) async fn forget(args: ForgetArgs, place: &Place<'_>) -> Result<()> {
    let device = args.device.clone();
    let Forgotten { segments } = place.ask(&args.data, Order::Forget { device }).await?;
    print(&format!("the hub has deleted {segments} segments of {}", args.device))
}
