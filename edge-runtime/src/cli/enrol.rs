use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use super::print;
use crate::sync::{Address, Credentials};

/// Arguments of `enrol`, as typed.
#[derive(Debug, Args)]
#[command(after_help = "\
The token is made on the hub, by `flywheel-hub token NAME`, and works once. The device makes itself a key, whose private half stays \
in STATE/hub; the same command can be repeated if it was cut off. The hub's own certificate is in its tls/certificate.pem; a hub \
with a certificate of a public authority needs none here.

Examples:
  flywheel-edge enrol https://hub.local:8443 --certificate certificate.pem --token TOKEN --state state
  flywheel-edge run --device cam-1 --remote https://hub.local:8443 --source images --state state")]
pub struct EnrolArgs {
    /// Address of the hub
    #[arg(value_name = "URL")]
    hub: String,
    /// The token
    #[arg(long)]
    token: String,
    /// The hub's certificate, if it is one of its own; in the same file behind it, that of its store, if it has one of its own
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The device's folder, as in `run`
    #[arg(long, value_name = "FOLDER", default_value = "state")]
    state: PathBuf,
}

pub(super) fn run(args: EnrolArgs) -> Result<ExitCode> {
    let hub = Address::from(args.hub).to_string();
    let credentials = Credentials::enrol(&args.state.join("hub"), &hub, &args.token, args.certificate.as_deref())?;
    let enrolled = credentials.enrolled();
    print(&format!("{hub} knows this device as {:?}, with the role {}", enrolled.name, enrolled.role.name()))?;
    Ok(ExitCode::SUCCESS)
}
