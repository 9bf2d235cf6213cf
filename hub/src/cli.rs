//! The program `flywheel-hub`.

mod backup;
mod clients;
mod devices;
mod log;
mod rollout;
mod serve;
mod token;

use std::{env, ffi::OsString, io::Write, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tracing::Level;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

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
  flywheel-hub token workstation --role publisher --data hub"
)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve devices and workstations
    Serve(serve::ServeArgs),
    /// Make a token with which one key can be enrolled, once
    Token(token::TokenArgs),
    /// Show who was enrolled
    Clients(clients::ClientsArgs),
    /// Show how the devices are, and how they do with the last bundle
    Devices(devices::DevicesArgs),
    /// Show how the last bundles go out, set the steps, or decide by hand
    Rollout(rollout::RolloutArgs),
    /// Take a key all its rights, at once
    Revoke(clients::RevokeArgs),
    /// Delete every sample that a device has sent
    Forget(clients::ForgetArgs),
    /// Write everything to one file, while the hub serves
    Backup(backup::BackupArgs),
    /// Make a hub's folder from such a file
    Restore(backup::RestoreArgs),
    /// Show what was done, and by whom
    Log(log::LogArgs),
}

/// Options of every command.
#[derive(Debug, Args)]
struct DataArgs {
    /// The hub's folder
    #[arg(long, value_name = "FOLDER", default_value = "hub")]
    data: PathBuf,
    /// Address of a PostgreSQL database, in place of the file in the hub's folder; DATABASE_URL says it too
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Bucket of an S3 store, in place of the objects in the hub's folder; OBJECTS_URL says it too, and the variables that AWS's own
    /// programs know say how to get there (AWS_ENDPOINT, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and others)
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    objects: Option<String>,
}

impl DataArgs {
    fn folder(&self) -> DataFolder {
        let options = || env::vars().filter(|(name, _)| name.starts_with("AWS_")).collect();
        let url = self.objects.clone().or_else(|| env::var("OBJECTS_URL").ok());
        DataFolder {
            path: self.data.clone(),
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
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start: {e}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match program.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Token(args) => token::run(args).await,
            Command::Clients(args) => clients::run(args).await,
            Command::Devices(args) => devices::run(args).await,
            Command::Rollout(args) => rollout::run(args).await,
            Command::Revoke(args) => clients::revoke(args).await,
            Command::Forget(args) => clients::forget(args).await,
            Command::Backup(args) => backup::backup(args).await,
            Command::Restore(args) => backup::restore(&args),
            Command::Log(args) => log::run(args).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{}", text.trim_end())?)
}

fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Who works with the hub's own files, in its log.
const OPERATOR: &str = "operator";
