//! A segment of any bytes, or a tar of any entries: reading it ends with samples or an error, and samples are what they say.
//!
//! `cargo fuzz run segment --fuzz-dir models/fuzz --sanitizer none -- -max_total_time=60`

#![no_main]

use std::path::Path;

use arbitrary::Arbitrary;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use models::{Digest, Prediction, Reason, SampleRecord, segment};

#[derive(Arbitrary, Debug)]
enum Content {
    Bytes(Vec<u8>),
    Entries(Vec<Entry>),
}

#[derive(Arbitrary, Debug)]
enum Entry {
    /// An image under its own name.
    Image(Vec<u8>),
    /// A record that fits an image of these bytes, with its probabilities.
    Record(Vec<u8>, Vec<f64>, bool),
    /// Anything under any name, of any kind.
    Other(String, u8, Vec<u8>),
}

fuzz_target!(|content: Content| {
    let bytes = match content {
        Content::Bytes(bytes) => bytes,
        Content::Entries(entries) => tar(&entries),
    };
    let path = Path::new("segment.tar");
    let Ok(samples) = segment::parse(path, Digest::of(&bytes), &bytes) else { return };
    for sample in &samples {
        assert_eq!(Digest::of(&sample.image), sample.record.image);
        assert!(!sample.record.reasons.is_empty());
    }
    // What was read is a segment again, with the same samples.
    let mut again = Vec::new();
    segment::write(&mut again, &samples).expect("a segment");
    let read = segment::parse(path, Digest::of(&again), &again).expect("what was just written");
    assert_eq!(read.len(), samples.len());
});

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let (name, kind, bytes) = match entry {
            Entry::Image(image) => (format!("{}.png", Digest::of(image)), 0, image.clone()),
            Entry::Record(image, probs, is_audit) => {
                let reason = Reason::Audit { probability: 0.1 };
                let record = SampleRecord {
                    image: Digest::of(image),
                    extension: "png".into(),
                    device: "cam-1".into(),
                    source: "1.png".into(),
                    captured: Timestamp::UNIX_EPOCH,
                    bundle: Digest::of(b"bundle"),
                    prediction: Prediction { class: probs.len(), confidence: 0.5, probs: probs.clone() },
                    reasons: is_audit.then_some(reason).into_iter().collect(),
                };
                (format!("{}.json", Digest::of(image)), 0, serde_json::to_vec(&record).unwrap_or_default())
            }
            Entry::Other(name, kind, bytes) => (name.clone(), *kind, bytes.clone()),
        };
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_entry_type(tar::EntryType::new(if kind == 0 { b'0' } else { kind }));
        // A name that no tar can hold is left out.
        let _ = tar.append_data(&mut header, &name, bytes.as_slice());
    }
    tar.into_inner().unwrap_or_default()
}
