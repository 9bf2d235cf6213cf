use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Args;
use models::Prediction;
use rayon::prelude::*;
use serde_json::json;

use super::{print, print_json};
use crate::Classifier;

/// Images classified in parallel before they are printed.
const CHUNK: usize = 256;

/// Arguments of `classify`.
#[derive(Debug, Args)]
#[command(after_help = "\
An image that cannot be read gets an error line; the others are printed all the same, and the exit code is 1.

Examples:
  flywheel-edge classify --bundle bundle photo.jpg
  flywheel-edge classify --bundle bundle --top 5 photos/*.png
  flywheel-edge classify --bundle bundle --json photos/*.png | jq -r .label")]
pub struct ClassifyArgs {
    /// Folder of the bundle
    #[arg(long, value_name = "FOLDER")]
    bundle: PathBuf,
    /// Image files, JPEG or PNG
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// How many labels to print for each image
    #[arg(long, value_name = "LABELS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: ClassifyArgs) -> Result<ExitCode> {
    let classifier = Classifier::open(&args.bundle)?;
    let mut exit = ExitCode::SUCCESS;
    for chunk in args.images.chunks(CHUNK) {
        let results: Vec<_> = chunk.par_iter().map(|path| classify(&classifier, path)).collect();
        for (path, result) in chunk.iter().zip(results) {
            match result {
                Ok(prediction) => show(&classifier, &args, path, &prediction)?,
                Err(e) => {
                    exit = ExitCode::FAILURE;
                    if args.json {
                        print_json(&json!({ "image": path, "error": e.to_string() }))?;
                    }
                    eprintln!("error: {e}");
                }
            }
        }
    }
    Ok(exit)
}

fn classify(classifier: &Classifier, path: &Path) -> crate::Result<Prediction> {
    let bytes = fs::read(path).map_err(models::Error::io("read", path))?;
    classifier.classify(&path.display().to_string(), &bytes)
}

fn show(classifier: &Classifier, args: &ClassifyArgs, path: &Path, prediction: &Prediction) -> Result<()> {
    let labels = &classifier.manifest().labels;
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| prediction.probs[b].total_cmp(&prediction.probs[a]));
    order.truncate(args.top as usize);
    if args.json {
        let top: Vec<_> =
            order.iter().map(|&i| json!({ "label": labels.name(i), "probability": prediction.probs[i] })).collect();
        return print_json(&json!({
            "image": path,
            "label": labels.name(prediction.class),
            "class": prediction.class,
            "confidence": prediction.confidence,
            "top": top,
        }));
    }
    let top: Vec<_> =
        order.iter().map(|&i| format!("{} {:.1} %", labels.name(i), 100.0 * prediction.probs[i])).collect();
    print(&format!("{}: {}", path.display(), top.join(", ")))
}
