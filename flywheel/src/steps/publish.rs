//! Makes a bundle the one that a channel's devices run.

use std::fs;

use anyhow::{Context, Result};
use edge_runtime::sync::Remote;
use models::{Bundle, sync};

/// Copies a bundle's files to the remote, then points the channel at it: a device that sees the pointer finds the files.
///
/// # Errors
/// If a file cannot be read or the remote fails; the channel then still points at the bundle before.
pub fn publish(bundle: &Bundle, remote: &Remote, channel: &str) -> Result<()> {
    for name in bundle.file_names() {
        let path = bundle.folder().join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        remote.put(&sync::bundle_file(bundle.digest(), name), bytes)?;
    }
    let pointer = sync::ChannelPointer { bundle: bundle.digest(), sequence: bundle.manifest().sequence };
    Ok(remote.put(&sync::channel(channel), serde_json::to_vec_pretty(&pointer)?)?)
}
