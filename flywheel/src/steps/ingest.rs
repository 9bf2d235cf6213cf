//! Takes the devices' segments in: verified, kept, receipted.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use edge_runtime::sync::Remote;
use jiff::Timestamp;
use models::{Digest, Sample, durable, segment, sync};
use serde::Serialize;

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
    /// Objects that are no valid segment, each with the reason. They are left where they are and never receipted.
    pub refused: Vec<String>,
}

/// Fetches, verifies and keeps every segment that is not here yet, then receipts it.
///
/// The receipt is written only once the segment is durably here; running it again changes nothing.
///
/// # Errors
/// If the remote or the disk fails. A segment that is not valid is no error.
pub fn ingest(project: &Project, remote: &Remote, now: Timestamp) -> Result<Ingested> {
    let mut ingested = Ingested::default();
    for name in remote.list(sync::SEGMENTS)? {
        let (device, digest) = match sync::parse_segment(&name) {
            Ok(parsed) => parsed,
            Err(e) => {
                ingested.refused.push(e.to_string());
                continue;
            }
        };
        let path = segment_path(project, &device, digest);
        let receipt_name = sync::receipt(&device, digest);
        if path.exists() && remote.size(&receipt_name)?.is_some() {
            continue;
        }
        let Some(bytes) = remote.get(&name, MAX_SEGMENT)? else { continue };
        let samples = match read(&name, &device, digest, &bytes) {
            Ok(samples) => samples.len(),
            Err(e) => {
                ingested.refused.push(e.to_string());
                continue;
            }
        };
        durable::create_folders(path.parent().unwrap_or(Path::new("")))?;
        durable::write(&path, &bytes)?;
        let receipt = sync::Receipt { segment: digest, samples, received: now };
        remote.put(&receipt_name, serde_json::to_vec_pretty(&receipt)?)?;
        ingested.segments += 1;
        ingested.samples += samples;
    }
    Ok(ingested)
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
            let digest: Digest = path.file_stem().unwrap_or_default().to_string_lossy().parse()?;
            for sample in segment::read(&path, digest)? {
                let known = samples.entry(sample.record.image).or_insert_with(|| sample.clone());
                if known.record.audit_probability().is_none() && sample.record.audit_probability().is_some() {
                    known.record.reasons.extend(sample.record.reasons);
                }
            }
        }
    }
    Ok(samples.into_values().collect())
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

fn sorted_entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
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
