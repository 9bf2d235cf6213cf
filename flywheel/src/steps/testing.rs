//! Samples as devices send them, for tests.

use anyhow::Result;
use edge_runtime::sync::Remote;
use jiff::Timestamp;
use models::{Digest, Prediction, Reason, Sample, SampleRecord, segment, sync};

/// An image that a device is almost sure is of class 0.
pub(super) fn sample(device: &str, image: &[u8], reason: Reason) -> Sample {
    let record = SampleRecord {
        image: Digest::of(image),
        extension: "png".into(),
        device: device.into(),
        source: "1.png".into(),
        captured: Timestamp::UNIX_EPOCH,
        bundle: Digest::of(b"bundle"),
        prediction: Prediction { class: 0, confidence: 0.99, probs: vec![0.99, 0.01] },
        reasons: vec![reason],
    };
    Sample { record, image: image.to_vec() }
}

/// Puts samples into the remote as a segment of a device.
pub(super) fn upload(remote: &Remote, device: &str, samples: &[Sample]) -> Result<Digest> {
    let mut bytes = Vec::new();
    segment::write(&mut bytes, samples)?;
    let digest = Digest::of(&bytes);
    remote.put(&sync::segment(device, digest), bytes)?;
    Ok(digest)
}
