//! A device's HTTP interface: classifies what is posted to it, and says how the device is.
//!
//! | | |
//! |---|---|
//! | `POST /v1/classify` | an image file, answered by its labels with their calibrated probabilities |
//! | `GET /v1/status` | model, samples, store, remote, the last images |
//! | `GET /v1/recent/NUMBER.png` | one of the last images, as the network saw it |
//! | `GET /` | a page with all of this |
//! | `GET /metrics` | for Prometheus |
//! | `GET /healthz`, `/readyz` | whether the device is alive, and has a model to answer with |
//! | `GET /openapi.json` | this table, for programs |
//!
//! It asks nobody who they are: it belongs on an address that only the device's own programs, or a trusted network, can reach.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, mpsc::SyncSender},
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use models::segment::MAX_IMAGE;
use tokio::{runtime, sync::Semaphore};
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};

use crate::{Error, Result, device::Shared, source::Arrival};

mod answers;
mod classify;
mod metrics;
mod status;

use answers::Refusal;

/// A client that has not sent its headers by then, or sends nothing for so long, is cut off.
const SILENCE: Duration = Duration::from_secs(15);
/// No request takes longer.
const ANSWER: Duration = Duration::from_secs(60);
/// Images in memory at once, for each processor.
const AT_ONCE: usize = 2;

/// A server that runs; it stops when this is dropped.
pub(crate) struct Server(Handle<SocketAddr>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// What every request needs.
#[derive(Clone)]
struct Serving {
    device: Arc<Shared>,
    /// Where posted images go, if they are collected.
    posted: Option<SyncSender<Arrival>>,
    places: Arc<Semaphore>,
}

/// Starts to answer, in a thread of its own.
///
/// # Errors
/// [`Error::Config`] for an address that cannot be used.
pub(crate) fn start(device: &Arc<Shared>, posted: SyncSender<Arrival>) -> Result<Option<(Server, SocketAddr)>> {
    let Some(listen) = device.config.listen else { return Ok(None) };
    let failed = |e: std::io::Error| Error::Config { what: format!("listen = \"{listen}\""), reason: e.to_string() };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let serving = Serving {
        device: Arc::clone(device),
        posted: device.config.collect_posted.then_some(posted),
        places: Arc::new(Semaphore::new(AT_ONCE * rayon::current_num_threads())),
    };
    let handle = Handle::new();
    let server = Server(handle.clone());
    thread::spawn(move || {
        let served = runtime.block_on(async {
            let mut server = axum_server::from_tcp(listener)?;
            server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(SILENCE);
            server.handle(handle).serve(router(serving).into_make_service()).await
        });
        if let Err(e) = served {
            tracing::error!("no more answers over HTTP: {e}");
        }
    });
    Ok(Some((server, address)))
}

fn router(serving: Serving) -> Router {
    Router::new()
        .route("/v1/classify", post(classify::classify))
        .route("/v1/status", get(status::status))
        .route("/v1/recent/{file}", get(status::recent))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/openapi.json", get(openapi))
        .route("/", get(|| async { Html(include_str!("serve/page.html")) }))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; GET / shows what there is") })
        .method_not_allowed_fallback(|| async { Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "not by this method") })
        .layer(middleware::from_fn_with_state(serving.clone(), refuse_other_sites))
        .layer(DefaultBodyLimit::max(usize::try_from(MAX_IMAGE).unwrap_or(usize::MAX)))
        .layer(RequestBodyTimeoutLayer::new(SILENCE))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, ANSWER))
        .with_state(serving)
}

/// A page of another site, open in a browser on this network, has no business here, not even under a name of its own that leads here.
async fn refuse_other_sites(
    State(serving): State<Serving>,
    headers: HeaderMap,
    request: Request<Body>,
    next: Next,
) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST);
    let is_ours = text(header::ORIGIN)
        .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, origin)| host == Some(origin)));
    if !is_ours {
        return Refusal::new(StatusCode::FORBIDDEN, "asked for by a page of another site").into_response();
    }
    if host.is_some_and(|host| !is_name_of_ours(host, &serving.device.config.listen_names)) {
        let why = "asked by a name that is not in listen_names";
        return Refusal::new(StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

/// Whether a `Host` is an address, a name of this network, or one of `names`: none that somebody elsewhere could have lead here.
fn is_name_of_ours(host: &str, names: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_local = !name.contains('.') || name.to_ascii_lowercase().ends_with(".local");
    is_address || is_local || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

async fn ready(State(serving): State<Serving>) -> Result<&'static str, Refusal> {
    serving.device.models().serving.map(|_| "ready").ok_or_else(answers::no_bundle)
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("serve/openapi.json"))
}

#[cfg(test)]
mod tests;
