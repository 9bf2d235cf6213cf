//! The part of a device that is in touch with its remote: new bundles in and through their trial, segments out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::{Timestamp, tz::TimeZone};
use models::{
    Digest,
    hub::RefusalCode,
    sync::{DeviceStatus, Stage, UpdateStatus},
};

use super::{
    SHUTDOWN_POLL, generator,
    shared::{Beside, Shared, Teller, Troubles, resident},
};
use crate::{
    Classifier, Error, Result,
    event::Event,
    sync::{self, Address, Allowance, Link, Remote, SyncConfig},
    update::{Proven, Slots, Terms, Update},
};

pub(super) struct Courier<'a> {
    shared: &'a Shared,
    teller: &'a Teller<'a>,
    shutdown: &'a AtomicBool,
    slots: Slots,
    /// A bundle that may take over, and since when it answers beside the one that serves.
    candidate: Option<(Proven, Arc<Beside>, Instant)>,
    /// The bundle before the one on probation, if it answers beside that.
    before: Option<Arc<Beside>>,
    /// The remote, if it is a hub: its connection is used again.
    hub: Option<Remote>,
    link: Link,
    allowance: Allowance,
    /// Since when there are open samples that were in no segment.
    open_since: Option<Instant>,
    troubles: Troubles,
}

impl<'a> Courier<'a> {
    /// Begins with the bundle that served when the device stopped, or with the configured one, if that is newer.
    ///
    /// # Errors
    /// What keeps a device from starting: [`super::run`] says it.
    pub(super) fn open(shared: &'a Shared, teller: &'a Teller<'a>, shutdown: &'a AtomicBool) -> Result<Self> {
        let config = &shared.config;
        let terms = Terms::of(config)?;
        if terms.trusted.is_empty() {
            tracing::warn!(
                "no trusted_keys: bundles and receipts are taken unsigned, from whoever can write to the remote"
            );
        }
        let slots = Slots::open(&config.state, terms, Timestamp::now())?;
        let every = config.sync.every_seconds.unwrap_or(match &config.remote {
            Address::Hub(_) => SyncConfig::HUB_SECONDS,
            Address::Folder(_) => 0.0,
        });
        let jitter = generator(config.audit_seed, &format!("{}/link", config.device))?;
        let link = Link::new(every, config.sync.hours, TimeZone::system(), jitter);
        let most = config.sync.mebibytes_per_day.map(|mebibytes| u64::from(mebibytes) << 20);
        let allowance = Allowance::open(config.state.join("sent.json"), most)?;
        let mut courier = Self {
            shared,
            teller,
            shutdown,
            slots,
            candidate: None,
            before: None,
            hub: None,
            link,
            allowance,
            open_since: None,
            troubles: Troubles::default(),
        };
        let begun = courier.begin();
        if begun.is_err() {
            courier.rest();
        }
        begun.map(|()| courier)
    }

    fn begin(&mut self) -> Result<()> {
        let resumed = self.slots.resume(Timestamp::now());
        if let Some((bundle, refused)) = self.slots.fatal() {
            self.teller.tell(&Event::Refused { bundle, why: refused.why.clone() });
        }
        let given = self.shared.config.bundle.as_ref();
        let initial = given.map(|folder| self.slots.install(folder, Timestamp::now())).transpose()?.flatten();
        if let Some((bundle, refused)) = self.slots.last_refused() {
            let detail = refused.why.clone();
            self.shared.view().update = Some(UpdateStatus { bundle, stage: Stage::Refused, detail });
        }
        let Some(classifier) = initial.or(resumed) else { return Ok(()) };
        if self.slots.probation().is_some() {
            self.note(classifier.digest(), Stage::Probation, "since before a restart".into());
            self.before = self.slots.before().map(|before| Beside::new(before, false));
        }
        self.serve(classifier);
        Ok(())
    }

    fn serve(&mut self, classifier: Arc<Classifier>) {
        let (bundle, sequence) = (classifier.digest(), classifier.manifest().sequence);
        self.shared.serve(classifier, self.before.clone());
        self.teller.tell(&Event::Serving { bundle, sequence });
    }

    /// Contacts the remote whenever it is time to, until the device is told to stop.
    pub(super) fn run(&mut self) {
        while !self.shutdown.load(Ordering::SeqCst) {
            if self.link.is_due(Timestamp::now()) {
                let update = self.update();
                let synced = self.sync_after(&update, false);
                if self.shared.models().serving.is_none() && update.is_ok() {
                    let channel = self.shared.config.channel.clone();
                    self.troubles.tell(&Event::Waiting { channel }, self.teller);
                }
                self.contacted(&[&update, &synced]);
            }
            self.attend_trial(false);
            let end = Instant::now() + Duration::from_secs_f64(self.shared.config.poll_seconds);
            while Instant::now() < end && !self.shutdown.load(Ordering::SeqCst) {
                thread::sleep(SHUTDOWN_POLL.min(end.saturating_duration_since(Instant::now())));
            }
        }
    }

    /// Takes note of a contact with the remote and how it went, and tells its troubles.
    pub(super) fn contacted(&mut self, outcomes: &[&Result<()>]) {
        let failure = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
        if let Some(Error::Refused { refusal, .. }) = failure
            && refusal.code == RefusalCode::Key
        {
            // The device may have been enrolled anew since.
            self.hub = None;
        }
        let now = Timestamp::now();
        self.link.contacted(failure.map_or(Ok(()), Err), now);
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).for_each(|e| self.tell_trouble(e));
        let mut view = self.shared.view();
        view.trouble = self.troubles.first().cloned();
        if failure.is_none() {
            view.contact = Some(now);
        }
    }

    /// Looks for a new bundle and for what the workstation wants.
    pub(super) fn update(&mut self) -> Result<()> {
        self.troubles.begin();
        let remote = self.remote()?;
        if self.candidate.is_none() || self.has_moved_on(&remote)? {
            match self.slots.check(&remote, Timestamp::now())? {
                Update::None => {}
                Update::Taken(classifier) => {
                    // An order ends a probation.
                    self.before = None;
                    self.note(classifier.digest(), Stage::Good, "nothing served before it, or an order said so".into());
                    self.serve(classifier);
                }
                Update::Proven(proven) => self.try_out(proven),
                Update::Refused { bundle, stage, why } => self.refused(bundle, stage, why.to_string()),
            }
        }
        let demand = sync::demand(&remote, &self.shared.config.channel)?;
        self.shared.books().demand = demand;
        Ok(())
    }

    /// Whether the channel does not name the candidate any more, which is then given up.
    fn has_moved_on(&mut self, remote: &Remote) -> Result<bool> {
        let named = sync::pointer(remote, &self.shared.config.channel)?;
        if self.candidate.as_ref().is_some_and(|(proven, ..)| named.as_ref() == Some(proven.pointer())) {
            return Ok(false);
        }
        if self.candidate.take().is_some() {
            self.slots.unmark();
            self.shared.set_beside(None);
            self.shared.view().update = None;
        }
        Ok(true)
    }

    fn note(&mut self, bundle: Digest, stage: Stage, detail: String) {
        self.teller.tell(&Event::Trial { bundle, stage, detail: detail.clone() });
        self.shared.view().update = Some(UpdateStatus { bundle, stage, detail });
    }

    fn refused(&mut self, bundle: Digest, stage: Stage, why: String) {
        self.shared.view().update = Some(UpdateStatus { bundle, stage, detail: why.clone() });
        self.teller.tell(&Event::Refused { bundle, why });
    }

    /// Has a bundle answer beside the one that serves.
    fn try_out(&mut self, proven: Proven) {
        let beside = Beside::new(Arc::clone(&proven.classifier), true);
        let bundle = proven.pointer().bundle;
        self.shared.set_beside(Some(Arc::clone(&beside)));
        self.candidate = Some((proven, beside, Instant::now()));
        if self.shared.config.trial.shadow_images > 0 {
            self.note(bundle, Stage::Shadow, "beside the one that serves".into());
        }
        self.attend_trial(false);
    }

    /// Decides about the bundle that is in its shadow or on probation, if it is time to; with `is_last`, a shadow ends.
    pub(super) fn attend_trial(&mut self, is_last: bool) {
        let ended = self.end_shadow(is_last).and_then(|()| self.end_probation());
        if let Err(e) = ended {
            self.tell_trouble(&e);
        }
    }

    fn end_shadow(&mut self, is_last: bool) -> Result<()> {
        let limits = &self.shared.config.trial;
        let Some((_, beside, since)) = &self.candidate else { return Ok(()) };
        let comparison = beside.comparison().clone();
        let fault = comparison.fault(limits, resident());
        let is_enough = comparison.images() >= limits.shadow_images as usize;
        let is_over = is_enough || since.elapsed().as_secs_f64() >= limits.shadow_seconds || is_last;
        if fault.is_none() && !is_over {
            return Ok(());
        }
        let Some((proven, ..)) = self.candidate.take() else { return Ok(()) };
        self.shared.set_beside(None);
        let (pointer, now) = (*proven.pointer(), Timestamp::now());
        if let Some(why) = fault {
            self.refused(pointer.bundle, Stage::Refused, why.clone());
            return self.slots.refuse(&pointer, &why, now);
        }
        let old = self.shared.models().serving.map(|serving| Arc::clone(&serving.classifier));
        let classifier = self.slots.promote(proven, now)?;
        self.before = old.filter(|_| limits.probation_images > 0).map(|old| Beside::new(old, false));
        self.note(pointer.bundle, Stage::Probation, format!("after {}", comparison.summary()));
        self.serve(classifier);
        Ok(())
    }

    fn end_probation(&mut self) -> Result<()> {
        let limits = &self.shared.config.trial;
        let (Some(probation), Some(serving)) = (self.slots.probation(), self.shared.models().serving) else {
            return Ok(());
        };
        let comparison = self.before.as_ref().map(|before| before.comparison().clone()).unwrap_or_default();
        let (bundle, now) = (serving.classifier.digest(), Timestamp::now());
        if let Some(why) = comparison.fault(limits, resident()) {
            let before = self.slots.go_back(&why, now)?;
            self.before = None;
            self.refused(bundle, Stage::Refused, why);
            self.serve(before);
            return Ok(());
        }
        let seconds = now.duration_since(probation.since).as_secs_f64().abs();
        if comparison.images() >= limits.probation_images as usize || seconds >= limits.probation_seconds {
            self.slots.accept()?;
            self.before = None;
            self.shared.set_beside(None);
            self.note(bundle, Stage::Good, format!("after {}", comparison.summary()));
        }
        Ok(())
    }

    /// [`Courier::sync`] if the remote was there for `update`, or with `is_last`. A pointer that is none keeps no samples back.
    pub(super) fn sync_after(&mut self, update: &Result<()>, is_last: bool) -> Result<()> {
        let is_reached = !update.as_ref().is_err_and(Error::is_unreachable);
        if is_reached || is_last { self.sync(is_last) } else { Ok(()) }
    }

    /// Sends segments, deletes those with a receipt, and tells how the device is. Samples are sealed as soon as they are enough
    /// or old enough for a segment, or all of them with `is_last`; but only while segments can be sent, since until then each can
    /// still make room for a more useful one.
    fn sync(&mut self, is_last: bool) -> Result<()> {
        let Some(serving) = self.shared.models().serving else { return Ok(()) };
        let (bundle, sequence) = (serving.classifier.digest(), serving.classifier.manifest().sequence);
        let remote = self.remote()?;
        let mut is_sent = self.push(&remote)?;
        let patience = Duration::from_secs_f64(self.shared.config.seal_after_seconds);
        let is_old = self.open_since.is_some_and(|since| since.elapsed() >= patience);
        let mut is_all = is_old || is_last;
        while is_sent && (is_all || self.is_full()) && self.seal()? {
            // What is kept meanwhile is sent the next time.
            is_all = is_last;
            is_sent = self.push(&remote)?;
        }
        let (counters, update) = (self.shared.books().counters.clone(), self.shared.view().update.clone());
        let (unsealed, backlog) = {
            let store = self.shared.store();
            (store.open_samples(), store.sealed()?.len())
        };
        self.open_since = if unsealed == 0 { None } else { self.open_since.or(Some(Instant::now())) };
        let status = DeviceStatus {
            device: self.shared.config.device.clone(),
            channel: self.shared.config.channel.clone(),
            bundle,
            sequence,
            counters,
            unsealed,
            backlog,
            update,
            reported: Timestamp::now(),
        };
        sync::report(&remote, &status)
    }

    fn is_full(&self) -> bool {
        self.shared.store().is_full()
    }

    /// The remote. A hub's key is that of another device if this one was given another name since it was enrolled.
    fn remote(&mut self) -> Result<Remote> {
        if let Some(hub) = &self.hub {
            return Ok(hub.clone());
        }
        let config = &self.shared.config;
        let remote = Remote::open(&config.remote, &config.credentials())?;
        match remote.enrolled() {
            Some(enrolled) if enrolled.name != config.device => {
                let reason = format!("enrolled at {} as {:?}; expected the same name", config.remote, enrolled.name);
                Err(Error::Config { what: format!("device = {:?}", config.device), reason })
            }
            Some(_) => Ok(self.hub.insert(remote).clone()),
            // A folder may be unmounted, or another one be mounted there.
            None => Ok(remote),
        }
    }

    /// Sends segments. Whether all of them are in the remote now.
    fn push(&mut self, remote: &Remote) -> Result<bool> {
        let trusted = remote.receipt_keys(self.slots.trusted())?;
        let device = &self.shared.config.device;
        let pushed = sync::push(&self.shared.store, remote, device, &trusted, &mut self.allowance, &mut |event| {
            if matches!(event, Event::Damaged { .. }) {
                self.shared.books().counters.damaged += 1;
            }
            self.teller.tell(event);
        })?;
        if let Some(e) = &pushed.trouble {
            self.tell_trouble(e);
        }
        Ok(pushed.is_all)
    }

    /// Seals a segment, after what was journaled is on disk. While there may be images that are kept and not journaled, as after
    /// a crash, their samples stay open: those images are found again at the source, and would be kept once more.
    fn seal(&mut self) -> Result<bool> {
        let is_caught_up = self.shared.is_caught_up.load(Ordering::Relaxed);
        let sealed = {
            let mut books = self.shared.books();
            books.journal.flush()?;
            self.shared.store().seal(|image| is_caught_up || !books.unjournaled.contains(&image))?
        };
        let Some(sealed) = sealed else { return Ok(false) };
        self.open_since = None;
        self.teller.tell(&Event::Sealed { segment: sealed.segment, samples: sealed.samples });
        Ok(true)
    }

    /// Whether it is worth a last contact when the device stops.
    pub(super) fn is_up(&self) -> bool {
        self.link.is_up(Timestamp::now())
    }

    /// Ends in good order, after a last contact if that `is_wanted`.
    pub(super) fn stop(&mut self, is_wanted: bool) {
        let flushed = self.shared.books().journal.flush();
        if let Err(e) = flushed {
            self.tell_trouble(&e);
        }
        if is_wanted && let Err(e) = self.sync(true) {
            self.tell_trouble(&e);
        }
    }

    /// Takes note that the device stops and was not taken down.
    pub(super) fn rest(&mut self) {
        self.slots.rest();
    }

    fn tell_trouble(&mut self, why: &Error) {
        self.troubles.tell(&Event::Trouble { why: why.to_string() }, self.teller);
    }
}
