//! A project: one configuration file, one folder for everything made from it.
//!
//! ```text
//! flywheel.toml                    the configuration
//! FOLDER/runs/NAME/                a training run: settings, log, checkpoint, model
//! FOLDER/bundles/round-N/          what round N exported
//! FOLDER/segments/DEVICE/*.tar     what the devices sent, verified
//! FOLDER/rounds/round-N.json       the record of round N
//! FOLDER/rounds/round-N.html       the same to look at, with the images it gets wrong
//! FOLDER/rounds/round-N.toml       the configuration it ran with
//! FOLDER/rounds/images/*.json      the project's own images that rounds were made of
//! FOLDER/audit/N.json              audit samples that came in together
//! FOLDER/reviews/DIGEST.json       what people said of samples
//! FOLDER/forgotten.json            segments that are not taken in again
//! FOLDER/hub/                      the workstation's key at a hub, if the remote is one
//! REMOTE/                          the store shared with the devices
//! ```

mod config;
mod data;
mod layers;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use edge_runtime::sync::Address;
use models::{preprocess::InputLayout, signing::PrivateKey};
use trainer::config::Algorithm;

pub use config::{CalibrationConfig, ChoiceConfig, DataConfig, ExportConfig, GateConfig, ProjectConfig, StoreConfig};
pub use data::{Field, Pictures, ProjectData};

/// A project on disk.
#[derive(Clone, Debug)]
pub struct Project {
    config: ProjectConfig,
    /// The folder of the configuration file, which relative paths start at.
    root: PathBuf,
}

impl Project {
    /// Opens the project of a configuration file.
    ///
    /// # Errors
    /// If the file cannot be read, or says what makes no sense; the error names the key.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, None)
    }

    /// The same for a method other than the one in the file.
    ///
    /// # Errors
    /// As [`Project::open`].
    pub fn open_as(path: &Path, algorithm: Option<Algorithm>) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}; `flywheel init` writes one", path.display()))?;
        let config = ProjectConfig::parse_as(&text, algorithm).with_context(|| format!("in {}", path.display()))?;
        let root = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { config, root })
    }

    /// The same project with the configuration of this text.
    ///
    /// # Errors
    /// As [`Project::open`].
    pub fn with_config(&self, text: &str) -> Result<Self> {
        Ok(Self { config: ProjectConfig::parse(text)?, root: self.root.clone() })
    }

    /// The same project with another choice of labels and other randomness.
    pub fn with_seed(mut self, seed: u32) -> Self {
        self.config.data.split_seed = seed;
        self.config.train.seed = seed.into();
        self
    }

    /// The same project with models that take images in another way.
    pub fn with_input(mut self, layout: InputLayout) -> Self {
        self.config.export.input = layout;
        self
    }

    /// The configuration.
    pub fn config(&self) -> &ProjectConfig {
        &self.config
    }

    /// A path of the configuration, from where the program runs.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// Folder of a training run.
    pub fn run_folder(&self, name: &str) -> PathBuf {
        self.folder("runs").join(name)
    }

    /// Folder of a round's bundle.
    pub fn bundle_folder(&self, round: u32) -> PathBuf {
        self.folder("bundles").join(round_name(round))
    }

    /// Folder of the segments that came in.
    pub fn segments_folder(&self) -> PathBuf {
        self.folder("segments")
    }

    /// File that says which segments are not to be taken in again.
    pub fn forgotten_file(&self) -> PathBuf {
        self.folder("forgotten.json")
    }

    /// Folder that says which audit samples came in when.
    pub fn audit_folder(&self) -> PathBuf {
        self.folder("audit")
    }

    /// Folder of what people said of samples.
    pub fn reviews_folder(&self) -> PathBuf {
        self.folder("reviews")
    }

    /// Folder of the rounds' records.
    pub fn rounds_folder(&self) -> PathBuf {
        self.folder("rounds")
    }

    /// The key that signs bundles, if the configuration names one.
    ///
    /// # Errors
    /// If the file holds no key.
    pub fn signing_key(&self) -> Result<Option<PrivateKey>> {
        let path = self.config.export.signing_key.as_ref().map(|path| self.path(path));
        Ok(path.map(|path| PrivateKey::read(&path)).transpose()?)
    }

    /// The store shared with the devices, from where the program runs.
    pub fn remote(&self) -> Address {
        match &self.config.store.remote {
            Address::Folder(path) => Address::Folder(self.path(path)),
            hub => hub.clone(),
        }
    }

    /// Folder of what enrolment at a hub has left.
    pub fn credentials(&self) -> PathBuf {
        self.folder("hub")
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.path(&self.config.store.folder).join(name)
    }
}

/// What a round is called in file names.
pub fn round_name(round: u32) -> String {
    format!("round-{round}")
}
