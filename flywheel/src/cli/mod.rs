//! The program `flywheel`.

mod ablate;
mod config_page;
mod data;
mod demo;
mod doctor;
mod enrol;
mod eval;
mod export;
mod forget;
mod hub;
mod init;
mod inspect;
mod keygen;
mod pages;
mod rebuild;
mod rollback;
mod round;
mod rounds;
mod samples;
mod sign;
mod simulate;
mod train;
mod verify;
mod want;

use std::{ffi::OsString, io::Write, path::PathBuf, process::ExitCode, sync::atomic::Ordering};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use edge_runtime::cli::EdgeCommand;
use serde::Serialize;

use crate::interrupt;

/// Keeps an image classifier on edge devices learning from what the devices see.
#[derive(Debug, Parser)]
#[command(
    name = "flywheel",
    version,
    propagate_version = true,
    after_help = "\
A first look:  flywheel demo
Your images:   flywheel init images && flywheel round
Then:          flywheel edge run --config edge.toml   (the same program as flywheel-edge)"
)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole loop on embedded handwritten digits: two rounds, two devices, a report
    Demo(demo::DemoArgs),
    /// Write a starting configuration for a folder of images
    Init(init::InitArgs),
    /// Fetch the papers' data sets, or list them
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Train a model, or go on with a run that was stopped
    Train(train::TrainArgs),
    /// Train variants of a run, such as the paper's ablations, and print the table
    Ablate(ablate::AblateArgs),
    /// Measure a model on the project's test set
    Eval(eval::EvalArgs),
    /// Write a trained model as a bundle for devices
    Export(export::ExportArgs),
    /// Run the next round: ingest, relabel, train, export, gate, publish
    Round(round::RoundArgs),
    /// Run rounds one after another: when enough new samples are in, or when it is time
    Loop(rounds::LoopArgs),
    /// Make a round's bundle again, from its record, and compare
    Rebuild(rebuild::RebuildArgs),
    /// What the devices sent, for people to label: out as a table, and back in
    #[command(subcommand)]
    Samples(samples::SamplesCommand),
    /// Write the pages: rounds, fleet, review, what is taken for what
    Pages(pages::PagesArgs),
    /// Play rounds on images whose truth is known, with what goes wrong in the field
    Simulate(simulate::SimulateArgs),
    /// Make the workstation known at a hub, by a token
    Enrol(enrol::EnrolArgs),
    /// Ask the devices for samples of certain classes
    Want(want::WantArgs),
    /// Drop everything that a device has sent
    Forget(forget::ForgetArgs),
    /// Make the pair of keys that bundles are signed and verified with
    Keygen(keygen::KeygenArgs),
    /// Sign a bundle
    Sign(sign::SignArgs),
    /// Verify a bundle as a device does: signature, files, golden vectors
    Verify(verify::VerifyArgs),
    /// Show what is in a bundle
    Inspect(inspect::InspectArgs),
    /// Order the devices to go back to the bundle of an older round
    Rollback(rollback::RollbackArgs),
    /// Check that a device computes what the processor computes
    Doctor(doctor::DoctorArgs),
    /// Everything a hub does, as the program flywheel-hub, and what an admin asks of the project's hub
    Hub(hub::HubArgs),
    /// Everything a device does, as the program flywheel-edge
    #[command(subcommand)]
    Edge(EdgeCommand),
    /// Print the page that documents every key of the configuration files
    ConfigPage,
}

impl Command {
    /// Whether it trains.
    fn trains(&self) -> bool {
        matches!(
            self,
            Self::Demo(_)
                | Self::Train(_)
                | Self::Ablate(_)
                | Self::Round(_)
                | Self::Loop(_)
                | Self::Rebuild(_)
                | Self::Simulate(_)
        )
    }

    /// Whether it goes on where it was stopped if it is called again.
    fn resumes(&self) -> bool {
        matches!(self, Self::Data(_)) || self.trains() && !matches!(self, Self::Demo(_) | Self::Loop(_))
    }
}

/// Options of every command that works on a project.
#[derive(Debug, Args)]
struct ProjectArgs {
    /// The project's configuration
    #[arg(long, value_name = "FILE", default_value = "flywheel.toml")]
    config: PathBuf,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Parses the arguments, the program's name first, and runs the command.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let program: Program = match edge_runtime::cli::start(args) {
        Ok(program) => program,
        Err(exit) => return exit,
    };
    if program.command.trains() {
        trainer::memory::keep();
    }
    let resumes = program.command.resumes();
    let result = match program.command {
        Command::Edge(command) => return edge_runtime::cli::execute(command),
        Command::Demo(args) => demo::run(args),
        Command::Init(args) => init::run(args),
        Command::Data(command) => data::run(command),
        Command::Train(args) => train::run(args),
        Command::Ablate(args) => ablate::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Export(args) => export::run(args),
        Command::Round(args) => round::run(args),
        Command::Loop(args) => rounds::run(args),
        Command::Rebuild(args) => rebuild::run(args),
        Command::Samples(command) => samples::run(command),
        Command::Pages(args) => pages::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Enrol(args) => enrol::run(args),
        Command::Want(args) => want::run(args),
        Command::Forget(args) => forget::run(args),
        Command::Keygen(args) => keygen::run(args),
        Command::Sign(args) => sign::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Hub(args) => hub::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::ConfigPage => print(&config_page::markdown()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", message(&e));
            if resumes && interrupt::flag().load(Ordering::SeqCst) {
                eprintln!("nothing is lost: the same command goes on from there");
            }
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each said once: our libraries' messages already end with their cause.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{cause}");
        }
    }
    text
}

fn print(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{}", text.trim_end())?)
}

fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}
