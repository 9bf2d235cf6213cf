use std::sync::Arc;

use models::bundle::{Disagreement, GOLDEN, Golden};
use object_store::memory::InMemory;

use super::*;
use crate::fixture::{self, TestResult};

struct Workstation {
    remote: Remote,
    folder: tempfile::TempDir,
}

impl Workstation {
    fn new() -> std::result::Result<Self, Box<dyn std::error::Error>> {
        Ok(Self { remote: Remote::new(Arc::new(InMemory::new()))?, folder: tempfile::tempdir()? })
    }

    fn publish(
        &self,
        sequence: u64,
        change: impl FnOnce(&mut Golden),
    ) -> std::result::Result<Digest, Box<dyn std::error::Error>> {
        let bundle = fixture::bundle(&self.folder.path().join("bundle"), |manifest, golden| {
            manifest.sequence = sequence;
            change(golden);
        })?;
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

    fn check(&self, slots: &mut Slots) -> Result<Update> {
        slots.check(&self.remote, "stable")
    }
}

fn slots_in(state: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(state.join("bundles")).into_iter().flatten().flatten();
    Ok(names.map(|e| e.file_name().to_string_lossy().into_owned()).collect())
}

#[test]
fn takes_newer_bundles_and_survives_a_restart_without_a_connection() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let mut slots = Slots::open(state.path())?;
    assert!(slots.resume().is_none());
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
    let mut slots = Slots::open(state.path())?;
    assert_eq!(slots.resume().map(|c| c.digest()), Some(third));
    assert!(matches!(workstation.check(&mut slots)?, Update::None));
    assert_eq!(slots_in(state.path())?, [third.to_string()]);
    Ok(())
}

#[test]
fn what_is_not_fit_to_serve_is_refused_once_and_the_old_one_stays() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let mut slots = Slots::open(state.path())?;
    let good = workstation.publish(1, |_| {})?;
    workstation.check(&mut slots)?;

    let wrong_golden = workstation.publish(2, |golden| golden.logits[0][0] += 1.0)?;
    let refused = workstation.check(&mut slots)?;
    assert!(
        matches!(&refused, Update::Refused { bundle, why: Error::Golden { disagreement: Disagreement { input: 0, .. }, .. } } if *bundle == wrong_golden),
        "{refused:?}"
    );
    assert!(matches!(workstation.check(&mut slots)?, Update::None), "not tried again");

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
    let mut slots = Slots::open(state.path())?;
    assert_eq!(slots.resume().map(|c| c.digest()), Some(good));
    Ok(())
}

#[test]
fn an_incomplete_upload_is_tried_again_and_a_lost_bundle_fetched_again() -> TestResult {
    let (workstation, state) = (Workstation::new()?, tempfile::tempdir()?);
    let mut slots = Slots::open(state.path())?;
    workstation.point(Digest::of(b"to come"), 1)?;
    assert!(matches!(workstation.check(&mut slots), Err(Error::Missing { .. })));
    let bundle = workstation.publish(1, |_| {})?;
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(_)));

    fs::remove_dir_all(state.path().join("bundles"))?;
    let mut slots = Slots::open(state.path())?;
    assert!(slots.resume().is_none());
    assert!(matches!(workstation.check(&mut slots)?, Update::Taken(c) if c.digest() == bundle));
    Ok(())
}
