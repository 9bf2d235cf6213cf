//! What the parts of a running device share.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Instant,
};

use jiff::Timestamp;
use models::{
    Digest, Dropped, PerceptualHash, Pixels, Prediction, Reason,
    sync::{Counters, Demand, UpdateStatus},
};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::{
    Classifier, EdgeConfig, Result,
    event::Event,
    journal::Journal,
    policy::{LocalLimits, Policy},
    store::{Limits, Store},
    update::trial::Comparison,
};

/// So many of the last images are shown.
const RECENT: usize = 24;

/// A running device.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EdgeConfig,
    models: RwLock<Models>,
    books: Mutex<Books>,
    /// Locked after the books, if both are.
    pub(crate) store: Mutex<Store>,
    view: Mutex<View>,
    /// Whether every image has been journaled of which a crash had left a sample.
    pub(crate) is_caught_up: AtomicBool,
    /// Frames of the camera that there was no time for.
    pub(crate) skipped: Arc<AtomicU64>,
    /// Seconds that answers took.
    pub(crate) latency: Histogram,
}

/// What answers images.
#[derive(Clone, Debug, Default)]
pub(crate) struct Models {
    pub(crate) serving: Option<Arc<Serving>>,
    pub(crate) beside: Option<Arc<Beside>>,
}

/// The bundle whose answers count.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) classifier: Arc<Classifier>,
    pub(crate) policy: Policy,
}

/// A bundle that answers the same images, to be compared.
#[derive(Debug)]
pub(crate) struct Beside {
    pub(crate) classifier: Arc<Classifier>,
    /// Whether it is the newer one.
    pub(crate) is_new: bool,
    comparison: Mutex<Comparison>,
}

/// What is written down of the images.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) journal: Journal,
    /// Open samples that a crash has left, of which the journal did not know when the device started.
    pub(crate) unjournaled: BTreeSet<Digest>,
    pub(crate) counters: Counters,
    /// What the workstation has and wants, as far as it has told.
    pub(crate) demand: Demand,
}

/// What a person may want to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The last images, the latest last.
    pub(crate) recent: VecDeque<Glance>,
    /// When the remote was last contacted without trouble.
    pub(crate) contact: Option<Timestamp>,
    /// What was wrong the last time, if anything was.
    pub(crate) trouble: Option<String>,
    pub(crate) update: Option<UpdateStatus>,
    /// Why the camera gives nothing, or why the folder cannot be listed, if that is so.
    pub(crate) source_trouble: Option<String>,
}

/// An image that was classified not long ago.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    /// It is the so manieth since the device started.
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) source: String,
    pub(crate) label: String,
    pub(crate) confidence: f64,
    pub(crate) kept: Vec<Reason>,
    pub(crate) dropped: Option<Dropped>,
    /// What the network saw.
    pub(crate) pixels: Arc<Pixels>,
}

/// An image that was read and classified.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) extension: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) image: Digest,
    pub(crate) pixels: Arc<Pixels>,
    pub(crate) look: PerceptualHash,
    pub(crate) prediction: Prediction,
    pub(crate) milliseconds: f64,
    /// Whether it arrived, instead of being found in a folder.
    pub(crate) arrived: bool,
    /// By whom.
    pub(crate) by: Arc<Serving>,
}

impl Shared {
    /// Opens the device's journal and store.
    pub(super) fn open(config: &EdgeConfig) -> Result<Self> {
        let journal = Journal::open(&config.state.join("predictions.jsonl"), config.journal_mebibytes << 20)?;
        let limits = Limits {
            samples: config.seal_after_samples,
            segment_bytes: config.seal_after_mebibytes << 20,
            bytes: config.store_mebibytes << 20,
        };
        let store = Store::open(&config.state.join("store"), limits)?;
        let unjournaled = store.images().filter(|image| !journal.history().has_image(*image)).collect();
        let books = Books { journal, unjournaled, counters: Counters::default(), demand: Demand::default() };
        Ok(Self {
            config: config.clone(),
            models: RwLock::default(),
            books: Mutex::new(books),
            store: Mutex::new(store),
            view: Mutex::default(),
            is_caught_up: AtomicBool::default(),
            skipped: Arc::default(),
            // From a tenth of a millisecond to three seconds.
            latency: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
        })
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn models(&self) -> Models {
        self.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on `classifier` answers, and `beside` answers beside it.
    pub(super) fn serve(&self, classifier: Arc<Classifier>, beside: Option<Arc<Beside>>) {
        let policy = Policy::of(&classifier, LocalLimits::of(&self.config));
        let serving = Some(Arc::new(Serving { classifier, policy }));
        *self.models.write().unwrap_or_else(PoisonError::into_inner) = Models { serving, beside };
    }

    pub(super) fn set_beside(&self, beside: Option<Arc<Beside>>) {
        self.models.write().unwrap_or_else(PoisonError::into_inner).beside = beside;
    }

    /// Classifies an image, also by what answers beside the bundle that serves.
    ///
    /// # Errors
    /// As [`Classifier::classify`].
    pub(crate) fn look(&self, models: &Models, serving: &Arc<Serving>, image: Named) -> Result<Seen> {
        let Named { name, arrived, extension, bytes } = image;
        let preprocessing = &serving.classifier.manifest().preprocessing;
        let pixels = preprocessing.pixels(&name, &bytes)?;
        let served = timed(|| serving.classifier.predict(&name, &pixels));
        if let Some(beside) = &models.beside {
            let is_same = beside.classifier.manifest().preprocessing == *preprocessing;
            let answer = if is_same {
                timed(|| beside.classifier.predict(&name, &pixels))
            } else {
                let other = beside.classifier.manifest().preprocessing.pixels(&name, &bytes)?;
                timed(|| beside.classifier.predict(&name, &other))
            };
            beside.compare(answer, &served, serving);
        }
        let (prediction, milliseconds) = served?;
        self.latency.observe(milliseconds / 1e3);
        let (image, look) = (Digest::of(&bytes), PerceptualHash::of(&pixels));
        let (pixels, by) = (Arc::new(pixels), Arc::clone(serving));
        Ok(Seen { name, extension, bytes, image, pixels, look, prediction, milliseconds, arrived, by })
    }
}

/// Bytes of memory that the program takes, if the system tells.
pub(crate) fn resident() -> Option<u64> {
    memory_stats::memory_stats().map(|stats| stats.physical_mem as u64)
}

/// An image's bytes with what to call it.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) arrived: bool,
    pub(crate) extension: String,
    pub(crate) bytes: Vec<u8>,
}

/// A prediction and the milliseconds that it took.
type Timed = (Prediction, f64);

fn timed(predict: impl FnOnce() -> Result<Prediction>) -> Result<Timed> {
    let began = Instant::now();
    let prediction = predict()?;
    Ok((prediction, began.elapsed().as_secs_f64() * 1e3))
}

impl Beside {
    pub(super) fn new(classifier: Arc<Classifier>, is_new: bool) -> Arc<Self> {
        Arc::new(Self { classifier, is_new, comparison: Mutex::default() })
    }

    pub(super) fn comparison(&self) -> MutexGuard<'_, Comparison> {
        self.comparison.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compare(&self, ours: Result<Timed>, served: &Result<Timed>, serving: &Serving) {
        let mut comparison = self.comparison();
        match (ours, served) {
            (Ok(ours), Ok(served)) => {
                let ours = self.classifier.answer(&ours.0, ours.1);
                let theirs = serving.classifier.answer(&served.0, served.1);
                let (old, new) = if self.is_new { (theirs, ours) } else { (ours, theirs) };
                comparison.add(old, new);
            }
            (Err(e), Ok(_)) if self.is_new => comparison.fail(e.to_string()),
            (Ok(_), Err(e)) if !self.is_new => comparison.fail(e.to_string()),
            // That the old one cannot answer speaks against nobody.
            _ => {}
        }
    }
}

impl View {
    pub(super) fn push(&mut self, glance: Glance) {
        self.recent.push_back(glance);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}

/// Whoever follows what a device does, from all of its threads.
pub(super) struct Teller<'a>(Mutex<&'a mut (dyn FnMut(&Event) + Send)>);

impl<'a> Teller<'a> {
    pub(super) fn new(progress: &'a mut (dyn FnMut(&Event) + Send)) -> Self {
        Self(Mutex::new(progress))
    }

    pub(super) fn tell(&self, event: &Event) {
        (self.0.lock().unwrap_or_else(PoisonError::into_inner))(event);
    }
}

/// What one part of a device has trouble with since it last tried, and had the time before: what goes on is told once.
#[derive(Debug, Default)]
pub(super) struct Troubles([BTreeSet<String>; 2]);

impl Troubles {
    /// Begins another try.
    pub(super) fn begin(&mut self) {
        self.0.swap(0, 1);
        self.0[0].clear();
    }

    pub(super) fn tell(&mut self, event: &Event, teller: &Teller<'_>) {
        let [now, before] = &mut self.0;
        let text = event.to_string();
        if !before.contains(&text) && !now.contains(&text) {
            teller.tell(event);
        }
        now.insert(text);
    }

    /// The first of this try.
    pub(super) fn first(&self) -> Option<&String> {
        self.0[0].first()
    }
}
