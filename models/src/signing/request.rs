//! Requests that say whose they are.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::{PrivateKey, PublicKey};
use crate::{Digest, Error, Result};

/// Names of the headers that carry a request's signature.
pub const CONTENT_DIGEST: &str = "content-digest";
/// See [`CONTENT_DIGEST`].
pub const SIGNATURE_INPUT: &str = "signature-input";
/// See [`CONTENT_DIGEST`].
pub const REQUEST_SIGNATURE: &str = "signature";

const COMPONENTS: &str = r#"("@method" "@path" "@query" "content-digest")"#;
const ALGORITHM: &str = "ecdsa-p256-sha256";

/// What of an HTTP request is signed.
///
/// # Reference
/// RFC 9421, HTTP Message Signatures, with these components in this order; RFC 9530 for the digest of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// In upper case.
    pub method: &'a str,
    /// As it is sent.
    pub path: &'a str,
    /// As it is sent, without the question mark; empty if there is none.
    pub query: &'a str,
    /// Digest of the content; of nothing if there is none.
    pub content: Digest,
}

/// The headers of a signed request. Kept with what was sent, they prove whose it is later on, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHeaders {
    /// [`CONTENT_DIGEST`].
    pub content_digest: String,
    /// [`SIGNATURE_INPUT`].
    pub signature_input: String,
    /// [`REQUEST_SIGNATURE`].
    pub signature: String,
}

/// What a request says of its signature, before anything is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// When it was signed, to the second.
    pub created: Timestamp,
    /// The id of the key.
    pub key: Digest,
    /// Digest of the content.
    pub content: Digest,
}

impl Request<'_> {
    /// Signs the request.
    pub fn sign(&self, created: Timestamp, key: &PrivateKey) -> SignedHeaders {
        let parameters = parameters(created, key.public().id());
        let signature = key.sign_raw(self.base(&parameters).as_bytes());
        SignedHeaders {
            content_digest: content_digest(self.content),
            signature_input: format!("sig={parameters}"),
            signature: format!("sig=:{}:", BASE64_STANDARD.encode(signature)),
        }
    }

    /// Proves that `key` has signed the request as `claim` says.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no signature; [`Error::Untrusted`] for that of another key or another request.
    pub fn verify(&self, claim: &Claim, signature: &str, key: &PublicKey) -> Result<()> {
        let malformed = || Error::malformed("the header signature", "sig=:BASE64:", signature);
        let encoded = signature.strip_prefix("sig=:").and_then(|rest| rest.strip_suffix(':')).ok_or_else(malformed)?;
        let signature = BASE64_STANDARD.decode(encoded).map_err(|_| malformed())?;
        let base = self.base(&parameters(claim.created, claim.key));
        if key.id() == claim.key && key.has_signed_raw(base.as_bytes(), &signature) {
            return Ok(());
        }
        let what = format!("{} {}", self.method, self.path);
        Err(Error::Untrusted { what, trusted: vec![key.id().short()] })
    }

    /// RFC 9421, section 2.5.
    fn base(&self, parameters: &str) -> String {
        format!(
            "\"@method\": {}\n\"@path\": {}\n\"@query\": ?{}\n\"content-digest\": {}\n\"@signature-params\": {parameters}",
            self.method,
            self.path,
            self.query,
            content_digest(self.content),
        )
    }
}

impl Claim {
    /// What the headers of a request say.
    ///
    /// # Errors
    /// [`Error::Malformed`] for headers of another form than [`Request::sign`] makes.
    pub fn parse(content_digest: &str, signature_input: &str) -> Result<Self> {
        let malformed = || {
            let expected = format!("sig={COMPONENTS};created=SECONDS;keyid=\"SHA256\";alg=\"{ALGORITHM}\"");
            Error::malformed("the header signature-input", expected, signature_input)
        };
        let rest = signature_input.strip_prefix("sig=").and_then(|rest| rest.strip_prefix(COMPONENTS));
        let rest = rest.and_then(|rest| rest.strip_prefix(";created=")).ok_or_else(malformed)?;
        let (seconds, rest) = rest.split_once(";keyid=\"").ok_or_else(malformed)?;
        let key = rest.strip_suffix(&format!("\";alg=\"{ALGORITHM}\"")).ok_or_else(malformed)?;
        let created = seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let claim = Self {
            created: created.ok_or_else(malformed)?,
            key: key.parse().map_err(|_| malformed())?,
            content: parse_content_digest(content_digest)?,
        };
        // Written as we would write it: a plus sign or leading zeros would be signed as something else.
        if signature_input == format!("sig={}", parameters(claim.created, claim.key)) {
            Ok(claim)
        } else {
            Err(malformed())
        }
    }
}

fn parameters(created: Timestamp, key: Digest) -> String {
    format!("{COMPONENTS};created={};keyid=\"{key}\";alg=\"{ALGORITHM}\"", created.as_second())
}

fn content_digest(content: Digest) -> String {
    format!("sha-256=:{}:", BASE64_STANDARD.encode(content.into_bytes()))
}

fn parse_content_digest(text: &str) -> Result<Digest> {
    let malformed = || Error::malformed("the header content-digest", "sha-256=:BASE64:", text);
    let encoded = text.strip_prefix("sha-256=:").and_then(|rest| rest.strip_suffix(':')).ok_or_else(malformed)?;
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| malformed())?;
    Ok(Digest::from_bytes(bytes.try_into().map_err(|_| malformed())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_request_at_one_time_by_one_key() -> Result<()> {
        let key = |byte| PrivateKey::from_secret([byte; 32]).expect("a key");
        let (ours, theirs) = (key(1), key(2));
        let created = Timestamp::from_second(1_700_000_000).expect("a time");
        let request = Request { method: "PUT", path: "/v1/objects/x", query: "", content: Digest::of(b"x") };
        let headers = request.sign(created, &ours);
        let claim = Claim::parse(&headers.content_digest, &headers.signature_input)?;
        assert_eq!(claim, Claim { created, key: ours.public().id(), content: request.content });
        request.verify(&claim, &headers.signature, &ours.public())?;

        let refused = |request: &Request<'_>, claim: &Claim, key: &PrivateKey| {
            matches!(request.verify(claim, &headers.signature, &key.public()), Err(Error::Untrusted { .. }))
        };
        assert!(refused(&request, &claim, &theirs));
        let others = [
            Request { method: "GET", ..request },
            Request { path: "/v1/objects/y", ..request },
            Request { query: "prefix=x", ..request },
            Request { content: Digest::of(b"y"), ..request },
        ];
        assert!(others.iter().all(|other| refused(other, &claim, &ours)));
        let later = Claim { created: Timestamp::from_second(1_700_000_001).expect("a time"), ..claim };
        assert!(refused(&request, &later, &ours));
        Ok(())
    }

    #[test]
    fn headers_of_another_form_are_refused() {
        let key = PrivateKey::from_secret([1; 32]).expect("a key");
        let request = Request { method: "GET", path: "/", query: "", content: Digest::of(b"") };
        let SignedHeaders { content_digest, signature_input, .. } = request.sign(Timestamp::UNIX_EPOCH, &key);
        assert!(Claim::parse(&content_digest, &signature_input).is_ok());
        for (from, to) in [("created=0", "created=+0"), ("\"@query\" ", ""), ("ecdsa", "ed25519"), ("sig=", "sig1=")] {
            let changed = signature_input.replace(from, to);
            assert_ne!(changed, signature_input);
            assert!(Claim::parse(&content_digest, &changed).is_err(), "{changed}");
        }
        assert!(Claim::parse("sha-256=:AAAA:", &signature_input).is_err());
    }
}
