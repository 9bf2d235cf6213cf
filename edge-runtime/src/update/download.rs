//! A bundle's way from the remote to its slot, and how long to wait after one that did not arrive as it should.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use models::{
    Digest, Manifest,
    bundle::{MANIFEST, MAX_MANIFEST, SIGNATURE},
    durable,
    signing::MAX_SIGNATURE,
    sync::{self, ChannelPointer},
};

use super::Terms;
use crate::{Error, Result, sync::Remote};

/// Until a broken bundle is fetched again, the first time and at most. Each time is twice as long as the one before.
const WAIT: [SignedDuration; 2] = [SignedDuration::from_mins(1), SignedDuration::from_hours(1)];

/// A bundle that did not arrive as it should: it may be repaired.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken {
    bundle: Digest,
    times: u32,
    again: Timestamp,
}

impl Broken {
    /// After another failure.
    pub(super) fn again(before: Option<Self>, bundle: Digest, now: Timestamp) -> Self {
        let times = before.filter(|before| before.bundle == bundle).map_or(0, |before| before.times + 1);
        let wait = WAIT[0].saturating_mul(1 << times.min(10)).min(WAIT[1]);
        Self { bundle, times, again: now.saturating_add(wait).unwrap_or(Timestamp::MAX) }
    }

    /// Whether it is too early to fetch it again. A clock that was put back makes nobody wait longer.
    pub(super) fn waits(&self, bundle: Digest, now: Timestamp) -> bool {
        self.bundle == bundle && now < self.again && self.again.duration_since(now) <= WAIT[1]
    }
}

/// Whether a download may succeed the next time without anybody's doing. That a manifest is there and a file that it lists is
/// not is no such thing: files are in the remote before the manifest is looked for.
pub(super) fn may_pass(why: &Error) -> bool {
    match why {
        Error::Missing { name, .. } => name.ends_with(MANIFEST),
        other => other.is_passing(),
    }
}

/// Brings a bundle's files into `slot`, once its manifest has proven whose it is and for whom; no file is larger or other
/// than the manifest says.
pub(super) fn download(
    remote: &Remote,
    pointer: &ChannelPointer,
    slot: &Path,
    terms: &Terms,
    now: Timestamp,
) -> Result<()> {
    let get = |file: &str, limit: u64| {
        let name = sync::bundle_file(pointer.bundle, file);
        Ok::<_, Error>((remote.get(&name, limit)?, name))
    };
    let needed = |file: &str, limit: u64| {
        let (bytes, name) = get(file, limit)?;
        let because = format!("a channel points to bundle {}", pointer.bundle.short());
        bytes.map(|bytes| (PathBuf::from(&name), bytes)).ok_or(Error::Missing { name, because })
    };
    let promised = |path, expected, bytes: &[u8]| match Digest::of(bytes) {
        found if found == expected => Ok(()),
        found => Err(models::Error::DigestMismatch { path, expected, found }),
    };
    durable::write_folder(slot, |folder| {
        let (path, manifest) = needed(MANIFEST, MAX_MANIFEST)?;
        let parsed = Manifest::parse(&path.display().to_string(), &manifest);
        promised(path, pointer.bundle, &manifest)?;
        let parsed = parsed?;
        if parsed.sequence != pointer.sequence {
            let ChannelPointer { bundle, sequence: expected } = *pointer;
            return Err(Error::Sequence { bundle, expected, found: parsed.sequence });
        }
        let (signature, _) = get(SIGNATURE, MAX_SIGNATURE)?;
        terms.admit(&pointer.bundle.short(), &parsed, pointer.bundle, signature.as_deref(), now)?;
        for (file, entry) in parsed.files {
            let (path, bytes) = needed(&file, entry.bytes)?;
            promised(path, entry.sha256, &bytes)?;
            durable::write(&folder.join(file), &bytes)?;
        }
        if let Some(signature) = signature {
            durable::write(&folder.join(SIGNATURE), &signature)?;
        }
        Ok(durable::write(&folder.join(MANIFEST), &manifest)?)
    })
}
