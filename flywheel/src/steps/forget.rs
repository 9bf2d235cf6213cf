//! Drops everything that a device has sent, as after it was stolen, or taught the wrong things.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, ensure};
use models::{Digest, durable, segment, sync};
use serde::Serialize;

use super::ingest::{segment_of, sorted_entries};
use crate::{
    project::{Project, round_name},
    round,
};

/// Segments that are not to be taken in again, by device, as in `forgotten.json`.
pub type Forgotten = BTreeMap<String, BTreeSet<Digest>>;

/// What was dropped, and what it had reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Segments that were deleted.
    pub segments: usize,
    /// Images that no other device has sent.
    pub images: usize,
    /// The round that had begun with some of them, and begins anew.
    pub restarted: Option<u32>,
    /// Rounds that were trained on some of them and whose bundles devices may be running, or go back to.
    pub trained: Vec<u32>,
}

/// The segments that are not to be taken in again.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn forgotten(project: &Project) -> Result<Forgotten> {
    let path = project.forgotten_file();
    if !path.exists() {
        return Ok(Forgotten::default());
    }
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} does not say what was forgotten", path.display()))
}

/// Deletes every segment of a device, and remembers them, lest they are taken in again from where they came from. A round that
/// had begun with some of its samples begins anew. Cut off before the last deletion, the same call goes on; what that has left, the
/// next intake deletes.
///
/// # Errors
/// If there is nothing of that device, if a round is running, or if a file cannot be read or deleted.
pub fn forget(project: &Project, device: &str) -> Result<Dropped> {
    ensure!(sync::is_device_name(device), "{device:?} is no device's name");
    durable::create_folders(&project.rounds_folder())?;
    let _lock = round::lock(project)?;
    let folder = project.segments_folder().join(device);
    ensure!(folder.exists(), "nothing of {device:?} is here: expected the folder {}", folder.display());

    durable::delete_temporary(&project.segments_folder())?;
    let mut all = forgotten(project)?;
    let mut images = BTreeSet::new();
    let paths = sorted_entries(&folder)?;
    for path in &paths {
        all.entry(device.to_owned()).or_default().insert(segment_of(path)?);
        images.extend(segment::images(path)?);
    }
    for other in sorted_entries(&project.segments_folder())?.iter().filter(|other| **other != folder) {
        for path in sorted_entries(other)? {
            for image in segment::images(&path)? {
                images.remove(&image);
            }
        }
    }
    // Before anything is deleted: what is not there is then not fetched again.
    durable::write_json(&project.forgotten_file(), &all)?;
    let restarted = restart(project, &images)?;
    let away = project.segments_folder().join(format!("{}forgotten", durable::TEMPORARY_PREFIX));
    fs::rename(&folder, &away).with_context(|| format!("cannot rename {}", folder.display()))?;
    durable::sync_folder(&project.segments_folder())?;
    fs::remove_dir_all(&away).with_context(|| format!("cannot delete {}", away.display()))?;
    let trained = round::records(project)?
        .into_iter()
        .filter(|record| record.published && record.withdrawn.is_none() && record.inputs.uses_any(&images));
    let trained = trained.map(|record| record.round).collect();
    Ok(Dropped { segments: paths.len(), images: images.len(), restarted, trained })
}

/// Takes back what the unfinished round is to be trained on, if any of these images is in it.
fn restart(project: &Project, images: &BTreeSet<Digest>) -> Result<Option<u32>> {
    let number = round::records(project)?.len() as u32 + 1;
    let Some(inputs) = round::inputs(project, number)? else { return Ok(None) };
    if !inputs.uses_any(images) {
        return Ok(None);
    }
    let run = project.run_folder(&round_name(number));
    if run.exists() {
        fs::remove_dir_all(&run).with_context(|| format!("cannot delete {}", run.display()))?;
    }
    durable::remove(&round::inputs_file(project, number))?;
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    use edge_runtime::sync::Remote;
    use jiff::Timestamp;
    use models::Reason;

    use super::*;
    use crate::{
        round::{Inputs, open_remote},
        simulate::upload,
        steps::{
            ingest::{ingest, samples},
            testing::{project, sample},
        },
    };

    fn send(remote: &Remote, device: &str, images: &[&[u8]]) -> Result<()> {
        let reason = Reason::Confident { threshold: 0.95 };
        let samples: Vec<_> = images.iter().map(|image| sample(device, image, reason)).collect();
        upload(remote, device, &samples).map(drop)
    }

    #[test]
    fn what_a_device_sent_is_gone_and_does_not_come_back_and_what_others_sent_stays() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let project = project(folder.path())?;
        let remote = open_remote(&project)?;
        send(&remote, "cam-1", &[b"a", b"b"])?;
        send(&remote, "cam-2", &[b"b", b"c"])?;
        ingest(&project, &remote, Timestamp::UNIX_EPOCH)?;
        assert!(forget(&project, "cam-3").is_err());
        // A round has begun with an image that the other device sent as well: it goes on.
        durable::create_folders(&project.run_folder("round-1"))?;
        let begin = |image: &[u8]| {
            let samples = BTreeSet::from([Digest::of(image)]);
            let inputs = Inputs { samples, ..Inputs::none(Timestamp::UNIX_EPOCH) };
            durable::write_json(&round::inputs_file(&project, 1), &inputs)
        };
        begin(b"b")?;
        assert_eq!(forget(&project, "cam-1")?, Dropped { segments: 1, images: 1, restarted: None, trained: vec![] });
        let images: Vec<Vec<u8>> = samples(&project)?.into_iter().map(|sample| sample.image).collect();
        assert_eq!(images.len(), 2, "{images:?}");
        assert_eq!(ingest(&project, &remote, Timestamp::UNIX_EPOCH)?.segments, 0, "it came back");
        // What it sends from now on is another matter: its key is the hub's, or the folder's, to take away.
        send(&remote, "cam-1", &[b"d"])?;
        assert_eq!(ingest(&project, &remote, Timestamp::UNIX_EPOCH)?.segments, 1);
        // With one of its own, the round begins anew.
        begin(b"d")?;
        assert_eq!(forget(&project, "cam-1")?.restarted, Some(1));
        assert!(round::inputs(&project, 1)?.is_none() && !project.run_folder("round-1").exists());
        assert_eq!((forgotten(&project)?["cam-1"].len(), samples(&project)?.len()), (2, 2));
        Ok(())
    }
}
