//! Whose a request is.

use axum::http::{HeaderMap, request::Parts};
use jiff::{SignedDuration, Timestamp};
use models::signing::request::{CONTENT_DIGEST, Claim, REQUEST_SIGNATURE, Request, SIGNATURE_INPUT};

use crate::{
    Error, Result,
    database::{Client, Database},
};

/// A request is good for so long before and after its time. Those of devices can be repeated without harm within it: objects are
/// named by their content, and of statuses the latest one counts. A channel's message of minutes ago could be brought back by who
/// has heard it; TLS is what keeps them from hearing.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// Proves by whose key a request is signed. What it says of its content is still to be checked against the content.
///
/// # Errors
/// [`Error::Key`], [`Error::Clock`], [`Error::Database`].
pub async fn authenticate(database: &Database, request: &Parts, now: Timestamp) -> Result<(Client, Claim)> {
    let refuse = |e: models::Error| Error::Key(e.to_string());
    let [digest, input, signature] =
        [CONTENT_DIGEST, SIGNATURE_INPUT, REQUEST_SIGNATURE].map(|name| header(&request.headers, name));
    let claim = Claim::parse(digest?, input?).map_err(refuse)?;
    let signature = signature?;
    let client = database.client(claim.key).await?;
    let client = client.ok_or_else(|| Error::Key(format!("key {} is unknown or revoked", claim.key.short())))?;
    let signed = Request {
        method: request.method.as_str(),
        path: request.uri.path(),
        query: request.uri.query().unwrap_or(""),
        content: claim.content,
    };
    signed.verify(&claim, signature, &client.key).map_err(refuse)?;
    // Only who has a key learns how far the clocks are apart.
    if now.duration_since(claim.created).abs() > CLOCKS_APART {
        return Err(Error::Clock { signed: claim.created, now });
    }
    Ok((client, claim))
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| Error::Key(format!("the header {name} is missing")))
}
