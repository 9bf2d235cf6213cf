use anyhow::Result;
use clap::{Args, ValueEnum};
use models::hub::Role;

use super::{DataArgs, Place, print, print_json};
use crate::admin::{MAX_HOURS, Order, Token};

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(after_help = "\
Whoever has the token can enrol one key by it, under this name and role, or, if it is no device's, sign in at the pages with one browser. \
Give it to one device or person, by a way that others cannot see. Stdout has the token alone.

Examples:
  flywheel-hub token cam-1
  flywheel-hub token workstation --role publisher --hours 1
  flywheel-hub token anna --role reviewer                      to label samples at https://HUB:8443/")]
pub struct TokenArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Whose key it will be: 1 to 64 of a-z, A-Z, 0-9, - and _
    name: String,
    /// What the key may do
    #[arg(long, value_enum, default_value_t = RoleArg::Device)]
    role: RoleArg,
    /// Hours after which it is worth nothing
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_HOURS)))]
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
    /// Reads everything, says what samples show: a person
    Reviewer,
    /// Reads everything, publishes bundles: the workstation
    Publisher,
    /// The same, and all of these commands, from the workstation: `flywheel hub`
    Admin,
}

pub(super) async fn run(args: TokenArgs, place: &Place<'_>) -> Result<()> {
    let role = match args.role {
        RoleArg::Device => Role::Device,
        RoleArg::Reviewer => Role::Reviewer,
        RoleArg::Publisher => Role::Publisher,
        RoleArg::Admin => Role::Admin,
    };
    let made: Token = place.ask(&args.data, Order::Token { name: args.name, role, hours: args.hours }).await?;
    if args.json {
        return print_json(&made);
    }
    let Token { token, name, expires, .. } = made;
    let how = match role {
        Role::Reviewer => "to see the pages and label samples, sign in with it at https://HUB:8443/\n".to_owned(),
        Role::Device | Role::Publisher | Role::Admin => {
            let command = if role == Role::Device { "flywheel-edge enrol https://HUB:8443" } else { "flywheel enrol" };
            format!(
                "with the hub's certificate.pem beside it:\n  {command} --certificate certificate.pem --token {token}\n"
            )
        }
    };
    // The token alone is on stdout, for programs; how to use it is for people.
    eprintln!("{name} is {} by this token until {expires}, once; {how}", role.name());
    print(&token)
}
