use anyhow::{Result, ensure};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use models::{hub::Role, sync::is_device_name};
use serde::Serialize;

use super::{DataArgs, OPERATOR, print, print_json};
use crate::server::secret;

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(after_help = "\
Whoever has the token can enrol one key by it, under this name and role. Give it to one device or person, by a way that others \
cannot see.

Examples:
  flywheel-hub token cam-1
  flywheel-hub token workstation --role publisher --hours 1")]
pub(super) struct TokenArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Whose key it will be: 1 to 64 of a-z, A-Z, 0-9, - and _
    name: String,
    /// What the key may do
    #[arg(long, value_enum, default_value_t = RoleArg::Device)]
    role: RoleArg,
    /// Hours after which it is worth nothing
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    hours: u32,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// A role as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    /// Sends its own samples, fetches bundles
    Device,
    /// Reads everything
    Reviewer,
    /// Reads everything, publishes bundles: the workstation
    Publisher,
}

#[derive(Serialize)]
struct Made<'a> {
    token: &'a str,
    name: &'a str,
    role: Role,
    expires: Timestamp,
}

pub(super) async fn run(args: TokenArgs) -> Result<()> {
    let name = &args.name;
    ensure!(is_device_name(name), "{name:?}: expected 1 to 64 of a-z, A-Z, 0-9, - and _");
    let role = match args.role {
        RoleArg::Device => Role::Device,
        RoleArg::Reviewer => Role::Reviewer,
        RoleArg::Publisher => Role::Publisher,
    };
    let now = Timestamp::now();
    let expires = now + SignedDuration::from_hours(args.hours.into());
    let token = BASE64_URL_SAFE_NO_PAD.encode(secret()?);
    let database = args.data.folder().database().await?;
    database.add_token(&token, name, role, expires).await?;
    database.log(OPERATOR, "token", &format!("for {name}, {}", role.name()), now).await?;
    if args.json {
        return print_json(&Made { token: &token, name, role, expires });
    }
    let command = if role == Role::Device { "flywheel-edge enrol https://HUB:8443" } else { "flywheel enrol" };
    print(&format!(
        "{token}\n\n{name} enrols as {} until {expires}, with the hub's certificate.pem beside it:\n  \
         {command} --certificate certificate.pem --token {token}",
        role.name()
    ))
}
