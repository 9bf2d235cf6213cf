//! The part of a device that sees: finds images, classifies them, keeps samples, journals.

use std::{
    mem,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use models::{Dropped, Sample, SampleRecord};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    Pass, SHUTDOWN_POLL, generator,
    shared::{Books, Glance, Named, Seen, Shared, Teller, Troubles},
};
use crate::{
    Error, Result,
    event::Event,
    journal::Entry,
    policy::{self, Candidate, Verdict},
    source::{Arrival, Content, Failure, Folder, Found, Origin},
};

/// Images classified before the device looks around again.
const PASS_IMAGES: usize = 1024;
/// Images each thread gets before their predictions are journaled.
const IMAGES_PER_THREAD: usize = 4;

pub(super) struct Eyes<'a> {
    shared: &'a Shared,
    teller: &'a Teller<'a>,
    shutdown: &'a AtomicBool,
    /// The folder that is looked at; images of every other kind arrive.
    folder: Option<Folder>,
    receiver: Receiver<Arrival>,
    /// What has arrived and is not dealt with.
    arrived: Vec<Arrival>,
    /// Frames that are to be classified.
    frames: Vec<Found>,
    rng: ChaCha8Rng,
    troubles: Troubles,
}

impl<'a> Eyes<'a> {
    pub(super) fn open(
        shared: &'a Shared,
        teller: &'a Teller<'a>,
        shutdown: &'a AtomicBool,
        receiver: Receiver<Arrival>,
    ) -> Result<Self> {
        let config = &shared.config;
        let mut rng = generator(config.audit_seed, &config.device)?;
        policy::seek(&mut rng, shared.books().journal.history());
        let folder = match &config.source {
            Origin::Folder(path) => Some(Folder::new(path)),
            _ => None,
        };
        // What a crash has left of a camera's frames does not come again.
        shared.is_caught_up.store(folder.is_none(), Ordering::Relaxed);
        Ok(Self {
            shared,
            teller,
            shutdown,
            folder,
            receiver,
            arrived: Vec::new(),
            frames: Vec::new(),
            rng,
            troubles: Troubles::default(),
        })
    }

    /// Deals with what has arrived and with what is new in the folder.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub(super) fn pass(&mut self) -> Result<Pass> {
        self.troubles.begin();
        let pass = self.receive();
        let mut frames = mem::take(&mut self.frames);
        if self.shared.models().serving.is_none() {
            return Ok(if pass == Pass::Busy { pass } else { Pass::Waiting });
        }
        if let Some(folder) = &self.folder {
            // The books are not locked while a folder is listed, which may take long.
            let is_done = |name: &str| self.shared.books().journal.history().has_source(name);
            let found = folder.scan(PASS_IMAGES, is_done);
            self.shared.view().source_trouble = found.as_ref().err().map(ToString::to_string);
            frames.extend(found?);
        }
        if !frames.is_empty() {
            return Ok(self.classify(&frames).max(pass));
        }
        if pass == Pass::Idle {
            self.shared.is_caught_up.store(true, Ordering::Relaxed);
        }
        Ok(pass)
    }

    /// Takes in what has arrived: frames are to be classified, images that were posted are already.
    pub(super) fn receive(&mut self) -> Pass {
        self.arrived.extend(self.receiver.try_iter().take(PASS_IMAGES));
        let mut pass = Pass::Idle;
        for arrival in mem::take(&mut self.arrived) {
            match arrival {
                Arrival::Frame(frame) => {
                    self.frames.push(frame);
                    self.shared.view().source_trouble = None;
                }
                Arrival::Posted(seen) => {
                    self.record(*seen);
                    pass = Pass::Busy;
                }
                Arrival::Lost(why) => self.lost(&why),
            }
        }
        if pass == Pass::Busy {
            self.flush();
        }
        pass
    }

    /// Tells that the camera gives nothing, once until it does.
    fn lost(&mut self, why: &Error) {
        let why = why.to_string();
        let before = self.shared.view().source_trouble.replace(why.clone());
        if before.as_ref() != Some(&why) {
            self.teller.tell(&Event::Trouble { why });
        }
    }

    /// Goes on until the device is told to stop, or `is_alone`.
    pub(super) fn run(&mut self, is_alone: impl Fn() -> bool) -> Pass {
        loop {
            let pass = self.pass().unwrap_or_else(|e| {
                self.tell_trouble(&e);
                Pass::Waiting
            });
            if self.shutdown.load(Ordering::SeqCst) || is_alone() {
                return pass;
            }
            if pass != Pass::Busy {
                self.wait(self.shared.config.poll_seconds, &is_alone);
            }
        }
    }

    /// Waits for so many seconds, until something arrives, or until the device is to stop.
    pub(super) fn wait(&mut self, seconds: f64, is_alone: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while self.arrived.is_empty() && !self.shutdown.load(Ordering::SeqCst) && !is_alone() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.arrived.extend(arrives_within(&self.receiver, SHUTDOWN_POLL.min(left)));
        }
    }

    fn classify(&mut self, found: &[Found]) -> Pass {
        let mut pass = Pass::Waiting;
        for chunk in found.chunks(rayon::current_num_threads() * IMAGES_PER_THREAD) {
            let models = self.shared.models();
            let Some(serving) = &models.serving else { break };
            let look = |file: &Found| {
                let arrived = matches!(file.content, Content::Bytes(_));
                let image =
                    Named { name: file.name.clone(), arrived, extension: file.extension(), bytes: file.read()? };
                self.shared.look(&models, serving, image)
            };
            let seen: Vec<Result<Seen>> = chunk.par_iter().map(look).collect();
            for (file, seen) in chunk.iter().zip(seen) {
                match seen {
                    Ok(seen) => {
                        self.record(seen);
                        self.folder.as_mut().into_iter().for_each(|folder| folder.done(file));
                        pass = Pass::Busy;
                    }
                    Err(e) => self.failed(file, &e),
                }
            }
            self.flush();
            if self.shutdown.load(Ordering::SeqCst) {
                break;
            }
            // Whoever posts images does not wait for a whole folder.
            self.receive();
        }
        pass
    }

    fn flush(&mut self) {
        let flushed = self.shared.books().journal.flush();
        if let Err(e) = flushed {
            self.tell_trouble(&e);
        }
    }

    /// Decides whether the image is kept, keeps it, and journals the prediction.
    fn record(&mut self, seen: Seen) {
        let Seen { name, extension, bytes, image, pixels, look, prediction, arrived, by, .. } = seen;
        let (classified, draw) = (Timestamp::now(), policy::draw(&mut self.rng));
        let (class, confidence, size) = (prediction.class, prediction.confidence, bytes.len() as u64);
        let candidate = Candidate { source: &name, image, bytes: size, look, prediction: &prediction, classified };
        let views_agree = |views| by.classifier.views_agree(&pixels, class, views);
        let (bundle, manifest) = (by.classifier.digest(), by.classifier.manifest());
        let label = manifest.labels.name(class).to_owned();
        let mut told = Vec::new();
        let mut books = self.shared.books();
        let verdict = by.policy.judge(&candidate, draw, books.journal.history(), &books.demand, views_agree);
        // The journal holds: what a crash left of an image that was kept and not journaled, and is not kept this time, goes.
        let is_stale = books.unjournaled.remove(&image) && verdict.is_err();
        let discarded = if is_stale { self.shared.store().discard(image) } else { Ok(()) };
        let verdict = verdict.and_then(|reasons| {
            let (device, source) = (self.shared.config.device.clone(), name.clone());
            let record =
                SampleRecord { image, extension, device, source, captured: classified, bundle, prediction, reasons };
            self.keep(&mut books, Sample { record, image: bytes }, &mut told)
        });
        count(&mut books, &verdict);
        let number = books.counters.classified;
        let (dropped, is_kept) = (verdict.as_ref().err().copied(), verdict.is_ok());
        let kept = verdict.unwrap_or_default();
        books.journal.push(&Entry {
            source: name.clone(),
            image,
            classified,
            bundle,
            sequence: manifest.sequence,
            class,
            label: label.clone(),
            confidence,
            kept: kept.clone(),
            dropped,
            look: is_kept.then_some(look),
            bytes: is_kept.then_some(size),
            arrived,
        });
        drop(books);
        if let Err(e) = discarded {
            self.tell_trouble(&e);
        }
        let glance = Glance {
            number,
            at: classified,
            source: name.clone(),
            label: label.clone(),
            confidence,
            kept: kept.clone(),
            dropped,
            pixels,
        };
        self.shared.view().push(glance);
        told.push(Event::Classified { source: name, label, confidence, kept, dropped });
        told.iter().for_each(|event| self.teller.tell(event));
    }

    fn failed(&mut self, file: &Found, why: &Error) {
        let failure = self.folder.as_mut().map_or(Failure::Skip, |folder| folder.failed(file, SystemTime::now()));
        if failure == Failure::Skip {
            self.shared.books().counters.unreadable += 1;
            self.teller.tell(&Event::Unreadable { source: file.name.clone(), why: why.to_string() });
        }
    }

    /// Why the sample was kept, or what the disk has against it.
    fn keep(&self, books: &mut Books, sample: Sample, told: &mut Vec<Event>) -> Verdict {
        let mut evicted = Vec::new();
        let kept = self.shared.store().keep(&sample, &mut evicted);
        books.counters.evicted += evicted.len() as u64;
        told.extend(evicted.into_iter().map(|image| Event::Evicted { image }));
        match kept {
            Ok(true) => Ok(sample.record.reasons),
            Ok(false) => Err(Dropped::StoreFull),
            Err(e) => {
                told.push(Event::NotKept { source: sample.record.source, why: e.to_string() });
                Err(Dropped::Disk)
            }
        }
    }

    fn tell_trouble(&mut self, why: &Error) {
        self.troubles.tell(&Event::Trouble { why: why.to_string() }, self.teller);
    }
}

fn count(books: &mut Books, verdict: &Verdict) {
    books.counters.classified += 1;
    match verdict {
        Ok(reasons) => {
            books.counters.samples += 1;
            for reason in reasons {
                *books.counters.kept.entry(reason.kind()).or_default() += 1;
            }
        }
        Err(why) => *books.counters.dropped.entry(*why).or_default() += 1,
    }
}

/// What arrives within some time. It passes also where nobody is left to send anything: of a folder nothing arrives.
fn arrives_within(receiver: &Receiver<Arrival>, time: Duration) -> Option<Arrival> {
    match receiver.recv_timeout(time) {
        Ok(arrival) => Some(arrival),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => {
            thread::sleep(time);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Arrivals;

    #[test]
    fn a_device_to_which_nobody_sends_anything_waits_and_does_not_spin() {
        let Arrivals { sender, receiver, .. } = Arrivals::new(std::sync::Arc::default());
        drop(sender);
        let (begin, time) = (Instant::now(), Duration::from_millis(20));
        assert!(arrives_within(&receiver, time).is_none());
        assert!(begin.elapsed() >= time);
    }
}
