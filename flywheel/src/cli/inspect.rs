use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use models::{Bundle, durable, signing::TrustedKeys};
use serde_json::json;

use super::{percent, print, print_json};
use crate::report::{bundle_facts, bundle_page};

/// Arguments of `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows what a bundle is, for which devices, who signed it, and how it did on the test set. Every byte of it is verified on \
the way; whether its graph computes what it should, `flywheel verify` says.

Examples:
  flywheel inspect bundle
  flywheel inspect bundle --trusted-key keys/trusted.pem --html bundle.html
  flywheel inspect bundle --json | jq .manifest.release")]
pub(super) struct InspectArgs {
    /// Folder of the bundle
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Public key to verify the signature with; a second one while keys are changed
    #[arg(long = "trusted-key", value_name = "FILE")]
    trusted_keys: Vec<PathBuf>,
    /// Write a page with confusions, calibration and golden images to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print manifest and report card as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: InspectArgs) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let trusted = TrustedKeys::read(&args.trusted_keys)?;
    let signed_by = match (bundle.is_signed(), trusted.is_empty()) {
        (true, false) => Some(bundle.verify(&trusted)?),
        _ => None,
    };
    let signature = match (signed_by, bundle.is_signed()) {
        (Some(key), _) => format!("by trusted key {}", key.short()),
        (None, true) => "there is one; --trusted-key verifies it".into(),
        (None, false) => "none".into(),
    };
    let card = bundle.report_card()?;
    if let Some(path) = &args.html {
        durable::write(path, bundle_page(&bundle, &signature)?.as_bytes())?;
    }
    if args.json {
        return print_json(&json!({
            "digest": bundle.digest(),
            "is_signed": bundle.is_signed(),
            "signed_by": signed_by,
            "manifest": bundle.manifest(),
            "report_card": card,
        }));
    }
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    for fact in bundle_facts(&bundle, &signature) {
        table.add_row([fact.name, fact.value]);
    }
    let [low, high] = card.accuracy_interval;
    let accuracy = format!("{} ({} to {})", percent(card.accuracy), percent(low), percent(high));
    table.add_row(["Test accuracy".into(), format!("{accuracy} on {} images", card.test_images)]);
    print(&table.to_string())
}
