use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use hub::pages::Page;
use jiff::Timestamp;
use models::durable;
use serde::Serialize;

use super::{ProjectArgs, print, print_json};
use crate::{board::board, project::Project, round, steps::ingest};

/// Arguments of `pages`.
#[derive(Debug, Args)]
#[command(after_help = "\
Takes in what the devices have sent, and writes pages that need no server: the rounds, the fleet, the samples that wait for a label, what is \
taken for what with the images, and what was said of each. The review page is for the keyboard; it keeps your decisions in the browser and \
saves them as a table for `flywheel samples import`. Running it again replaces the folder.

Examples:
  flywheel pages
  flywheel pages --out /var/www/flywheel --limit 2000")]
pub(super) struct PagesArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Folder for the pages
    #[arg(long, value_name = "FOLDER", default_value = "pages")]
    out: PathBuf,
    /// Samples to review, at most
    #[arg(long, value_name = "N", default_value_t = 500)]
    limit: usize,
}

/// What was written, as JSON says it.
#[derive(Debug, Serialize)]
struct Written {
    page: PathBuf,
    rounds: usize,
    to_review: usize,
}

pub(super) fn run(args: PagesArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    durable::create_folders(&project.rounds_folder())?;
    let lock = round::lock(&project)?;
    ingest::ingest(&project, &round::open_remote(&project)?, Timestamp::now())?;
    let (board, pictures) = board(&project, args.limit, Timestamp::now())?;
    drop(lock);
    anyhow::ensure!(
        !args.out.exists() || args.out.join(MARKER).exists(),
        "{} is not a folder of pages: choose another by --out",
        args.out.display()
    );
    durable::write_folder(&args.out, |folder| {
        durable::write_json(&folder.join(MARKER), &board)?;
        let images = folder.join("images");
        durable::create_folders(&images)?;
        for (image, png) in &pictures {
            durable::write(&folder.join(hub::pages::picture(*image)), png)?;
        }
        Page::ALL.iter().try_for_each(|page| durable::write(&folder.join(page.file()), page.html(&board).as_bytes()))
    })?;
    let page = args.out.join(Page::Overview.file());
    let to_review = board.waiting;
    if args.project.json {
        return print_json(&Written { page, rounds: board.rounds.len(), to_review });
    }
    print(&format!("{}: {} rounds, {to_review} images to review", page.display(), board.rounds.len()))
}

/// What the pages show, and the sign that a folder is one of pages.
const MARKER: &str = "board.json";
