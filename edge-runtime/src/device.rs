//! A running device: one part sees, another is in touch with the remote, so that a slow connection makes nobody blind.
//!
//! # Crashes
//! A sample is kept before its prediction is journaled, and sealed after. A crash between the first two leads to the same
//! image being classified again and its sample being written over: no image is lost, the journal holds each once, and each
//! sample is in one segment. Frames of a camera do not come again: a crash may leave samples of which the journal does not know.

use std::{
    fs::{self, File, TryLockError},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use models::{Digest, durable, sync::Counters};
use rand::{SeedableRng, rngs::SysRng};
use rand_chacha::ChaCha8Rng;

use self::{courier::Courier, eyes::Eyes, shared::Teller};
use crate::{
    EdgeConfig, Error, Result,
    event::Event,
    serve,
    source::{self, Arrivals, Origin},
};

mod courier;
mod eyes;
mod shared;

pub(crate) use shared::{Named, Seen, Shared, resident};

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
    progress: &mut (dyn FnMut(&Event) + Send),
) -> Result<Summary> {
    if let (Mode::Once, origin @ (Origin::Stream(_) | Origin::Camera(_))) = (mode, &config.source) {
        let reason = "a camera has no end; expected a folder to be dealt with once".into();
        return Err(Error::Config { what: format!("source = {:?}", origin.to_string()), reason });
    }
    durable::create_folders(&config.state)?;
    let _lock = lock(config)?;
    // It may hold a camera's password.
    let resolved = serde_json::to_vec_pretty(config);
    let resolved = resolved.map_err(|e| models::Error::malformed("the configuration", "what JSON can say", e))?;
    durable::write_secret(&config.state.join("config.json"), &resolved)?;
    let teller = Teller::new(progress);
    let shared = Arc::new(Shared::open(config)?);
    let mut courier = Courier::open(&shared, &teller, shutdown)?;
    let ended = see(mode, shutdown, &shared, &teller, &mut courier);
    // However it ended: no bundle took the device down.
    courier.rest();
    let pass = ended?;
    // With `Once`, the last pass has synced.
    let is_wanted = if mode == Mode::Once { pass != Pass::Idle } else { courier.is_up() };
    courier.stop(is_wanted);
    let summary = Summary { counters: shared.books().counters.clone(), backlog: shared.store().sealed()?.len() };
    teller.tell(&Event::Stopped { counters: summary.counters.clone(), backlog: summary.backlog });
    Ok(summary)
}

/// Sees, answers over HTTP, and is in touch with the remote, until it is over. How the last pass went.
fn see<'a>(
    mode: Mode,
    shutdown: &'a AtomicBool,
    shared: &'a Arc<Shared>,
    teller: &'a Teller<'a>,
    courier: &mut Courier<'a>,
) -> Result<Pass> {
    let config = &shared.config;
    let arrivals = Arrivals::new(Arc::clone(&shared.skipped));
    source::watch(&config.source, config.frames_per_second, &arrivals)?;
    let server = serve::start(shared, arrivals.sender)?;
    if let Some((_, address)) = &server {
        teller.tell(&Event::Listening { address: *address });
    }
    let mut eyes = Eyes::open(shared, teller, shutdown, arrivals.receiver)?;
    let pass = match mode {
        Mode::Once => once(courier, &mut eyes, shared, shutdown)?,
        Mode::Forever => thread::scope(|scope| {
            let contact = scope.spawn(|| courier.run());
            let _guard = StopOnPanic(shutdown);
            eyes.run(|| contact.is_finished())
        }),
    };
    drop(server);
    // Images that were answered meanwhile.
    eyes.receive();
    Ok(pass)
}

/// Lets the other thread end when this one panics.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

/// Passes over the folder, in touch with the remote before and after each, until nothing is new. How the last pass went.
fn once(courier: &mut Courier<'_>, eyes: &mut Eyes<'_>, shared: &Shared, shutdown: &AtomicBool) -> Result<Pass> {
    loop {
        let update = courier.update();
        if shared.models().serving.is_none() {
            let (remote, channel) = (shared.config.remote.clone(), shared.config.channel.clone());
            return Err(update.err().unwrap_or(Error::NoBundle { remote, channel }));
        }
        let pass = eyes.pass()?;
        let is_last = pass == Pass::Idle;
        courier.attend_trial(is_last);
        let synced = courier.sync_after(&update, is_last);
        if is_last {
            courier.contacted(&[&update]);
            return synced.map(|()| pass);
        }
        courier.contacted(&[&update, &synced]);
        if shutdown.load(Ordering::SeqCst) {
            return Ok(pass);
        }
        if pass == Pass::Waiting {
            eyes.wait(shared.config.poll_seconds.min(1.0), || false);
        }
    }
}

/// What a pass over the source found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pass {
    /// Nothing new.
    Idle,
    /// Only images that are to be tried again, or nothing to classify with.
    Waiting,
    /// Images that were classified.
    Busy,
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
