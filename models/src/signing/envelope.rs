use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use super::keys::{PrivateKey, TrustedKeys};
use crate::{Digest, Error, Result};

/// A payload with the signature over it and over its type.
///
/// # Reference
/// DSSE 1.0, `envelope.md` and `protocol.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EnvelopeSignature {
    sig: String,
    #[serde(default)]
    keyid: String,
}

impl Envelope {
    /// With a signature if there is a key.
    pub(super) fn seal(payload_type: &str, payload: &[u8], key: Option<&PrivateKey>) -> Self {
        let sign = |key: &PrivateKey| {
            let signature = key.sign(&pre_authentication(payload_type, payload));
            EnvelopeSignature { sig: BASE64_STANDARD.encode(signature), keyid: String::new() }
        };
        Self {
            payload: BASE64_STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: key.map(sign).into_iter().collect(),
        }
    }

    /// The payload, whoever wrote it; `what` names the file in errors.
    pub(super) fn payload(&self, what: &str, payload_type: &str) -> Result<Vec<u8>> {
        if self.payload_type != payload_type {
            return Err(Error::malformed(what, format!("a payload of type {payload_type}"), &self.payload_type));
        }
        decode(what, &self.payload)
    }

    /// The payload, and the id of the trusted key that signed it; `what` names the file in errors.
    pub(super) fn open(&self, what: &str, payload_type: &str, trusted: &TrustedKeys) -> Result<(Vec<u8>, Digest)> {
        let payload = self.payload(what, payload_type)?;
        let message = pre_authentication(payload_type, &payload);
        for signature in &self.signatures {
            let signature = decode(what, &signature.sig)?;
            if let Some(key) = trusted.iter().find(|key| key.has_signed(&message, &signature)) {
                return Ok((payload, key.id()));
            }
        }
        Err(Error::Untrusted { what: what.to_owned(), trusted: trusted.iter().map(|key| key.id().short()).collect() })
    }
}

fn decode(what: &str, text: &str) -> Result<Vec<u8>> {
    BASE64_STANDARD.decode(text).map_err(|e| Error::malformed(what, "base64", e))
}

/// What is signed: DSSE's PAE, in which the lengths keep type and payload apart.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let header = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [header.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of DSSE's `protocol.md`.
    #[test]
    fn what_is_signed_is_what_the_protocol_says() {
        let bytes = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn only_a_trusted_key_opens_and_only_what_it_signed() -> Result<()> {
        let key = |byte| PrivateKey::from_secret([byte; 32]).expect("a key");
        let (ours, next, theirs) = (key(1), key(2), key(3));
        let trusted = TrustedKeys::new(vec![ours.public(), next.public()])?;
        for key in [&ours, &next] {
            let opened = Envelope::seal("text", b"payload", Some(key)).open("file", "text", &trusted)?;
            assert_eq!(opened, (b"payload".to_vec(), key.public().id()));
        }
        let refused = Envelope::seal("text", b"payload", Some(&theirs)).open("file", "text", &trusted);
        assert!(matches!(refused, Err(Error::Untrusted { .. })), "{refused:?}");

        let sealed = Envelope::seal("text", b"payload", Some(&ours));
        assert!(matches!(sealed.open("file", "other", &trusted), Err(Error::Malformed { .. })));
        let other = Envelope { payload: BASE64_STANDARD.encode(b"another"), ..sealed.clone() };
        assert!(matches!(other.open("file", "text", &trusted), Err(Error::Untrusted { .. })));
        assert!(matches!(sealed.open("file", "text", &TrustedKeys::default()), Err(Error::Untrusted { .. })));
        let unsigned = Envelope::seal("text", b"payload", None);
        assert!(matches!(unsigned.open("file", "text", &trusted), Err(Error::Untrusted { .. })));
        assert_eq!(unsigned.payload("file", "text").ok(), Some(b"payload".to_vec()));
        assert!(matches!(
            TrustedKeys::new(vec![ours.public(), next.public(), theirs.public()]),
            Err(Error::TooManyKeys { found: 3 })
        ));
        Ok(())
    }
}
