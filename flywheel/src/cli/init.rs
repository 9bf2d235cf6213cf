use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use models::{LabelSet, durable};
use serde::Serialize;
use trainer::data::folder;

use super::{print, print_json};
use crate::{
    keys::{self, KeyFiles},
    project::ProjectConfig,
};

const TEMPLATE: &str = include_str!("init.toml");
/// Folder of the keys, beside the configuration; the template names it too.
const KEYS: &str = "keys";
const UNLABELED: &str = "unlabeled";
const TEST: &str = "test";

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Expects DIR/CLASS/*.jpg or *.png, one sub-folder a class with twenty images or more each. Images without labels may be in \
DIR/unlabeled or elsewhere, a test set of its own in DIR/test/CLASS. The configuration says what each setting does; \
docs/configuration.md lists all of them.

Examples:
  flywheel init images
  flywheel init images --remote https://hub.local:8443
  flywheel init images --unlabeled /data/camera --size 48 --config camera.toml")]
pub(super) struct InitArgs {
    /// Folder of labeled images, one sub-folder a class
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Folder of images without labels [default: DIR/unlabeled if it exists]
    #[arg(long, value_name = "FOLDER")]
    unlabeled: Option<PathBuf>,
    /// Side of the network's square input in pixels
    #[arg(long, default_value_t = 32)]
    size: u32,
    /// Folder shared with the devices, or the address of a hub
    #[arg(long, value_name = "FOLDER|URL", default_value = "remote")]
    remote: String,
    /// Configuration to write; it must not exist yet
    #[arg(long, value_name = "FILE", default_value = "flywheel.toml")]
    config: PathBuf,
    /// Print the result as JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    config: PathBuf,
    labels: LabelSet,
    keys: KeyFiles,
}

pub(super) fn run(args: InitArgs) -> Result<()> {
    ensure!(!args.config.exists(), "{} exists already; delete it or name another by --config", args.config.display());
    let exists = |name: &str| Some(args.folder.join(name)).filter(|path| path.is_dir());
    let unlabeled = args.unlabeled.clone().or_else(|| exists(UNLABELED));
    if let Some(path) = &unlabeled {
        ensure!(path.is_dir(), "{} is not a folder; expected one with images", path.display());
    }
    let labels = folder::classes(&args.folder, &[UNLABELED, TEST])?;
    let setting = |key: &str, path: Option<PathBuf>| -> Result<String> {
        match path {
            Some(path) => Ok(format!("{key} = {}", quoted(&path, &args.config)?)),
            None => Ok(format!("# {key} = \"...\"")),
        }
    };
    let text = TEMPLATE
        .replace("{labeled}", &setting("labeled", Some(args.folder.clone()))?)
        .replace("{unlabeled}", &setting("unlabeled", unlabeled)?)
        .replace("{test}", &setting("test", exists(TEST))?)
        .replace("{remote}", &toml::Value::String(args.remote).to_string())
        .replace("{size}", &args.size.to_string())
        .replace("{labels}", &labels.names().join(", "));
    ProjectConfig::parse(&text).context("the configuration to be written is not valid")?;
    let keys = keys::existing_or_new(&args.config.with_file_name(KEYS))?;
    durable::write(&args.config, text.as_bytes())?;
    if args.json {
        return print_json(&Output { config: args.config, labels, keys });
    }
    print(&format!(
        "wrote {} for {} classes: {}\nwrote {}, which signs what devices run: keep it safe; devices get {}\n\
         next: flywheel round --config {0}",
        args.config.display(),
        labels.len(),
        labels.names().join(", "),
        keys.private.display(),
        keys.public.display()
    ))
}

/// A path as a TOML string, from the folder of the configuration file.
fn quoted(path: &Path, config: &Path) -> Result<String> {
    let folder = config.parent().filter(|folder| *folder != Path::new(""));
    let path = match folder {
        None => path.to_owned(),
        Some(_) => std::path::absolute(path)?,
    };
    Ok(toml::Value::String(path.to_string_lossy().into_owned()).to_string())
}
