//! Segments out, receipts and pointers in. [`models::sync`] fixes the names and the messages.

use std::fs;

use jiff::Timestamp;
use models::{
    Digest,
    hub::RefusalCode,
    signing::{Message, TrustedKeys},
    sync::{self, ChannelPointer, Demand, DeviceStatus, Receipt},
};

use crate::{Result, event::Event, store::Store};

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

/// Brings every sealed segment to the remote, deletes those that have a receipt, and sets those aside that the disk damaged. A second call changes nothing:
/// segments are named by their content.
///
/// # Errors
/// [`crate::Error::Remote`] or [`crate::Error::Models`] of the first step that failed; the others may have worked.
pub fn push(
    store: &mut Store,
    remote: &Remote,
    device: &str,
    trusted: &TrustedKeys,
    allowance: &mut Allowance,
    progress: &mut dyn FnMut(&Event),
) -> Result<()> {
    for segment in store.sealed()? {
        if has_receipt(remote, device, segment, trusted)? {
            store.release(segment)?;
            progress(&Event::Receipted { segment });
            continue;
        }
        match upload(store, remote, device, segment, allowance) {
            Ok(true) => {
                progress(&Event::Uploaded { segment });
                // A hub receipts at once.
                if has_receipt(remote, device, segment, trusted)? {
                    store.release(segment)?;
                    progress(&Event::Receipted { segment });
                }
            }
            Ok(false) => {}
            Err(crate::Error::Refused { refusal, .. }) if refusal.code == RefusalCode::Content => {
                store.set_aside(segment)?;
                progress(&Event::Damaged { segment, why: refusal.message });
            }
            Err(crate::Error::Models(why @ models::Error::DigestMismatch { .. })) => {
                store.set_aside(segment)?;
                progress(&Event::Damaged { segment, why: why.to_string() });
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
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

/// Whether the segment was uploaded now: it may be there already, or the allowance for today be used up.
fn upload(store: &Store, remote: &Remote, device: &str, segment: Digest, allowance: &mut Allowance) -> Result<bool> {
    let (path, name) = (store.path(segment), sync::segment(device, segment));
    let size = fs::metadata(&path).map_err(models::Error::io("read", &path))?.len();
    if remote.size(&name)? == Some(size) {
        return Ok(false);
    }
    let bytes = fs::read(&path).map_err(models::Error::io("read", &path))?;
    let found = Digest::of(&bytes);
    if found != segment {
        return Err(models::Error::DigestMismatch { path, expected: segment, found }.into());
    }
    let now = Timestamp::now();
    if !allowance.has(size, now) {
        return Ok(false);
    }
    allowance.spend(size, now)?;
    remote.put(&name, bytes)?;
    Ok(true)
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

/// The current bundle of a channel, if it has one.
///
/// # Errors
/// [`crate::Error::Remote`]; [`crate::Error::Models`] for a pointer that is none.
pub fn pointer(remote: &Remote, channel: &str) -> Result<Option<ChannelPointer>> {
    let name = sync::channel(channel);
    let Some(bytes) = remote.get(&name, MAX_MESSAGE)? else { return Ok(None) };
    let pointer =
        serde_json::from_slice(&bytes).map_err(|e| models::Error::malformed(&name, "a channel pointer", e))?;
    Ok(Some(pointer))
}

/// What the workstation has and wants of a channel's devices; nothing in particular if it has not said so.
///
/// # Errors
/// [`crate::Error::Remote`]; [`crate::Error::Models`] for a demand that is none.
pub fn demand(remote: &Remote, channel: &str) -> Result<Demand> {
    let name = sync::demand(channel);
    let Some(bytes) = remote.get(&name, MAX_MESSAGE)? else { return Ok(Demand::default()) };
    Ok(serde_json::from_slice(&bytes).map_err(|e| models::Error::malformed(&name, "a demand", e))?)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use models::{Prediction, Reason, Sample, SampleRecord, segment, signing::PrivateKey};
    use object_store::memory::InMemory;

    use super::*;
    use crate::{fixture::TestResult, store::Limits};

    fn store(folder: &Path, image: &[u8]) -> Result<(Store, Digest)> {
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
        store.keep(&Sample { record, image: image.to_vec() })?;
        store.seal(|_| true)?;
        let segment = store.sealed()?[0];
        Ok((store, segment))
    }

    fn events(store: &mut Store, remote: &Remote) -> Result<Vec<Event>> {
        events_trusting(store, remote, &TrustedKeys::default())
    }

    fn events_trusting(store: &mut Store, remote: &Remote, trusted: &TrustedKeys) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        push(store, remote, "cam-1", trusted, &mut Allowance::unlimited(), &mut |e| events.push(e.clone()))?;
        Ok(events)
    }

    #[test]
    fn a_segment_stays_until_its_own_receipt_is_there() -> TestResult {
        let folder = tempfile::tempdir()?;
        let (mut store, segment) = store(&folder.path().join("store"), b"image")?;
        let remote_folder = folder.path().join("remote");
        assert!(Remote::folder(&remote_folder).is_err(), "an unmounted disk is not created");
        fs::create_dir(&remote_folder)?;
        let remote = Remote::folder(&remote_folder)?;

        assert_eq!(events(&mut store, &remote)?, [Event::Uploaded { segment }]);
        assert_eq!(events(&mut store, &remote)?, []);
        let uploaded = remote_folder.join(sync::segment("cam-1", segment));
        assert_eq!(segment::read(&uploaded, segment)?.len(), 1);
        // A copy that is not whole is sent again.
        fs::write(&uploaded, b"half")?;
        assert_eq!(events(&mut store, &remote)?, [Event::Uploaded { segment }]);

        let name = sync::receipt("cam-1", segment);
        let key = |byte| PrivateKey::from_secret([byte; 32]).ok_or("no key");
        let (ours, theirs) = (key(1)?, key(2)?);
        let trusted = TrustedKeys::new(vec![ours.public()])?;
        let receipt = |segment| Receipt { segment, samples: 1, received: Timestamp::UNIX_EPOCH };
        let other = receipt(Digest::of(b"other"));
        for wrong in
            [other.seal(Some(&ours))?, receipt(segment).seal(Some(&theirs))?, receipt(segment).seal(None)?, vec![]]
        {
            remote.put(&name, wrong)?;
            assert_eq!((events_trusting(&mut store, &remote, &trusted)?, store.sealed()?.len()), (vec![], 1));
        }
        remote.put(&name, other.seal(None)?)?;
        assert_eq!(events(&mut store, &remote)?, [], "also without keys it has to be of this segment");
        remote.put(&name, receipt(segment).seal(Some(&ours))?)?;
        assert_eq!(events_trusting(&mut store, &remote, &trusted)?, [Event::Receipted { segment }]);
        assert_eq!(store.sealed()?, []);
        Ok(())
    }

    #[test]
    fn a_segment_damaged_on_disk_is_set_aside() -> TestResult {
        let folder = tempfile::tempdir()?;
        let (mut store, segment) = store(folder.path(), b"image")?;
        fs::write(store.path(segment), b"damaged")?;
        let remote = Remote::new(Arc::new(InMemory::new()))?;
        assert!(matches!(events(&mut store, &remote)?[..], [Event::Damaged { .. }]));
        assert_eq!(remote.size(&sync::segment("cam-1", segment))?, None);
        assert_eq!((store.sealed()?, events(&mut store, &remote)?), (vec![], vec![]));
        assert!(folder.path().join(format!("damaged/{segment}.tar")).exists());
        Ok(())
    }
}
