//! The signature over the files of a folder, as OpenSSF Model Signing defines it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    envelope::Envelope,
    keys::{PrivateKey, TrustedKeys},
};
use crate::{Digest, Error, Result};

/// A signature lists a handful of files; what is larger, in bytes, is none.
pub const MAX_SIGNATURE: u64 = 1 << 16;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
const SHA256: &str = "sha256";
const BY_FILES: &str = "files";

/// A sigstore bundle. What others write beside these fields is not needed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SigstoreBundle {
    media_type: String,
    verification_material: VerificationMaterial,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMaterial {
    public_key: PublicKeyIdentifier,
    /// Entries of a transparency log: there are none for a key.
    #[serde(default)]
    tlog_entries: [(); 0],
}

#[derive(Serialize, Deserialize)]
struct PublicKeyIdentifier {
    hint: String,
}

/// An in-toto statement.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: [Subject; 1],
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Serialize, Deserialize)]
struct SubjectDigest {
    /// Over the digests of the resources, in their order.
    sha256: Digest,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Serialize, Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: Digest,
}

/// The signature of files by name, as the content of the file `signature` beside them.
pub(crate) fn sign(
    name: &str,
    files: &BTreeMap<String, Digest>,
    signature: &str,
    key: &PrivateKey,
) -> serde_json::Result<Vec<u8>> {
    let statement = Statement {
        kind: STATEMENT.into(),
        subject: [Subject { name: name.into(), digest: SubjectDigest { sha256: root(files.values()) } }],
        predicate_type: PREDICATE.into(),
        predicate: Predicate {
            serialization: Serialization {
                method: BY_FILES.into(),
                hash_type: SHA256.into(),
                allow_symlinks: false,
                ignore_paths: vec![signature.into()],
            },
            resources: files
                .iter()
                .map(|(name, digest)| Resource { name: name.clone(), algorithm: SHA256.into(), digest: *digest })
                .collect(),
        },
    };
    serde_json::to_vec_pretty(&SigstoreBundle {
        media_type: BUNDLE.into(),
        verification_material: VerificationMaterial {
            public_key: PublicKeyIdentifier { hint: key.public().id().to_string() },
            tlog_entries: [],
        },
        dsse_envelope: Envelope::seal(PAYLOAD, &serde_json::to_vec(&statement)?, Some(key)),
    })
}

/// Proves that a trusted key has signed exactly these files, and returns its id; `what` names the signature in errors.
///
/// # Errors
/// [`Error::Malformed`] for what is no such signature; [`Error::Untrusted`] if no trusted key made it;
/// [`Error::SignedOther`] if it is over other files.
pub(crate) fn verify(
    what: &str,
    signature: &[u8],
    files: &BTreeMap<String, Digest>,
    trusted: &TrustedKeys,
) -> Result<Digest> {
    let no_bundle = |e: serde_json::Error| Error::malformed(what, "a sigstore bundle", e);
    let bundle: SigstoreBundle = serde_json::from_slice(signature).map_err(no_bundle)?;
    let same = |expected: &str, found: &str| match found == expected {
        true => Ok(()),
        false => Err(Error::malformed(what, expected, found)),
    };
    same(BUNDLE, &bundle.media_type)?;
    let (payload, key) = bundle.dsse_envelope.open(what, PAYLOAD, trusted)?;
    let no_statement = |e: serde_json::Error| Error::malformed(what, "an in-toto statement over a model", e);
    let statement: Statement = serde_json::from_slice(&payload).map_err(no_statement)?;
    let Predicate { serialization, resources } = &statement.predicate;
    same(STATEMENT, &statement.kind)?;
    same(PREDICATE, &statement.predicate_type)?;
    same(BY_FILES, &serialization.method)?;
    resources.iter().try_for_each(|resource| same(SHA256, &resource.algorithm))?;
    let [Subject { digest, .. }] = &statement.subject;
    same(&digest.sha256.to_string(), &root(resources.iter().map(|resource| &resource.digest)).to_string())?;

    let signed: BTreeMap<_, _> = resources.iter().map(|r| (r.name.as_str(), r.digest)).collect();
    let found: BTreeMap<_, _> = files.iter().map(|(name, digest)| (name.as_str(), *digest)).collect();
    if signed.len() == resources.len() && signed == found {
        return Ok(key);
    }
    let differs = |name: &&&str| signed.get(**name) != found.get(**name);
    let file = signed.keys().chain(found.keys()).find(differs).map_or("a file twice", |name| name);
    Err(Error::SignedOther { what: what.to_owned(), file: file.to_owned() })
}

fn root<'a>(digests: impl Iterator<Item = &'a Digest>) -> Digest {
    Digest::of_parts(digests.map(|digest| digest.into_bytes()))
}
