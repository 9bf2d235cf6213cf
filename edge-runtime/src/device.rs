//! The loop of a device.
//!
//! # Crashes
//! A sample is kept before its prediction is journaled, and sealed after. A crash between the first two leads to the same
//! image being classified again and its sample being written over: no image is lost, the journal holds each once, and each
//! sample is in one segment.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use jiff::{Timestamp, tz::TimeZone};
use models::{
    Digest, Dropped, PerceptualHash, Pixels, Prediction, Sample, SampleRecord, durable,
    hub::RefusalCode,
    sync::{Counters, Demand, DeviceStatus},
};
use rand::{SeedableRng, rngs::SysRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{
    Classifier, EdgeConfig, Error, Result,
    event::Event,
    journal::{Entry, Journal},
    policy::{self, Candidate, LocalLimits, Policy, Verdict},
    source::{Failure, Folder, Found},
    store::{Limits, Store},
    sync::{self, Address, Allowance, Link, Remote, SyncConfig},
    update::{Slots, Terms, Update},
};

/// Images classified before the device looks at its channel and its remote again.
const PASS_IMAGES: usize = 1024;
/// Images each thread gets before their predictions are journaled.
const IMAGES_PER_THREAD: usize = 4;
/// While it waits, the device looks so often whether it is to stop.
const SHUTDOWN_POLL: Duration = Duration::from_millis(50);

/// When [`run`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When told to shut down.
    Forever,
    /// When every image of the source is classified and every segment sent that may be sent today, or when told to shut down.
    Once,
}

/// What a device leaves when it stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What it counted since it started.
    pub counters: Counters,
    /// Segments without a receipt.
    pub backlog: usize,
}

/// Runs a device until `shutdown` is set: then it finishes the images at hand, journals, seals, and tries to upload.
///
/// While it runs, no image, no bundle and no missing remote ends it. With [`Mode::Once`] there is no next pass, so a
/// source or a remote that cannot be used is an error then; what was classified and kept until then is safe.
///
/// # Errors
/// At the start: [`Error::InUse`], an initial bundle that is not fit to serve, a state folder that cannot be used.
/// With [`Mode::Once`] also [`Error::NoBundle`] and [`Error::Remote`].
pub fn run(
    config: &EdgeConfig,
    mode: Mode,
    shutdown: &AtomicBool,
    progress: &mut dyn FnMut(&Event),
) -> Result<Summary> {
    let mut device = Device::start(config, mode, shutdown, progress)?;
    let stop = || shutdown.load(Ordering::SeqCst);
    loop {
        let pass = device.pass()?;
        if stop() || (mode == Mode::Once && pass == Pass::Idle) {
            return device.stop(pass);
        }
        if pass != Pass::Busy {
            let seconds = if mode == Mode::Once { config.poll_seconds.min(1.0) } else { config.poll_seconds };
            let end = Instant::now() + Duration::from_secs_f64(seconds);
            while Instant::now() < end && !stop() {
                thread::sleep(SHUTDOWN_POLL.min(end.saturating_duration_since(Instant::now())));
            }
        }
    }
}

struct Device<'a> {
    config: &'a EdgeConfig,
    mode: Mode,
    shutdown: &'a AtomicBool,
    progress: &'a mut dyn FnMut(&Event),
    serving: Option<(Classifier, Policy)>,
    slots: Slots,
    /// The remote, if it is a hub: its connection is used again.
    hub: Option<Remote>,
    link: Link,
    allowance: Allowance,
    source: Folder,
    journal: Journal,
    store: Store,
    rng: ChaCha8Rng,
    counters: Counters,
    /// What the workstation has and wants, as far as it has told.
    demand: Demand,
    /// Since when there are open samples that were in no segment.
    open_since: Option<Instant>,
    /// Troubles since the last contact with the remote, and of the time before: what goes on is told once.
    troubles: [BTreeSet<String>; 2],
    _lock: File,
}

/// What a pass over the source found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Images that were classified.
    Busy,
    /// Only images that are to be tried again, or nothing to classify with.
    Waiting,
    /// Nothing new.
    Idle,
}

/// An image that was read and classified.
struct Seen {
    bytes: Vec<u8>,
    image: Digest,
    pixels: Pixels,
    look: PerceptualHash,
    prediction: Prediction,
}

impl<'a> Device<'a> {
    fn start(
        config: &'a EdgeConfig,
        mode: Mode,
        shutdown: &'a AtomicBool,
        progress: &'a mut dyn FnMut(&Event),
    ) -> Result<Self> {
        durable::create_folders(&config.state)?;
        let lock = lock(config)?;
        durable::write_json(&config.state.join("config.json"), config)?;
        let terms = Terms::of(config)?;
        if terms.trusted.is_empty() {
            tracing::warn!(
                "no trusted_keys: bundles and receipts are taken unsigned, from whoever can write to the remote"
            );
        }
        let mut slots = Slots::open(&config.state, terms)?;
        let journal = Journal::open(&config.state.join("predictions.jsonl"))?;
        let limits = Limits {
            samples: config.seal_after_samples,
            segment_bytes: config.seal_after_mebibytes << 20,
            bytes: config.store_mebibytes << 20,
        };
        let store = Store::open(&config.state.join("store"), limits)?;
        let zone = TimeZone::system();
        let every = config.sync.every_seconds.unwrap_or(match &config.remote {
            Address::Hub(_) => SyncConfig::HUB_SECONDS,
            Address::Folder(_) => 0.0,
        });
        let jitter = generator(config.audit_seed, &format!("{}/link", config.device))?;
        let link = Link::new(every, config.sync.hours, zone, jitter);
        let most = config.sync.mebibytes_per_day.map(|mebibytes| u64::from(mebibytes) << 20);
        let allowance = Allowance::open(config.state.join("sent.json"), most)?;
        let mut rng = generator(config.audit_seed, &config.device)?;
        policy::seek(&mut rng, journal.history());
        if let Some(bundle) = slots.fatal() {
            progress(&Event::Refused { bundle, why: "the device went down twice while it was trying it".into() });
        }
        let resumed = slots.resume();
        let initial =
            config.bundle.as_ref().map(|folder| slots.install(folder, Timestamp::now())).transpose()?.flatten();
        let mut device = Self {
            config,
            mode,
            shutdown,
            progress,
            serving: None,
            slots,
            hub: None,
            link,
            allowance,
            source: Folder::new(&config.source),
            journal,
            store,
            rng,
            counters: Counters::default(),
            demand: Demand::default(),
            open_since: None,
            troubles: Default::default(),
            _lock: lock,
        };
        if let Some(classifier) = initial.or(resumed) {
            device.serve(classifier);
        }
        Ok(device)
    }

    fn serve(&mut self, classifier: Classifier) {
        let (bundle, sequence) = (classifier.digest(), classifier.manifest().sequence);
        let policy = Policy::of(&classifier, LocalLimits::of(self.config));
        self.serving = Some((classifier, policy));
        (self.progress)(&Event::Serving { bundle, sequence });
    }

    fn pass(&mut self) -> Result<Pass> {
        let is_due = self.mode == Mode::Once || self.link.is_due(Timestamp::now());
        if is_due {
            self.troubles.swap(0, 1);
            self.troubles[0].clear();
        }
        let update = if is_due { self.update() } else { Ok(()) };
        if self.serving.is_none() {
            if is_due {
                self.contacted(update.as_ref().err());
            }
            return if is_due { self.wait_for_bundle(update) } else { Ok(Pass::Waiting) };
        }
        let history = self.journal.history();
        let pass = match self.source.scan(PASS_IMAGES, |name| history.has_source(name)) {
            Ok(found) if found.is_empty() => Pass::Idle,
            Ok(found) => self.classify(&found),
            Err(e) if self.mode == Mode::Once => return Err(e),
            Err(e) => {
                // What was kept before the source went away is sealed and sent all the same.
                self.tell_trouble(&e);
                Pass::Waiting
            }
        };
        let is_last = self.mode == Mode::Once && pass == Pass::Idle;
        // A pointer that is none must not keep samples back.
        let is_reached = is_due && !update.as_ref().is_err_and(Error::is_unreachable);
        let synced = if is_reached || is_last { self.sync(pass, is_last) } else { Ok(()) };
        if is_due {
            self.contacted(update.as_ref().err().or(synced.as_ref().err()));
        }
        if let Err(e) = &update {
            self.tell_trouble(e);
        }
        match synced {
            Err(e) if is_last => return Err(e),
            Err(e) => self.tell_trouble(&e),
            Ok(()) => {}
        }
        Ok(pass)
    }

    /// Takes note of a contact with the remote and how it went.
    fn contacted(&mut self, failure: Option<&Error>) {
        if let Some(Error::Refused { refusal, .. }) = failure
            && refusal.code == RefusalCode::Key
        {
            // The device may have been enrolled anew since.
            self.hub = None;
        }
        self.link.contacted(failure.map_or(Ok(()), Err), Timestamp::now());
    }

    fn update(&mut self) -> Result<()> {
        let remote = self.remote()?;
        match self.slots.check(&remote, Timestamp::now())? {
            Update::None => {}
            Update::Taken(classifier) => self.serve(*classifier),
            Update::Refused { bundle, why } => (self.progress)(&Event::Refused { bundle, why: why.to_string() }),
        }
        self.demand = sync::demand(&remote, &self.config.channel)?;
        Ok(())
    }

    fn wait_for_bundle(&mut self, update: Result<()>) -> Result<Pass> {
        let (remote, channel) = (self.config.remote.clone(), self.config.channel.clone());
        match (self.mode, update) {
            (Mode::Once, update) => return Err(update.err().unwrap_or(Error::NoBundle { remote, channel })),
            (Mode::Forever, Err(e)) => self.tell_trouble(&e),
            (Mode::Forever, Ok(())) => self.tell(Event::Waiting { channel }),
        }
        Ok(Pass::Waiting)
    }

    fn classify(&mut self, found: &[Found]) -> Pass {
        let mut pass = Pass::Waiting;
        for chunk in found.chunks(rayon::current_num_threads() * IMAGES_PER_THREAD) {
            let Some((classifier, _)) = &self.serving else { break };
            let seen: Vec<Result<Seen>> = chunk.par_iter().map(|file| look(classifier, file)).collect();
            for (file, seen) in chunk.iter().zip(seen) {
                match seen {
                    Ok(seen) => {
                        self.record(file, seen);
                        pass = Pass::Busy;
                    }
                    Err(e) => self.failed(file, &e),
                }
            }
            if let Err(e) = self.journal.flush() {
                self.tell_trouble(&e);
            }
            if self.shutdown.load(Ordering::SeqCst) {
                break;
            }
        }
        pass
    }

    /// Decides whether the image is kept, keeps it, and journals the prediction.
    fn record(&mut self, file: &Found, seen: Seen) {
        let Some((classifier, policy)) = &self.serving else { return };
        let Seen { bytes, image, pixels, look, prediction } = seen;
        let classified = Timestamp::now();
        let (class, confidence) = (prediction.class, prediction.confidence);
        let candidate = Candidate {
            source: &file.name,
            image,
            bytes: bytes.len() as u64,
            look,
            prediction: &prediction,
            classified,
        };
        let draw = policy::draw(&mut self.rng);
        let views_agree = |views| classifier.views_agree(&pixels, class, views);
        let verdict = policy.judge(&candidate, draw, self.journal.history(), &self.demand, views_agree);
        let size = candidate.bytes;
        let (bundle, sequence) = (classifier.digest(), classifier.manifest().sequence);
        let label = classifier.manifest().labels.name(class).to_owned();
        if verdict.as_ref().is_err_and(|why| *why != Dropped::Duplicate) {
            self.discard(image);
        }
        let verdict = verdict.and_then(|reasons| {
            let record = SampleRecord {
                image,
                extension: file.extension(),
                device: self.config.device.clone(),
                source: file.name.clone(),
                captured: classified,
                bundle,
                prediction,
                reasons,
            };
            self.keep(Sample { record, image: bytes })
        });
        self.count(&verdict);
        let (dropped, is_kept) = (verdict.as_ref().err().copied(), verdict.is_ok());
        let (source, kept) = (file.name.clone(), verdict.unwrap_or_default());
        self.source.done(file);
        self.journal.push(&Entry {
            source: source.clone(),
            image,
            classified,
            bundle,
            sequence,
            class,
            label: label.clone(),
            confidence,
            kept: kept.clone(),
            dropped,
            look: is_kept.then_some(look),
            bytes: is_kept.then_some(size),
        });
        (self.progress)(&Event::Classified { source, label, confidence, kept, dropped });
    }

    /// Deletes what a crash left of an image that was kept and not journaled, and is not kept this time: the journal holds.
    fn discard(&mut self, image: Digest) {
        if let Err(e) = self.store.discard(image) {
            self.tell_trouble(&e);
        }
    }

    /// Why the sample was kept, or what the disk has against it.
    fn keep(&mut self, sample: Sample) -> Verdict {
        let mut evicted = Vec::new();
        let kept = self.store.keep(&sample, &mut evicted);
        self.counters.evicted += evicted.len() as u64;
        evicted.into_iter().for_each(|image| (self.progress)(&Event::Evicted { image }));
        match kept {
            Ok(true) => Ok(sample.record.reasons),
            Ok(false) => Err(Dropped::StoreFull),
            Err(e) => {
                (self.progress)(&Event::NotKept { source: sample.record.source, why: e.to_string() });
                Err(Dropped::Disk)
            }
        }
    }

    fn count(&mut self, verdict: &Verdict) {
        self.counters.classified += 1;
        match verdict {
            Ok(reasons) => {
                self.counters.samples += 1;
                for reason in reasons {
                    *self.counters.kept.entry(reason.kind()).or_default() += 1;
                }
            }
            Err(why) => *self.counters.dropped.entry(*why).or_default() += 1,
        }
    }

    fn failed(&mut self, file: &Found, why: &Error) {
        if self.source.failed(file, SystemTime::now()) == Failure::Skip {
            self.counters.unreadable += 1;
            (self.progress)(&Event::Unreadable { source: file.name.clone(), why: why.to_string() });
        }
    }

    /// Sends segments, deletes those with a receipt, and tells how the device is. Samples are sealed as soon as they are enough
    /// or old enough for a segment, or all of them with `is_last`; but only while segments can be sent, since until then each can
    /// still make room for a more useful one.
    fn sync(&mut self, pass: Pass, is_last: bool) -> Result<()> {
        let Some((classifier, _)) = &self.serving else { return Ok(()) };
        let (bundle, sequence) = (classifier.digest(), classifier.manifest().sequence);
        let remote = self.remote()?;
        let mut is_sent = self.push(&remote)?;
        let patience = Duration::from_secs_f64(self.config.seal_after_seconds);
        let is_old = self.open_since.is_some_and(|since| since.elapsed() >= patience);
        let is_all = is_old || is_last;
        while is_sent && (self.store.is_full() || is_all) && self.seal(pass)? {
            is_sent = self.push(&remote)?;
        }
        self.open_since = if self.store.open_samples() == 0 { None } else { self.open_since.or(Some(Instant::now())) };
        let status = DeviceStatus {
            device: self.config.device.clone(),
            bundle,
            sequence,
            counters: self.counters.clone(),
            unsealed: self.store.open_samples(),
            backlog: self.store.sealed()?.len(),
            reported: Timestamp::now(),
        };
        sync::report(&remote, &status)
    }

    /// The remote. A hub's key is that of another device if this one was given another name since it was enrolled.
    fn remote(&mut self) -> Result<Remote> {
        if let Some(hub) = &self.hub {
            return Ok(hub.clone());
        }
        let remote = Remote::open(&self.config.remote, &self.config.credentials())?;
        match remote.enrolled() {
            Some(enrolled) if enrolled.name != self.config.device => {
                let reason =
                    format!("enrolled at {} as {:?}; expected the same name", self.config.remote, enrolled.name);
                Err(Error::Config { what: format!("device = {:?}", self.config.device), reason })
            }
            Some(_) => Ok(self.hub.insert(remote).clone()),
            // A folder may be unmounted, or another one be mounted there.
            None => Ok(remote),
        }
    }

    /// Sends segments. Whether all of them are in the remote now.
    fn push(&mut self, remote: &Remote) -> Result<bool> {
        let trusted = remote.receipt_keys(self.slots.trusted())?;
        let damaged = &mut self.counters.damaged;
        let progress = &mut *self.progress;
        let (device, allowance) = (&self.config.device, &mut self.allowance);
        let pushed = sync::push(&mut self.store, remote, device, &trusted, allowance, &mut |event| {
            *damaged += u64::from(matches!(event, Event::Damaged { .. }));
            progress(event);
        })?;
        if let Some(e) = &pushed.trouble {
            self.tell_trouble(e);
        }
        Ok(pushed.is_all)
    }

    /// Seals a segment, after what was journaled is on disk. While there may be images that are kept and not journaled, as after
    /// a crash, their samples stay open: those images are found again at the source, and would be kept once more.
    fn seal(&mut self, pass: Pass) -> Result<bool> {
        self.journal.flush()?;
        let history = self.journal.history();
        let Some(sealed) = self.store.seal(|image| pass == Pass::Idle || history.has_image(image))? else {
            return Ok(false);
        };
        self.open_since = None;
        (self.progress)(&Event::Sealed { segment: sealed.segment, samples: sealed.samples });
        Ok(true)
    }

    fn stop(mut self, pass: Pass) -> Result<Summary> {
        if let Err(e) = self.journal.flush() {
            self.tell_trouble(&e);
        }
        // With `Once`, the last pass has synced.
        let is_up = self.mode == Mode::Forever && self.link.is_up(Timestamp::now());
        let is_up = is_up || (self.mode == Mode::Once && pass != Pass::Idle);
        if let Err(e) = if is_up { self.sync(pass, true) } else { Ok(()) } {
            self.tell_trouble(&e);
        }
        let summary = Summary { counters: self.counters.clone(), backlog: self.store.sealed()?.len() };
        (self.progress)(&Event::Stopped { counters: summary.counters.clone(), backlog: summary.backlog });
        Ok(summary)
    }

    fn tell_trouble(&mut self, why: &Error) {
        self.tell(Event::Trouble { why: why.to_string() });
    }

    fn tell(&mut self, event: Event) {
        let [now, before] = &mut self.troubles;
        let text = event.to_string();
        if !before.contains(&text) && !now.contains(&text) {
            (self.progress)(&event);
        }
        now.insert(text);
    }
}

fn look(classifier: &Classifier, file: &Found) -> Result<Seen> {
    let bytes = file.read()?;
    let name = file.path.display().to_string();
    let pixels = classifier.manifest().preprocessing.pixels(&name, &bytes)?;
    let prediction = classifier.predict(&name, &pixels)?;
    Ok(Seen { image: Digest::of(&bytes), bytes, look: PerceptualHash::of(&pixels), pixels, prediction })
}

fn lock(config: &EdgeConfig) -> Result<File> {
    let path = config.state.join("lock");
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(models::Error::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path }),
        Err(TryLockError::Error(e)) => Err(models::Error::io("lock", &path)(e).into()),
    }
}

/// Draws of one device are independent of those of another, also if both were given the same seed.
fn generator(seed: Option<u64>, device: &str) -> Result<ChaCha8Rng> {
    let entropy = |e: rand::rngs::SysError| Error::Config {
        what: "audit_seed".into(),
        reason: format!("the system gives no entropy, so set a seed: {e}"),
    };
    seed.map_or_else(
        || ChaCha8Rng::try_from_rng(&mut SysRng).map_err(entropy),
        |s| Ok(ChaCha8Rng::from_seed(Digest::of(format!("{s}/{device}").as_bytes()).into_bytes())),
    )
}

#[cfg(test)]
mod tests;
