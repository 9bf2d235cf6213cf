//! A running device takes a new bundle over, and keeps the old one if the new one is not what it should be.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use edge_runtime::{
    EdgeConfig, device,
    engine::Backend,
    event::Event,
    sync::{Address, Remote},
    update::trial::TrialConfig,
};
use exporter::Parts;
use jiff::Timestamp;
use models::{
    Bundle, Calibration, CollectionPolicy, Pixels, Preprocessing, ReportCard,
    bundle::Release,
    durable,
    preprocess::{Color, InputLayout, InputSpec},
    signing::PrivateKey,
    sync,
    weights::Storage,
};
use trainer::{Classifier, config::NetworkConfig, device::DeviceId};

use crate::{
    TestResult,
    parity::{noise, trained},
};

pub(crate) fn preprocessing() -> Preprocessing {
    Preprocessing { color: Color::Gray, height: 8, width: 8 }
}

/// A real bundle: another network for every sequence number.
pub(crate) fn bundle(folder: &Path, sequence: u64, key: &PrivateKey) -> Result<Bundle, Box<dyn std::error::Error>> {
    let weights = trained(NetworkConfig::wide_resnet(10, 1), preprocessing(), sequence)?;
    let golden = Classifier::new(&weights, DeviceId::CPU)?.golden(&noise(&preprocessing(), 4), 4)?;
    let report_card = ReportCard {
        test_images: 0,
        accuracy: 0.0,
        accuracy_interval: [0.0, 1.0],
        per_class_accuracy: vec![0.0; 3],
        confusion: vec![vec![0; 3]; 3],
        ece_before: 0.0,
        ece_after: 0.0,
        reliability_before: Vec::new(),
        reliability_after: Vec::new(),
        parity_max_abs_diff: Some(0.0),
        training: models::TrainingFacts { labeled: 0, unlabeled: 0, steps: 3, seed: sequence },
    };
    let parts = Parts {
        weights: &weights,
        storage: Storage::F32,
        ranges: None,
        golden: &golden,
        calibration: Calibration { temperature: 1.0, thresholds: vec![2.0; 3] },
        collection: CollectionPolicy { confident_per_class: 10, audit_probability: 1.0, ..CollectionPolicy::default() },
        report_card,
        sequence,
        parent: None,
        created: Timestamp::UNIX_EPOCH,
        release: Release::to_channel("stable"),
        input: InputLayout::F32,
        licence: None,
        key: Some(key),
    };
    let load = |onnx: &[u8]| {
        let input = InputSpec { layout: InputLayout::F32, shape: weights.spec.network.input };
        let engine = edge_runtime::Engine::from_bytes(onnx, input, Backend::Tract)?;
        Ok::<_, edge_runtime::Error>(move |image: &Pixels| engine.logits(image))
    };
    Ok(exporter::bundle(&folder.join(format!("bundle-{sequence}")), parts, load)?)
}

/// A device whose folders are all below one.
pub(crate) fn device_config(root: &Path) -> EdgeConfig {
    let folder = |name: &str| root.join(name);
    EdgeConfig {
        trusted_keys: vec![folder("trusted.pem")],
        poll_seconds: 0.05,
        trial: TrialConfig { shadow_seconds: 0.0, ..TrialConfig::default() },
        seal_after_seconds: 0.1,
        audit_seed: Some(1),
        ..EdgeConfig::new("cam-1", folder("source"), folder("state"), Address::Folder(folder("remote")))
    }
}

pub(crate) fn publish(remote: &Remote, bundle: &Bundle, damage: bool) -> TestResult {
    for name in bundle.file_names() {
        let mut bytes = fs::read(bundle.folder().join(name))?;
        if damage && name == models::bundle::MODEL {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        remote.put(&sync::bundle_file(bundle.digest(), name), bytes)?;
    }
    let pointer = sync::ChannelPointer { bundle: bundle.digest(), sequence: bundle.manifest().sequence };
    Ok(remote.put(&sync::channel("stable"), serde_json::to_vec(&pointer)?)?)
}

#[test]
fn a_running_device_takes_good_bundles_over_and_refuses_damaged_ones() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    for name in ["remote", "source"] {
        durable::create_folders(&path(name))?;
    }
    let remote = Remote::folder(&path("remote"))?;
    let config = device_config(folder.path());
    let key = PrivateKey::from_secret([7; 32]).ok_or("no key")?;
    durable::write(&path("trusted.pem"), key.public().to_pem().as_bytes())?;
    let bundles = [bundle(folder.path(), 1, &key)?, bundle(folder.path(), 2, &key)?, bundle(folder.path(), 3, &key)?];
    publish(&remote, &bundles[0], false)?;

    let shutdown = AtomicBool::new(false);
    let (sender, events) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let run = device::run(&config, device::Mode::Forever, &shutdown, &mut |event: &Event| {
                let _ = sender.send(event.clone());
            });
            assert!(run.is_ok(), "{run:?}");
        });
        let result = (|| -> TestResult {
            let wait = |what: &dyn Fn(&Event) -> bool| -> TestResult {
                let end = Instant::now() + Duration::from_secs(60);
                loop {
                    let event = events.recv_timeout(end.saturating_duration_since(Instant::now()))?;
                    if what(&event) {
                        return Ok(());
                    }
                }
            };
            let serves = |sequence: u64| move |event: &Event| matches!(event, Event::Serving { sequence: s, .. } if *s == sequence);
            wait(&serves(1))?;
            // A damaged bundle is refused; images are still answered, by the old one.
            publish(&remote, &bundles[1], true)?;
            wait(&|event| matches!(event, Event::Refused { bundle, .. } if *bundle == bundles[1].digest()))?;
            durable::write(&path("source").join("1.png"), &noise(&preprocessing(), 1)[0].to_png()?)?;
            wait(&|event| matches!(event, Event::Classified { .. }))?;
            publish(&remote, &bundles[2], false)?;
            wait(&serves(3))?;
            durable::write(&path("source").join("2.png"), &noise(&preprocessing(), 2)[1].to_png()?)?;
            wait(&|event| matches!(event, Event::Classified { .. }))?;
            wait(&|event| matches!(event, Event::Uploaded { .. }))
        })();
        shutdown.store(true, Ordering::SeqCst);
        result
    })?;

    // Each image was judged by the bundle that served when it came, and both arrived.
    let mut judges = Vec::new();
    for name in remote.list(sync::SEGMENTS)? {
        let (_, digest) = sync::parse_segment(&name)?;
        let bytes = remote.get(&name, 1 << 20)?.ok_or("the segment is gone")?;
        let samples = models::segment::parse(Path::new(&name), digest, &bytes)?;
        judges.extend(samples.into_iter().map(|sample| (sample.record.source, sample.record.bundle)));
    }
    judges.sort();
    assert_eq!(judges, [("1.png".to_owned(), bundles[0].digest()), ("2.png".to_owned(), bundles[2].digest())]);
    Ok(())
}
