//! Segments out, receipts and pointers in. [`models::sync`] fixes the names and the messages.

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use models::{
    Digest,
    hub::{DeviceKeys, RefusalCode},
    signing::{Message, TrustedKeys},
    sync::{self, ChannelPointer, ChannelReport, Demand, DeviceStatus, Receipt},
};
use serde::de::DeserializeOwned;

use crate::{Error, Result, event::Event, store::Store};

mod hub;
mod link;
mod objects;
mod remote;

pub(crate) use link::Link;

pub use hub::Credentials;
pub use link::{Allowance, SyncConfig};
pub use remote::{Address, Remote};

/// No message is larger, in bytes.
const MAX_MESSAGE: u64 = 1 << 20;

/// What came of sending segments.
#[derive(Debug, Default)]
pub struct Pushed {
    /// Whether every segment is in the remote now, so that more can be sealed.
    pub is_all: bool,
    /// The first segment's trouble that concerns that segment alone; it is tried again the next time.
    pub trouble: Option<Error>,
}

/// Brings every sealed segment to the remote, deletes those that have a receipt, and sets those aside that the disk damaged or
/// that a hub refuses for what they are. A second call changes nothing: segments are named by their content.
///
/// # Errors
/// What concerns the remote or the device as a whole, as [`Error::Remote`] or [`Error::Offline`].
pub fn push(
    store: &Mutex<Store>,
    remote: &Remote,
    device: &str,
    trusted: &TrustedKeys,
    allowance: &mut Allowance,
    progress: &mut dyn FnMut(&Event),
) -> Result<Pushed> {
    let mut pushed = Pushed { is_all: true, trouble: None };
    let sealed = locked(store).sealed()?;
    for segment in sealed {
        match push_one(store, remote, device, segment, trusted, allowance, progress) {
            Ok(is_there) => pushed.is_all &= is_there,
            Err(why @ Error::Models(models::Error::DigestMismatch { .. })) => {
                locked(store).set_aside(segment)?;
                progress(&Event::Damaged { segment, why: why.to_string() });
            }
            Err(Error::Refused { refusal, .. }) if refusal.code == RefusalCode::Content => {
                locked(store).set_aside(segment)?;
                progress(&Event::Damaged { segment, why: refusal.message });
            }
            Err(e) if concerns_one(&e) => {
                pushed.is_all = false;
                pushed.trouble.get_or_insert(e);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(pushed)
}

/// The store is locked while something changes on disk, and never while something is sent.
fn locked(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn concerns_one(error: &Error) -> bool {
    match error {
        Error::Models(_) => true,
        Error::Refused { refusal, .. } => refusal.code == RefusalCode::TooLarge,
        _ => false,
    }
}

/// Whether the segment is in the remote now.
fn push_one(
    store: &Mutex<Store>,
    remote: &Remote,
    device: &str,
    segment: Digest,
    trusted: &TrustedKeys,
    allowance: &mut Allowance,
    progress: &mut dyn FnMut(&Event),
) -> Result<bool> {
    if !has_receipt(remote, device, segment, trusted)? {
        match upload(store, remote, device, segment, allowance)? {
            Upload::NotToday => return Ok(false),
            Upload::Already => return Ok(true),
            Upload::Done => progress(&Event::Uploaded { segment }),
        }
        // A hub receipts at once.
        if !has_receipt(remote, device, segment, trusted)? {
            return Ok(true);
        }
    }
    locked(store).release(segment)?;
    progress(&Event::Receipted { segment });
    Ok(true)
}

/// A receipt counts only if it is whole, speaks of this segment, and is signed by a trusted key, if there are any.
fn has_receipt(remote: &Remote, device: &str, segment: Digest, trusted: &TrustedKeys) -> Result<bool> {
    let name = sync::receipt(device, segment);
    let Some(bytes) = remote.get(&name, MAX_MESSAGE)? else { return Ok(false) };
    let receipt = if trusted.is_empty() {
        Receipt::open_unverified(&name, &bytes)
    } else {
        Receipt::open(&name, &bytes, trusted)
    };
    match receipt {
        Ok(receipt) if receipt.segment == segment => Ok(true),
        Ok(receipt) => {
            tracing::warn!("{name} speaks of another segment, {}; keeping ours", receipt.segment);
            Ok(false)
        }
        Err(e) => {
            tracing::warn!("keeping a segment: {e}");
            Ok(false)
        }
    }
}

enum Upload {
    Done,
    /// It is there, and waits for its receipt.
    Already,
    /// The allowance is used up.
    NotToday,
}

fn upload(
    store: &Mutex<Store>,
    remote: &Remote,
    device: &str,
    segment: Digest,
    allowance: &mut Allowance,
) -> Result<Upload> {
    let (path, name) = (locked(store).path(segment), sync::segment(device, segment));
    let size = fs::metadata(&path).map_err(models::Error::io("read", &path))?.len();
    // A hub that has it and has not receipted it was cut off between the two: sending it again brings the receipt.
    if remote.enrolled().is_none() && remote.size(&name)? == Some(size) {
        return Ok(Upload::Already);
    }
    let bytes = fs::read(&path).map_err(models::Error::io("read", &path))?;
    let found = Digest::of(&bytes);
    if found != segment {
        return Err(models::Error::DigestMismatch { path, expected: segment, found }.into());
    }
    let now = Timestamp::now();
    if !allowance.has(size, now) {
        return Ok(Upload::NotToday);
    }
    allowance.spend(size, now);
    let (outcome, has_left) = remote.bring(&name, bytes);
    if !has_left {
        // The hub was asked first.
        allowance.give_back();
    }
    outcome.map(|()| Upload::Done)
}

/// Tells how the device is.
///
/// # Errors
/// [`crate::Error::Remote`].
pub fn report(remote: &Remote, status: &DeviceStatus) -> Result<()> {
    let name = sync::device_status(&status.device);
    let json = serde_json::to_vec_pretty(status).map_err(|e| models::Error::malformed(&name, "JSON", e))?;
    remote.put(&name, json)
}

/// What every device said last of itself, in the order of their names. What this version does not understand is passed over.
///
/// # Errors
/// [`crate::Error::Remote`].
pub fn statuses(remote: &Remote) -> Result<Vec<DeviceStatus>> {
    let found = remote.list(sync::DEVICES)?.into_iter().map(|name| message(remote, &name));
    found.filter(|status| !matches!(status, Err(Error::Models(_)))).filter_map(Result::transpose).collect()
}

/// What a device said last of itself, if it has said anything.
///
/// # Errors
/// As [`statuses`].
pub fn status(remote: &Remote, device: &str) -> Result<Option<DeviceStatus>> {
    message(remote, &sync::device_status(device))
}

/// The current bundle of a channel, if it has one.
///
/// # Errors
/// [`crate::Error::Remote`]; [`crate::Error::Models`] for a pointer that is none.
pub fn pointer(remote: &Remote, channel: &str) -> Result<Option<ChannelPointer>> {
    message(remote, &sync::channel(channel))
}

/// What the workstation has and wants of a channel's devices; nothing in particular if it has not said so.
///
/// # Errors
/// [`crate::Error::Remote`]; [`crate::Error::Models`] for a demand that is none.
pub fn demand(remote: &Remote, channel: &str) -> Result<Demand> {
    Ok(message(remote, &sync::demand(channel))?.unwrap_or_default())
}

/// How a hub brings a channel's bundles out, if it does that.
///
/// # Errors
/// [`crate::Error::Remote`]; [`crate::Error::Models`] for a report that is none.
pub fn rollout(remote: &Remote, channel: &str) -> Result<Option<ChannelReport>> {
    message(remote, &sync::rollout(channel))
}

/// The receipt of a segment, if there is one that one of these keys has signed.
///
/// # Errors
/// [`crate::Error::Remote`]; [`crate::Error::Models`] for one of another key, or for what is none.
pub fn receipt(remote: &Remote, device: &str, segment: Digest, trusted: &TrustedKeys) -> Result<Option<Receipt>> {
    let name = sync::receipt(device, segment);
    let Some(bytes) = remote.get(&name, MAX_MESSAGE)? else { return Ok(None) };
    Ok(Some(Receipt::open(&name, &bytes, trusted)?))
}

/// The keys that a hub knew a device by.
///
/// # Errors
/// [`crate::Error::Remote`]; [`crate::Error::Models`] for what says no keys.
pub fn device_keys(remote: &Remote, device: &str) -> Result<DeviceKeys> {
    Ok(message(remote, &sync::device_keys(device))?.unwrap_or(DeviceKeys { keys: Vec::new() }))
}

fn message<T: DeserializeOwned>(remote: &Remote, name: &str) -> Result<Option<T>> {
    let Some(bytes) = remote.get(name, MAX_MESSAGE)? else { return Ok(None) };
    let message = serde_json::from_slice(&bytes);
    Ok(Some(message.map_err(|e| models::Error::malformed(name, "what models::sync says of it", e))?))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use models::{Prediction, Reason, Sample, SampleRecord, segment, signing::PrivateKey};
    use object_store::memory::InMemory;

    use super::*;
    use crate::{fixture::TestResult, store::Limits};

    fn store(folder: &Path, image: &[u8]) -> Result<(Mutex<Store>, Digest)> {
        let record = SampleRecord {
            image: Digest::of(image),
            extension: "png".into(),
            device: "cam-1".into(),
            source: "1.png".into(),
            captured: Timestamp::UNIX_EPOCH,
            bundle: Digest::of(b"bundle"),
            prediction: Prediction { class: 0, confidence: 0.9, probs: vec![0.9, 0.1] },
            reasons: vec![Reason::Audit { probability: 0.1 }],
        };
        let mut store = Store::open(folder, Limits { samples: 1, segment_bytes: 1 << 20, bytes: 1 << 30 })?;
        store.keep(&Sample { record, image: image.to_vec() }, &mut Vec::new())?;
        store.seal(|_| true)?;
        let segment = store.sealed()?[0];
        Ok((Mutex::new(store), segment))
    }

    fn events(store: &Mutex<Store>, remote: &Remote) -> Result<Vec<Event>> {
        events_trusting(store, remote, &TrustedKeys::default())
    }

    fn events_trusting(store: &Mutex<Store>, remote: &Remote, trusted: &TrustedKeys) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut allowance = Allowance::open("unused".into(), None)?;
        let pushed = push(store, remote, "cam-1", trusted, &mut allowance, &mut |e| events.push(e.clone()))?;
        assert!(pushed.is_all && pushed.trouble.is_none(), "{pushed:?}");
        Ok(events)
    }

    #[test]
    fn a_segment_stays_until_its_own_receipt_is_there() -> TestResult {
        let folder = tempfile::tempdir()?;
        let (store, segment) = store(&folder.path().join("store"), b"image")?;
        let remote_folder = folder.path().join("remote");
        assert!(Remote::folder(&remote_folder).is_err(), "an unmounted disk is not created");
        fs::create_dir(&remote_folder)?;
        let remote = Remote::folder(&remote_folder)?;

        assert_eq!(events(&store, &remote)?, [Event::Uploaded { segment }]);
        assert_eq!(events(&store, &remote)?, []);
        let uploaded = remote_folder.join(sync::segment("cam-1", segment));
        assert_eq!(segment::read(&uploaded, segment)?.len(), 1);
        // A copy that is not whole is sent again.
        fs::write(&uploaded, b"half")?;
        assert_eq!(events(&store, &remote)?, [Event::Uploaded { segment }]);

        let name = sync::receipt("cam-1", segment);
        let key = |byte| PrivateKey::from_secret([byte; 32]).ok_or("no key");
        let (ours, theirs) = (key(1)?, key(2)?);
        let trusted = TrustedKeys::new(vec![ours.public()])?;
        let receipt = |segment| Receipt { segment, samples: Some(1), received: Timestamp::UNIX_EPOCH, seal: None };
        let other = receipt(Digest::of(b"other"));
        for wrong in
            [other.seal(Some(&ours))?, receipt(segment).seal(Some(&theirs))?, receipt(segment).seal(None)?, vec![]]
        {
            remote.put(&name, wrong)?;
            assert_eq!(events_trusting(&store, &remote, &trusted)?, []);
            assert_eq!(locked(&store).sealed()?.len(), 1);
        }
        remote.put(&name, other.seal(None)?)?;
        assert_eq!(events(&store, &remote)?, [], "also without keys it has to be of this segment");
        remote.put(&name, receipt(segment).seal(Some(&ours))?)?;
        assert_eq!(events_trusting(&store, &remote, &trusted)?, [Event::Receipted { segment }]);
        assert_eq!(locked(&store).sealed()?, []);
        Ok(())
    }

    #[test]
    fn what_may_not_be_sent_today_stays_and_says_so() -> TestResult {
        let folder = tempfile::tempdir()?;
        let (store, segment) = store(&folder.path().join("store"), b"image")?;
        let remote = Remote::new(Arc::new(InMemory::new()))?;
        let mut allowance = Allowance::open(folder.path().join("sent.json"), Some(100))?;
        allowance.spend(100, Timestamp::now());
        let pushed = push(&store, &remote, "cam-1", &TrustedKeys::default(), &mut allowance, &mut |_| {})?;
        assert!(!pushed.is_all && pushed.trouble.is_none(), "then nothing more is sealed");
        assert_eq!(locked(&store).sealed()?, [segment]);
        assert_eq!(remote.size(&sync::segment("cam-1", segment))?, None);
        Ok(())
    }

    #[test]
    fn a_segment_damaged_on_disk_is_set_aside() -> TestResult {
        let folder = tempfile::tempdir()?;
        let (store, segment) = store(folder.path(), b"image")?;
        fs::write(locked(&store).path(segment), b"damaged")?;
        let remote = Remote::new(Arc::new(InMemory::new()))?;
        assert!(matches!(events(&store, &remote)?[..], [Event::Damaged { .. }]));
        assert_eq!(remote.size(&sync::segment("cam-1", segment))?, None);
        assert_eq!(events(&store, &remote)?, []);
        assert_eq!(locked(&store).sealed()?, []);
        assert!(folder.path().join(format!("damaged/{segment}.tar")).exists());
        Ok(())
    }
}
