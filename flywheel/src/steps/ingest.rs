//! Takes in what devices and people have sent: segments, verified, kept, receipted, and what was said of their samples.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use edge_runtime::sync::{Remote, device_keys, receipt};
use jiff::Timestamp;
use models::{
    Digest, Sample, durable,
    hub::DeviceKeys,
    segment,
    signing::{Message, TrustedKeys},
    sync,
};
use serde::Serialize;

use super::{forget::forgotten, review};
use crate::project::Project;

/// No segment may be larger, in bytes.
const MAX_SEGMENT: u64 = 2 << 30;

/// What came in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ingested {
    /// Segments that were new.
    pub segments: usize,
    /// Samples in them.
    pub samples: usize,
    /// Labels that people gave at a hub's pages, or took back, and that were new.
    pub reviews: usize,
    /// Segments that a hub has not receipted: they are on their way, or somebody but a device has put them there.
    pub unreceipted: usize,
    /// Objects that are not what they must be, each with the reason. They are left where they are and never receipted.
    pub refused: Vec<String>,
}

/// Fetches, verifies and keeps every segment that is not here yet, then receipts it; then what people have said.
///
/// The receipt is written only once the segment is durably here, signed by the key that signs bundles; a hub writes its own.
/// At a hub, a segment must have its receipt, and be signed by its device, by a key that the hub knows it by. Running it again changes
/// nothing.
///
/// # Errors
/// If the remote or the disk fails. A segment that is not valid is no error.
pub fn ingest(project: &Project, remote: &Remote, now: Timestamp) -> Result<Ingested> {
    let mut ingested = Ingested::default();
    let (key, is_hub) = (project.signing_key()?, remote.enrolled().is_some());
    let folder = project.segments_folder();
    if folder.exists() {
        durable::delete_temporary(&folder)?;
    }
    for device in sorted_entries(&folder)? {
        durable::delete_temporary(&device)?;
    }
    let forgotten = forgotten(project)?;
    let hub_keys = remote.receipt_keys(&TrustedKeys::default())?;
    let mut keys: BTreeMap<String, DeviceKeys> = BTreeMap::new();
    for name in remote.list(sync::SEGMENTS)? {
        let (device, digest) = match sync::parse_segment(&name) {
            Ok(parsed) => parsed,
            Err(e) => {
                ingested.refused.push(e.to_string());
                continue;
            }
        };
        if forgotten.get(&device).is_some_and(|segments| segments.contains(&digest)) {
            continue;
        }
        let path = segment_path(project, &device, digest);
        let receipt_name = sync::receipt(&device, digest);
        // A hub has receipted it already.
        let is_receipted = || Ok::<_, edge_runtime::Error>(is_hub || remote.size(&receipt_name)?.is_some());
        if path.exists() && is_receipted()? {
            continue;
        }
        if is_hub {
            let known = match keys.entry(device.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(device_keys(remote, &device)?),
            };
            match is_vouched_for(remote, &device, digest, &hub_keys, known) {
                Ok(true) => {}
                Ok(false) => {
                    ingested.unreceipted += 1;
                    continue;
                }
                Err(edge_runtime::Error::Models(e)) => {
                    ingested.refused.push(e.to_string());
                    continue;
                }
                Err(e) => return Err(e.into()),
            }
        }
        let bytes = match remote.get(&name, MAX_SEGMENT) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(edge_runtime::Error::Models(e)) => {
                ingested.refused.push(e.to_string());
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let samples = match read(&name, &device, digest, &bytes) {
            Ok(samples) => samples.len(),
            Err(e) => {
                ingested.refused.push(e.to_string());
                continue;
            }
        };
        durable::create_folders(path.parent().unwrap_or(Path::new("")))?;
        durable::write(&path, &bytes)?;
        if !is_hub {
            let receipt = sync::Receipt { segment: digest, samples: Some(samples), received: now, seal: None };
            remote.put(&receipt_name, receipt.seal(key.as_ref())?)?;
        }
        ingested.segments += 1;
        ingested.samples += samples;
    }
    ingested.reviews = review::fetch(project, remote, &mut ingested.refused)?;
    Ok(ingested)
}

/// Whether a hub has receipted a segment, and its device has signed for it; receipts from before hubs kept that do without.
fn is_vouched_for(
    remote: &Remote,
    device: &str,
    segment: Digest,
    hub: &TrustedKeys,
    known: &DeviceKeys,
) -> edge_runtime::Result<bool> {
    let Some(receipt) = receipt(remote, device, segment, hub)? else { return Ok(false) };
    if let Some(seal) = &receipt.seal {
        known.verify(device, segment, seal)?;
    }
    Ok(receipt.segment == segment)
}

/// How many segments are here.
///
/// # Errors
/// If a folder cannot be listed.
pub fn segments(project: &Project) -> Result<usize> {
    let devices = sorted_entries(&project.segments_folder())?;
    devices.iter().map(|device| Ok(sorted_entries(device)?.len())).sum()
}

/// Every sample that came in, each image once, in the order of the digests.
///
/// An image that several devices or segments hold is taken from the first by name; if any of them kept it for audit, it
/// is one for audit.
///
/// # Errors
/// If a segment cannot be read, or was changed since it came in.
pub fn samples(project: &Project) -> Result<Vec<Sample>> {
    let folder = project.segments_folder();
    let mut samples: BTreeMap<Digest, Sample> = BTreeMap::new();
    for device in sorted_entries(&folder)? {
        for path in sorted_entries(&device)? {
            for sample in segment::read(&path, segment_of(&path)?)? {
                let known = samples.entry(sample.record.image).or_insert_with(|| sample.clone());
                if known.record.audit_probability().is_none() && sample.record.audit_probability().is_some() {
                    known.record.reasons.extend(sample.record.reasons);
                }
            }
        }
    }
    Ok(samples.into_values().collect())
}

/// The digest that a segment's file is named by.
pub(super) fn segment_of(path: &Path) -> Result<Digest> {
    Ok(path.file_stem().unwrap_or_default().to_string_lossy().parse()?)
}

fn segment_path(project: &Project, device: &str, digest: Digest) -> std::path::PathBuf {
    project.segments_folder().join(device).join(format!("{digest}.{}", segment::EXTENSION))
}

fn read(name: &str, device: &str, digest: Digest, bytes: &[u8]) -> models::Result<Vec<Sample>> {
    let samples = segment::parse(Path::new(name), digest, bytes)?;
    match samples.iter().find(|sample| sample.record.device != device) {
        Some(other) => Err(models::Error::malformed(name, format!("samples of device {device}"), &other.record.device)),
        None => Ok(samples),
    }
}

pub(super) fn sorted_entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    let is_temporary = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(durable::TEMPORARY_PREFIX))
    };
    paths.retain(|path| !is_temporary(path));
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use models::Reason;

    use super::*;
    use crate::{
        simulate::upload,
        steps::testing::{project, sample},
    };

    #[test]
    fn what_is_valid_is_kept_once_and_receipted_and_the_rest_is_refused_by_name() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let project = project(folder.path())?;
        let remote = crate::round::open_remote(&project)?;

        let confident = Reason::Confident { threshold: 0.95 };
        let audit = Reason::Audit { probability: 0.1 };
        let first = upload(&remote, "cam-1", &[sample("cam-1", b"a", confident), sample("cam-1", b"b", confident)])?;
        // The same image from another device, kept for audit there.
        upload(&remote, "cam-2", &[sample("cam-2", b"a", audit)])?;
        // A sample in the name of another device, a damaged segment, and something else.
        let forged = upload(&remote, "cam-2", &[sample("cam-1", b"c", confident)])?;
        remote.put(&sync::segment("cam-1", Digest::of(b"promised")), b"other bytes".to_vec())?;
        remote.put("segments/cam-1/readme.txt", b"hello".to_vec())?;

        let ingested = ingest(&project, &remote, Timestamp::UNIX_EPOCH)?;
        assert_eq!((ingested.segments, ingested.samples, ingested.refused.len()), (2, 3, 3), "{ingested:?}");
        assert!(ingested.refused.iter().any(|refused| refused.contains("readme.txt")));
        assert!(remote.size(&sync::receipt("cam-1", first))?.is_some());
        assert!(remote.size(&sync::receipt("cam-2", forged))?.is_none(), "a refused segment was receipted");

        let found = samples(&project)?;
        assert_eq!(found.len(), 2, "image a came twice");
        let a = found.iter().find(|sample| sample.image == b"a").context("image a is gone")?;
        assert_eq!(a.record.audit_probability(), Some(0.1), "what one device drew for audit is one for audit");

        // Again: nothing new. Without the receipt, as after a cut before it was written: it is written again.
        assert_eq!(ingest(&project, &remote, Timestamp::UNIX_EPOCH)?.segments, 0);
        fs::remove_file(folder.path().join("remote").join(sync::receipt("cam-1", first)))?;
        ingest(&project, &remote, Timestamp::UNIX_EPOCH)?;
        assert!(remote.size(&sync::receipt("cam-1", first))?.is_some());
        assert_eq!(samples(&project)?.len(), 2);
        Ok(())
    }
}
