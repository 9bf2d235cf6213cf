//! On which terms a device takes bundles over.

use std::path::PathBuf;

use jiff::Timestamp;
use models::{
    Bundle, Digest, Manifest,
    bundle::{Host, SIGNATURE},
    signing::TrustedKeys,
};
use semver::Version;

use crate::{
    EdgeConfig, Error, Result,
    engine::{Accelerator, Backend},
};

/// On which terms a device takes bundles over, and what runs them.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Whose signature a bundle needs; none: it needs no signature.
    pub trusted: TrustedKeys,
    /// The device's channel.
    pub channel: String,
    /// Its kind.
    pub target: Option<String>,
    /// The library of an ONNX Runtime to run them with; none: tract.
    pub onnxruntime: Option<PathBuf>,
    /// What that is to run them on.
    pub accelerators: Vec<Accelerator>,
}

impl Terms {
    /// Those of a configuration.
    ///
    /// # Errors
    /// [`Error::Models`] for a file that holds no key, and for too many keys; [`Error::Config`] for an ONNX Runtime that is not
    /// there.
    pub fn of(config: &EdgeConfig) -> Result<Self> {
        if let Some(library) = &config.onnxruntime
            && !(cfg!(feature = "onnxruntime") && library.is_file())
        {
            let reason = "expected a library file, and a build with the feature \"onnxruntime\"".into();
            return Err(Error::Config { what: format!("onnxruntime = {:?}", library.display()), reason });
        }
        if !config.accelerators.is_empty() && config.onnxruntime.is_none() {
            let reason = "expected the ONNX Runtime that runs on them, in onnxruntime".into();
            return Err(Error::Config { what: "accelerators".into(), reason });
        }
        Ok(Self {
            trusted: TrustedKeys::read(&config.trusted_keys)?,
            channel: config.channel.clone(),
            target: config.target.clone(),
            onnxruntime: config.onnxruntime.clone(),
            accelerators: config.accelerators.clone(),
        })
    }

    /// [`Terms::admit`] of a bundle on disk.
    pub(super) fn admit_stored(&self, bundle: &Bundle, now: Timestamp) -> Result<()> {
        let (signature, what) = (bundle.signature()?, bundle.folder().display().to_string());
        self.admit(&what, bundle.manifest(), bundle.digest(), signature.as_deref(), now)
    }

    /// Proves that a trusted key has signed, if there are trusted keys, and that the bundle is for this device now.
    pub(super) fn admit(
        &self,
        what: &str,
        manifest: &Manifest,
        digest: Digest,
        signature: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<()> {
        if !self.trusted.is_empty() {
            let signature = signature.ok_or_else(|| models::Error::Unsigned { bundle: what.to_owned() })?;
            manifest.verify(&format!("{what}/{SIGNATURE}"), digest, signature, &self.trusted)?;
        }
        let runtime = Version::parse(env!("CARGO_PKG_VERSION")).unwrap_or(models::bundle::OLDEST_RUNTIME);
        let host = Host { channel: self.channel.clone(), target: self.target.clone(), runtime, now };
        Ok(manifest.release.admits(&host)?)
    }

    pub(super) fn backend(&self) -> Backend<'_> {
        let accelerators = &self.accelerators;
        let onnxruntime = |library| Backend::OnnxRuntime { library, accelerators };
        self.onnxruntime.as_deref().map_or(Backend::Tract, onnxruntime)
    }
}
