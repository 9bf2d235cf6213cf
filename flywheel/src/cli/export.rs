use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use exporter::{Batch, OnnxOptions};
use jiff::Timestamp;
use models::{
    Digest, Weights,
    bundle::MANIFEST,
    durable,
    preprocess::{InputLayout, InputSpec},
};
use serde::Serialize;
use trainer::fit::MODEL_FILE;

use super::{ProjectArgs, percent, print, print_json};
use crate::{
    project::{Field, Project, ProjectData},
    steps::{
        check::{Checked, EngineName, check},
        export::{Exported, Measured, Place, export, measure},
        rounding::{RangeChoice, Rounding},
    },
};

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "\
A bundle holds the network as ONNX, golden vectors, a report card and a manifest with labels, preprocessing, calibration \
and collection policy, all signed by the key that export.signing_key names. It is written only once tract has reproduced \
the trainer's logits; a model in 8 bits, which the trainer cannot compute, once it is as accurate as export.max_loss wants. Rounds export by themselves; this is for a model trained by `flywheel train`.

With --onnx it writes a model for other programs instead: for any batch, with the preprocessing inside, with calibrated \
probabilities and the pooled features as further outputs.

--check runs the golden vectors through engines and prints the largest difference from their logits. ONNX Runtime \
is loaded from ORT_DYLIB_PATH, or from the Python environment that is active, where `pip install onnxruntime` brings it.

Examples:
  flywheel export --out bundle
  flywheel export --check ort,tract
  flywheel export --onnx model.onnx --batch any --input rgb8 --outputs logits,probs,embedding")]
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
    /// How the model takes images [default: export.input]
    #[arg(long, value_name = "LAYOUT")]
    input: Option<Layout>,
    /// Engines to check the model with
    #[arg(long, value_name = "ENGINES", value_delimiter = ',')]
    check: Vec<EngineName>,
    /// Write only an ONNX model, to this file, instead of a bundle
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "sequence"])]
    onnx: Option<PathBuf>,
    /// Images at once that the model takes: a number, or "any"
    #[arg(long, value_name = "IMAGES", default_value = "1", value_parser = batch, requires = "onnx")]
    batch: Batch,
    /// What the model gives: logits, and perhaps probs and embedding
    #[arg(long, value_name = "OUTPUTS", value_delimiter = ',', default_value = "logits", requires = "onnx")]
    outputs: Vec<OutputName>,
}

/// How a model takes images.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Layout {
    /// Planes of numbers from -1 to 1
    F32,
    /// The pixels themselves
    Rgb8,
}

/// What a model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputName {
    /// One number a class
    Logits,
    /// Calibrated probabilities
    Probs,
    /// The pooled features
    Embedding,
}

fn batch(text: &str) -> Result<Batch, String> {
    match (text, text.parse()) {
        ("any", _) => Ok(Batch::Symbolic),
        (_, Ok(size @ 1..)) => Ok(Batch::Fixed(size)),
        _ => Err("expected a positive number, or \"any\"".into()),
    }
}

#[derive(Serialize)]
struct Output {
    bundle: PathBuf,
    digest: Digest,
    accuracy: f64,
    parity_max_abs_diff: Option<f64>,
    temperature: f64,
    thresholds: Vec<f64>,
    rounding: Option<Rounding>,
    checks: Vec<Checked>,
}

#[derive(Serialize)]
struct OnnxOutput {
    onnx: PathBuf,
    bytes: usize,
    rounding: Option<Rounding>,
    checks: Vec<Checked>,
}

pub(super) fn run(args: ExportArgs) -> Result<()> {
    let mut project = Project::open(&args.project.config)?;
    if let Some(layout) = args.input {
        project = project.with_input(match layout {
            Layout::F32 => InputLayout::F32,
            Layout::Rgb8 => InputLayout::Rgb8,
        });
    }
    let is_replaceable = |out: &Path| match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none() || out.join(MANIFEST).exists(),
        Err(_) => !out.exists(),
    };
    ensure!(
        args.onnx.is_some() || is_replaceable(&args.out),
        "{} exists and is no bundle: expected a new folder",
        args.out.display()
    );
    let path = args.model.clone().unwrap_or_else(|| project.run_folder("train").join(MODEL_FILE));
    let weights = Weights::read(&path)?;
    let data = ProjectData::load(&project)?;
    data.check_fits(&project, &weights.spec, &path)?;
    match &args.onnx {
        Some(onnx) => write_onnx(&args, onnx, &project, &weights, &data),
        None => write_bundle(&args, &project, &weights, &data),
    }
}

fn write_bundle(args: &ExportArgs, project: &Project, weights: &Weights, data: &ProjectData) -> Result<()> {
    let data = data.training(project, Field::default());
    let place = Place { sequence: args.sequence, parent: None, created: Timestamp::now() };
    let measured = measure(project, weights, &data, &data.labeled.images)?;
    measured.within(project.config().export.max_loss)?;
    let exported = export(project, weights, &data, measured, place, &args.out, &args.check)?;
    let Exported { bundle, rounding, checks, .. } = exported;
    let card = bundle.report_card()?;
    let calibration = bundle.manifest().calibration.clone();
    let output = Output {
        bundle: args.out.clone(),
        digest: bundle.digest(),
        accuracy: card.accuracy,
        parity_max_abs_diff: card.parity_max_abs_diff,
        temperature: calibration.temperature,
        thresholds: calibration.thresholds,
        rounding,
        checks,
    };
    if args.project.json {
        return print_json(&output);
    }
    let parity = output.parity_max_abs_diff.map(|parity| format!(", tract within {parity:.1e} of the trainer"));
    print(&format!(
        "{}: bundle {}, test accuracy {}{}",
        output.bundle.display(),
        output.digest.short(),
        percent(output.accuracy),
        parity.unwrap_or_default()
    ))?;
    show(output.rounding.as_ref(), &output.checks)
}

/// What fewer bits cost, and what engines made of the model.
fn show(rounding: Option<&Rounding>, checks: &[Checked]) -> Result<()> {
    if let Some(rounding) = rounding {
        for RangeChoice { method, accuracy, difference, chosen } in &rounding.ranges {
            print(&format!(
                "ranges by {method}: {} of the answers in 32 bits, logits off by {difference:.3}{}",
                percent(*accuracy),
                if *chosen { ": chosen" } else { "" }
            ))?;
        }
        print(&format!(
            "{}: test accuracy {} instead of {}, the same answer for {} of the images, {:.2} MB instead of {:.2}, \
             {:.2} ms an image instead of {:.2}",
            rounding.what(),
            percent(rounding.accuracy),
            percent(rounding.accuracy_before),
            percent(rounding.agreement),
            rounding.bytes as f64 / 1e6,
            rounding.bytes_before as f64 / 1e6,
            rounding.latency_ms,
            rounding.latency_ms_before,
        ))?;
    }
    checks.iter().try_for_each(|checked| print(&checked.to_string()))
}

fn write_onnx(args: &ExportArgs, onnx: &Path, project: &Project, weights: &Weights, data: &ProjectData) -> Result<()> {
    let training = data.training(project, Field::default());
    let measured = measure(project, weights, &training, &training.labeled.images)?;
    measured.within(project.config().export.max_loss)?;
    let Measured { calibration, golden, ranges, rounding, .. } = measured;
    let has = |output| args.outputs.contains(&output);
    ensure!(has(OutputName::Logits), "--outputs: expected logits among them");
    let export = &project.config().export;
    let options = OnnxOptions {
        batch: args.batch,
        input: export.input,
        probs: has(OutputName::Probs).then_some(calibration.temperature),
        embedding: has(OutputName::Embedding),
        weights: export.weights,
        ranges,
        licence: export.licence.clone(),
    };
    let bytes = exporter::to_onnx(weights, &options)?;
    let input = InputSpec { layout: export.input, shape: weights.spec.network.input };
    // Engines here run one image: a model for another fixed number of images is checked in its form for one.
    let checked = match args.batch {
        Batch::Fixed(2..) => exporter::to_onnx(weights, &OnnxOptions { batch: Batch::Fixed(1), ..options })?,
        _ => bytes.clone(),
    };
    let checks = check(&args.check, &checked, input, &golden, export.arithmetic.tolerance())?;
    durable::write(onnx, &bytes)?;
    let output = OnnxOutput { onnx: onnx.to_owned(), bytes: bytes.len(), rounding, checks };
    if args.project.json {
        return print_json(&output);
    }
    print(&format!("{}: {} bytes, opset {}", output.onnx.display(), output.bytes, exporter::OPSET))?;
    show(output.rounding.as_ref(), &output.checks)
}
