use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use models::Pixels;
use serde::Serialize;

use super::{ProjectArgs, print, print_json};
use crate::{
    exchange,
    project::{Project, ProjectData},
    round,
    steps::{collected::Collected, relabel::relabel, review},
};

/// Images that the network looks at before the next ones.
const SOME: usize = 1024;

/// What the devices sent, for people to label
#[derive(Debug, Subcommand)]
pub(super) enum SamplesCommand {
    /// Write the samples to a folder of images with a table, or a tar, those first of which a label is worth most
    #[command(after_help = "\
Takes in first what the devices have sent. The table metadata.csv, whose name HuggingFace's imagefolder knows, has a row for each sample, with what the current model says of it and \
an empty column `label` to fill in: a class, !reject for an image of none of them, !unsure, or !undo. Audit samples come first, in an \
order drawn by chance: label them in that order, without gaps, as many as you like. Only so they say something of all images.

With --label-studio there is label_studio.json beside the table, to import into a project of Label Studio whose labeling interface is \
label_studio.xml; the CSV that it exports comes back in by `samples import`. FiftyOne opens the folder as a \
FiftyOneImageClassificationDataset whose data_path is images.

Examples:
  flywheel samples export to-label --limit 200
  flywheel samples import to-label/metadata.csv --by ann
  flywheel samples export all.tar                          # for WebDataset")]
    Export(ExportArgs),
    /// Take in what people have said: a table with the columns image and label, or a tar
    #[command(after_help = "\
The next round trains on the samples that have labels now, and judges its model by the audit samples that have. Nothing that a model says \
overwrites a label.

Examples:
  flywheel samples import to-label/metadata.csv --by ann")]
    Import(ImportArgs),
}

/// Arguments of `samples export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Folder to write, or a tar as WebDataset has them, NAME.tar; it must not be there yet
    #[arg(value_name = "FOLDER")]
    out: PathBuf,
    /// Samples, at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// With what the current model's network sees in each, to find what is alike
    #[arg(long)]
    embeddings: bool,
    /// With tasks for Label Studio, in which all images are once more
    #[arg(long)]
    label_studio: bool,
}

/// Arguments of `samples import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// The table, or the tar
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Who has labeled
    #[arg(long, value_name = "NAME")]
    by: String,
}

pub(super) fn run(command: SamplesCommand) -> Result<()> {
    match command {
        SamplesCommand::Export(args) => export(args),
        SamplesCommand::Import(args) => import(args),
    }
}

/// What was written, as JSON says it.
#[derive(Debug, Serialize)]
struct Exported {
    out: PathBuf,
    samples: usize,
    of: usize,
}

fn export(args: ExportArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let data = ProjectData::load(&project)?;
    let labeler = round::current_labeler(&project, &data)?;
    let labeler =
        labeler.context("there is no model yet that could say what the samples show: run `flywheel round`")?;
    let (_lock, ..) = round::take_in(&project)?;
    let Collected { samples, cohorts, reviews } = Collected::load(&project, Timestamp::now())?;
    let (relabeled, _) = relabel(&labeler, &project.config().preprocessing, samples)?;
    let mut queue = exchange::queue(&relabeled, &cohorts, &reviews);
    let of = queue.len();
    queue.truncate(args.limit.unwrap_or(of));
    let mut embeddings = BTreeMap::new();
    if args.embeddings
        && let Some(network) = round::current_network(&project, &data)?
    {
        for some in queue.chunks(SOME) {
            let images: Vec<Pixels> = some.iter().map(|queued| queued.relabeled.pixels.clone()).collect();
            let digests = some.iter().map(|queued| queued.relabeled.sample.record.image);
            embeddings.extend(digests.zip(network.embeddings(&images)?));
        }
    }
    let label_studio = args.label_studio;
    let known = exchange::Known { labels: &data.labels, reviews: &reviews, embeddings: &embeddings, label_studio };
    exchange::export(&args.out, &queue, known)?;
    if args.project.json {
        return print_json(&Exported { out: args.out, samples: queue.len(), of });
    }
    print(&format!("{} of {of} samples are in {}", queue.len(), args.out.display()))
}

fn import(args: ImportArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let labels = ProjectData::load(&project)?.labels;
    let reviews = review::reviews(&project)?;
    let (said, imported) = exchange::import(&args.file, &labels, &reviews, &args.by, Timestamp::now())?;
    review::add(&project, &labels, &said)?;
    if args.project.json {
        return print_json(&imported);
    }
    let exchange::Imported { new, known, empty } = imported;
    print(&format!("{new} labels are new, {known} were known, {empty} rows have none"))
}
