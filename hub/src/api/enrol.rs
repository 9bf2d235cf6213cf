use std::sync::Arc;

use axum::{
    Json,
    body::to_bytes,
    extract::{Request, State},
};
use jiff::Timestamp;
use models::{
    hub::{Enrol, Enrolled},
    signing::PublicKey,
};

use super::Hub;
use crate::{Error, Result};

/// A token and a key are some hundred bytes.
const MAX_BODY: usize = 1 << 14;

/// Makes a key known, for a token.
pub(super) async fn enrol(State(hub): State<Arc<Hub>>, request: Request) -> Result<Json<Enrolled>> {
    let now = Timestamp::now();
    let (parts, body) = request.into_parts();
    hub.count_stranger(&parts)?;
    let body = to_bytes(body, MAX_BODY).await.map_err(|e| Error::Content(e.to_string()))?;
    let enrol: Enrol =
        serde_json::from_slice(&body).map_err(|e| Error::Content(format!("expected a token and a key: {e}")))?;
    let key = PublicKey::from_pem(&enrol.public_key);
    let key = key.ok_or_else(|| Error::Content("public_key: expected a P-256 public key in PEM form".into()))?;
    let database = &hub.intake.database;
    let client = database.enrol(&enrol.token, &key, now).await?;
    let detail = format!("{}, key {}", client.role.name(), key.id().short());
    database.log(&client.name, "enrolled", &detail, now).await?;
    Ok(Json(Enrolled { name: client.name, role: client.role, hub_key: hub.intake.key.public().to_pem() }))
}
