//! The program `flywheel-hub`.
//!
//! [`HubCommand`] can be a subcommand of another program, which then offers the very same commands, also for a hub elsewhere.

mod backup;
mod clients;
mod devices;
mod log;
mod place;
mod rollout;
mod serve;
mod token;

use std::{env, ffi::OsString, io::Write, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tracing::Level;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use self::place::{OPERATOR, Place};
pub use self::{
    backup::{BackupArgs, RestoreArgs},
    clients::{ClientsArgs, ForgetArgs, RevokeArgs, SessionsArgs},
    devices::DevicesArgs,
    log::LogArgs,
    place::Ask,
    rollout::RolloutArgs,
    serve::ServeArgs,
    token::TokenArgs,
};
use crate::{objects::Bucket, server::DataFolder};

/// The server between devices and workstation: takes samples in, hands models out.
#[derive(Debug, Parser)]
#[command(
    name = "flywheel-hub",
    version,
    propagate_version = true,
    after_help = "\
A first start:
  flywheel-hub serve --data hub --name hub.local
  flywheel-hub token cam-1 --data hub                          prints a token, and how the device enrols by it
  flywheel-hub token workstation --role admin --data hub"
)]
struct Program {
    #[command(subcommand)]
    command: HubCommand,
}

/// What a hub's program can do.
#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// Serve devices and workstations
    Serve(Box<ServeArgs>),
    /// Make a token with which one key can be enrolled, or one browser signed in, once
    Token(TokenArgs),
    /// Show who was enrolled
    Clients(ClientsArgs),
    /// Show who is signed in at the pages
    Sessions(SessionsArgs),
    /// Show how the devices are, and how they do with the last bundle
    Devices(DevicesArgs),
    /// Show how the last bundles go out, set the steps, or decide by hand
    Rollout(RolloutArgs),
    /// Take a name's key and sessions all their rights, at once
    Revoke(RevokeArgs),
    /// Delete every sample that a device has sent
    Forget(ForgetArgs),
    /// Write everything to one file, while the hub serves
    Backup(BackupArgs),
    /// Make a hub's folder from such a file
    Restore(RestoreArgs),
    /// Show what was done, and by whom
    Log(LogArgs),
}

/// Options of every command.
#[derive(Debug, Args)]
struct DataArgs {
    /// The hub's folder; "hub" if nothing else is said
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Address of a PostgreSQL database, in place of the file in the hub's folder; DATABASE_URL says it too
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Bucket of an S3 store, in place of the objects in the hub's folder; OBJECTS_URL says it too, and the variables that AWS's own
    /// programs know say how to get there (AWS_ENDPOINT, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and others)
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    objects: Option<String>,
}

impl DataArgs {
    /// Whether it was said where the hub's own files are.
    fn is_given(&self) -> bool {
        self.data.is_some() || self.database.is_some() || self.objects.is_some()
    }

    fn folder(&self) -> DataFolder {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let options = || env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with("AWS_")).collect();
        let url = self.objects.clone().or_else(|| env::var("OBJECTS_URL").ok());
        DataFolder {
            path: self.data.clone().unwrap_or_else(|| "hub".into()),
            database: self.database.clone().or_else(|| env::var("DATABASE_URL").ok()),
            bucket: url.map(|url| Bucket { url, options: options() }),
        }
    }
}

/// Parses the arguments, the program's name first, and runs the command. The log goes to stderr; `RUST_LOG` sets what.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let program = match Program::try_parse_from(args) {
        Ok(program) => program,
        Err(e) => {
            // Help and version are errors to clap, and print to where they belong.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let chosen = env::var("RUST_LOG").ok().and_then(|filter| filter.parse().ok());
    let filter = chosen.unwrap_or_else(|| Targets::new().with_default(Level::WARN).with_target("hub", Level::INFO));
    tracing_subscriber::registry().with(filter).with(fmt::layer().with_writer(std::io::stderr)).init();
    match execute(program.command, None) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command, on a hub's own files, or, where `ask` is given and no files are named, on a hub elsewhere.
///
/// # Errors
/// Whatever went wrong, for a person to read.
pub fn execute(command: HubCommand, ask: Option<Ask<'_>>) -> Result<()> {
    let place = Place::new(ask);
    tokio::runtime::Runtime::new()?.block_on(async {
        match command {
            HubCommand::Serve(args) => serve::run(*args).await,
            HubCommand::Token(args) => token::run(args, &place).await,
            HubCommand::Clients(args) => clients::run(args, &place).await,
            HubCommand::Sessions(args) => clients::sessions(args, &place).await,
            HubCommand::Devices(args) => devices::run(args, &place).await,
            HubCommand::Rollout(args) => rollout::run(args, &place).await,
            HubCommand::Revoke(args) => clients::revoke(args, &place).await,
            HubCommand::Forget(args) => clients::forget(args, &place).await,
            HubCommand::Backup(args) => backup::backup(args).await,
            HubCommand::Restore(args) => backup::restore(&args),
            HubCommand::Log(args) => log::run(args, &place).await,
        }
    })
}

fn print(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{}", text.trim_end())?)
}

fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}
