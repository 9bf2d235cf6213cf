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
    upload(bundle, remote)?;
    let pointer = pointer_to(bundle);
    // One that was cut off here points at this bundle already, and the order is there.
    let before = sync::pointer(remote, channel)?.filter(|before| before.bundle != pointer.bundle);
    if let (Some(key), true, Some(to)) = (key, remote.enrolled().is_some(), before) {
        let order = RollbackOrder { channel: channel.to_owned(), from: pointer.sequence, to };
        remote.put(&names::fallback(channel), order.seal(Some(key))?)?;
    }
    point(remote, channel, &pointer)
}

/// What a channel is to say to bring a bundle out.
pub fn pointer_to(bundle: &Bundle) -> ChannelPointer {
    ChannelPointer { bundle: bundle.digest(), sequence: bundle.manifest().sequence }
}

/// Copies a bundle's files to the remote.
///
/// # Errors
/// If a file cannot be read or the remote fails.
pub fn upload(bundle: &Bundle, remote: &Remote) -> Result<()> {
    for name in bundle.file_names() {
        let path = bundle.folder().join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        remote.put(&names::bundle_file(bundle.digest(), name), bytes)?;
    }
    Ok(())
}

/// Points a channel at a bundle, whose files are there.
///
/// # Errors
/// If the remote fails, or a hub refuses a bundle that it has taken back before.
pub fn point(remote: &Remote, channel: &str, to: &ChannelPointer) -> Result<()> {
    Ok(remote.put(&names::channel(channel), serde_json::to_vec_pretty(to)?)?)
}
