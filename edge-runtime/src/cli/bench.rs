use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;

use super::{print, print_json};
use crate::{
    bench::{Inference, Percentiles, Plan, measure},
    engine::Accelerator,
};

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Inference is from pixels in memory to logits; an image is a PNG of the network's input size, and its time is that of \
decoding, preprocessing and inference. Nothing else should run on the machine meanwhile.

With --against, an ONNX Runtime runs the same graph in turn, each image on one thread as here, and ratios above 1 say how \
many times faster this program is. PyPI's onnxruntime brings one: onnxruntime/capi/libonnxruntime.so.*

Examples:
  flywheel-edge bench --bundle bundle
  flywheel-edge bench --bundle bundle --seconds 30 --json
  flywheel-edge bench --bundle bundle --against /usr/lib/libonnxruntime.so")]
pub struct BenchArgs {
    /// Folder of the bundle
    #[arg(long, value_name = "FOLDER")]
    bundle: PathBuf,
    /// About how long to measure with --against, in seconds; three fifths of it without
    #[arg(long, value_name = "SECONDS", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Library of an ONNX Runtime to compare with
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// What that is to run on, if its library was built for it; else the processor
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "against")]
    accelerators: Vec<Accelerator>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: BenchArgs) -> Result<ExitCode> {
    let BenchArgs { bundle, seconds, against, accelerators, .. } = args;
    let plan = Plan { bundle, time: Duration::from_secs(seconds), against, accelerators };
    let report = measure(&plan)?;
    if args.json {
        print_json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |name: &str, p: &Percentiles| {
        print(&format!("{name:<24} p50 {:.3} ms  p95 {:.3} ms  p99 {:.3} ms  ({} runs)", p.p50, p.p95, p.p99, p.runs))
    };
    let inference = |inference: &Inference| {
        row("inference, one thread", &inference.one_thread_ms)?;
        row("inference, all cores", &inference.all_cores_ms)?;
        let (speed, threads) = (inference.images_per_second, report.threads);
        print(&format!("{:<24} {speed:.0} images/s on {threads} threads", "throughput"))
    };
    print(&format!("{:<24} {:.1} ms", "load", report.load_ms))?;
    row("image, one thread", &report.image_ms)?;
    inference(&report.inference)?;
    if let Some(memory) = report.peak_memory_mib {
        print(&format!("{:<24} {memory:.1} MiB", "peak memory"))?;
    }
    let sizes = (report.model_bytes as f64 / 1e6, report.binary_bytes as f64 / 1e6);
    print(&format!("{:<24} model {:.2} MB, program {:.1} MB", "files", sizes.0, sizes.1))?;
    if let Some(against) = &report.against {
        print("\nONNX Runtime, in turn:")?;
        print(&format!("{:<24} {:.1} ms", "load of the graph", against.load_ms))?;
        inference(&against.inference)?;
        print(&format!(
            "this program against it: {:.2} times on one thread, {:.2} times on all cores; logits within {:.1e}",
            against.one_thread_ratio, against.throughput_ratio, against.max_abs_diff
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
