use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;

use super::{print, print_json};
use crate::bench::{Percentiles, measure};

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
An image is a PNG of the network's input size. Its time is that of decoding, preprocessing and inference on one \
thread; runs for warming up are not counted. Nothing else should run on the machine meanwhile.

Examples:
  flywheel-edge bench --bundle bundle
  flywheel-edge bench --bundle bundle --seconds 30 --json")]
pub struct BenchArgs {
    /// Folder of the bundle
    #[arg(long, value_name = "FOLDER")]
    bundle: PathBuf,
    /// About how long to measure, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: BenchArgs) -> Result<ExitCode> {
    let report = measure(&args.bundle, Duration::from_secs(args.seconds))?;
    if args.json {
        print_json(&report)?;
    } else {
        let row = |name: &str, p: &Percentiles| {
            format!("{name}  p50 {:.3} ms  p95 {:.3} ms  p99 {:.3} ms  ({} runs)", p.p50, p.p95, p.p99, p.runs)
        };
        print(&format!("load        {:.1} ms", report.load_ms))?;
        print(&row("inference ", &report.inference_ms))?;
        print(&row("image     ", &report.image_ms))?;
        print(&format!("throughput  {:.1} images/s on {} threads", report.images_per_second, report.threads))?;
    }
    Ok(ExitCode::SUCCESS)
}
