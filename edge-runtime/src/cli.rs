//! The program `flywheel-edge`.
//!
//! [`EdgeCommand`] can be a subcommand of another program, which then offers the very same commands.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::Serialize;
use tracing::Level;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

mod bench;
mod classify;
mod enrol;
mod run;

pub use bench::BenchArgs;
pub use classify::ClassifyArgs;
pub use enrol::EnrolArgs;
pub use run::RunArgs;

/// Runs an image classifier on a device and collects what it can learn from.
#[derive(Debug, Parser)]
#[command(name = "flywheel-edge", version, propagate_version = true)]
struct Program {
    #[command(subcommand)]
    command: EdgeCommand,
}

/// What a device's program can do.
#[derive(Debug, Subcommand)]
pub enum EdgeCommand {
    /// Classify the images that appear in a folder, keep the samples worth learning from, sync them
    Run(Box<RunArgs>),
    /// Make the device known at a hub, by a token
    Enrol(EnrolArgs),
    /// Classify image files and print what they show
    Classify(ClassifyArgs),
    /// Measure how fast a bundle runs on this machine
    Bench(BenchArgs),
}

/// Parses the arguments, the program's name first, and runs the command.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match start::<Program>(args) {
        Ok(program) => execute(program.command),
        Err(exit) => exit,
    }
}

/// Parses a program's arguments and starts its log, which goes to stderr; `RUST_LOG` sets what.
///
/// # Errors
/// The code to exit with at once: after wrong arguments, and, as a success, after `--help` and `--version`.
pub fn start<P: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<P, ExitCode> {
    let program = P::try_parse_from(args).map_err(|e| {
        // Nobody is left to tell if this cannot be printed.
        let _ = e.print();
        ExitCode::from(e.exit_code().clamp(0, 255) as u8)
    })?;
    let chosen = env::var("RUST_LOG").ok().and_then(|filter| filter.parse().ok());
    let filter = chosen.unwrap_or_else(|| Targets::new().with_default(Level::WARN));
    // An embedding program may have set a logger; then that one stays.
    let _ = tracing_subscriber::registry().with(filter).with(fmt::layer().with_writer(io::stderr)).try_init();
    Ok(program)
}

/// Runs one command: 0 if all went well, 1 otherwise, after an error on stderr.
pub fn execute(command: EdgeCommand) -> ExitCode {
    let result = match command {
        EdgeCommand::Run(args) => run::run(*args),
        EdgeCommand::Enrol(args) => enrol::run(args),
        EdgeCommand::Classify(args) => classify::run(args),
        EdgeCommand::Bench(args) => bench::run(args),
    };
    result.unwrap_or_else(|e| {
        // A reader that has seen enough, as `head`, is no error.
        let is_pipe = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
        if e.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_pipe)) {
            return ExitCode::SUCCESS;
        }
        eprintln!("error: {e}");
        ExitCode::FAILURE
    })
}

fn print(line: &str) -> Result<()> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string(value)?)
}
