use serde::{Serialize, de::DeserializeOwned};

use super::{
    envelope::Envelope,
    keys::{PrivateKey, TrustedKeys},
};
use crate::{Error, Result};

/// A message that counts by whose it is: an object holds it as JSON inside an envelope with its signature.
pub trait Message: Serialize + DeserializeOwned {
    /// Keeps messages of different kinds apart: a signature of one is none of another.
    const TYPE: &str;

    /// The content of the message's object, signed if there is a key.
    ///
    /// # Errors
    /// None in practice: [`Error::Malformed`] if it has no JSON form.
    fn seal(&self, key: Option<&PrivateKey>) -> Result<Vec<u8>> {
        let no_json = |e| Error::malformed(Self::TYPE, "a JSON form", e);
        let payload = serde_json::to_vec(self).map_err(no_json)?;
        serde_json::to_vec_pretty(&Envelope::seal(Self::TYPE, &payload, key)).map_err(no_json)
    }

    /// The message in an object that a trusted key has signed; `what` names the object in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no such message; [`Error::Untrusted`].
    fn open(what: &str, bytes: &[u8], trusted: &TrustedKeys) -> Result<Self> {
        parse(what, bytes, |envelope| Ok(envelope.open(what, Self::TYPE, trusted)?.0))
    }

    /// The message in an object, whoever wrote it.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    fn open_unverified(what: &str, bytes: &[u8]) -> Result<Self> {
        parse(what, bytes, |envelope| envelope.payload(what, Self::TYPE))
    }
}

fn parse<M: Message>(what: &str, bytes: &[u8], payload: impl FnOnce(&Envelope) -> Result<Vec<u8>>) -> Result<M> {
    let malformed = |e: serde_json::Error| Error::malformed(what, M::TYPE, e);
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(malformed)?;
    serde_json::from_slice(&payload(&envelope)?).map_err(malformed)
}
