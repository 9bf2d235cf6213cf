use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use edge_runtime::sync::statuses;
use hub::pages::{Page, Place};
use jiff::Timestamp;
use models::{Board, durable, hub::PAGES};
use serde::Serialize;

use super::{ProjectArgs, print, print_json};
use crate::{
    board::{LIMIT, Pictures, board, put},
    project::Project,
    round,
};

/// Arguments of `pages`.
#[derive(Debug, Args)]
#[command(after_help = "\
Takes in what the devices have sent, and makes pages of it: the rounds, the fleet, the samples that wait for a label, what is taken for what \
with the images, and what was said of each. The review page is for the keyboard.

Where the project's remote is a hub, the hub serves them to people who sign in with a token (`flywheel hub token anna --role reviewer`), and \
takes their labels for the next round. `flywheel round` and `flywheel loop` bring them up to date, too. Otherwise, or with --out, they are \
files that need no server: the review page keeps your decisions in the browser and saves them as a table for `flywheel samples import`. \
Running it again replaces the folder.

Examples:
  flywheel pages
  flywheel pages --out /var/www/flywheel --limit 2000")]
pub(super) struct PagesArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Folder for the pages; "pages", if the remote is no hub
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Samples to review, at most
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    limit: usize,
}

/// What was written, as JSON says it.
#[derive(Debug, Serialize)]
struct Written {
    page: String,
    rounds: usize,
    to_review: usize,
}

pub(super) fn run(args: PagesArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    // Held to the end: what is forgotten meanwhile must not be put there again.
    let (_lock, remote, _) = round::take_in(&project)?;
    let is_hub = remote.enrolled().is_some();
    let folder = args.out.or_else(|| (!is_hub).then(|| "pages".into()));
    // How devices are, a hub shows by itself.
    let devices = if folder.is_some() { statuses(&remote)? } else { Vec::new() };
    let (board, pictures) = board(&project, devices, args.limit, Timestamp::now())?;
    let page = match &folder {
        Some(folder) => {
            write(folder, &board, &pictures)?;
            folder.join(Page::Overview.file()).display().to_string()
        }
        None => format!("{}{PAGES}/", project.remote()),
    };
    if is_hub {
        put(&remote, &board, pictures)?;
    }
    let to_review = board.waiting;
    if args.project.json {
        return print_json(&Written { page, rounds: board.rounds.len(), to_review });
    }
    print(&format!("{page}: {} rounds, {to_review} images to review", board.rounds.len()))
}

fn write(out: &Path, board: &Board, pictures: &Pictures) -> Result<()> {
    anyhow::ensure!(
        !out.exists() || out.join(MARKER).exists(),
        "{} is not a folder of pages: choose another by --out",
        out.display()
    );
    Ok(durable::write_folder(out, |folder| {
        durable::write_json(&folder.join(MARKER), board)?;
        let images = folder.join("images");
        durable::create_folders(&images)?;
        for (image, png) in pictures {
            durable::write(&folder.join(hub::pages::picture(*image)), png)?;
        }
        let file = |page: &Page| durable::write(&folder.join(page.file()), page.html(board, Place::Files).as_bytes());
        Page::ALL.iter().try_for_each(file)
    })?)
}

/// What the pages show, and the sign that a folder is one of pages.
const MARKER: &str = "board.json";
