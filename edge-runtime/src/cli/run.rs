use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Result, anyhow};
use clap::Args;
use serde::Serialize;

use super::{print, print_json};
use crate::{
    EdgeConfig,
    config::read_table,
    device::{self, Mode},
    engine::Accelerator,
    event::Event,
};

/// Arguments of `run`, as typed. What is left out comes from the configuration file, or has the default there.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
The settings device, source, state and remote are needed, from --config or as flags. The remote is a folder shared \
with the workstation, or the address of a hub where `enrol` made the device known; while it is away, the device goes on and syncs later. Ctrl-C and SIGTERM stop the device after \
the images at hand; nothing is lost.

Examples:
  flywheel-edge run --config edge.toml
  flywheel-edge run --config edge.toml --once
  flywheel-edge run --device cam-1 --source images --state state --remote /mnt/share --trusted-key trusted.pem
  flywheel-edge run --config edge.toml --source http://camera.local:8080/stream --listen 127.0.0.1:8080

edge.toml:
  device = \"cam-1\"
  source = \"images\"
  state = \"state\"
  remote = \"/mnt/share\"
  trusted_keys = [\"trusted.pem\"]
  poll_seconds = 2.0
  listen = \"127.0.0.1:8080\"
  store_mebibytes = 512
  [budget]
  per_hour = 100")]
pub struct RunArgs {
    /// Configuration file; flags override what it says
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Name of the device
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// Folder in which images appear, or a camera
    #[arg(long, value_name = "FOLDER|URL|v4l2:FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Frames of a camera that are classified in a second, at most [default: 1]
    #[arg(long, value_name = "FRAMES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    frames_per_second: Option<f64>,
    /// Address at which to classify over HTTP and show a page with how the device is [default: none]
    #[arg(long, value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// Folder of the device's own
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<PathBuf>,
    /// Folder shared with the workstation, or address of a hub
    #[arg(long, value_name = "FOLDER|URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    /// Channel whose bundle the device runs [default: stable]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    /// Public key of which a bundle needs a signature; a second one while keys are changed
    #[arg(long = "trusted-key", value_name = "FILE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trusted_keys: Vec<PathBuf>,
    /// Kind of the device, for bundles that are only for some
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Library of an ONNX Runtime to run bundles with
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    onnxruntime: Option<PathBuf>,
    /// What that is to run bundles on, if its library was built for it; else the processor
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accelerators: Vec<Accelerator>,
    /// Seconds between two looks while nothing is new [default: 2]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    poll_seconds: Option<f64>,
    /// Kept samples after which a segment is sealed [default: 500]
    #[arg(long, value_name = "SAMPLES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    seal_after_samples: Option<usize>,
    /// Size of kept samples in mebibytes after which a segment is sealed [default: 64]
    #[arg(long, value_name = "MEBIBYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    seal_after_mebibytes: Option<u64>,
    /// Seconds after which a segment is sealed, however few samples there are [default: 60]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    seal_after_seconds: Option<f64>,
    /// Mebibytes that samples and segments take on disk, at most [default: 2048]
    #[arg(long, value_name = "MEBIBYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    store_mebibytes: Option<u64>,
    /// Mebibytes of samples written to disk in a day, at most [default: no limit]
    #[arg(long, value_name = "MEBIBYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    write_mebibytes_per_day: Option<u32>,
    /// Seed of the draws that choose audit samples [default: from the system]
    #[arg(long, value_name = "SEED")]
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_seed: Option<u64>,
    /// Folder of a bundle to start with
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<PathBuf>,
    /// Stop when every image is classified and every segment sent that may be sent today
    #[arg(long)]
    #[serde(skip)]
    once: bool,
    /// Stop when standard input ends, as it does when the program that started the device is gone
    #[arg(long)]
    #[serde(skip)]
    stop_on_eof: bool,
    /// Print a line for every image
    #[arg(long, short)]
    #[serde(skip)]
    verbose: bool,
    /// Print every event as a JSON object a line
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

impl RunArgs {
    /// The configuration file with the flags over it.
    fn resolve(&self) -> Result<EdgeConfig> {
        let mut table = self.config.as_deref().map(read_table).transpose()?.unwrap_or_default();
        table.extend(toml::Table::try_from(self)?);
        let what = self.config.as_ref().map_or("flags, without --config".into(), |path| path.display().to_string());
        Ok(EdgeConfig::from_table(&what, table)?)
    }
}

pub(super) fn run(args: RunArgs) -> Result<ExitCode> {
    let config = args.resolve()?;
    let shutdown = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&shutdown);
    ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst))
        .map_err(|e| anyhow!("cannot listen for Ctrl-C: {e}"))?;

    if args.stop_on_eof {
        let flag = Arc::clone(&shutdown);
        thread::spawn(move || {
            // An error ends the input as well.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            flag.store(true, Ordering::SeqCst);
        });
    }

    let mut printed = Ok(());
    let mut show = |event: &Event| {
        let line = match event {
            _ if args.json => print_json(event),
            Event::Classified { .. } if !args.verbose => Ok(()),
            event => print(&event.to_string()),
        };
        if line.is_err() {
            // Whoever read the lines is gone: stop in good order.
            shutdown.store(true, Ordering::SeqCst);
            printed = line;
        }
    };
    let mode = if args.once { Mode::Once } else { Mode::Forever };
    device::run(&config, mode, &shutdown, &mut show)?;
    printed?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::{
        cli::{EdgeCommand, Program},
        fixture::TestResult,
    };

    #[test]
    fn flags_override_the_file() -> TestResult {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("edge.toml");
        std::fs::write(&file, "device = 'a'\nsource = 's'\nstate = 't'\nremote = 'r'\npoll_seconds = 9.0\n")?;
        let resolve = |flags: &[&str]| {
            let typed = [&["flywheel-edge", "run"], flags].concat();
            match Program::try_parse_from(typed)?.command {
                EdgeCommand::Run(args) => args.resolve(),
                other => anyhow::bail!("{other:?}"),
            }
        };
        let file = file.to_string_lossy();
        let config = resolve(&["--config", &file, "--device", "b", "--audit-seed", "7"])?;
        assert_eq!((config.device.as_str(), config.poll_seconds, config.audit_seed), ("b", 9.0, Some(7)));
        let missing = resolve(&["--device", "b"]).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(missing.contains("source"), "{missing}");
        Ok(())
    }
}
