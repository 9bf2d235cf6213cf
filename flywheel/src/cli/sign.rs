use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use models::{Bundle, Digest, signing::PrivateKey};
use serde::Serialize;

use super::{print, print_json};

/// Arguments of `sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Rounds and `flywheel export` sign by themselves when export.signing_key names a key. This signs a bundle that is there: \
an unsigned one, or one whose key is being replaced. The signature, model.sig, is that of OpenSSF Model Signing, so that \
`model_signing verify key` of PyPI's model-signing verifies it as well.

Examples:
  flywheel sign bundle --key keys/signing.pem")]
pub(super) struct SignArgs {
    /// Folder of the bundle
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Private key
    #[arg(long, value_name = "FILE", default_value = "keys/signing.pem")]
    key: PathBuf,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// A bundle and the key that has signed it.
#[derive(Serialize)]
pub(super) struct Signed {
    pub(super) bundle: Digest,
    pub(super) sequence: u64,
    pub(super) key: Digest,
}

impl Signed {
    pub(super) fn show(&self, json: bool) -> Result<()> {
        if json {
            return print_json(self);
        }
        let (bundle, key) = (self.bundle.short(), self.key.short());
        print(&format!("bundle {bundle}, sequence {}, is signed by key {key}", self.sequence))
    }
}

pub(super) fn run(args: SignArgs) -> Result<()> {
    let key = PrivateKey::read(&args.key)?;
    let bundle = Bundle::open(&args.bundle)?;
    bundle.sign(&key)?;
    Signed { bundle: bundle.digest(), sequence: bundle.manifest().sequence, key: key.public().id() }.show(args.json)
}
