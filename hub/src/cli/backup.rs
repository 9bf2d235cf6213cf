use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;

use super::{DataArgs, OPERATOR, print};
use crate::backup;

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
The hub may go on serving meanwhile. The file is a tar with its database, its objects and its keys: keep it as you keep those.

Examples:
  flywheel-hub backup hub-2026-11-25.tar")]
pub struct BackupArgs {
    #[command(flatten)]
    data: DataArgs,
    /// File to write
    file: PathBuf,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every segment is checked against its name. Devices go on as before: the hub has its old keys. What came in after the backup was made \
is not in it, and devices have deleted what was receipted by then.

Examples:
  flywheel-hub restore hub-2026-11-25.tar --data hub && flywheel-hub serve --data hub")]
pub struct RestoreArgs {
    /// The hub's folder, which must not be there yet
    #[arg(long, value_name = "FOLDER", default_value = "hub")]
    data: PathBuf,
    /// File that `backup` wrote
    file: PathBuf,
}

pub(super) async fn backup(args: BackupArgs) -> Result<()> {
    let folder = args.data.folder();
    let files = backup::backup(&folder, &args.file).await?;
    folder.database().await?.log(OPERATOR, "backed up", &args.file.display().to_string(), Timestamp::now()).await?;
    print(&format!("wrote {files} files to {}", args.file.display()))
}

pub(super) fn restore(args: &RestoreArgs) -> Result<()> {
    let files = backup::restore(&args.file, &args.data)?;
    print(&format!("restored {files} files to {}", args.data.display()))
}
