use std::sync::Arc;

use models::{
    Manifest,
    bundle::{Disagreement, GOLDEN, Golden, SIGNATURE},
    signing::PrivateKey,
};
use object_store::memory::InMemory;
use semver::Version;

use super::*;
use crate::fixture::{self, TestResult};

struct Workstation {
    remote: Remote,
    folder: tempfile::TempDir,
    key: PrivateKey,
}

impl Workstation {
    fn new() -> std::result::Result<Self, Box<dyn std::error::Error>> {
        let key = PrivateKey::from_secret([7; 32]).ok_or("no key")?;
        Ok(Self { remote: Remote::new(Arc::new(InMemory::new()))?, folder: tempfile::tempdir()?, key })
    }

    /// The terms of a device that trusts it.
    fn terms(&self) -> Result<Terms> {
        let trusted = TrustedKeys::new(vec![self.key.public()])?;
        Ok(Terms {
            trusted,
            channel: "stable".into(),
            target: Some("camera".into()),
            onnxruntime: None,
            accelerators: Vec::new(),
        })
    }

    fn publish(
        &self,
        sequence: u64,
        change: impl FnOnce(&mut Golden),
    ) -> std::result::Result<Digest, Box<dyn std::error::Error>> {
        self.publish_signed(sequence, Some(&self.key), |_, golden| change(golden))
    }

    fn publish_signed(
        &self,
        sequence: u64,
        key: Option<&PrivateKey>,
        change: impl FnOnce(&mut Manifest, &mut Golden),
    ) -> std::result::Result<Digest, Box<dyn std::error::Error>> {
        let bundle = fixture::bundle(&self.folder.path().join("bundle"), |manifest, golden| {
            manifest.sequence = sequence;
            change(manifest, golden);
        })?;
        key.map_or(Ok(()), |key| bundle.sign(key))?;
        for file in bundle.file_names() {
            let name = sync::bundle_file(bundle.digest(), file);
            self.remote.put(&name, fs::read(bundle.folder().join(file))?)?;
        }
        self.point(bundle.digest(), sequence)?;
        Ok(bundle.digest())
    }

    fn point(&self, bundle: Digest, sequence: u64) -> TestResult {
        let pointer = serde_json::to_vec(&ChannelPointer { bundle, sequence })?;
        Ok(self.remote.put(&sync::channel("stable"), pointer)?)
    }

    /// Takes over at once what was proven.
    fn check(&self, slots: &mut Slots) -> Result<Update> {
        self.check_at(slots, Timestamp::UNIX_EPOCH)
    }

    fn check_at(&self, slots: &mut Slots, now: Timestamp) -> Result<Update> {
        match slots.check(&self.remote, now)? {
            Update::Proven(proven) => {
                let taken = slots.promote(proven, now)?;
                slots.accept()?;
                Ok(Update::Taken(taken))
            }
            other => Ok(other),
        }
    }
}

fn slots_in(state: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(state.join("bundles")).into_iter().flatten().flatten();
    Ok(names.map(|e| e.file_name().to_string_lossy().into_owned()).collect())
}

#[test]
fn takes_newer_bundles_and_survives_a_restart_without_a_connection() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    assert!(slots.resume(Timestamp::UNIX_EPOCH).is_none());
    assert!(matches!(workstation.check(&mut slots)?, Update::None));
    let first = workstation.publish(1, |_| {})?;
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(c) if c.digest() == first));
    assert!(matches!(workstation.check(&mut slots)?, Update::None));
    let third = workstation.publish(3, |_| {})?;
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(c) if c.digest() == third));
    // Lower and equal sequence numbers are ignored, before a restart and after it.
    let second = workstation.publish(2, |_| {})?;
    assert!(matches!(workstation.check(&mut slots)?, Update::None));
    workstation.point(second, 3)?;
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    assert_eq!(slots.resume(Timestamp::UNIX_EPOCH).map(|c| c.digest()), Some(third));
    assert!(matches!(workstation.check(&mut slots)?, Update::None));
    assert_eq!(slots_in(state.path())?, [third.to_string()]);
    Ok(())
}

#[test]
fn what_is_not_fit_to_serve_is_refused_once_and_the_old_one_stays() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    let good = workstation.publish(1, |_| {})?;
    workstation.check(&mut slots)?;

    let wrong_golden = workstation.publish(2, |golden| golden.logits[0][0] += 1.0)?;
    let refused = workstation.check(&mut slots)?;
    assert!(
        matches!(&refused, Update::Refused { bundle, stage: Stage::Refused, why: Error::Golden { disagreement: Disagreement { image: 0, .. }, .. } } if *bundle == wrong_golden),
        "{refused:?}"
    );
    let much_later = Timestamp::from_second(1_000_000)?;
    assert!(matches!(workstation.check_at(&mut slots, much_later)?, Update::None), "not tried again");

    // A file of the same size with one other byte; a manifest of other bytes; a pointer that flatters.
    let tampered = workstation.publish(3, |_| {})?;
    let name = sync::bundle_file(tampered, GOLDEN);
    let mut bytes = workstation.remote.get(&name, u64::MAX)?.unwrap_or_default();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    workstation.remote.put(&name, bytes)?;
    let mismatch =
        |u: &Update| matches!(u, Update::Refused { why: Error::Models(models::Error::DigestMismatch { .. }), .. });
    assert!(mismatch(&workstation.check(&mut slots)?));
    let other = workstation.publish(4, |_| {})?;
    let name = sync::bundle_file(other, MANIFEST);
    let manifest = workstation.remote.get(&name, u64::MAX)?.unwrap_or_default();
    workstation.remote.put(&name, [manifest.as_slice(), b" "].concat())?;
    assert!(mismatch(&workstation.check(&mut slots)?));
    let flattered = workstation.publish(5, |_| {})?;
    workstation.point(flattered, 50)?;
    assert!(matches!(workstation.check(&mut slots)?, Update::Refused { why: Error::Sequence { .. }, .. }));

    assert_eq!(slots_in(state.path())?, [good.to_string()]);
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    assert_eq!(slots.resume(Timestamp::UNIX_EPOCH).map(|c| c.digest()), Some(good));
    Ok(())
}

/// A damaged upload can be repaired, a signature can come later: the bundle is the same.
#[test]
fn what_did_not_arrive_as_it_should_is_fetched_again_ever_more_rarely() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    let bundle = workstation.publish(1, |_| {})?;
    let name = sync::bundle_file(bundle, GOLDEN);
    let whole = workstation.remote.get(&name, u64::MAX)?.unwrap_or_default();
    workstation.remote.put(&name, vec![0; whole.len()])?;
    // A minute, then twice as long each time, until it is an hour.
    let mut refusals = Vec::new();
    for minute in 0..300 {
        if matches!(workstation.check_at(&mut slots, Timestamp::from_second(60 * minute)?)?, Update::Refused { .. }) {
            refusals.push(minute);
        }
    }
    assert_eq!(refusals, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
    // A clock that was put back to where it belongs does not make that longer.
    assert!(matches!(workstation.check_at(&mut slots, Timestamp::UNIX_EPOCH)?, Update::Refused { .. }));
    workstation.remote.put(&name, whole)?;
    assert!(matches!(workstation.check_at(&mut slots, Timestamp::from_second(59)?)?, Update::None));
    let update = workstation.check_at(&mut slots, Timestamp::from_second(60 * 60)?)?;
    assert!(matches!(update, Update::Taken(c) if c.digest() == bundle));
    Ok(())
}

#[test]
fn an_incomplete_upload_is_tried_again_and_a_lost_bundle_fetched_again() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    workstation.point(Digest::of(b"to come"), 1)?;
    assert!(matches!(workstation.check(&mut slots), Err(Error::Missing { .. })));
    let bundle = workstation.publish(1, |_| {})?;
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(_)));

    fs::remove_dir_all(state.path().join("bundles"))?;
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    assert!(slots.resume(Timestamp::UNIX_EPOCH).is_none());
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(c) if c.digest() == bundle));
    Ok(())
}

#[test]
fn only_what_a_trusted_key_signed_and_what_is_for_this_device_is_taken() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    let other_key = PrivateKey::from_secret([8; 32]).ok_or("no key")?;
    let mut refused = |text: &str| -> std::result::Result<Stage, Box<dyn std::error::Error>> {
        match workstation.check(&mut slots)? {
            Update::Refused { stage, why, .. } if why.to_string().contains(text) => Ok(stage),
            other => Err(format!("{other:?} instead of a refusal for {text}").into()),
        }
    };
    workstation.publish_signed(1, Some(&other_key), |_, _| {})?;
    assert_eq!(refused("no signature of a trusted key")?, Stage::Broken, "it can be signed yet");
    workstation.publish_signed(2, None, |_, _| {})?;
    refused("not signed")?;
    // The signature of another bundle.
    let signature =
        workstation.remote.get(&sync::bundle_file(workstation.publish(3, |_| {})?, SIGNATURE), MAX_SIGNATURE)?;
    let borrowed = workstation.publish(4, |_| {})?;
    workstation.remote.put(&sync::bundle_file(borrowed, SIGNATURE), signature.unwrap_or_default())?;
    refused("signs other files")?;

    let at = |seconds| Timestamp::from_second(seconds).ok();
    workstation.publish_signed(5, Some(&workstation.key), |m, _| m.release.channel = "beta".into())?;
    assert_eq!(refused("channel")?, Stage::NotMeant);
    workstation.publish_signed(6, Some(&workstation.key), |m, _| m.release.targets = vec!["drone".into()])?;
    refused("target")?;
    workstation.publish_signed(7, Some(&workstation.key), |m, _| m.release.minimum_runtime = Version::new(99, 0, 0))?;
    refused("runtime")?;
    workstation.publish_signed(8, Some(&workstation.key), |m, _| m.release.expires = at(0))?;
    refused("time")?;
    // What is too early is tried again.
    let later = workstation.publish_signed(9, Some(&workstation.key), |m, _| {
        m.release.targets = vec!["drone".into(), "camera".into()];
        m.release.not_before = at(10);
    })?;
    for _ in 0..2 {
        let early = workstation.check(&mut slots);
        assert!(matches!(early, Err(Error::Models(models::Error::TooEarly { .. }))), "{early:?}");
    }
    let update = workstation.check_at(&mut slots, at(10).ok_or("no time")?)?;
    assert!(matches!(update, Update::Taken(c) if c.digest() == later));
    Ok(())
}

#[test]
fn a_device_goes_back_only_by_a_signed_order_and_only_once() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    let first = workstation.publish(1, |_| {})?;
    workstation.check(&mut slots)?;
    let second = workstation.publish(2, |_| {})?;
    workstation.check(&mut slots)?;

    workstation.point(first, 1)?;
    assert!(matches!(workstation.check(&mut slots)?, Update::None));
    let to = ChannelPointer { bundle: first, sequence: 1 };
    let order = RollbackOrder { channel: "stable".into(), from: 2, to };
    let put = |order: Vec<u8>| workstation.remote.put(&sync::rollback("stable"), order);
    put(order.seal(PrivateKey::from_secret([8; 32]).as_ref())?)?;
    assert!(matches!(workstation.check(&mut slots), Err(Error::Models(models::Error::Untrusted { .. }))));
    for wrong in [RollbackOrder { from: 1, ..order.clone() }, RollbackOrder { channel: "beta".into(), ..order.clone() }]
    {
        put(wrong.seal(Some(&workstation.key))?)?;
        assert!(matches!(workstation.check(&mut slots)?, Update::None));
    }
    put(order.seal(Some(&workstation.key))?)?;
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(c) if c.digest() == first));

    // The bundle that was left does not come back by itself, not after a restart either; a newer one does, and then the
    // old order has no power any more.
    workstation.point(second, 2)?;
    assert!(matches!(workstation.check(&mut slots)?, Update::None));
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    slots.resume(Timestamp::UNIX_EPOCH);
    assert!(matches!(workstation.check(&mut slots)?, Update::None));
    workstation.publish(3, |_| {})?;
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(_)));
    workstation.point(first, 1)?;
    assert!(matches!(workstation.check(&mut slots)?, Update::None));
    Ok(())
}

#[test]
fn a_bundle_that_took_the_device_down_is_not_tried_again() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    let first = workstation.publish(1, |_| {})?;
    workstation.check(&mut slots)?;
    assert!(!state.path().join("trying.json").exists() && slots.fatal().is_none());

    // What is on disk when the process has died while it opened a bundle: once may have been a power cut.
    let mark = |bundle, sequence, times| {
        durable::write_json(&state.path().join("trying.json"), &Trying { bundle, sequence, times })
    };
    let open = || Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH);
    let unlucky = workstation.publish(2, |_| {})?;
    mark(unlucky, 2, CRASHES - 1)?;
    let mut slots = open()?;
    assert_eq!(slots.resume(Timestamp::UNIX_EPOCH).map(|c| c.digest()), Some(first));
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(c) if c.digest() == unlucky));
    // A mark that outlived a trial that went well says nothing.
    mark(unlucky, 2, CRASHES)?;
    assert!(open()?.fatal().is_none());

    // And when it has died too often: never again, whatever is tried between.
    let second = workstation.publish(3, |_| {})?;
    mark(second, 3, CRASHES)?;
    let mut slots = open()?;
    assert_eq!(slots.fatal().map(|(bundle, _)| bundle), Some(second));
    assert_eq!(slots.resume(Timestamp::UNIX_EPOCH).map(|c| c.digest()), Some(unlucky));
    assert!(matches!(workstation.check(&mut slots)?, Update::None));
    assert_eq!(slots.last_refused().map(|(bundle, _)| bundle), Some(second));
    let third = workstation.publish(4, |_| {})?;
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(c) if c.digest() == third));
    assert!(!state.path().join("trying.json").exists());
    workstation.point(second, 5)?;
    assert!(matches!(workstation.check(&mut open()?)?, Update::None));
    Ok(())
}

#[test]
fn on_probation_the_bundle_before_stays_at_hand() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let now = Timestamp::UNIX_EPOCH;
    let open = || Slots::open(state.path(), workstation.terms()?, now);
    let mut slots = open()?;
    let first = workstation.publish(1, |_| {})?;
    workstation.check(&mut slots)?;
    let second = workstation.publish(2, |_| {})?;
    let begin = |slots: &mut Slots| match slots.check(&workstation.remote, now)? {
        Update::Proven(proven) => Ok::<_, Box<dyn std::error::Error>>(slots.promote(proven, now)?.digest()),
        other => Err(format!("{other:?} instead of a proven bundle").into()),
    };
    assert_eq!(begin(&mut slots)?, second);
    assert_eq!(slots.before().map(|c| c.digest()), Some(first));
    // A newer one waits until it is decided.
    let third = workstation.publish(3, |_| {})?;
    assert!(matches!(slots.check(&workstation.remote, now)?, Update::None));

    // Restarts in good order are nothing; three times down is the end of it.
    for _ in 0..5 {
        slots.rest();
        slots = open()?;
        assert_eq!(slots.resume(now).map(|c| c.digest()), Some(second));
    }
    for _ in 1..CRASHES {
        slots = open()?;
        assert_eq!((slots.resume(now).map(|c| c.digest()), slots.fatal().is_none()), (Some(second), true));
    }
    slots = open()?;
    assert_eq!(slots.resume(now).map(|c| c.digest()), Some(first));
    assert_eq!(slots.fatal().map(|(bundle, _)| bundle), Some(second));
    assert_eq!(slots_in(state.path())?, [first.to_string()]);

    // What comes next is taken, and given up on what it shows.
    assert_eq!(begin(&mut slots)?, third);
    assert_eq!(slots.go_back("it sees cats alone", now)?.digest(), first);
    assert!(matches!(slots.check(&workstation.remote, now)?, Update::None));
    let mut slots = open()?;
    assert_eq!(slots.resume(now).map(|c| c.digest()), Some(first));
    workstation.point(third, 9)?;
    assert!(matches!(slots.check(&workstation.remote, now)?, Update::None), "never again, whatever number it is given");
    Ok(())
}

#[test]
fn a_disk_that_refuses_a_switch_is_no_fault_of_the_bundles() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let current = state.path().join("current.json");
    let mut slots = Slots::open(state.path(), workstation.terms()?, Timestamp::UNIX_EPOCH)?;
    let bundle = workstation.publish(1, |_| {})?;
    fs::create_dir_all(current.join("in the way"))?;
    for _ in 0..CRASHES {
        assert!(matches!(workstation.check(&mut slots), Err(Error::Models(models::Error::Io { .. }))));
        assert!(!state.path().join("trying.json").exists());
    }
    fs::remove_dir_all(&current)?;
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(c) if c.digest() == bundle));
    Ok(())
}
