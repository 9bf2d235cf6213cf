//! Bundles as they are written, read, signed and refused.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::{
    Calibration, CollectionPolicy, LabelSet, NetworkSpec, Pixels, Preprocessing, TrainingFacts,
    preprocess::{Color, InputLayout},
    weights::{Arithmetic, Storage},
};

fn manifest() -> Manifest {
    let preprocessing = Preprocessing { color: Color::Gray, height: 4, width: 4 };
    Manifest {
        format: FORMAT,
        sequence: 7,
        parent: Some(Digest::of(b"parent")),
        created: Timestamp::UNIX_EPOCH,
        release: Release::to_channel("stable"),
        network: NetworkSpec::wide_resnet(10, 1, preprocessing.shape(), 2).expect("a network"),
        labels: LabelSet::new(["cat", "dog"]).expect("two names"),
        preprocessing,
        input: InputLayout::F32,
        weights: Storage::F32,
        arithmetic: Arithmetic::F32,
        calibration: Calibration { temperature: 1.5, thresholds: vec![0.9, 0.8] },
        collection: CollectionPolicy::default(),
        files: BTreeMap::new(),
    }
}

fn report_card() -> ReportCard {
    ReportCard {
        test_images: 2,
        accuracy: 0.5,
        accuracy_interval: [0.1, 0.9],
        per_class_accuracy: vec![1.0, 0.0],
        confusion: vec![vec![1, 0], vec![1, 0]],
        ece_before: 0.1,
        ece_after: 0.05,
        reliability_before: vec![ReliabilityBin { count: 2, confidence: 0.6, accuracy: 0.5 }],
        reliability_after: Vec::new(),
        parity_max_abs_diff: Some(1e-6),
        training: TrainingFacts { labeled: 40, unlabeled: 700, steps: 1200, seed: 1 },
    }
}

fn key(byte: u8) -> PrivateKey {
    PrivateKey::from_secret([byte; 32]).expect("a key")
}

fn write(folder: &Path, manifest: Manifest) -> Result<Bundle> {
    let image = Pixels { height: 4, width: 4, channels: 1, data: vec![7; 16] };
    let golden = Golden { images: vec![image], logits: vec![vec![1.0, -1.0]] };
    Bundle::write(folder, manifest, b"the network", &golden, &report_card(), None)
}

#[test]
fn reads_back_what_was_written() -> Result<()> {
    let parent = tempfile::tempdir().map_err(Error::io("create", Path::new("a folder")))?;
    let folder = parent.path().join("bundle");
    let written = write(&folder, manifest())?;
    let read = Bundle::open(&folder)?;
    assert_eq!((read.digest(), read.manifest()), (written.digest(), written.manifest()));
    assert_eq!(read.report_card()?, report_card());
    assert_eq!(read.golden()?.logits, [[1.0, -1.0]]);
    // A signature changes nothing of what it is over.
    written.sign(&key(1))?;
    assert_eq!(Bundle::open(&folder)?.digest(), written.digest());
    Ok(())
}

#[test]
fn a_changed_cut_missing_or_added_file_is_refused_by_name() -> Result<()> {
    let parent = tempfile::tempdir().map_err(Error::io("create", Path::new("a folder")))?;
    let folder = parent.path().join("bundle");
    let refused = |name: &str| {
        let error = Bundle::open(&folder).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(name), "{error:?} does not name {name}");
    };
    let digest = write(&folder, manifest())?.digest();
    for name in LISTED {
        let path = folder.join(name);
        let whole = fs::read(&path).map_err(Error::io("read", &path))?;
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x20;
            fs::write(&path, &changed).map_err(Error::io("write", &path))?;
            refused(name);
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).map_err(Error::io("write", &path))?;
            refused(name);
        }
        durable::remove(&path)?;
        refused(name);
        durable::write(&path, &whole)?;
    }
    // A manifest that was changed and still makes sense is another bundle: its name gives it away.
    let path = folder.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    durable::write(&path, text.replace("\"sequence\": 7", "\"sequence\": 8").as_bytes())?;
    assert_ne!(Bundle::open(&folder)?.digest(), digest);
    for (from, to) in [("\"format\": 2", "\"format\": 1"), ("1.5", "-1.5"), ("\"dog\"", "\"cat\""), ("0.8", "null")] {
        assert!(text.contains(from));
        durable::write(&path, text.replace(from, to).as_bytes())?;
        refused("manifest.json");
    }
    durable::write(&path, text.as_bytes())?;
    durable::write(&folder.join("run.sh"), b"")?;
    refused("run.sh");
    Ok(())
}

#[test]
fn an_invalid_part_leaves_the_bundle_before_in_place() -> Result<()> {
    let parent = tempfile::tempdir().map_err(Error::io("create", Path::new("a folder")))?;
    let folder = parent.path().join("bundle");
    let digest = write(&folder, manifest())?.digest();
    let invalid = CollectionPolicy { audit_probability: 1.5, ..CollectionPolicy::default() };
    assert!(write(&folder, Manifest { collection: invalid, ..manifest() }).is_err());
    assert_eq!(Bundle::open(&folder)?.digest(), digest);
    Ok(())
}

#[test]
fn a_signature_is_over_every_file_and_by_whoever_is_trusted() -> Result<()> {
    let parent = tempfile::tempdir().map_err(Error::io("create", Path::new("a folder")))?;
    let folder = parent.path().join("bundle");
    let (ours, trusted) = (key(1), TrustedKeys::new(vec![key(1).public()])?);
    let bundle = write(&folder, manifest())?;
    assert!(matches!(bundle.verify(&trusted), Err(Error::Unsigned { .. })));
    bundle.sign(&key(2))?;
    assert!(matches!(bundle.verify(&trusted), Err(Error::Untrusted { .. })));
    bundle.sign(&ours)?;
    assert_eq!(bundle.verify(&trusted)?, ours.public().id());
    assert!(bundle.file_names().eq([GOLDEN, MODEL, REPORT_CARD, SIGNATURE, MANIFEST]));

    // Any bit of the signature's file: another signature, another content, or no signature at all; never accepted as
    // something else, never a panic. What of it is only written down, and not signed, may change.
    let path = folder.join(SIGNATURE);
    let whole = fs::read(&path).map_err(Error::io("read", &path))?;
    let value: serde_json::Value = serde_json::from_slice(&whole).expect("JSON");
    let signed = ["/dsseEnvelope/payload", "/dsseEnvelope/signatures/0/sig"].map(|pointer| {
        let text = value.pointer(pointer).and_then(|text| text.as_str()).expect("a text");
        let start = String::from_utf8_lossy(&whole).find(text).expect("in the file");
        start..start + text.len()
    });
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let verified = bundle.manifest().verify("model.sig", bundle.digest(), &changed, &trusted);
        let is_signed = signed.iter().any(|range| range.contains(&at));
        assert!(verified.is_err() || (!is_signed && verified.is_ok_and(|key| key == ours.public().id())), "{at}");
        let cut = bundle.manifest().verify("model.sig", bundle.digest(), &whole[..at], &trusted);
        assert!(matches!(cut, Err(Error::Malformed { .. })), "{at}: {cut:?}");
    }

    // A signed bundle whose manifest, and with it every file, is another's.
    let other = write(&parent.path().join("other"), Manifest { sequence: 8, ..manifest() })?;
    durable::write(&other.folder().join(SIGNATURE), &whole)?;
    let refused = other.verify(&trusted);
    assert!(matches!(&refused, Err(Error::SignedOther { file, .. }) if file == MANIFEST), "{refused:?}");
    Ok(())
}

#[test]
fn a_release_admits_the_devices_that_it_names_while_it_holds() -> Result<()> {
    let at = |second| Timestamp::from_second(second).ok();
    let release = Release {
        targets: vec!["camera".into(), "drone".into()],
        not_before: at(10),
        expires: at(20),
        minimum_runtime: Version::new(1, 2, 0),
        ..Release::to_channel("stable")
    };
    let host = Host {
        channel: "stable".into(),
        target: Some("drone".into()),
        runtime: Version::new(1, 10, 0),
        now: Timestamp::from_second(10).expect("a time"),
    };
    release.admits(&host)?;
    let early = release.admits(&Host { now: Timestamp::from_second(9).expect("a time"), ..host.clone() });
    assert!(matches!(early, Err(Error::TooEarly { .. })));
    for (key, other) in [
        ("channel", Host { channel: "beta".into(), ..host.clone() }),
        ("target", Host { target: None, ..host.clone() }),
        ("runtime", Host { runtime: Version::new(1, 1, 9), ..host.clone() }),
        ("time", Host { now: Timestamp::from_second(20).expect("a time"), ..host }),
    ] {
        let refused = release.admits(&other);
        assert!(matches!(refused, Err(Error::NotForHost { key: found, .. }) if found == key), "{key}: {refused:?}");
    }
    Ok(())
}

/// Every byte of a manifest: an error, or another bundle by name, never the same one and never a panic.
#[test]
fn no_byte_of_a_manifest_can_change_unnoticed() -> Result<()> {
    let parent = tempfile::tempdir().map_err(Error::io("create", Path::new("a folder")))?;
    let bundle = write(&parent.path().join("bundle"), manifest())?;
    let path = bundle.folder().join(MANIFEST);
    let whole = fs::read(&path).map_err(Error::io("read", &path))?;
    for at in 0..whole.len() {
        for bit in [1, 0x20, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= bit;
            fs::write(&path, &changed).map_err(Error::io("write", &path))?;
            assert!(Bundle::open(bundle.folder()).map_or(true, |other| other.digest() != bundle.digest()), "{at}");
        }
        fs::write(&path, &whole[..at]).map_err(Error::io("write", &path))?;
        // Only the line break at the end is not needed.
        assert!(Bundle::open(bundle.folder()).is_err() || at + 1 == whole.len(), "{at}");
    }
    Ok(())
}

#[test]
fn links_other_names_and_huge_sizes_are_refused() -> Result<()> {
    let parent = tempfile::tempdir().map_err(Error::io("create", Path::new("a folder")))?;
    let folder = parent.path().join("bundle");
    write(&folder, manifest())?;
    let (path, model) = (folder.join(MANIFEST), folder.join(MODEL));
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let said = || Bundle::open(&folder).err().map(|e| e.to_string()).unwrap_or_default();

    for name in ["../model.onnx", "/etc/passwd", "model.onnx/", "MODEL.ONNX"] {
        durable::write(&path, text.replace(MODEL, name).as_bytes())?;
        assert!(said().contains("expected the files"), "{name}: {}", said());
    }
    let size = format!("\"bytes\": {}", b"the network".len());
    for (huge, expected) in [
        ("18446744073709551615", "18446744073709551615 bytes"),
        ("-1", "a bundle manifest"),
        ("1e99", "a bundle manifest"),
    ] {
        assert!(text.contains(&size));
        durable::write(&path, text.replace(&size, &format!("\"bytes\": {huge}")).as_bytes())?;
        assert!(said().contains(expected), "{huge}: {}", said());
    }
    let padded = format!("{text}{}", " ".repeat(MAX_MANIFEST as usize));
    durable::write(&path, padded.as_bytes())?;
    assert!(said().contains("at most 1048576 bytes"), "{}", said());
    durable::write(&path, text.as_bytes())?;

    // A link to the very same bytes: what it points to can change later.
    let elsewhere = parent.path().join("elsewhere");
    fs::rename(&model, &elsewhere).map_err(Error::io("move", &model))?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(&elsewhere, &model).map_err(Error::io("link", &model))?;
    assert!(said().contains("not a plain file") || cfg!(not(unix)), "{}", said());
    Ok(())
}
