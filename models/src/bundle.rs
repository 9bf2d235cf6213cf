//! The folder that a device runs: a model with everything needed to run it, prove it and judge it.
//!
//! ```text
//! model.onnx           the network, batch of 1
//! golden.safetensors   images and the logits that the trainer computed for them
//! report_card.json     what the workstation measured before it let the bundle go
//! manifest.json        sha256 and size of the files above, and how, where and when the model is to be used
//! model.sig            the signature over all of them, of OpenSSF Model Signing; absent if the bundle is not signed
//! ```
//!
//! The sha256 of `manifest.json` names the bundle, since it fixes every other byte but the signature's.

use std::{
    fs,
    path::{Path, PathBuf},
};

use semver::Version;

use crate::{
    Digest, Error, Result, durable,
    signing::{self, PrivateKey, TrustedKeys},
};

mod golden;
mod manifest;
mod release;
mod report_card;
#[cfg(test)]
mod tests;

pub use golden::{Disagreement, Golden};
pub use manifest::{FileEntry, Manifest};
pub use release::{Host, Release};
pub use report_card::{ReliabilityBin, ReportCard};

/// Version of the folder's layout and of the manifest.
pub const FORMAT: u32 = 2;
/// The first version of a device's program that reads [`FORMAT`].
pub const OLDEST_RUNTIME: Version = Version::new(0, 1, 0);
/// The network.
pub const MODEL: &str = "model.onnx";
/// The golden vectors.
pub const GOLDEN: &str = "golden.safetensors";
/// The report card.
pub const REPORT_CARD: &str = "report_card.json";
/// The manifest.
pub const MANIFEST: &str = "manifest.json";
/// The signature. It covers the manifest, so the manifest does not list it.
pub const SIGNATURE: &str = "model.sig";

const LISTED: [&str; 3] = [MODEL, GOLDEN, REPORT_CARD];
/// A manifest is a page of text; what is larger, in bytes, is none.
pub const MAX_MANIFEST: u64 = 1 << 20;

/// A verified bundle on disk.
#[derive(Clone, Debug)]
pub struct Bundle {
    folder: PathBuf,
    digest: Digest,
    manifest: Manifest,
}

impl Bundle {
    /// Writes a bundle to `folder` from the three files' contents, signed if there is a key; `manifest.files` is filled in.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is left behind.
    pub fn write(
        folder: &Path,
        mut manifest: Manifest,
        model: &[u8],
        golden: &Golden,
        card: &ReportCard,
        key: Option<&PrivateKey>,
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
            durable::write_json(&folder.join(MANIFEST), &manifest)?;
            key.map_or(Ok(()), |key| Self::open(folder)?.sign(key))
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
        let bytes = read(&path, MAX_MANIFEST)?;
        let manifest = Manifest::parse(&path.display().to_string(), &bytes)?;
        let bundle = Self { folder: folder.to_owned(), digest: Digest::of(&bytes), manifest };
        bundle.verify_entries()?;
        for (name, entry) in &bundle.manifest.files {
            verify_file(&folder.join(name), entry)?;
        }
        Ok(bundle)
    }

    /// Signs every file of the bundle; a signature that is there is replaced.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sign(&self, key: &PrivateKey) -> Result<()> {
        let path = self.folder.join(SIGNATURE);
        let signature = signing::sign(&self.digest.short(), &self.manifest.signed_files(self.digest), SIGNATURE, key);
        durable::write(&path, &signature.map_err(|e| Error::malformed(path.display(), "a JSON form", e))?)
    }

    /// Proves that a trusted key has signed the bundle; returns the key's id.
    ///
    /// # Errors
    /// [`Error::Unsigned`], [`Error::Untrusted`], [`Error::SignedOther`], or [`Error::Malformed`] for what is no signature.
    pub fn verify(&self, trusted: &TrustedKeys) -> Result<Digest> {
        let path = self.folder.join(SIGNATURE);
        let unsigned = || Error::Unsigned { bundle: self.folder.display().to_string() };
        self.manifest.verify(
            &path.display().to_string(),
            self.digest,
            &self.signature()?.ok_or_else(unsigned)?,
            trusted,
        )
    }

    /// The signature, if there is one; nobody has verified it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] for what is too large to be one.
    pub fn signature(&self) -> Result<Option<Vec<u8>>> {
        let path = self.folder.join(SIGNATURE);
        self.is_signed().then(|| read(&path, signing::MAX_SIGNATURE)).transpose()
    }

    /// Whether there is a signature, by whomever.
    pub fn is_signed(&self) -> bool {
        self.folder.join(SIGNATURE).exists()
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
        if golden.sizes() != (network.input, network.classes) {
            return Err(Error::malformed(what, "images and logits of the network's shapes", "others"));
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
        let signature = self.is_signed().then_some(SIGNATURE);
        self.manifest.files.keys().map(String::as_str).chain(signature).chain([MANIFEST])
    }
}

/// A file that is read whole: no larger one is.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let size = fs::symlink_metadata(path).map_err(Error::io("read", path))?.len();
    if size > limit {
        return Err(Error::malformed(path.display(), format!("at most {limit} bytes"), size));
    }
    fs::read(path).map_err(Error::io("read", path))
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
