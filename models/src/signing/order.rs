use serde::{Deserialize, Serialize};

use super::{
    envelope::Envelope,
    keys::{PrivateKey, TrustedKeys},
};
use crate::{Error, Result, sync::ChannelPointer};

const PAYLOAD: &str = "application/vnd.flywheel.rollback-order+json";

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

impl RollbackOrder {
    /// The order as the content of its object, signed.
    ///
    /// # Errors
    /// None in practice: [`Error::Malformed`] if it has no JSON form.
    pub fn sign(&self, key: &PrivateKey) -> Result<Vec<u8>> {
        let no_json = |e| Error::malformed("a rollback order", "a JSON form", e);
        let payload = serde_json::to_vec(self).map_err(no_json)?;
        serde_json::to_vec_pretty(&Envelope::seal(PAYLOAD, &payload, key)).map_err(no_json)
    }

    /// The order in an object that a trusted key has signed; `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no order; [`Error::Untrusted`].
    pub fn verify(what: &str, bytes: &[u8], trusted: &TrustedKeys) -> Result<Self> {
        let no_order = |e: serde_json::Error| Error::malformed(what, "a signed rollback order", e);
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(no_order)?;
        let (payload, _) = envelope.open(what, PAYLOAD, trusted)?;
        serde_json::from_slice(&payload).map_err(no_order)
    }

    /// Whether a device of this channel that runs the bundle of this sequence number goes to that bundle.
    pub fn allows(&self, channel: &str, running: u64, to: &ChannelPointer) -> bool {
        self.channel == channel && self.to == *to && to.sequence < running && running <= self.from
    }
}
