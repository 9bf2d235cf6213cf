use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use edge_runtime::Classifier;
use models::signing::TrustedKeys;

use super::sign::Signed;

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Checks what a device checks before it takes a bundle over: the signature of a trusted key, every byte of every file, and the \
golden vectors, computed on this machine. For which devices and times the bundle is, `flywheel inspect` shows. Exits with 1 \
if anything is not as it should be.

Examples:
  flywheel verify bundle --trusted-key keys/trusted.pem")]
pub(super) struct VerifyArgs {
    /// Folder of the bundle
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Public key that may have signed it; a second one while keys are changed
    #[arg(long = "trusted-key", value_name = "FILE", default_value = "keys/trusted.pem")]
    trusted_keys: Vec<PathBuf>,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: VerifyArgs) -> Result<()> {
    let trusted = TrustedKeys::read(&args.trusted_keys)?;
    let classifier = Classifier::open(&args.bundle)?;
    let bundle = classifier.bundle();
    let key = bundle.verify(&trusted)?;
    Signed { bundle: bundle.digest(), sequence: bundle.manifest().sequence, key }.show(args.json)
}
