use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;
use models::sync::Demand;

use super::{ProjectArgs, print, print_json};
use crate::{
    project::{Project, ProjectData},
    round::open_remote,
    steps::demand,
};

/// Arguments of `want`.
#[derive(Debug, Args)]
#[command(after_help = "\
Devices then keep images that may be of these classes (collection.wanted says from which probability), also when the class has \
its share already. A new request takes the place of the one before. Without arguments, this shows what is asked for and what \
came in so far.

Examples:
  flywheel want fox=50 owl=20
  flywheel want --nothing
  flywheel want")]
pub(super) struct WantArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// A label, and how many samples of it every device is asked for
    #[arg(value_name = "LABEL=SAMPLES", value_parser = parse_wish)]
    wishes: Vec<(String, u32)>,
    /// Ask for nothing any more
    #[arg(long, conflicts_with = "wishes")]
    nothing: bool,
}

fn parse_wish(text: &str) -> Result<(String, u32)> {
    let (label, samples) = text.rsplit_once('=').context("expected LABEL=SAMPLES")?;
    Ok((label.to_owned(), samples.parse().context("expected a whole number of samples")?))
}

pub(super) fn run(args: WantArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let remote = open_remote(&project)?;
    let demand = if args.wishes.is_empty() && !args.nothing {
        demand::asked(&project, &remote)?
    } else {
        let labels = ProjectData::load(&project)?.labels;
        demand::ask(&project, &remote, &labels, &args.wishes, Timestamp::now())?
    };
    if args.project.json {
        return print_json(&demand);
    }
    print(&text(&demand))
}

fn text(demand: &Demand) -> String {
    let held = demand.held.iter().map(|(label, samples)| format!("{label}: {samples} confident samples came in\n"));
    let asked = |(label, wish): (&String, &models::sync::Wish)| {
        format!("{label}: every device is asked for {} samples since {}\n", wish.per_device, wish.asked)
    };
    let wanted: String = demand.wanted.iter().map(asked).collect();
    let wanted = if wanted.is_empty() { "nothing is asked for in particular\n".to_owned() } else { wanted };
    held.collect::<String>() + &wanted
}
