use serde::{Deserialize, Serialize};

use super::Message;
use crate::sync::ChannelPointer;

/// The order to go back to an older bundle. Devices refuse lower sequence numbers, so that whoever controls the store
/// cannot bring an old fault back; whoever holds a trusted key can.
///
/// It holds on devices that run `from` or anything between the two, and no longer, once they run anything newer: an old order
/// cannot be used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackOrder {
    /// The channel whose devices go back.
    pub channel: String,
    /// Highest sequence number that they leave.
    pub from: u64,
    /// The bundle that they go back to.
    pub to: ChannelPointer,
}

impl Message for RollbackOrder {
    const TYPE: &str = "application/vnd.flywheel.rollback-order+json";
}

impl RollbackOrder {
    /// Whether a device of this channel that runs the bundle of this sequence number goes to that bundle.
    pub fn allows(&self, channel: &str, running: u64, to: &ChannelPointer) -> bool {
        self.channel == channel && self.to == *to && to.sequence < running && running <= self.from
    }
}
