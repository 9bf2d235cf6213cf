use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{print, print_json};
use crate::keys;

/// Arguments of `keygen`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes signing.pem, which stays on the workstation, and trusted.pem, which devices get. To change keys without a gap, \
give devices the new trusted.pem beside the old one, wait until they have it, and only then sign with the new key.

The keys are P-256 in PEM form, so that OpenSSL and the tools of OpenSSF Model Signing use them too.

Examples:
  flywheel keygen
  flywheel keygen --out keys-2027")]
pub(super) struct KeygenArgs {
    /// Folder for the two files; it must not hold such keys yet
    #[arg(long, value_name = "FOLDER", default_value = "keys")]
    out: PathBuf,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: KeygenArgs) -> Result<()> {
    let keys = keys::generate(&args.out)?;
    if args.json {
        return print_json(&keys);
    }
    print(&format!(
        "{} signs: keep it safe, and keep a copy\n{} verifies: give it to the devices, as trusted_keys\nkey {}",
        keys.private.display(),
        keys.public.display(),
        keys.id.short()
    ))
}
