//! What the hub answers over HTTP; [`models::hub`] says it as a table.

mod admin;
mod enrol;
mod name;
mod objects;
mod pages;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
        request::Parts,
    },
    middleware::from_fn_with_state,
    response::IntoResponse,
    routing::{get, post},
};
use bytes::Bytes;
use jiff::Timestamp;
use models::{
    Digest,
    hub::{ADMIN, Action, ENROL, OBJECTS, Role},
    signing::request::Claim,
};
use tokio::sync::{Mutex, Semaphore};
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};

use crate::{
    Error, Result,
    auth::authenticate,
    board::Boards,
    channels::Channels,
    database::Client,
    intake::Intake,
    limits::{Limits, Meter, Uploads},
    metrics::{Metrics, measure},
    statuses::Statuses,
};

/// That database and store answered is believed for so long.
const READY_FOR: Duration = Duration::from_secs(2);
/// Messages are some lines of text, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// Everything that a request needs.
#[derive(Debug)]
pub struct Hub {
    /// Segments, the database and the objects behind it, and the hub's key.
    pub intake: Intake,
    /// How the devices are.
    pub statuses: Statuses,
    /// What they should run.
    pub channels: Channels,
    /// What the pages show.
    pub boards: Boards,
    /// How much may be asked for.
    pub limits: Limits,
    /// How much was.
    pub metrics: Arc<Metrics>,
    meter: Meter,
    /// Of each device.
    uploads: Uploads,
    /// Of all.
    places: Semaphore,
    /// When database and store answered last.
    last_ready: Mutex<Option<Instant>>,
}

impl Hub {
    /// A hub over its parts.
    pub fn new(intake: Intake, limits: Limits) -> Self {
        let (meter, places) = (Meter::new(&limits), Semaphore::new(limits.uploads));
        let channels = Channels { database: intake.database.clone(), objects: intake.objects.clone() };
        let (statuses, boards, metrics) = (Statuses::default(), Boards::default(), Arc::default());
        let (uploads, last_ready) = (Uploads::default(), Mutex::default());
        Self { intake, statuses, channels, boards, limits, metrics, meter, uploads, places, last_ready }
    }

    /// What has to be done now and then: statuses written, meters tidied.
    pub async fn tidy(&self) {
        self.meter.tidy();
        if let Err(e) = self.statuses.flush(&self.intake.database).await {
            tracing::error!("statuses wait for the next time: {e}");
        }
    }

    /// Brings rollouts on.
    pub async fn roll(&self) {
        if let Err(e) = self.channels.advance(Timestamp::now()).await {
            tracing::error!("rollouts wait for the next time: {e}");
        }
    }

    /// Proves whose a request is, and counts it.
    async fn admit(&self, request: &Parts, now: Timestamp) -> Result<(Client, Claim)> {
        match authenticate(&self.intake.database, request, now).await {
            Ok((client, claim)) => {
                // The workstations are few, and the hub is theirs.
                if matches!(client.role, Role::Device | Role::Reviewer) {
                    self.meter.known(claim.key)?;
                }
                Ok((client, claim))
            }
            Err(e @ (Error::Database(_) | Error::Clock { .. })) => Err(e),
            Err(e) => {
                self.count_stranger(request)?;
                Err(e)
            }
        }
    }

    fn count_stranger(&self, request: &Parts) -> Result<()> {
        let address = request.extensions.get::<ConnectInfo<SocketAddr>>();
        address.map_or(Ok(()), |ConnectInfo(address)| self.meter.stranger(address.ip()))
    }
}

/// The hub's routes.
pub fn router(hub: Arc<Hub>) -> Router {
    // Content may take as long as it comes at all.
    let answered = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, hub.limits.request_time);
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/openapi.json", get(openapi))
        .route(ENROL, post(enrol::enrol))
        .route(ADMIN, post(admin::admin).layer(answered))
        .route(OBJECTS, get(objects::list))
        .route(
            &format!("{OBJECTS}/{{*name}}"),
            get(objects::read).head(objects::look_up).layer(answered).put(objects::write),
        )
        .merge(pages::router().layer(answered))
        .layer(DefaultBodyLimit::disable())
        .layer(RequestBodyTimeoutLayer::new(hub.limits.silence))
        .layer(from_fn_with_state(Arc::clone(&hub.metrics), measure))
        .with_state(hub)
}

/// Whether database and store answer, or did a moment ago: anybody may ask.
async fn ready(State(hub): State<Arc<Hub>>) -> Result<&'static str> {
    let mut last = hub.last_ready.lock().await;
    if last.is_none_or(|last| last.elapsed() > READY_FOR) {
        hub.intake.database.ping().await?;
        hub.intake.objects.has("channels/stable.json").await?;
        *last = Some(Instant::now());
    }
    Ok("ready")
}

/// The routes, for programs; [`models::hub`] has them for people.
async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], include_str!("api/openapi.json"))
}

/// A message's content of at most so many bytes, if it is what was signed; `what` names it in errors.
async fn signed_content(what: &str, headers: &HeaderMap, body: Body, claim: &Claim, most: usize) -> Result<Bytes> {
    if let Some(found) = declared(headers).filter(|length| *length > most as u64) {
        return Err(Error::TooLarge { what: what.to_owned(), found, most: most as u64 });
    }
    let content = to_bytes(body, most).await.map_err(|e| Error::BrokenOff(format!("{what}: {e}")))?;
    if Digest::of(&content) == claim.content {
        return Ok(content);
    }
    Err(Error::Content(format!("{what}: the content is not what was signed")))
}

/// The length that a request says its content has.
fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn allow(client: &Client, action: Action, object: &str) -> Result<()> {
    if client.role.may(&client.name, action, object) {
        return Ok(());
    }
    let action = match action {
        Action::Read => "read",
        Action::Write => "write",
    };
    Err(Error::Role { role: client.role.name(), name: client.name.clone(), action, object: object.to_owned() })
}
