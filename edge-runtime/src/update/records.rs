//! What a device writes down of its bundles.

use jiff::Timestamp;
use models::{Digest, sync::ChannelPointer};
use serde::{Deserialize, Serialize};

/// The content of `trying.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trying {
    pub(super) bundle: Digest,
    pub(super) sequence: u64,
    /// How often it was begun and not ended. Some may have been power cuts.
    pub(super) times: u32,
}

/// The content of `current.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Current {
    /// What serves.
    pub(super) bundle: Digest,
    /// Its sequence number.
    pub(super) sequence: u64,
    /// The highest sequence number that ever served here: without an order, only higher ones follow.
    pub(super) highest: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) probation: Option<Probation>,
}

/// What is known of a bundle that serves on probation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probation {
    /// What served before, and does again if this one does not do well.
    pub before: ChannelPointer,
    /// When it began.
    pub since: Timestamp,
    /// How often the device went down since.
    pub(super) crashes: u32,
    /// Whether a device runs, or went down without saying so.
    pub(super) is_running: bool,
}

/// What did not do well on this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Its sequence number.
    pub sequence: u64,
    /// What spoke against it.
    pub why: String,
    /// When.
    pub at: Timestamp,
}
