use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets::NOTHING};
use models::sync::{RolloutReport, WentBack};

use super::{DataArgs, Place, print, print_json};
use crate::{
    admin::{ChannelState, Order},
    rollout::Plan,
};

/// Arguments of `rollout`.
#[derive(Debug, Args)]
#[command(after_help = "\
A bundle that is published goes to some of a channel's devices first, by chance, and with each bundle to others. Once it is good on \
enough of them, the next stage begins; if too many refuse it, nobody gets it any more, and devices that have it go back to the one \
before, by the order that the workstation has signed when it published.

Examples:
  flywheel-hub rollout                       how it goes
  flywheel-hub rollout plan stable --stages 1,10,100 --minutes 1440
  flywheel-hub rollout next stable           do not wait for devices that are away
  flywheel-hub rollout back stable --why 'dark images are all called cat'")]
pub struct RolloutArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(subcommand)]
    command: Option<RolloutCommand>,
    /// Print how it goes as JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RolloutCommand {
    /// Set in which steps the bundles of a channel go out, from now on
    Plan(PlanArgs),
    /// Begin the next stage now
    Next {
        /// The channel
        channel: String,
    },
    /// Take the bundle back
    Back {
        /// The channel
        channel: String,
        /// For the record
        #[arg(long, value_name = "REASON")]
        why: String,
    },
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// The channel
    channel: String,
    /// Percent of its devices, stage by stage; each is at least one device
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_values_t = Plan::default().stages)]
    stages: Vec<u32>,
    /// Minutes that each stage lasts at least
    #[arg(long, value_name = "MINUTES", default_value_t = Plan::default().minutes)]
    minutes: u32,
    /// Percent of a stage's devices on which it must be good before the next stage; those not heard for a day do not count
    #[arg(long, value_name = "PERCENT", default_value_t = Plan::default().good)]
    good: u32,
    /// Percent of a stage's devices that may refuse it
    #[arg(long, value_name = "PERCENT", default_value_t = Plan::default().refused)]
    refused: u32,
}

pub(super) async fn run(args: RolloutArgs, place: &Place<'_>) -> Result<()> {
    let states: Vec<ChannelState> = place.ask(&args.data, Order::Rollouts {}).await?;
    // What is decided is decided of what was there to see.
    let seen = |channel: &str| {
        let state = states.iter().find(|state| state.channel == channel);
        let rollout = state.and_then(|state| state.report.rollout.as_ref());
        let rollout = rollout.with_context(|| format!("no bundle is on its way out to {channel:?}"))?;
        anyhow::Ok((rollout.to.bundle, rollout.stage))
    };
    let states = if let Some(command) = args.command {
        let order = match command {
            RolloutCommand::Plan(PlanArgs { channel, stages, minutes, good, refused }) => {
                Order::Plan { channel, plan: Plan { stages, minutes, good, refused } }
            }
            RolloutCommand::Next { channel } => {
                let (bundle, stage) = seen(&channel)?;
                Order::Next { channel, bundle, stage }
            }
            RolloutCommand::Back { channel, why } => {
                let (bundle, stage) = seen(&channel)?;
                Order::Back { channel, bundle, stage, why }
            }
        };
        let () = place.ask(&args.data, order).await?;
        place.ask(&args.data, Order::Rollouts {}).await?
    } else {
        states
    };
    if args.json {
        return print_json(&states);
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        "channel", "stable", "bundle", "sequence", "state", "stage", "since", "waiting", "trying", "good", "refused",
    ]);
    for ChannelState { channel, plan, report } in &states {
        let stable = report.stable.map_or(String::new(), |stable| stable.bundle.short());
        let Some(RolloutReport { to, state, stage, stages, since, devices }) = &report.rollout else {
            table.add_row([channel, &stable]);
            continue;
        };
        let percent = plan.stages.get(stage - 1).copied().unwrap_or(100);
        table.add_row([
            channel.clone(),
            stable,
            to.bundle.short(),
            to.sequence.to_string(),
            state.name().to_owned(),
            format!("{stage} of {stages} ({percent} %)"),
            since.to_string(),
            devices.waiting.to_string(),
            devices.trying.to_string(),
            devices.good.to_string(),
            devices.refused.to_string(),
        ]);
    }
    print(&table.to_string())?;
    for ChannelState { channel, report, .. } in &states {
        for WentBack { to, why, at } in &report.went_back {
            print(&format!("{channel}: bundle {} went back at {at}: {why}", to.bundle.short()))?;
        }
    }
    Ok(())
}
