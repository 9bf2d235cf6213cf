use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use edge_runtime::sync::{Address, Credentials};

use super::{ProjectArgs, print, print_json};
use crate::project::Project;

/// Arguments of `enrol`.
#[derive(Debug, Args)]
#[command(after_help = "\
The hub is the one that store.remote names. The token is made there, by `flywheel-hub token NAME --role publisher`, and works once. \
The workstation makes itself a key, whose private half stays in the project's folder; the same command can be repeated if it was \
cut off.

Examples:
  flywheel enrol --certificate certificate.pem --token TOKEN")]
pub(super) struct EnrolArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// The token
    #[arg(long)]
    token: String,
    /// The hub's certificate, if it is one of its own; in the same file behind it, that of its store, if it has one of its own
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
}

pub(super) fn run(args: EnrolArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let Address::Hub(hub) = project.remote() else {
        bail!("store.remote = \"{}\": expected the address of a hub, as https://HOST:8443", project.remote());
    };
    let credentials = Credentials::enrol(&project.credentials(), &hub, &args.token, args.certificate.as_deref())?;
    let enrolled = credentials.enrolled();
    if args.project.json {
        return print_json(enrolled);
    }
    print(&format!("{hub} knows this workstation as {:?}, with the role {}", enrolled.name, enrolled.role.name()))
}
