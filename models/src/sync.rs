//! Names and messages in the store between devices and workstation.
//!
//! The store is any object store; its names are all that the two sides share:
//!
//! ```text
//! channels/CHANNEL.json            which bundle the devices of a channel should run: a ChannelPointer
//! channels/CHANNEL.rollback.json   the order to go back to an older one, if there is one: a signed RollbackOrder
//! channels/CHANNEL.fallback.json   the same from the last bundle to the one before, for a hub to give if too many refuse it
//! channels/CHANNEL.rollout.json    how a hub brings bundles out: a ChannelReport
//! channels/CHANNEL.demand.json     what the fleet has of each class, and what is wanted: a Demand
//! bundles/DIGEST/FILE              the files of a bundle
//! segments/DEVICE/DIGEST.tar       a sealed segment, uploaded by a device
//! receipts/DEVICE/DIGEST.json      workstation or hub has it: a signed Receipt; only then does the device delete its copy
//! devices/DEVICE.json              how the device is: a DeviceStatus
//! clients/DEVICE.json              the keys that a hub knew the device by: DeviceKeys
//! pages/board.json                 what a hub's pages show: a Board
//! pages/images/DIGEST.png          a picture on them, named by what it shows
//! reviews/DIGEST.json              what people have said of samples in one go: a list of Review
//! ```
//!
//! Everything but pointers, orders, demands, statuses, the board and signatures is named by its content and never changes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Digest, Dropped, Error, ReasonKind, Result, segment,
    signing::{Message, request::SignedHeaders},
};

/// The current bundle of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelPointer {
    /// The bundle's digest.
    pub bundle: Digest,
    /// Its sequence number; without an order, devices ignore a pointer to one not above all that they ever ran.
    pub sequence: u64,
}

/// The word of the workstation, or of a hub, that it has a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The segment.
    pub segment: Digest,
    /// Samples taken from it; nothing if only its digest was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// When.
    pub received: Timestamp,
    /// The device's own signature of it, as a hub got it with the segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<SignedHeaders>,
}

impl Message for Receipt {
    const TYPE: &str = "application/vnd.flywheel.receipt+json";
}

/// What a device says of itself whenever it contacts the remote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceStatus {
    /// The device.
    pub device: String,
    /// Its channel.
    #[serde(default = "stable")]
    pub channel: String,
    /// The bundle it runs.
    pub bundle: Digest,
    /// That bundle's sequence number.
    pub sequence: u64,
    /// Since it started, over all bundles.
    pub counters: Counters,
    /// Samples kept and not yet in a segment.
    pub unsealed: usize,
    /// Segments sealed and not yet receipted.
    pub backlog: usize,
    /// The bundle that it takes over, or took over or refused last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
    /// When it said so.
    pub reported: Timestamp,
}

/// What devices from before had no word for.
fn stable() -> String {
    "stable".into()
}

/// How far a device is with a bundle that its channel named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateStatus {
    /// The bundle.
    pub bundle: Digest,
    /// How far.
    pub stage: Stage,
    /// What it showed there, or what spoke against it.
    pub detail: String,
}

/// How far a device is with a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It answers beside the bundle that serves.
    Shadow,
    /// It serves, and has still to show that it does well.
    Probation,
    /// It serves.
    Good,
    /// It did not do well, or cannot be run there, and does not serve.
    Refused,
    /// It did not arrive as it should, and is fetched again.
    Broken,
    /// It is for other devices, or for another time.
    NotMeant,
}

impl Stage {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Probation => "probation",
            Self::Good => "good",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::NotMeant => "not_meant",
        }
    }
}

/// How a hub brings a channel's bundles out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelReport {
    /// What is out everywhere.
    pub stable: Option<ChannelPointer>,
    /// The last bundle, if it went out by steps, or does.
    pub rollout: Option<RolloutReport>,
    /// Those that were taken back, the last ones.
    pub went_back: Vec<WentBack>,
}

/// A bundle that was taken back from the devices, and never goes out again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WentBack {
    /// The bundle.
    pub to: ChannelPointer,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// How far a hub is with the last bundle that it was given for a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutReport {
    /// The bundle.
    pub to: ChannelPointer,
    /// Whether it still goes out.
    pub state: RolloutState,
    /// The stage, from 1.
    pub stage: usize,
    /// Of so many.
    pub stages: usize,
    /// Since when it has been in that stage.
    pub since: Timestamp,
    /// The devices that have their turn and were heard lately.
    pub devices: Tally,
}

/// Whether a bundle still goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// To more and more devices.
    Running,
    /// It is out everywhere, and is watched for some days.
    Done,
    /// Nobody gets it any more, and who has it goes back to the one before.
    Back,
}

impl RolloutState {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Back => "back",
        }
    }
}

/// Devices by how they do with a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// They have not said anything of it.
    pub waiting: u64,
    /// In shadow or on probation, or fetching it again.
    pub trying: u64,
    /// It serves there.
    pub good: u64,
    /// It did not do well there.
    pub refused: u64,
}

impl Tally {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.waiting + self.trying + self.good + self.refused
    }
}

/// What a device counts. Every image that was classified is in [`samples`](Self::samples) or in one of [`dropped`](Self::dropped).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Images classified.
    pub classified: u64,
    /// Images that could not be read and were skipped.
    pub unreadable: u64,
    /// Images kept.
    pub samples: u64,
    /// Reasons that they were kept for; some have several.
    pub kept: BTreeMap<ReasonKind, u64>,
    /// Images not kept, by what stopped them.
    pub dropped: BTreeMap<Dropped, u64>,
    /// Samples kept and deleted again to make room for more useful ones.
    pub evicted: u64,
    /// Segments that the disk damaged, or that a hub refused for what they are.
    pub damaged: u64,
}

/// What the workstation has of each class, and what it asks its devices for, by label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// Confident samples that it has from the whole fleet.
    pub held: BTreeMap<String, u64>,
    /// What it asks for.
    pub wanted: BTreeMap<String, Wish>,
}

/// How many samples of a class every device is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// So many from each device, as far as the bundle's rules allow.
    pub per_device: u32,
    /// When it was asked: what a device kept for an earlier request does not count.
    pub asked: Timestamp,
}

/// Name of a channel's demand.
pub fn demand(channel: &str) -> String {
    format!("channels/{channel}.demand.json")
}

/// Name of a channel's pointer.
pub fn channel(channel: &str) -> String {
    format!("channels/{channel}.json")
}

/// Name of a channel's order to go back.
pub fn rollback(channel: &str) -> String {
    format!("channels/{channel}.rollback.json")
}

/// Name of the order by which a hub may take a channel's last bundle back.
pub fn fallback(channel: &str) -> String {
    format!("channels/{channel}.fallback.json")
}

/// Name of what a hub says of a channel's last bundle.
pub fn rollout(channel: &str) -> String {
    format!("channels/{channel}.rollout.json")
}

/// Name of a bundle's file.
pub fn bundle_file(bundle: Digest, file: &str) -> String {
    format!("bundles/{bundle}/{file}")
}

/// Where segments are.
pub const SEGMENTS: &str = "segments";

/// Name of a device's segment.
pub fn segment(device: &str, segment: Digest) -> String {
    format!("{SEGMENTS}/{device}/{segment}.{}", segment::EXTENSION)
}

/// Device and digest of a segment's name.
///
/// # Errors
/// [`Error::Malformed`] for a name that [`segment()`] does not make.
pub fn parse_segment(name: &str) -> Result<(String, Digest)> {
    let malformed = || Error::malformed(format!("object {name:?}"), "segments/DEVICE/SHA256.tar", "another name");
    let [prefix, device, file] = name.split('/').collect::<Vec<_>>()[..] else { return Err(malformed()) };
    let (digest, extension) = file.split_once('.').ok_or_else(malformed)?;
    if prefix != SEGMENTS || extension != segment::EXTENSION || !is_device_name(device) {
        return Err(malformed());
    }
    Ok((device.to_owned(), digest.parse().map_err(|_| malformed())?))
}

/// Name of a segment's receipt.
pub fn receipt(device: &str, segment: Digest) -> String {
    format!("receipts/{device}/{segment}.json")
}

/// Name of the keys of a device.
pub fn device_keys(device: &str) -> String {
    format!("clients/{device}.json")
}

/// Where the devices' statuses are.
pub const DEVICES: &str = "devices";

/// Name of a device's status.
pub fn device_status(device: &str) -> String {
    format!("{DEVICES}/{device}.json")
}

/// Name of what a hub's pages show.
pub const BOARD: &str = "pages/board.json";

/// Where the pictures on them are.
pub const PICTURES: &str = "pages/images";

/// Name of a picture on a hub's pages.
pub fn picture(image: Digest) -> String {
    format!("{PICTURES}/{image}.png")
}

/// Where what people have said of samples is.
pub const REVIEWS: &str = "reviews";

/// Name of what was said in one go.
pub fn reviews(said: Digest) -> String {
    format!("{REVIEWS}/{said}.json")
}

/// Digest of such a name.
///
/// # Errors
/// [`Error::Malformed`] for a name that [`reviews()`] does not make.
pub fn parse_reviews(name: &str) -> Result<Digest> {
    let file = name.strip_prefix(REVIEWS).and_then(|rest| rest.strip_prefix('/'));
    let digest = file.and_then(|file| file.strip_suffix(".json")?.parse().ok());
    digest.ok_or_else(|| Error::malformed(format!("object {name:?}"), "reviews/SHA256.json", "another name"))
}

/// Whether a device may be called so: 1 to 64 of `a-z`, `A-Z`, `0-9`, `-`, `_`.
pub fn is_device_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_names_read_back_and_nothing_else_does() {
        let digest = Digest::of(b"x");
        let name = segment("cam-1", digest);
        assert_eq!(parse_segment(&name).ok(), Some(("cam-1".to_owned(), digest)));
        for wrong in ["segments/cam-1/x.tar", &name.replace("cam-1", ".."), &format!("{name}/y"), "segments"] {
            assert!(parse_segment(wrong).is_err(), "{wrong}");
        }
    }
}
