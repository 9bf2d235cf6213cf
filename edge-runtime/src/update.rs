//! Takes a new bundle over, or refuses it.
//!
//! A bundle serves only after a trusted key's signature and every byte of it were verified, after it said that it is for
//! this device, after its golden vectors were computed here, and after it has answered this device's own images beside the one
//! that serves ([`trial`]); until then, and if that fails, the one before goes on serving. It then serves on probation, with the
//! one before at hand. Sequence numbers only rise, unless a signed order names the bundle to go back to, which is obeyed at once.
//!
//! ```text
//! current.json   what serves, whether on probation, and how often the device went down meanwhile
//! trying.json    what was proven or answers beside it, and how often the device went down meanwhile
//! refused.json   what did not do well, and is never taken again
//! ```

mod download;
mod records;
mod terms;
pub mod trial;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use models::{
    Bundle, Digest,
    bundle::MANIFEST,
    durable,
    signing::{MAX_SIGNATURE, Message, RollbackOrder, TrustedKeys},
    sync::{self, ChannelPointer, Stage},
};
use serde::de::DeserializeOwned;

use self::{
    download::{Broken, download, may_pass},
    records::{Current, Trying},
};
pub use self::{
    records::{Probation, Refused},
    terms::Terms,
};
use crate::{
    Classifier, Error, Result,
    sync::{Remote, pointer},
};

/// The bundles in a device's state folder, and which of them is current.
#[derive(Debug)]
pub struct Slots {
    bundles: PathBuf,
    current_path: PathBuf,
    trying_path: PathBuf,
    refused_path: PathBuf,
    terms: Terms,
    current: Option<Current>,
    is_serving: bool,
    refused: BTreeMap<Digest, Refused>,
    /// What this device cannot run, as far as it knows.
    unfit: BTreeSet<Digest>,
    /// What was refused when the slots were opened, since the device went down with it.
    fatal: Option<Digest>,
    /// What did not arrive as it should, the last time.
    broken: Option<Broken>,
}

/// So often the device goes down with a bundle before it is the bundle's fault.
const CRASHES: u32 = 3;

/// A bundle that can be run here and computes what it should, and that may take over. Until that is decided, it counts if the
/// device goes down.
#[derive(Debug)]
pub struct Proven {
    /// The bundle, ready to answer.
    pub classifier: Arc<Classifier>,
    pointer: ChannelPointer,
}

impl Proven {
    /// Its digest and its sequence number.
    pub fn pointer(&self) -> &ChannelPointer {
        &self.pointer
    }
}

/// What came of looking for a new bundle.
#[derive(Debug)]
pub enum Update {
    /// There is none.
    None,
    /// This one serves from now on: nothing served before, or it was ordered.
    Taken(Arc<Classifier>),
    /// This one may serve, once it has shown how it does beside the one that serves.
    Proven(Proven),
    /// There is one, but it is not taken over. What did not arrive as it should, or is not signed as it should, is fetched again
    /// after a minute, then after two, at most an hour; what this device cannot run is not tried again before a restart.
    Refused {
        /// The bundle.
        bundle: Digest,
        /// Whether it can be repaired, is meant for others, or is at fault.
        stage: Stage,
        /// Why.
        why: Error,
    },
}

impl Slots {
    /// Opens or creates the slots in a device's state folder.
    ///
    /// # Errors
    /// [`Error::Models`] with the path if a folder cannot be created or cleaned.
    pub fn open(state: &Path, terms: Terms, now: Timestamp) -> Result<Self> {
        let bundles = state.join("bundles");
        let [current_path, trying_path, refused_path] =
            ["current.json", "trying.json", "refused.json"].map(|name| state.join(name));
        durable::create_folders(&bundles)?;
        durable::delete_temporary(state)?;
        durable::delete_temporary(&bundles)?;
        let mut slots = Self {
            current: read(&current_path)?,
            refused: read(&refused_path)?.unwrap_or_default(),
            bundles,
            current_path,
            trying_path,
            refused_path,
            terms,
            is_serving: false,
            unfit: BTreeSet::new(),
            fatal: None,
            broken: None,
        };
        // Of what serves, only the mark was left behind: the trial went well.
        let trying: Option<Trying> = read(&slots.trying_path)?;
        let trying = trying.filter(|trying| slots.current.is_none_or(|current| current.bundle != trying.bundle));
        if let Some(Trying { bundle, sequence, .. }) = trying.filter(|trying| trying.times >= CRASHES) {
            slots.refuse(&ChannelPointer { bundle, sequence }, &went_down(), now)?;
            slots.fatal = Some(bundle);
        }
        Ok(slots)
    }

    /// Whose signatures count.
    pub fn trusted(&self) -> &TrustedKeys {
        &self.terms.trusted
    }

    /// What the device refused when it started, since it had gone down with it too often.
    pub fn fatal(&self) -> Option<(Digest, &Refused)> {
        self.fatal.and_then(|bundle| Some((bundle, self.refused.get(&bundle)?)))
    }

    /// What of the channel's later bundles did not do well here, the last of them.
    pub fn last_refused(&self) -> Option<(Digest, &Refused)> {
        let serving = self.current.map_or(0, |current| current.sequence);
        let later = self.refused.iter().filter(|(_, refused)| refused.sequence > serving);
        later.max_by_key(|(_, refused)| refused.at).map(|(bundle, refused)| (*bundle, refused))
    }

    /// Whether the bundle that serves is on probation.
    pub fn probation(&self) -> Option<&Probation> {
        self.current.as_ref()?.probation.as_ref()
    }

    /// The bundle that served before the one on probation.
    pub fn before(&self) -> Option<Arc<Classifier>> {
        self.reopen(self.probation()?.before.bundle)
    }

    /// The bundle that served when the device stopped, or the one before, if that one was on probation and the device went down
    /// too often. If it does not open any more, there is a warning, and the channel may deliver it again.
    pub fn resume(&mut self, now: Timestamp) -> Option<Arc<Classifier>> {
        let mut current = self.current?;
        if let Some(probation) = &mut current.probation {
            probation.crashes += u32::from(probation.is_running);
            probation.is_running = true;
            let is_fatal = probation.crashes >= CRASHES || self.refused.contains_key(&current.bundle);
            if is_fatal {
                match self.go_back(&went_down(), now) {
                    Ok(before) => {
                        self.fatal = Some(current.bundle);
                        return Some(before);
                    }
                    Err(e) => tracing::warn!("cannot go back to the bundle before: {e}"),
                }
            }
            if let Err(e) = self.set_current(current) {
                tracing::warn!("{e}");
            }
        }
        let classifier = self.reopen(current.bundle).or_else(|| {
            current.probation?;
            self.go_back("it does not open any more", now)
                .inspect_err(|e| tracing::warn!("cannot go back to the bundle before: {e}"))
                .ok()
        })?;
        self.is_serving = true;
        Some(classifier)
    }

    fn reopen(&self, bundle: Digest) -> Option<Arc<Classifier>> {
        match self.open_slot(bundle) {
            Ok(classifier) => Some(classifier),
            Err(e) => {
                tracing::warn!("bundle {} does not open any more: {e}", bundle.short());
                None
            }
        }
    }

    /// Its files were read more than once: what serves is what was admitted.
    fn open_slot(&self, bundle: Digest) -> Result<Arc<Classifier>> {
        let classifier = Classifier::open_with(&self.slot(bundle), self.terms.backend())?;
        let found = classifier.digest();
        if found != bundle {
            let path = self.slot(bundle).join(MANIFEST);
            return Err(models::Error::DigestMismatch { path, expected: bundle, found }.into());
        }
        Ok(Arc::new(classifier))
    }

    /// Takes over the bundle in a folder, if it is newer than the current one. The folder is copied.
    ///
    /// # Errors
    /// [`Error::Models`], [`Error::Engine`], [`Error::Shape`] or [`Error::Golden`] if it is not fit to serve.
    pub fn install(&mut self, folder: &Path, now: Timestamp) -> Result<Option<Arc<Classifier>>> {
        let bundle = Bundle::open(folder)?;
        let pointer = ChannelPointer { bundle: bundle.digest(), sequence: bundle.manifest().sequence };
        if !self.wants(&pointer, now, || Ok(None))? {
            return Ok(None);
        }
        self.terms.admit_stored(&bundle, now)?;
        durable::write_folder(&self.slot(pointer.bundle), |slot| {
            bundle.file_names().try_for_each(|name| {
                let from = folder.join(name);
                fs::copy(&from, slot.join(name)).map_err(models::Error::io("copy", &from))?;
                Ok::<(), Error>(())
            })
        })?;
        let proven = self.prove(pointer)?;
        self.take(proven, None).map(Some)
    }

    /// Fetches and proves the bundle that the channel points to, if it is newer than all that served or a signed order allows it.
    /// On probation, only what is ordered.
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
        if let Err(why) = self.fetch(remote, &pointer, now) {
            if may_pass(&why) {
                return Err(why);
            }
            self.broken = Some(Broken::again(self.broken, bundle, now));
            let is_for_others = matches!(why, Error::Models(models::Error::NotForHost { .. }));
            let stage = if is_for_others { Stage::NotMeant } else { Stage::Broken };
            return Ok(Update::Refused { bundle, stage, why });
        }
        self.broken = None;
        let proven = self.prove(pointer).and_then(|proven| {
            let is_newer = self.is_serving && self.current.is_none_or(|current| pointer.sequence > current.sequence);
            if is_newer {
                return Ok(Update::Proven(proven));
            }
            Ok(Update::Taken(self.take(proven, None)?))
        });
        match proven {
            Err(why) if !why.is_passing() => {
                self.unfit.insert(bundle);
                if slot.exists() {
                    fs::remove_dir_all(&slot).map_err(models::Error::io("delete", &slot))?;
                }
                Ok(Update::Refused { bundle, stage: Stage::Refused, why })
            }
            other => other,
        }
    }

    /// Brings a bundle to its slot, unless it is there already: its trial may have been cut off.
    fn fetch(&self, remote: &Remote, pointer: &ChannelPointer, now: Timestamp) -> Result<()> {
        let slot = self.slot(pointer.bundle);
        let is_there = |bundle: &Bundle| {
            let is_promised = bundle.digest() == pointer.bundle && bundle.manifest().sequence == pointer.sequence;
            is_promised && self.terms.admit_stored(bundle, now).is_ok()
        };
        if slot.exists() && Bundle::open(&slot).is_ok_and(|bundle| is_there(&bundle)) {
            return Ok(());
        }
        download(remote, pointer, &slot, &self.terms, now)
    }

    /// Newer than all that served, or ordered; or just what serves, if it is lost.
    fn wants(
        &self,
        pointer: &ChannelPointer,
        now: Timestamp,
        order: impl FnOnce() -> Result<Option<RollbackOrder>>,
    ) -> Result<bool> {
        let bundle = pointer.bundle;
        let is_refused = self.refused.contains_key(&bundle) || self.unfit.contains(&bundle);
        if is_refused || self.broken.is_some_and(|broken| broken.waits(bundle, now)) {
            return Ok(false);
        }
        match &self.current {
            None => Ok(true),
            // What serves is never fetched again, whatever number a pointer gives it: its slot stays as it is.
            Some(current) if bundle == current.bundle => Ok(!self.is_serving),
            Some(current) if pointer.sequence > current.highest => Ok(current.probation.is_none() || !self.is_serving),
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

    /// Opens and proves the bundle in its slot, under a mark that outlives the process, if the bundle takes it down. The mark
    /// stays until it is taken or refused.
    fn prove(&mut self, pointer: ChannelPointer) -> Result<Proven> {
        let ChannelPointer { bundle, sequence } = pointer;
        let before: Option<Trying> = read(&self.trying_path)?.filter(|before: &Trying| before.bundle == bundle);
        let times = before.map_or(0, |before| before.times) + 1;
        durable::write_json(&self.trying_path, &Trying { bundle, sequence, times })?;
        let opened = self.open_slot(bundle);
        if opened.is_err() {
            self.unmark();
        }
        Ok(Proven { classifier: opened?, pointer })
    }

    /// Takes the mark of a bundle that was proven away: what becomes of it is decided, and it took nothing down. What serves must
    /// not be dropped for a mark that cannot be taken away.
    pub fn unmark(&self) {
        if self.trying_path.exists()
            && let Err(e) = durable::remove(&self.trying_path)
        {
            tracing::warn!("{e}");
        }
    }

    /// Makes a bundle the current one, on probation.
    ///
    /// # Errors
    /// [`Error::Models`] with the path; then the one before goes on serving.
    pub fn promote(&mut self, proven: Proven, now: Timestamp) -> Result<Arc<Classifier>> {
        let before = self.current.filter(|_| self.is_serving);
        let before = before.map(|current| ChannelPointer { bundle: current.bundle, sequence: current.sequence });
        self.take(proven, before.map(|before| Probation { before, since: now, crashes: 0, is_running: true }))
    }

    fn take(&mut self, proven: Proven, probation: Option<Probation>) -> Result<Arc<Classifier>> {
        let ChannelPointer { bundle, sequence } = proven.pointer;
        let highest = self.current.map_or(sequence, |current| current.highest.max(sequence));
        let switched = self.set_current(Current { bundle, sequence, highest, probation });
        // A disk that refuses it is no fault of the bundle's.
        self.unmark();
        switched?;
        self.is_serving = true;
        Ok(proven.classifier)
    }

    /// Ends the probation of the bundle that serves, well.
    ///
    /// # Errors
    /// [`Error::Models`] with the path; then it is still on probation.
    pub fn accept(&mut self) -> Result<()> {
        match self.current {
            Some(current) => self.set_current(Current { probation: None, ..current }),
            None => Ok(()),
        }
    }

    /// Never takes a bundle again that was proven, and answered beside the one that serves.
    ///
    /// # Errors
    /// [`Error::Models`] with the path.
    pub fn refuse(&mut self, pointer: &ChannelPointer, why: &str, now: Timestamp) -> Result<()> {
        let refused = Refused { sequence: pointer.sequence, why: why.to_owned(), at: now };
        // If the power went while it was refused, the first reason holds.
        self.refused.entry(pointer.bundle).or_insert(refused);
        durable::write_json(&self.refused_path, &self.refused)?;
        self.unmark();
        if let Some(current) = self.current {
            self.delete_others(&current);
        }
        Ok(())
    }

    /// Goes back to the bundle before the one on probation, and never takes that again.
    ///
    /// # Errors
    /// [`Error::Models`] and others if the one before does not open any more, or the disk refuses it.
    pub fn go_back(&mut self, why: &str, now: Timestamp) -> Result<Arc<Classifier>> {
        let (current, probation) = self
            .current
            .and_then(|current| Some((current, current.probation?)))
            .ok_or_else(|| models::Error::malformed(self.current_path.display(), "a bundle on probation", "none"))?;
        let before = self.open_slot(probation.before.bundle)?;
        // If the power goes between the two, the first is enough to go back when the device starts.
        self.refuse(&ChannelPointer { bundle: current.bundle, sequence: current.sequence }, why, now)?;
        let ChannelPointer { bundle, sequence } = probation.before;
        self.set_current(Current { bundle, sequence, highest: current.highest, probation: None })?;
        self.is_serving = true;
        Ok(before)
    }

    /// Takes note that the device stops in good order: no bundle took it down.
    pub fn rest(&mut self) {
        self.unmark();
        let Some(mut current) = self.current else { return };
        let Some(probation) = &mut current.probation else { return };
        probation.is_running = false;
        if let Err(e) = self.set_current(current) {
            tracing::warn!("{e}");
        }
    }

    fn set_current(&mut self, current: Current) -> Result<()> {
        durable::write_json(&self.current_path, &current)?;
        self.delete_others(&current);
        self.current = Some(current);
        Ok(())
    }

    /// Deletes the slots of bundles that neither serve nor are gone back to.
    fn delete_others(&self, current: &Current) {
        let before = current.probation.map(|probation| probation.before.bundle);
        let keep: Vec<PathBuf> = [Some(current.bundle), before].into_iter().flatten().map(|b| self.slot(b)).collect();
        let slots = fs::read_dir(&self.bundles).into_iter().flatten().flatten().map(|entry| entry.path());
        for slot in slots.filter(|slot| !keep.contains(slot)) {
            if let Err(e) = fs::remove_dir_all(&slot) {
                tracing::warn!("cannot delete the old bundle {}: {e}", slot.display());
            }
        }
    }
}

fn went_down() -> String {
    format!("the device went down {CRASHES} times with it")
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
