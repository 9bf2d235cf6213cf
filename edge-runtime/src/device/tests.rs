use std::{path::Path, sync::atomic::AtomicBool, time::Duration};

use models::{
    Bundle, CollectionPolicy, Digest, Dropped, ReasonKind, Sample,
    bundle::MANIFEST,
    segment,
    sync::{self as names, ChannelPointer, DeviceStatus, Stage},
};

use super::*;
use crate::{
    fixture::{self, TestResult},
    journal::Entry,
    sync::Address,
    update::trial::TrialConfig,
};

/// A source, a state, a remote and a bundle in one folder.
struct Bed(tempfile::TempDir);

impl Bed {
    fn new(audit_probability: f64) -> Result<Self, Box<dyn std::error::Error>> {
        let bed = Self(tempfile::tempdir()?);
        for folder in ["images", "remote"] {
            fs::create_dir(bed.path().join(folder))?;
        }
        fixture::bundle(&bed.path().join("bundle"), |manifest, _| {
            manifest.collection =
                CollectionPolicy { confident_per_class: 3, audit_probability, ..manifest.collection.clone() };
            // The images are noise, of which a network of a few weights is as sure as of anything.
            manifest.collection.uncertain.per_class = 0;
        })?;
        Ok(bed)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(&self) -> EdgeConfig {
        let folder = |name: &str| self.path().join(name);
        EdgeConfig {
            poll_seconds: 0.01,
            trial: TrialConfig { shadow_seconds: 0.0, ..TrialConfig::default() },
            seal_after_samples: 8,
            audit_seed: Some(5),
            bundle: Some(folder("bundle")),
            ..EdgeConfig::new("cam-1", folder("images"), folder("state"), Address::Folder(folder("remote")))
        }
    }

    fn add(&self, numbers: std::ops::Range<u32>) -> TestResult {
        for i in numbers {
            durable::write(&self.path().join(format!("images/{i:03}.png")), &fixture::png(i)?)?;
        }
        Ok(())
    }

    fn run(&self) -> Result<(Summary, Vec<Event>)> {
        let mut events = Vec::new();
        let stop = AtomicBool::new(false);
        let summary = run(&self.config(), Mode::Once, &stop, &mut |e| events.push(e.clone()))?;
        Ok((summary, events))
    }

    fn journal(&self) -> Result<Vec<Entry>, Box<dyn std::error::Error>> {
        let text = fs::read_to_string(self.path().join("state/predictions.jsonl"))?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    fn publish(&self, bundle: &Bundle) -> TestResult {
        let remote = self.path().join("remote");
        fs::create_dir_all(remote.join(format!("bundles/{}", bundle.digest())))?;
        for file in bundle.file_names() {
            fs::copy(bundle.folder().join(file), remote.join(names::bundle_file(bundle.digest(), file)))?;
        }
        fs::create_dir_all(remote.join("channels"))?;
        let pointer = ChannelPointer { bundle: bundle.digest(), sequence: bundle.manifest().sequence };
        Ok(fs::write(remote.join(names::channel("stable")), serde_json::to_vec(&pointer)?)?)
    }

    fn status(&self) -> Result<DeviceStatus, Box<dyn std::error::Error>> {
        Ok(serde_json::from_slice(&fs::read(self.path().join("remote").join(names::device_status("cam-1")))?)?)
    }

    /// The samples of all segments in the remote.
    fn uploaded(&self) -> Result<Vec<Sample>, Box<dyn std::error::Error>> {
        let mut samples = Vec::new();
        for entry in fs::read_dir(self.path().join("remote/segments/cam-1"))? {
            let path = entry?.path();
            let digest = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().parse()?;
            samples.extend(segment::read(&path, digest)?);
        }
        Ok(samples)
    }
}

#[test]
fn every_image_is_journaled_once_and_what_was_kept_is_uploaded() -> TestResult {
    let bed = Bed::new(0.3)?;
    bed.add(0..20)?;
    fs::copy(bed.path().join("images/004.png"), bed.path().join("images/copy.png"))?;
    let png = fixture::png(99)?;
    fs::write(bed.path().join("images/cut.png"), &png[..png.len() / 2])?;

    let (summary, events) = bed.run()?;
    let counted = summary.counters.clone();
    assert_eq!((counted.classified, counted.dropped[&Dropped::Duplicate], counted.unreadable), (21, 1, 1));
    let skipped = |e: &Event| matches!(e, Event::Unreadable { source, .. } if source == "cut.png");
    assert_eq!(events.iter().filter(|e| skipped(e)).count(), 1);
    let journal = bed.journal()?;
    let sources: Vec<String> = (0..20).map(|i| format!("{i:03}.png")).chain(["copy.png".into()]).collect();
    assert_eq!(journal.iter().map(|e| e.source.clone()).collect::<Vec<_>>(), sources);

    let uploaded = bed.uploaded()?;
    let kept: Vec<&Entry> = journal.iter().filter(|e| !e.kept.is_empty()).collect();
    assert_eq!(uploaded.len(), kept.len());
    let (confident, audit) = (counted.kept[&ReasonKind::Confident], counted.kept[&ReasonKind::Audit]);
    assert!(confident > 0 && audit > 0 && counted.dropped[&Dropped::ClassQuota] > 0, "{counted:?}");
    assert_eq!(counted.samples + counted.dropped.values().sum::<u64>(), counted.classified, "each is kept or dropped");
    for sample in &uploaded {
        let entry = kept.iter().find(|e| e.image == sample.record.image).ok_or("not in the journal")?;
        assert_eq!((&entry.kept, entry.bundle), (&sample.record.reasons, sample.record.bundle));
    }
    let status = bed.status()?;
    assert_eq!((status.counters, status.backlog, status.sequence), (counted, summary.backlog, 1));

    // A restart classifies only what is new; the shares that are spent stay spent.
    bed.add(20..24)?;
    let (again, _) = bed.run()?;
    assert_eq!(again.counters.classified, 4);
    assert_eq!(bed.journal()?.len(), 25);
    let confident = |e: &&Entry| e.kept.iter().any(|r| r.kind() == ReasonKind::Confident);
    for class in 0..3 {
        assert!(bed.journal()?.iter().filter(confident).filter(|e| e.class == class).count() <= 3);
    }
    Ok(())
}

#[test]
fn a_missing_remote_ends_once_but_loses_nothing() -> TestResult {
    let bed = Bed::new(1.0)?;
    bed.add(0..3)?;
    fs::remove_dir(bed.path().join("remote"))?;
    let error = bed.run().err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("remote"), "{error}");
    assert_eq!(bed.journal()?.len(), 3);
    let files =
        |place: &str| Ok::<_, std::io::Error>(fs::read_dir(bed.path().join("state/store").join(place))?.count());
    assert_eq!((files("open")?, files("sealed")?), (3, 0), "while nobody takes them, each can still make room");
    fs::create_dir(bed.path().join("remote"))?;
    assert_eq!(bed.run()?.0.backlog, 1);
    assert_eq!(bed.uploaded()?.len(), 3);
    Ok(())
}

#[test]
fn takes_a_new_bundle_over_while_it_runs_and_stops_when_told() -> TestResult {
    let bed = Bed::new(0.0)?;
    bed.add(0..2)?;
    let next = fixture::bundle(&bed.path().join("next"), |manifest, _| manifest.sequence = 2)?;
    let (stop, mut problem) = (AtomicBool::new(false), None);
    let mut bundles = Vec::new();
    run(&bed.config(), Mode::Forever, &stop, &mut |event| match event {
        Event::Serving { sequence, .. } => {
            bundles.push(*sequence);
            if *sequence == 2 {
                problem = bed.add(2..4).err().map(|e| e.to_string());
            }
        }
        Event::Classified { source, .. } if source == "001.png" => {
            problem = bed.publish(&next).err().map(|e| e.to_string());
        }
        Event::Classified { source, .. } if source == "003.png" => stop.store(true, Ordering::SeqCst),
        _ => {}
    })?;
    assert_eq!(problem, None);
    assert_eq!(bundles, [1, 2]);
    let judged: Vec<u64> = bed.journal()?.iter().map(|e| e.sequence).collect();
    assert_eq!(judged, [1, 1, 2, 2]);
    let slot = bed.path().join("state/bundles").join(next.digest().to_string());
    assert_eq!(Digest::of_file(&slot.join(MANIFEST))?, next.digest());
    Ok(())
}

#[test]
fn a_new_bundle_serves_if_it_does_well_on_this_devices_images_and_stays_if_it_goes_on_so() -> TestResult {
    let bed = Bed::new(0.0)?;
    let trial = TrialConfig { shadow_images: 20, probation_images: 20, slowdown: 1e6, ..TrialConfig::default() };
    let config = EdgeConfig { trial, ..bed.config() };
    let mut next = 0;
    let mut run = || -> Result<Vec<u64>, Box<dyn std::error::Error>> {
        bed.add(next..next + 24)?;
        next += 24;
        let mut serving = Vec::new();
        run(&config, Mode::Once, &AtomicBool::new(false), &mut |event| {
            if let Event::Serving { sequence, .. } = event {
                serving.push(*sequence);
            }
        })?;
        Ok(serving)
    };
    let stage =
        || Ok::<_, Box<dyn std::error::Error>>(bed.status()?.update.map(|update| (update.bundle, update.stage)));
    assert_eq!((run()?, stage()?), (vec![1], None));

    // It computes what it should, and calls everything something else.
    let labels = fixture::bundle(&bed.path().join("same"), |_, _| {})?.manifest().labels.names().to_vec();
    let swapped: Vec<&str> = labels.iter().skip(1).chain(&labels[..1]).map(String::as_str).collect();
    let bad = fixture::bundle(&bed.path().join("bad"), |manifest, _| {
        manifest.sequence = 2;
        fixture::set_labels(manifest, &swapped);
    })?;
    bed.publish(&bad)?;
    assert_eq!((run()?, stage()?), (vec![1], Some((bad.digest(), Stage::Refused))));
    assert!(bed.status()?.update.is_some_and(|update| update.detail.contains("0.0 % the same label")));
    assert_eq!(
        (run()?, stage()?),
        (vec![1], Some((bad.digest(), Stage::Refused))),
        "not tried again, and still reported"
    );

    let good = fixture::bundle(&bed.path().join("good"), |manifest, _| manifest.sequence = 3)?;
    bed.publish(&good)?;
    assert_eq!((run()?, stage()?), (vec![1, 3], Some((good.digest(), Stage::Probation))));
    // That it cannot do its work is no fault of the bundle's.
    let (remote, away) = (bed.path().join("remote"), bed.path().join("away"));
    fs::rename(&remote, &away)?;
    for _ in 0..4 {
        assert!(bed.run().is_err());
    }
    fs::rename(&away, &remote)?;
    assert_eq!((run()?, stage()?), (vec![3], Some((good.digest(), Stage::Good))));
    assert_eq!(fs::read_dir(bed.path().join("state/bundles"))?.count(), 1);
    Ok(())
}

#[test]
fn a_state_folder_serves_one_device() -> TestResult {
    let bed = Bed::new(0.0)?;
    bed.add(0..1)?;
    let (stop, mut second) = (AtomicBool::new(false), None);
    run(&bed.config(), Mode::Once, &stop, &mut |event| {
        if matches!(event, Event::Classified { .. }) {
            second = Some(bed.run().map(drop));
        }
    })?;
    assert!(matches!(second, Some(Err(Error::InUse { .. }))), "{second:?}");
    Ok(())
}

#[test]
fn a_lasting_trouble_is_told_once() -> TestResult {
    let bed = Bed::new(0.0)?;
    fs::remove_dir(bed.path().join("remote"))?;
    let (stop, mut troubles) = (AtomicBool::new(false), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::SeqCst);
        });
        run(&bed.config(), Mode::Forever, &stop, &mut |e| troubles += u32::from(matches!(e, Event::Trouble { .. })))
    })?;
    assert_eq!(troubles, 1);
    Ok(())
}
