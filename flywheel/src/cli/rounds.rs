use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use jiff::SignedDuration;

use super::{ProjectArgs, print};
use crate::{
    progress::Progress,
    project::Project,
    schedule::{self, Schedule},
};

/// Arguments of `loop`.
#[derive(Debug, Args)]
#[command(after_help = "\
Takes in what the devices send and people say, and starts a round as `flywheel round` does when enough of it is new, or when it is time and \
anything is. Keeps the pages of the project's hub up to date. \
When the remote is away, or a round fails, that is said, and tried again. Ctrl-C ends it; the same command goes on, with a round that was \
cut off first.

Examples:
  flywheel loop
  flywheel loop --samples 1000 --every 12h
  flywheel loop --rounds 1 --json")]
pub(super) struct LoopArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// New samples with which a round starts
    #[arg(long, value_name = "N", default_value_t = 500)]
    samples: usize,
    /// New labels with which a round starts
    #[arg(long, value_name = "N", default_value_t = 50)]
    labels: usize,
    /// Time after the last round with which one starts, as 30m, 12h or 7d, or never
    #[arg(long, value_name = "TIME", default_value = "24h")]
    every: String,
    /// How often to ask the remote
    #[arg(long, value_name = "TIME", default_value = "10s")]
    poll: String,
    /// End after so many rounds
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
}

pub(super) fn run(args: LoopArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let every = if args.every == "never" { None } else { Some(time("--every", &args.every)?) };
    let poll = Duration::try_from(time("--poll", &args.poll)?)?;
    ensure!(poll >= Duration::from_secs(1), "--poll {}: expected a second or more", args.poll);
    let schedule = Schedule { samples: args.samples, labels: args.labels, every, poll, rounds: args.rounds };
    schedule::run(&project, &schedule, &Progress::default(), |record| {
        if args.project.json { print(&serde_json::to_string(record)?) } else { Ok(()) }
    })
}

fn time(flag: &str, text: &str) -> Result<SignedDuration> {
    let expected = || format!("{flag} {text}: expected a time, as 30m, 12h or 7d");
    // A day is 24 hours here, whatever the clocks do.
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u16>().ok());
    let time = match days {
        Some(days) => SignedDuration::from_hours(24 * i64::from(days)),
        None => text.parse().with_context(expected)?,
    };
    ensure!(!time.is_negative(), expected());
    Ok(time)
}
