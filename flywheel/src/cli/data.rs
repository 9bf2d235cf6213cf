use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand, builder::PossibleValuesParser};
use comfy_table::Table;
use serde::Serialize;
use trainer::data::sets::{RemoteFile, Set};

use super::{print, print_json};
use crate::{
    download::{Download, Fetched},
    progress::Progress,
};

/// Commands of `data`.
#[derive(Debug, Subcommand)]
pub(super) enum DataCommand {
    /// Download a data set's official files, or check those that are there
    Fetch(FetchArgs),
    /// List the data sets, their files, and which of them are there
    List(ListArgs),
}

/// Arguments of `data fetch`.
#[derive(Debug, Args)]
#[command(after_help = "\
A broken connection is taken up where it broke, also by the same command later. A file counts only if its MD5 is the \
published one. Without a network, the error says which file to put where.

Examples:
  flywheel data fetch cifar10
  flywheel data fetch svhn --folder /data --mirror http://mirror.local/sets")]
pub(super) struct FetchArgs {
    /// The data set
    #[arg(value_parser = PossibleValuesParser::new(Vec::from_iter(fetched().map(Set::name))))]
    set: String,
    /// Folder for the files; `data.set_folder` of a project
    #[arg(long, default_value = "data")]
    folder: PathBuf,
    /// Address of a folder that has the files, in place of the official ones
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Arguments of `data list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Folder of the files
    #[arg(long, default_value = "data")]
    folder: PathBuf,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listed {
    set: &'static str,
    file: RemoteFile,
    path: PathBuf,
    present: bool,
}

/// The sets that have files to fetch.
fn fetched() -> impl Iterator<Item = Set> {
    Set::ALL.into_iter().filter(|set| !set.files().is_empty())
}

pub(super) fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Fetch(args) => fetch(args),
        DataCommand::List(args) => list(&args),
    }
}

fn fetch(args: FetchArgs) -> Result<()> {
    let files = Set::ALL.into_iter().filter(|set| set.name() == args.set).flat_map(|set| set.files());
    let progress = Progress::default();
    let mut paths = Vec::new();
    for file in files {
        let base = args.mirror.as_deref().unwrap_or(file.base).trim_end_matches('/');
        let download = Download {
            url: format!("{base}/{}", file.name),
            path: args.folder.join(file.name),
            md5: file.md5.to_owned(),
            pause: Duration::from_secs(1),
            silence: Duration::from_secs(60),
        };
        let path = download.path.display();
        match download.run(&progress)? {
            Fetched::Already => progress.line(format!("{path} is there and right")),
            Fetched::Now { resumed_from: 0 } => progress.line(format!("{path} has come")),
            Fetched::Now { resumed_from } => progress.line(format!("{path} has come; {resumed_from} bytes were here")),
        }
        paths.push(download.path);
    }
    if args.json { print_json(&paths) } else { Ok(()) }
}

fn list(args: &ListArgs) -> Result<()> {
    let listed = |set: Set, file: &RemoteFile| {
        let path = args.folder.join(file.name);
        Listed { set: set.name(), file: *file, present: path.exists(), path }
    };
    let all: Vec<Listed> =
        Set::ALL.into_iter().flat_map(|set| set.files().iter().map(move |file| listed(set, file))).collect();
    if args.json {
        return print_json(&all);
    }
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY).set_header(["set", "file", "from", "here"]);
    for Listed { set, file, present, .. } in all {
        table.add_row([set, file.name, file.base, if present { "yes" } else { "no" }]);
    }
    print(&table.to_string())
}
