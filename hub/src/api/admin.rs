use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use jiff::Timestamp;
use models::hub::{ADMIN, Role};
use serde_json::Value;

use super::{Hub, MAX_MESSAGE, signed_content};
use crate::{Error, Result, admin::execute};

/// Does what an admin asks.
pub(super) async fn admin(State(hub): State<Arc<Hub>>, request: Request) -> Result<Json<Value>> {
    let now = Timestamp::now();
    let (parts, body) = request.into_parts();
    let (client, claim) = hub.admit(&parts, now).await?;
    if client.role != Role::Admin {
        let (role, object) = (client.role.name(), ADMIN.to_owned());
        return Err(Error::Role { role, name: client.name, action: "write", object });
    }
    let content = signed_content("the order", &parts.headers, body, &claim, MAX_MESSAGE).await?;
    let order = serde_json::from_slice(&content).map_err(|e| Error::Content(format!("expected an order: {e}")))?;
    hub.statuses.flush(&hub.intake.database).await?;
    // Goes on, and is written down, although the client may be gone.
    let done = tokio::spawn(async move { execute(&hub.channels, order, &client.name, now).await });
    Ok(Json(done.await.map_err(|e| Error::BrokenOff(format!("the order broke off: {e}")))??))
}
