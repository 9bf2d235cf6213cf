//! Segments out, receipts and pointers in. [`models::sync`] fixes the names and the messages.

use std::fs;

use models::{
    Digest,
    sync::{self, ChannelPointer, DeviceStatus, Receipt},
};

use crate::{Result, event::Event, store::Store};

mod remote;

pub use remote::Remote;

/// No message is larger, in bytes.
const MAX_MESSAGE: u64 = 1 << 20;

/// Brings every sealed segment to the remote, and deletes those that have a receipt. A second call changes nothing:
/// segments are named by their content.
///
/// # Errors
/// [`crate::Error::Remote`] or [`crate::Error::Models`] of the first step that failed; the others may have worked.
pub fn push(store: &Store, remote: &Remote, device: &str, progress: &mut dyn FnMut(&Event)) -> Result<()> {
    for segment in store.sealed()? {
        if has_receipt(remote, device, segment)? {
            store.release(segment)?;
            progress(&Event::Receipted { segment });
        } else if upload(store, remote, device, segment)? {
            progress(&Event::Uploaded { segment });
        }
    }
    Ok(())
}

/// A receipt counts only if it is whole and speaks of this segment.
fn has_receipt(remote: &Remote, device: &str, segment: Digest) -> Result<bool> {
    let name = sync::receipt(device, segment);
    let Some(bytes) = remote.get(&name, MAX_MESSAGE)? else { return Ok(false) };
    match serde_json::from_slice::<Receipt>(&bytes) {
        Ok(receipt) if receipt.segment == segment => Ok(true),
        Ok(receipt) => {
            tracing::warn!("{name} speaks of another segment, {}; keeping ours", receipt.segment);
            Ok(false)
        }
        Err(e) => {
            tracing::warn!("{name} is no receipt, keeping the segment: {e}");
            Ok(false)
        }
    }
}

/// Whether the segment had to be uploaded.
fn upload(store: &Store, remote: &Remote, device: &str, segment: Digest) -> Result<bool> {
    let (path, name) = (store.path(segment), sync::segment(device, segment));
    let size = fs::metadata(&path).map_err(models::Error::io("read", &path))?.len();
    if remote.size(&name)? == Some(size) {
        return Ok(false);
    }
    let bytes = fs::read(&path).map_err(models::Error::io("read", &path))?;
    let found = Digest::of(&bytes);
    if found != segment {
        let damaged = models::Error::DigestMismatch { path, expected: segment, found };
        tracing::warn!("not uploading a segment that the disk damaged: {damaged}");
        return Ok(false);
    }
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

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use jiff::Timestamp;
    use models::{Prediction, Reason, Sample, SampleRecord, segment};
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
        let mut store = Store::open(folder, Limits { samples: 1, bytes: 1 << 20 })?;
        store.keep(&Sample { record, image: image.to_vec() })?;
        store.seal()?;
        let segment = store.sealed()?[0];
        Ok((store, segment))
    }

    fn events(store: &Store, remote: &Remote) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        push(store, remote, "cam-1", &mut |e| events.push(e.clone()))?;
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
        for wrong in [Digest::of(b"other").to_string(), String::new()] {
            let json = format!(r#"{{"segment":"{wrong}","samples":1,"received":"1970-01-01T00:00:00Z"}}"#);
            remote.put(&name, json.into_bytes())?;
            assert_eq!((events(&store, &remote)?, store.sealed()?.len()), (vec![], 1));
        }
        let receipt = Receipt { segment, samples: 1, received: Timestamp::UNIX_EPOCH };
        remote.put(&name, serde_json::to_vec(&receipt)?)?;
        assert_eq!(events(&store, &remote)?, [Event::Receipted { segment }]);
        assert_eq!(store.sealed()?, []);
        Ok(())
    }

    #[test]
    fn a_segment_damaged_on_disk_is_not_uploaded() -> TestResult {
        let folder = tempfile::tempdir()?;
        let (store, segment) = store(folder.path(), b"image")?;
        fs::write(store.path(segment), b"damaged")?;
        let remote = Remote::new(Arc::new(InMemory::new()))?;
        assert_eq!(events(&store, &remote)?, []);
        assert_eq!(remote.size(&sync::segment("cam-1", segment))?, None);
        Ok(())
    }
}
