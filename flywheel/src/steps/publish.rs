//! Makes a bundle the one that a channel's devices run.

use std::fs;

use anyhow::{Context, Result};
use edge_runtime::sync::{self, Remote};
use models::{
    Bundle,
    signing::{Message, PrivateKey, RollbackOrder},
    sync::{self as names, ChannelPointer},
};

/// Copies a bundle's files to the remote, then points the channel at it: a device that sees the pointer finds the files. A hub,
/// which brings it to some devices first, also gets the order by which it can take it back from them, if there is
/// a `key` to sign it.
///
/// # Errors
/// If a file cannot be read or the remote fails; the channel then still points at the bundle before.
pub fn publish(bundle: &Bundle, remote: &Remote, channel: &str, key: Option<&PrivateKey>) -> Result<()> {
    for name in bundle.file_names() {
        let path = bundle.folder().join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        remote.put(&names::bundle_file(bundle.digest(), name), bytes)?;
    }
    let pointer = ChannelPointer { bundle: bundle.digest(), sequence: bundle.manifest().sequence };
    if let (Some(key), true, Some(to)) = (key, remote.enrolled().is_some(), sync::pointer(remote, channel)?) {
        let order = RollbackOrder { channel: channel.to_owned(), from: pointer.sequence, to };
        remote.put(&names::fallback(channel), order.seal(Some(key))?)?;
    }
    Ok(remote.put(&names::channel(channel), serde_json::to_vec_pretty(&pointer)?)?)
}
