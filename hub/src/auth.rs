//! Whose a request is.

use axum::http::{HeaderMap, request::Parts};
use jiff::Timestamp;
use models::{
    hub::CLOCKS_APART,
    signing::request::{CONTENT_DIGEST, Claim, REQUEST_SIGNATURE, Request, SIGNATURE_INPUT, SignedHeaders},
};

use crate::{
    Error, Result,
    database::{Client, Database},
};

/// Proves by whose key a request is signed. What it says of its content is still to be checked against the content.
///
/// For [`CLOCKS_APART`] it can be repeated. Those of devices can be without harm: objects are named by their content, and of statuses
/// the latest one counts. A channel's message of minutes ago, or an admin's order, could be brought back by who has heard it; TLS is
/// what keeps them from hearing.
///
/// # Errors
/// [`Error::Key`], [`Error::Clock`], [`Error::Database`].
pub async fn authenticate(database: &Database, request: &Parts, now: Timestamp) -> Result<(Client, Claim)> {
    let refuse = |e: models::Error| Error::Key(e.to_string());
    let SignedHeaders { content_digest, signature_input, signature } = signed_headers(&request.headers)?;
    let claim = Claim::parse(&content_digest, &signature_input).map_err(refuse)?;
    let client = database.client(claim.key).await?;
    let client = client.ok_or_else(|| Error::Key(format!("key {} is unknown or revoked", claim.key.short())))?;
    let signed = Request {
        method: request.method.as_str(),
        path: request.uri.path(),
        query: request.uri.query().unwrap_or(""),
        content: claim.content,
    };
    signed.verify(&claim, &signature, &client.key).map_err(refuse)?;
    // Only who has a key learns how far the clocks are apart.
    if now.duration_since(claim.created).abs() > CLOCKS_APART {
        return Err(Error::Clock { signed: claim.created, now });
    }
    Ok((client, claim))
}

/// The headers that sign a request, which prove nothing yet.
///
/// # Errors
/// [`Error::Key`] if one is missing.
pub fn signed_headers(headers: &HeaderMap) -> Result<SignedHeaders> {
    let header = |name: &'static str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.map(str::to_owned).ok_or_else(|| Error::Key(format!("the header {name} is missing")))
    };
    Ok(SignedHeaders {
        content_digest: header(CONTENT_DIGEST)?,
        signature_input: header(SIGNATURE_INPUT)?,
        signature: header(REQUEST_SIGNATURE)?,
    })
}
