use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FORMAT, LISTED, MANIFEST, Release};
use crate::{
    Calibration, CollectionPolicy, Digest, Error, LabelSet, ModelSpec, NetworkSpec, Preprocessing, Result,
    preprocess::{InputLayout, InputSpec},
    signing::{self, TrustedKeys},
    weights::{Arithmetic, Storage},
};

/// How a bundle is to be used, and what its files must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Counts up with every bundle of a project; a device goes back only by a signed order.
    pub sequence: u64,
    /// The bundle that this one replaces.
    pub parent: Option<Digest>,
    /// When it was made.
    pub created: Timestamp,
    /// For which devices, when, and which programs.
    pub release: Release,
    /// The network inside `model.onnx`.
    pub network: NetworkSpec,
    /// The classes, in the order of the logits.
    pub labels: LabelSet,
    /// From an image file to the network's input.
    pub preprocessing: Preprocessing,
    /// How `model.onnx` takes that input.
    pub input: InputLayout,
    /// How it stores kernels.
    pub weights: Storage,
    /// How it computes.
    #[serde(default, skip_serializing_if = "Arithmetic::is_f32")]
    pub arithmetic: Arithmetic,
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

    pub(super) fn validate(&self, what: &str) -> Result<()> {
        let malformed = |e: Error| Error::malformed(what, "parts that fit each other", e);
        self.model_spec().validate().map_err(malformed)?;
        self.calibration.clone().validate(self.labels.len()).map_err(malformed)?;
        self.collection.validate(&format!("{what}, collection"))?;
        if !self.files.keys().map(String::as_str).eq(sorted(LISTED)) {
            let names: Vec<_> = self.files.keys().collect();
            return Err(Error::malformed(what, format!("the files {LISTED:?}"), format!("{names:?}")));
        }
        Ok(())
    }

    /// Proves that a trusted key has signed this manifest, of this digest, and every file that it lists; `what` names the
    /// signature in errors. Returns the key's id.
    ///
    /// # Errors
    /// As [`Bundle::verify`](super::Bundle::verify), but for [`Error::Unsigned`].
    pub fn verify(&self, what: &str, digest: Digest, signature: &[u8], trusted: &TrustedKeys) -> Result<Digest> {
        signing::verify(what, signature, &self.signed_files(digest), trusted)
    }

    /// Every file that a signature is over.
    pub(super) fn signed_files(&self, digest: Digest) -> BTreeMap<String, Digest> {
        let listed = self.files.iter().map(|(name, entry)| (name.clone(), entry.sha256));
        listed.chain([(MANIFEST.to_owned(), digest)]).collect()
    }

    /// What `model.onnx` is given.
    pub fn input_spec(&self) -> InputSpec {
        InputSpec { layout: self.input, shape: self.preprocessing.shape() }
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
