//! Takes a new bundle over, or refuses it.
//!
//! A bundle serves only after every byte of it was verified and its golden vectors were computed on this device;
//! until then, and if that fails, the one before goes on serving. Sequence numbers only rise. The current bundle is
//! remembered in `current.json`, so that a device that restarts without a connection goes on with it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use models::{
    Bundle, Digest, Manifest,
    bundle::MANIFEST,
    durable,
    sync::{self, ChannelPointer},
};

use crate::{
    Classifier, Error, Result,
    store::delete_temporary,
    sync::{Remote, pointer},
};

/// No manifest is larger, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;

/// The bundles in a device's state folder, and which of them is current.
#[derive(Debug)]
pub struct Slots {
    bundles: PathBuf,
    current_path: PathBuf,
    current: Option<ChannelPointer>,
    is_serving: bool,
    refused: BTreeSet<Digest>,
}

/// What came of looking for a new bundle.
#[derive(Debug)]
pub enum Update {
    /// There is none.
    None,
    /// This one serves from now on.
    Taken(Box<Classifier>),
    /// There is one, but it is not taken over. It is not tried again before a restart.
    Refused {
        /// The bundle.
        bundle: Digest,
        /// Why.
        why: Error,
    },
}

impl Slots {
    /// Opens or creates the slots in a device's state folder.
    ///
    /// # Errors
    /// [`Error::Models`] with the path if a folder cannot be created or cleaned.
    pub fn open(state: &Path) -> Result<Self> {
        let (bundles, current_path) = (state.join("bundles"), state.join("current.json"));
        durable::create_folders(&bundles)?;
        delete_temporary(state)?;
        delete_temporary(&bundles)?;
        let current = match fs::read(&current_path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .inspect_err(|e| tracing::warn!("{} is not readable: {e}", current_path.display()))
                .ok(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(models::Error::io("read", &current_path)(e).into()),
        };
        Ok(Self { bundles, current_path, current, is_serving: false, refused: BTreeSet::new() })
    }

    /// The bundle that served when the device stopped. If it does not open any more, there is a warning, and the
    /// channel may deliver it again.
    pub fn resume(&mut self) -> Option<Classifier> {
        let current = self.current.as_ref()?;
        match Classifier::open(&self.bundles.join(current.bundle.to_string())) {
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
    pub fn install(&mut self, folder: &Path) -> Result<Option<Classifier>> {
        let bundle = Bundle::open(folder)?;
        let pointer = ChannelPointer { bundle: bundle.digest(), sequence: bundle.manifest().sequence };
        if !self.wants(&pointer) {
            return Ok(None);
        }
        durable::write_folder(&self.slot(&pointer), |slot| {
            bundle.file_names().try_for_each(|name| {
                let from = folder.join(name);
                fs::copy(&from, slot.join(name)).map_err(models::Error::io("copy", &from))?;
                Ok::<(), Error>(())
            })
        })?;
        self.switch(pointer).map(Some)
    }

    /// Takes over the bundle that a channel points to, if it is newer than the current one.
    ///
    /// # Errors
    /// What may work the next time: [`Error::Remote`], [`Error::Missing`], [`Error::Models`] of a full disk or of a
    /// pointer that is none.
    pub fn check(&mut self, remote: &Remote, channel: &str) -> Result<Update> {
        let Some(pointer) = pointer(remote, channel)?.filter(|p| self.wants(p)) else { return Ok(Update::None) };
        let bundle = pointer.bundle;
        let slot = self.slot(&pointer);
        match download(remote, &pointer, &slot).and_then(|()| self.switch(pointer)) {
            Ok(classifier) => Ok(Update::Taken(Box::new(classifier))),
            Err(e) if e.is_passing() => Err(e),
            Err(why) => {
                self.refused.insert(bundle);
                if slot.exists() {
                    fs::remove_dir_all(&slot).map_err(models::Error::io("delete", &slot))?;
                }
                Ok(Update::Refused { bundle, why })
            }
        }
    }

    /// Newer than what serves; or just that, if it is lost.
    fn wants(&self, pointer: &ChannelPointer) -> bool {
        let is_newer = match &self.current {
            None => true,
            Some(current) => {
                // What serves is never fetched again, whatever number a pointer gives it: its slot stays as it is.
                let is_other = pointer.bundle != current.bundle;
                (is_other && pointer.sequence > current.sequence) || (!is_other && !self.is_serving)
            }
        };
        is_newer && !self.refused.contains(&pointer.bundle)
    }

    fn slot(&self, pointer: &ChannelPointer) -> PathBuf {
        self.bundles.join(pointer.bundle.to_string())
    }

    /// Opens and proves the bundle in its slot, and only then makes it the current one.
    fn switch(&mut self, pointer: ChannelPointer) -> Result<Classifier> {
        let classifier = Classifier::open(&self.slot(&pointer))?;
        let found = classifier.manifest().sequence;
        if found != pointer.sequence {
            return Err(Error::Sequence { bundle: pointer.bundle, expected: pointer.sequence, found });
        }
        durable::write_json(&self.current_path, &pointer)?;
        self.delete_all_but(&pointer);
        self.current = Some(pointer);
        self.is_serving = true;
        Ok(classifier)
    }

    fn delete_all_but(&self, current: &ChannelPointer) {
        let keep = self.slot(current);
        let others =
            fs::read_dir(&self.bundles).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| *p != keep);
        for slot in others {
            if let Err(e) = fs::remove_dir_all(&slot) {
                tracing::warn!("cannot delete the old bundle {}: {e}", slot.display());
            }
        }
    }
}

/// Brings a bundle's files into `slot`; no file is larger or other than the manifest says.
fn download(remote: &Remote, pointer: &ChannelPointer, slot: &Path) -> Result<()> {
    let get = |file: &str, limit: u64| {
        let name = sync::bundle_file(pointer.bundle, file);
        let because = format!("a channel points to bundle {}", pointer.bundle.short());
        let bytes = remote.get(&name, limit)?;
        bytes.map(|bytes| (PathBuf::from(&name), bytes)).ok_or(Error::Missing { name, because })
    };
    let promised = |path, expected, bytes: &[u8]| match Digest::of(bytes) {
        found if found == expected => Ok(()),
        found => Err(models::Error::DigestMismatch { path, expected, found }),
    };
    durable::write_folder(slot, |folder| {
        let (path, manifest) = get(MANIFEST, MAX_MANIFEST)?;
        let parsed = Manifest::parse(&path.display().to_string(), &manifest);
        promised(path, pointer.bundle, &manifest)?;
        for (file, entry) in parsed?.files {
            let (path, bytes) = get(&file, entry.bytes)?;
            promised(path, entry.sha256, &bytes)?;
            durable::write(&folder.join(file), &bytes)?;
        }
        Ok(durable::write(&folder.join(MANIFEST), &manifest)?)
    })
}

#[cfg(test)]
mod tests;
