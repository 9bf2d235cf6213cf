use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use jiff::Timestamp;
use models::{Digest, hub::Role, sync};
use serde::Serialize;

use super::{DataArgs, OPERATOR, print, print_json};
use crate::database::Client;

/// Arguments of `clients`.
#[derive(Debug, Args)]
pub(super) struct ClientsArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Arguments of `revoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
From the next request on, the key is unknown. What it sent stays; `flywheel-hub forget` deletes it. A new token can enrol a new key \
under the same name.

Examples:
  flywheel-hub revoke cam-7")]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Whose key
    name: String,
}

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Its segments, receipts and status are deleted from the hub. Revoke its key first, or it may send them again. What a workstation has fetched \
is still there; `flywheel forget` deletes it.

Examples:
  flywheel-hub revoke cam-7 && flywheel-hub forget cam-7")]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The device
    device: String,
}

#[derive(Serialize)]
struct Row {
    name: String,
    role: Role,
    key: Digest,
    enrolled: Timestamp,
    revoked: Option<Timestamp>,
}

impl From<Client> for Row {
    fn from(client: Client) -> Self {
        let Client { key, name, role, enrolled, revoked } = client;
        Self { name, role, key: key.id(), enrolled, revoked }
    }
}

pub(super) async fn run(args: ClientsArgs) -> Result<()> {
    let clients = args.data.folder().database().await?.clients().await?;
    let rows: Vec<Row> = clients.into_iter().map(Row::from).collect();
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

pub(super) async fn revoke(args: RevokeArgs) -> Result<()> {
    let (database, now) = (args.data.folder().database().await?, Timestamp::now());
    ensure!(database.revoke(&args.name, now).await?, "{:?} has no key that could be revoked", args.name);
    database.log(OPERATOR, "revoked", &args.name, now).await?;
    print(&format!("the key of {} is worth nothing any more", args.name))
}

pub(super) async fn forget(args: ForgetArgs) -> Result<()> {
    ensure!(sync::is_device_name(&args.device), "{:?} is no device's name", args.device);
    let folder = args.data.folder();
    let (database, objects) = (folder.database().await?, folder.objects()?);
    let mut segments = 0;
    // Segments first: a receipt without one does no harm, and a crash in between is made good by the same command.
    for place in [sync::SEGMENTS, "receipts"] {
        for name in objects.list(&format!("{place}/{}", args.device)).await? {
            objects.delete(&name).await?;
            segments += u64::from(place == sync::SEGMENTS);
        }
    }
    database.forget(&args.device).await?;
    database.log(OPERATOR, "forgot", &format!("{segments} segments of {}", args.device), Timestamp::now()).await?;
    print(&format!("deleted {segments} segments of {}", args.device))
}
