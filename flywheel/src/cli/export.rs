use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use clap::Args;
use jiff::Timestamp;
use models::{Digest, Weights, bundle::MANIFEST};
use serde::Serialize;
use trainer::fit::MODEL_FILE;

use super::{ProjectArgs, percent, print, print_json};
use crate::{
    project::{Project, ProjectData},
    steps::export::{Place, export},
};

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "\
A bundle holds the network as ONNX, golden vectors, a report card and a manifest with labels, preprocessing, calibration \
and collection policy. It is written only once tract has reproduced the trainer's logits. Rounds export by \
themselves; this is for a model trained by `flywheel train`.

Examples:
  flywheel export --out bundle
  flywheel edge classify --bundle bundle photo.jpg")]
pub(super) struct ExportArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Weights to export [default: those of the run `train`]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Folder of the bundle; one that is there is replaced
    #[arg(long, value_name = "FOLDER", default_value = "bundle")]
    out: PathBuf,
    /// Sequence number: devices only go up
    #[arg(long, default_value_t = 1)]
    sequence: u64,
}

#[derive(Serialize)]
struct Output {
    bundle: PathBuf,
    digest: Digest,
    accuracy: f64,
    parity_max_abs_diff: Option<f64>,
    temperature: f64,
    thresholds: Vec<f64>,
}

pub(super) fn run(args: ExportArgs) -> Result<()> {
    let project = Project::open(&args.project.config)?;
    let is_replaceable = |out: &Path| match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none() || out.join(MANIFEST).exists(),
        Err(_) => !out.exists(),
    };
    ensure!(is_replaceable(&args.out), "{} exists and is no bundle: expected a new folder", args.out.display());
    let path = args.model.unwrap_or_else(|| project.run_folder("train").join(MODEL_FILE));
    let weights = Weights::read(&path)?;
    let data = ProjectData::load(&project)?;
    data.check_fits(&project, &weights.spec, &path)?;
    let data = data.training(&project, Vec::new());
    let place = Place { sequence: args.sequence, parent: None, created: Timestamp::now() };
    let bundle = export(&project, &weights, &data, place, &args.out)?.bundle;
    let card = bundle.report_card()?;
    let calibration = bundle.manifest().calibration.clone();
    let output = Output {
        bundle: args.out,
        digest: bundle.digest(),
        accuracy: card.accuracy,
        parity_max_abs_diff: card.parity_max_abs_diff,
        temperature: calibration.temperature,
        thresholds: calibration.thresholds,
    };
    if args.project.json {
        return print_json(&output);
    }
    print(&format!(
        "{}: bundle {}, test accuracy {}, tract within {:.1e} of the trainer",
        output.bundle.display(),
        output.digest.short(),
        percent(output.accuracy),
        output.parity_max_abs_diff.unwrap_or(f64::NAN)
    ))
}
