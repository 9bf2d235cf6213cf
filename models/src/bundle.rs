//! The folder that a device runs: a model with everything needed to run it, prove it and judge it.
//!
//! ```text
//! model.onnx           the network, batch of 1
//! golden.safetensors   inputs and the logits that the trainer computed for them
//! report_card.json     what the workstation measured before it let the bundle go
//! manifest.json        sha256 and size of the files above, and how the model is to be used
//! model.sig            reserved for the signature over all of them; absent until bundles are signed
//! ```
//!
//! The sha256 of `manifest.json` names the bundle, since it fixes every other byte.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Calibration, Digest, Error, LabelSet, ModelSpec, NetworkSpec, Preprocessing, Result, durable};

mod golden;
mod report_card;

pub use golden::{Disagreement, Golden};
pub use report_card::{ReliabilityBin, ReportCard};

/// Version of the folder's layout and of the manifest.
pub const FORMAT: u32 = 1;
/// The network.
pub const MODEL: &str = "model.onnx";
/// The golden vectors.
pub const GOLDEN: &str = "golden.safetensors";
/// The report card.
pub const REPORT_CARD: &str = "report_card.json";
/// The manifest.
pub const MANIFEST: &str = "manifest.json";
/// Where the signature will be. It covers the manifest, so the manifest does not list it.
pub const SIGNATURE: &str = "model.sig";

const LISTED: [&str; 3] = [MODEL, GOLDEN, REPORT_CARD];
/// A manifest is a page of text; what is larger is none.
const MAX_MANIFEST: u64 = 1 << 20;

/// How a bundle is to be used, and what its files must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Counts up with every bundle of a project; a device never goes back.
    pub sequence: u64,
    /// The bundle that this one replaces.
    pub parent: Option<Digest>,
    /// When it was made.
    pub created: Timestamp,
    /// The network inside `model.onnx`.
    pub network: NetworkSpec,
    /// The classes, in the order of the logits.
    pub labels: LabelSet,
    /// From an image file to the network's input.
    pub preprocessing: Preprocessing,
    /// From logits to probabilities and pseudo-labels.
    pub calibration: Calibration,
    /// Which samples a device keeps.
    pub collection: CollectionPolicy,
    /// Every other file of the folder by name.
    pub files: BTreeMap<String, FileEntry>,
}

/// What a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its digest.
    pub sha256: Digest,
    /// Its size.
    pub bytes: u64,
}

/// Which samples a device keeps while it runs a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CollectionPolicy {
    /// Confident samples kept per class and bundle, at most. Keeps a frequent class from filling the disk.
    pub confident_per_class: u32,
    /// Probability with which any image at all is kept for audit, whatever the model says of it.
    pub audit_probability: f64,
}

impl Default for CollectionPolicy {
    fn default() -> Self {
        Self { confident_per_class: 1000, audit_probability: 0.05 }
    }
}

/// A verified bundle on disk.
#[derive(Clone, Debug)]
pub struct Bundle {
    folder: PathBuf,
    digest: Digest,
    manifest: Manifest,
}

impl Bundle {
    /// Writes a bundle to `folder` from the three files' contents; `manifest.files` is filled in.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is left behind.
    pub fn write(
        folder: &Path,
        mut manifest: Manifest,
        model: &[u8],
        golden: &Golden,
        card: &ReportCard,
    ) -> Result<Self> {
        let golden = golden.to_bytes()?;
        let card = serde_json::to_vec_pretty(card).map_err(|e| Error::malformed(REPORT_CARD, "JSON", e))?;
        let contents = [(MODEL, model), (GOLDEN, &golden), (REPORT_CARD, &card)];
        let entry = |bytes: &[u8]| FileEntry { sha256: Digest::of(bytes), bytes: bytes.len() as u64 };
        manifest.files = contents.iter().map(|(name, bytes)| ((*name).to_owned(), entry(bytes))).collect();
        manifest.validate(MANIFEST)?;
        ReportCard::parse(REPORT_CARD, &card)?;
        durable::write_folder(folder, |folder| {
            for (name, bytes) in contents {
                durable::write(&folder.join(name), bytes)?;
            }
            durable::write_json(&folder.join(MANIFEST), &manifest)
        })?;
        Self::open(folder)
    }

    /// Opens a bundle and verifies every byte of it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`], [`Error::UnknownFormat`], [`Error::UnexpectedEntry`] or
    /// [`Error::DigestMismatch`], each with the file.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let size = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?.len();
        if size > MAX_MANIFEST {
            return Err(Error::malformed(path.display(), format!("at most {MAX_MANIFEST} bytes"), size));
        }
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let manifest = Manifest::parse(&path.display().to_string(), &bytes)?;
        let bundle = Self { folder: folder.to_owned(), digest: Digest::of(&bytes), manifest };
        bundle.verify_entries()?;
        for (name, entry) in &bundle.manifest.files {
            verify_file(&folder.join(name), entry)?;
        }
        Ok(bundle)
    }

    /// Only plain files that the manifest lists, the manifest, and perhaps a signature.
    fn verify_entries(&self) -> Result<()> {
        for entry in fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))? {
            let entry = entry.map_err(Error::io("list", &self.folder))?;
            let path = entry.path();
            if !entry.file_type().map_err(Error::io("read", &path))?.is_file() {
                return Err(Error::UnexpectedEntry { path, why: "it is not a plain file" });
            }
            let name = entry.file_name();
            let known = name
                .to_str()
                .is_some_and(|n| [MANIFEST, SIGNATURE].contains(&n) || self.manifest.files.contains_key(n));
            if !known {
                return Err(Error::UnexpectedEntry { path, why: "the manifest does not list it" });
            }
        }
        Ok(())
    }

    /// The bundle's name: the digest of its manifest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Path of the ONNX file.
    pub fn model_path(&self) -> PathBuf {
        self.folder.join(MODEL)
    }

    /// The golden vectors.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Malformed`].
    pub fn golden(&self) -> Result<Golden> {
        let path = self.folder.join(GOLDEN);
        let what = path.display().to_string();
        let golden = Golden::parse(&what, &fs::read(&path).map_err(Error::io("read", &path))?)?;
        let network = &self.manifest.network;
        if (golden.input_shape, golden.logits[0].len()) != (network.input, network.classes) {
            return Err(Error::malformed(what, "inputs and logits of the network's shapes", "others"));
        }
        Ok(golden)
    }

    /// The report card.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Malformed`].
    pub fn report_card(&self) -> Result<ReportCard> {
        let path = self.folder.join(REPORT_CARD);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        ReportCard::parse(&path.display().to_string(), &bytes)
    }

    /// Names of the files that make up the bundle, the manifest last.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.manifest.files.keys().map(String::as_str).chain([MANIFEST])
    }
}

impl Manifest {
    /// Parses and checks a manifest; `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`], [`Error::Malformed`], [`Error::Network`].
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let malformed = |e: serde_json::Error| Error::malformed(what, "a bundle manifest", e);
        let Version { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != FORMAT {
            return Err(Error::UnknownFormat { what: what.to_owned(), found: format, known: FORMAT });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        manifest.validate(what)?;
        Ok(manifest)
    }

    fn validate(&self, what: &str) -> Result<()> {
        let malformed = |e: Error| Error::malformed(what, "parts that fit each other", e);
        self.model_spec().validate().map_err(malformed)?;
        self.calibration.clone().validate(self.labels.len()).map_err(malformed)?;
        let audit = self.collection.audit_probability;
        if !(0.0..=1.0).contains(&audit) {
            return Err(Error::malformed(what, "an audit_probability from 0 to 1", audit));
        }
        if !self.files.keys().map(String::as_str).eq(sorted(LISTED)) {
            let names: Vec<_> = self.files.keys().collect();
            return Err(Error::malformed(what, format!("the files {LISTED:?}"), format!("{names:?}")));
        }
        Ok(())
    }

    /// What the model is.
    pub fn model_spec(&self) -> ModelSpec {
        ModelSpec {
            network: self.network.clone(),
            labels: self.labels.clone(),
            preprocessing: self.preprocessing.clone(),
        }
    }
}

fn sorted<const N: usize>(mut names: [&str; N]) -> [&str; N] {
    names.sort_unstable();
    names
}

fn verify_file(path: &Path, entry: &FileEntry) -> Result<()> {
    let bytes = fs::symlink_metadata(path).map_err(Error::io("read", path))?.len();
    if bytes != entry.bytes {
        return Err(Error::malformed(path.display(), format!("{} bytes", entry.bytes), format!("{bytes} bytes")));
    }
    let found = Digest::of_file(path)?;
    if found != entry.sha256 {
        return Err(Error::DigestMismatch { path: path.to_owned(), expected: entry.sha256, found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TrainingFacts, preprocess::Color};

    fn manifest() -> Manifest {
        let preprocessing = Preprocessing { color: Color::Gray, height: 4, width: 4 };
        Manifest {
            format: FORMAT,
            sequence: 7,
            parent: Some(Digest::of(b"parent")),
            created: Timestamp::UNIX_EPOCH,
            network: NetworkSpec::wide_resnet(10, 1, preprocessing.shape(), 2).expect("a network"),
            labels: LabelSet::new(["cat", "dog"]).expect("two names"),
            preprocessing,
            calibration: Calibration { temperature: 1.5, thresholds: vec![0.9, 0.8] },
            collection: CollectionPolicy::default(),
            files: BTreeMap::new(),
        }
    }

    fn report_card() -> ReportCard {
        ReportCard {
            test_images: 2,
            accuracy: 0.5,
            accuracy_interval: [0.1, 0.9],
            per_class_accuracy: vec![1.0, 0.0],
            confusion: vec![vec![1, 0], vec![1, 0]],
            ece_before: 0.1,
            ece_after: 0.05,
            reliability_before: vec![ReliabilityBin { count: 2, confidence: 0.6, accuracy: 0.5 }],
            reliability_after: Vec::new(),
            parity_max_abs_diff: Some(1e-6),
            training: TrainingFacts { labeled: 40, unlabeled: 700, steps: 1200, seed: 1 },
        }
    }

    fn write(folder: &Path, manifest: Manifest) -> Result<Bundle> {
        let golden = Golden { input_shape: [1, 4, 4], inputs: vec![vec![0.5; 16]], logits: vec![vec![1.0, -1.0]] };
        Bundle::write(folder, manifest, b"the network", &golden, &report_card())
    }

    #[test]
    fn reads_back_what_was_written() -> Result<()> {
        let parent = tempfile::tempdir().map_err(Error::io("create", Path::new("a folder")))?;
        let folder = parent.path().join("bundle");
        let written = write(&folder, manifest())?;
        let read = Bundle::open(&folder)?;
        assert_eq!((read.digest(), read.manifest()), (written.digest(), written.manifest()));
        assert_eq!(read.report_card()?, report_card());
        assert_eq!(read.golden()?.logits, [[1.0, -1.0]]);
        // The place for the signature: it may be there, and the manifest does not know of it.
        durable::write(&folder.join(SIGNATURE), b"{}")?;
        assert_eq!(Bundle::open(&folder)?.digest(), written.digest());
        Ok(())
    }

    #[test]
    fn a_changed_cut_missing_or_added_file_is_refused_by_name() -> Result<()> {
        let parent = tempfile::tempdir().map_err(Error::io("create", Path::new("a folder")))?;
        let folder = parent.path().join("bundle");
        let refused = |name: &str| {
            let error = Bundle::open(&folder).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(name), "{error:?} does not name {name}");
        };
        let digest = write(&folder, manifest())?.digest();
        for name in LISTED {
            let path = folder.join(name);
            let whole = fs::read(&path).map_err(Error::io("read", &path))?;
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 0x20;
                fs::write(&path, &changed).map_err(Error::io("write", &path))?;
                refused(name);
            }
            fs::write(&path, &whole[..whole.len() - 1]).map_err(Error::io("write", &path))?;
            refused(name);
            durable::remove(&path)?;
            refused(name);
            durable::write(&path, &whole)?;
        }
        // A manifest that was changed and still makes sense is another bundle: its name gives it away.
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        durable::write(&path, text.replace("\"sequence\": 7", "\"sequence\": 8").as_bytes())?;
        assert_ne!(Bundle::open(&folder)?.digest(), digest);
        for (from, to) in [("\"format\": 1", "\"format\": 2"), ("1.5", "-1.5"), ("\"dog\"", "\"cat\""), ("0.8", "null")]
        {
            assert!(text.contains(from));
            durable::write(&path, text.replace(from, to).as_bytes())?;
            refused("manifest.json");
        }
        durable::write(&path, text.as_bytes())?;
        durable::write(&folder.join("run.sh"), b"")?;
        refused("run.sh");
        Ok(())
    }

    #[test]
    fn an_invalid_part_leaves_the_bundle_before_in_place() -> Result<()> {
        let parent = tempfile::tempdir().map_err(Error::io("create", Path::new("a folder")))?;
        let folder = parent.path().join("bundle");
        let digest = write(&folder, manifest())?.digest();
        let invalid = CollectionPolicy { audit_probability: 1.5, ..CollectionPolicy::default() };
        assert!(write(&folder, Manifest { collection: invalid, ..manifest() }).is_err());
        assert_eq!(Bundle::open(&folder)?.digest(), digest);
        Ok(())
    }
}
