//! Takes a new bundle over, or refuses it.
//!
//! A bundle serves only after a trusted key's signature and every byte of it were verified, after it said that it is for
//! this device, and after its golden vectors were computed here; until then, and if that fails, the one before goes on
//! serving. Sequence numbers only rise, unless a signed order names the bundle to go back to. The current bundle is
//! remembered in `current.json`, so that a device that restarts without a connection goes on with it. The one being tried is
//! remembered in `trying.json`: a bundle with which the device went down twice is not tried a third time.

mod download;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use models::{
    Bundle, Digest, Manifest,
    bundle::{Host, MANIFEST, SIGNATURE},
    durable,
    signing::{MAX_SIGNATURE, Message, RollbackOrder, TrustedKeys},
    sync::{self, ChannelPointer},
};
use semver::Version;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::download::{Broken, download, may_pass};
use crate::{
    Classifier, EdgeConfig, Error, Result,
    engine::{Accelerator, Backend},
    sync::{Remote, pointer},
};

/// The bundles in a device's state folder, and which of them is current.
#[derive(Debug)]
pub struct Slots {
    bundles: PathBuf,
    current_path: PathBuf,
    trying_path: PathBuf,
    terms: Terms,
    current: Option<Current>,
    is_serving: bool,
    /// What this device went down with or cannot run.
    unfit: BTreeSet<Digest>,
    fatal: Option<Digest>,
    /// What did not arrive as it should, the last time.
    broken: Option<Broken>,
}

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

/// The content of `trying.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trying {
    bundle: Digest,
    /// How often it was begun. Once may have been a power cut.
    times: u32,
}

/// A bundle is tried so often, if the device goes down each time.
const TRIALS: u32 = 2;

/// The content of `current.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Current {
    /// What serves.
    bundle: Digest,
    /// Its sequence number.
    sequence: u64,
    /// The highest sequence number that ever served here: without an order, only higher ones follow.
    highest: u64,
}

/// What came of looking for a new bundle.
#[derive(Debug)]
pub enum Update {
    /// There is none.
    None,
    /// This one serves from now on.
    Taken(Box<Classifier>),
    /// There is one, but it is not taken over. What did not arrive as it should, or is not signed as it should, is fetched again
    /// after a minute, then after two, at most an hour; what this device cannot run is not tried again before a restart.
    Refused {
        /// The bundle.
        bundle: Digest,
        /// Why.
        why: Error,
    },
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

    /// Proves that a trusted key has signed, if there are trusted keys, and that the bundle is for this device now.
    fn admit(
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

    fn backend(&self) -> Backend<'_> {
        let accelerators = &self.accelerators;
        let onnxruntime = |library| Backend::OnnxRuntime { library, accelerators };
        self.onnxruntime.as_deref().map_or(Backend::Tract, onnxruntime)
    }
}

impl Slots {
    /// Opens or creates the slots in a device's state folder.
    ///
    /// # Errors
    /// [`Error::Models`] with the path if a folder cannot be created or cleaned.
    pub fn open(state: &Path, terms: Terms) -> Result<Self> {
        let bundles = state.join("bundles");
        let [current_path, trying_path] = ["current.json", "trying.json"].map(|name| state.join(name));
        durable::create_folders(&bundles)?;
        durable::delete_temporary(state)?;
        durable::delete_temporary(&bundles)?;
        let current: Option<Current> = read(&current_path)?;
        let trying: Option<Trying> = read(&trying_path)?;
        // Of what serves, only the mark was left behind: the trial went well.
        let is_fatal = |trying: &Trying| {
            let is_current = current.as_ref().is_some_and(|current| current.bundle == trying.bundle);
            trying.times >= TRIALS && !is_current
        };
        let fatal = trying.filter(is_fatal).map(|trying| trying.bundle);
        let unfit = fatal.into_iter().collect();
        Ok(Self { bundles, current_path, trying_path, terms, current, is_serving: false, unfit, fatal, broken: None })
    }

    /// Whose signatures count.
    pub fn trusted(&self) -> &TrustedKeys {
        &self.terms.trusted
    }

    /// The bundle that the device was trying whenever it went down, and which it does not try again.
    pub fn fatal(&self) -> Option<Digest> {
        self.fatal
    }

    /// The bundle that served when the device stopped. If it does not open any more, there is a warning, and the
    /// channel may deliver it again.
    pub fn resume(&mut self) -> Option<Classifier> {
        let current = self.current.as_ref()?;
        match Classifier::open_with(&self.slot(current.bundle), self.terms.backend()) {
            Ok(classifier) if classifier.digest() == current.bundle => {
                self.is_serving = true;
                Some(classifier)
            }
            Ok(other) => {
                tracing::warn!("{} holds another bundle", other.bundle().folder().display());
                None
            }
            Err(e) => {
                tracing::warn!("the current bundle does not open any more: {e}");
                None
            }
        }
    }

    /// Takes over the bundle in a folder, if it is newer than the current one. The folder is copied.
    ///
    /// # Errors
    /// [`Error::Models`], [`Error::Engine`], [`Error::Shape`] or [`Error::Golden`] if it is not fit to serve.
    pub fn install(&mut self, folder: &Path, now: Timestamp) -> Result<Option<Classifier>> {
        let bundle = Bundle::open(folder)?;
        let pointer = ChannelPointer { bundle: bundle.digest(), sequence: bundle.manifest().sequence };
        if !self.wants(&pointer, now, || Ok(None))? {
            return Ok(None);
        }
        let signature = bundle.signature()?;
        let what = folder.display().to_string();
        self.terms.admit(&what, bundle.manifest(), bundle.digest(), signature.as_deref(), now)?;
        durable::write_folder(&self.slot(pointer.bundle), |slot| {
            bundle.file_names().try_for_each(|name| {
                let from = folder.join(name);
                fs::copy(&from, slot.join(name)).map_err(models::Error::io("copy", &from))?;
                Ok::<(), Error>(())
            })
        })?;
        self.try_out(pointer).map(Some)
    }

    /// Takes over the bundle that the channel points to, if it is newer than the current one or a signed order allows it.
    ///
    /// # Errors
    /// What may work the next time: [`Error::Remote`], [`Error::Missing`], [`Error::Models`] of a full disk, of a bundle for
    /// later, or of a pointer or an order that is none.
    pub fn check(&mut self, remote: &Remote, now: Timestamp) -> Result<Update> {
        let Some(pointer) = pointer(remote, &self.terms.channel)? else { return Ok(Update::None) };
        if !self.wants(&pointer, now, || self.order(remote))? {
            return Ok(Update::None);
        }
        let (bundle, slot) = (pointer.bundle, self.slot(pointer.bundle));
        if let Err(why) = download(remote, &pointer, &slot, &self.terms, now) {
            if may_pass(&why) {
                return Err(why);
            }
            self.broken = Some(Broken::again(self.broken, bundle, now));
            return Ok(Update::Refused { bundle, why });
        }
        self.broken = None;
        match self.try_out(pointer) {
            Ok(classifier) => Ok(Update::Taken(Box::new(classifier))),
            Err(why) if why.is_passing() => Err(why),
            Err(why) => {
                self.unfit.insert(bundle);
                if slot.exists() {
                    fs::remove_dir_all(&slot).map_err(models::Error::io("delete", &slot))?;
                }
                Ok(Update::Refused { bundle, why })
            }
        }
    }

    /// Newer than all that served, or ordered; or just what serves, if it is lost.
    fn wants(
        &self,
        pointer: &ChannelPointer,
        now: Timestamp,
        order: impl FnOnce() -> Result<Option<RollbackOrder>>,
    ) -> Result<bool> {
        if self.unfit.contains(&pointer.bundle) || self.broken.is_some_and(|broken| broken.waits(pointer.bundle, now)) {
            return Ok(false);
        }
        match &self.current {
            None => Ok(true),
            // What serves is never fetched again, whatever number a pointer gives it: its slot stays as it is.
            Some(current) if pointer.bundle == current.bundle => Ok(!self.is_serving),
            Some(current) if pointer.sequence > current.highest => Ok(true),
            Some(current) => {
                let allows = |order: RollbackOrder| order.allows(&self.terms.channel, current.sequence, pointer);
                Ok(order()?.is_some_and(allows))
            }
        }
    }

    /// The channel's order to go back. Without trusted keys nobody can give one.
    fn order(&self, remote: &Remote) -> Result<Option<RollbackOrder>> {
        if self.terms.trusted.is_empty() {
            return Ok(None);
        }
        let name = sync::rollback(&self.terms.channel);
        let Some(bytes) = remote.get(&name, MAX_SIGNATURE)? else { return Ok(None) };
        Ok(Some(RollbackOrder::open(&name, &bytes, &self.terms.trusted)?))
    }

    fn slot(&self, bundle: Digest) -> PathBuf {
        self.bundles.join(bundle.to_string())
    }

    /// [`Slots::switch`] under a mark that outlives the process, if the bundle takes it down.
    fn try_out(&mut self, pointer: ChannelPointer) -> Result<Classifier> {
        let bundle = pointer.bundle;
        let before: Option<Trying> = read(&self.trying_path)?.filter(|before: &Trying| before.bundle == bundle);
        let times = before.map_or(0, |before| before.times) + 1;
        durable::write_json(&self.trying_path, &Trying { bundle, times })?;
        let tried = self.switch(pointer);
        // What serves must not be dropped for a mark that cannot be taken away.
        if let Err(e) = durable::remove(&self.trying_path) {
            tracing::warn!("{e}");
        }
        tried
    }

    /// Opens and proves the bundle in its slot, and only then makes it the current one.
    fn switch(&mut self, pointer: ChannelPointer) -> Result<Classifier> {
        let ChannelPointer { bundle, sequence } = pointer;
        let classifier = Classifier::open_with(&self.slot(bundle), self.terms.backend())?;
        // Its files were read more than once: what serves is what was admitted.
        if classifier.digest() != bundle {
            let (path, found) = (self.slot(bundle).join(MANIFEST), classifier.digest());
            return Err(models::Error::DigestMismatch { path, expected: bundle, found }.into());
        }
        let highest = self.current.as_ref().map_or(sequence, |current| current.highest.max(sequence));
        let current = Current { bundle, sequence, highest };
        durable::write_json(&self.current_path, &current)?;
        self.delete_all_but(bundle);
        self.current = Some(current);
        self.is_serving = true;
        Ok(classifier)
    }

    fn delete_all_but(&self, bundle: Digest) {
        let keep = self.slot(bundle);
        let others =
            fs::read_dir(&self.bundles).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| *p != keep);
        for slot in others {
            if let Err(e) = fs::remove_dir_all(&slot) {
                tracing::warn!("cannot delete the old bundle {}: {e}", slot.display());
            }
        }
    }
}

/// A file of the device's own; none if it is not there, or, with a warning, if it is not readable.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .inspect_err(|e| tracing::warn!("{} is not readable: {e}", path.display()))
            .ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(models::Error::io("read", path)(e).into()),
    }
}

#[cfg(test)]
mod tests;
