//! Frames of a camera, read by a thread of their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Content, Found, Origin, mjpeg};
use crate::{Error, Result, device::Seen};

/// Frames that wait to be classified. A camera that is faster than this device loses the others.
const WAITING: usize = 4;
/// Pauses between two attempts to reach a camera: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What came to the device without its looking.
pub(crate) enum Arrival {
    /// A frame of its camera.
    Frame(Found),
    /// An image that someone posted, classified already.
    Posted(Box<Seen>),
    /// The camera gives nothing at the moment.
    Lost(Error),
}

/// Both ends of the way on which images arrive, and how many frames it had no room for.
pub(crate) struct Arrivals {
    pub(crate) sender: SyncSender<Arrival>,
    pub(crate) receiver: Receiver<Arrival>,
    pub(crate) skipped: Arc<AtomicU64>,
}

impl Arrivals {
    /// `skipped` counts the frames that there was no room for.
    pub(crate) fn new(skipped: Arc<AtomicU64>) -> Self {
        let (sender, receiver) = sync_channel(WAITING);
        Self { sender, receiver, skipped }
    }
}

/// Starts to read a camera, and goes on until nobody receives its frames any more. A folder is no camera: nothing is read.
///
/// # Errors
/// [`Error::Config`] for a kind of camera that this program was built without.
pub(crate) fn watch(origin: &Origin, frames_per_second: f64, arrivals: &Arrivals) -> Result<()> {
    let origin = match origin {
        Origin::Folder(_) => return Ok(()),
        #[cfg(not(feature = "v4l2"))]
        Origin::Camera(_) => {
            let reason = "expected a build with the feature \"v4l2\"".into();
            return Err(Error::Config { what: format!("source = {:?}", origin.to_string()), reason });
        }
        origin => origin.clone(),
    };
    let interval = Duration::from_secs_f64(1.0 / frames_per_second);
    let mut pace =
        Pace { interval, due: None, sender: arrivals.sender.clone(), skipped: Arc::clone(&arrivals.skipped) };
    thread::spawn(move || {
        let mut pause = PAUSES.0;
        loop {
            let began = Instant::now();
            let ended = read(&origin, &mut pace);
            let Err(why) = ended else { return };
            if pace.sender.send(Arrival::Lost(why)).is_err() {
                return;
            }
            // What worked for a while is tried at once.
            pause = if began.elapsed() > PAUSES.1 { PAUSES.0 } else { pause };
            thread::sleep(pause);
            pause = (2 * pause).min(PAUSES.1);
        }
    });
    Ok(())
}

/// Reads until nobody is left to read for, or until it fails.
fn read(origin: &Origin, pace: &mut Pace) -> Result<()> {
    match origin {
        Origin::Stream(url) => mjpeg::read(url, &origin.to_string(), &mut |frame| pace.take(frame)),
        #[cfg(feature = "v4l2")]
        Origin::Camera(path) => super::v4l2::read(path, &mut |frame| pace.take(frame)),
        _ => Ok(()),
    }
}

/// Takes as many frames a second as are wanted.
struct Pace {
    interval: Duration,
    due: Option<Instant>,
    sender: SyncSender<Arrival>,
    skipped: Arc<AtomicU64>,
}

impl Pace {
    /// Hands a frame on, if it is time for one; whether there is anybody to read for.
    fn take(&mut self, frame: &[u8]) -> bool {
        let now = Instant::now();
        if self.due.is_some_and(|due| now < due) {
            return true;
        }
        // A camera that is late once is not early the next time, but what was missed is not made up for.
        self.due =
            Some(self.due.map_or(now, |due| due.max(now.checked_sub(self.interval).unwrap_or(now))) + self.interval);
        let name = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ.jpg").to_string();
        match self.sender.try_send(Arrival::Frame(Found { name, content: Content::Bytes(frame.to_vec()) })) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}
