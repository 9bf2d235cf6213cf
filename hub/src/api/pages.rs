//! The pages, for who has signed in with a token; their secret is in a cookie from then on.

use std::sync::Arc;

use axum::{
    Form, Json, Router,
    extract::{DefaultBodyLimit, FromRequestParts, Path, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            self, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, SET_COOKIE,
            X_CONTENT_TYPE_OPTIONS,
        },
        request::Parts,
    },
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use cookie::{Cookie, SameSite, time::Duration};
use jiff::Timestamp;
use models::{Digest, hub::PAGES, review::Decision, sync::PICTURES};
use serde::{Deserialize, Serialize};
use tower_http::set_header::SetResponseHeaderLayer;

use super::{Hub, name::Name};
use crate::{
    Error, Result, board,
    database::{SESSION, Session},
    pages::{Page, Place, message, sign_in},
    server::secret,
};

/// The prefix has browsers keep it from other hosts, paths and connections without TLS.
const COOKIE: &str = "__Host-flywheel";

/// A form with a token, in bytes.
const MAX_TOKEN: usize = 1 << 12;
/// What a page sends at once, in bytes: two thousand decisions. With names and times it is no longer than what a workstation takes.
const MAX_DECISIONS: usize = 1 << 18;

/// Answers below [`PAGES`]; the root leads there.
pub(super) fn router() -> Router<Arc<Hub>> {
    let at = |name: &str| format!("{PAGES}/{name}");
    let to_first = || async { Redirect::to(&format!("{PAGES}/{}", Page::Overview.file())) };
    // What a page may load it says itself; that nobody frames it, only a header can.
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    Router::new()
        .route("/", get(to_first))
        .route(PAGES, get(to_first))
        .route(&at(""), get(to_first))
        .route(&at("{file}"), get(page))
        .route(&at("images/{file}"), get(picture))
        .route(&at("reviews"), post(decide).layer(DefaultBodyLimit::max(MAX_DECISIONS)))
        .route(&at("sign-in"), get(form).post(enter).layer(DefaultBodyLimit::max(MAX_TOKEN)))
        .route(&at("sign-out"), post(leave))
        .layer(header(CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"))
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(REFERRER_POLICY, "same-origin"))
        .layer(header(CACHE_CONTROL, "no-store"))
}

/// Who asks, by the secret in their cookie.
struct Visitor(Session);

/// The same for a picture, of which a page has hundreds: they are not counted.
struct Viewer;

/// Somebody who is not known yet, and is counted before anything is read.
struct Stranger;

impl FromRequestParts<Arc<Hub>> for Visitor {
    type Rejection = Error;

    async fn from_request_parts(request: &mut Parts, hub: &Arc<Hub>) -> Result<Self> {
        let (secret, session) = signed_in(request, hub).await?;
        hub.meter.known(Digest::of(secret.as_bytes()))?;
        Ok(Self(session))
    }
}

impl FromRequestParts<Arc<Hub>> for Viewer {
    type Rejection = Error;

    async fn from_request_parts(request: &mut Parts, hub: &Arc<Hub>) -> Result<Self> {
        signed_in(request, hub).await.map(|_| Self)
    }
}

impl FromRequestParts<Arc<Hub>> for Stranger {
    type Rejection = Error;

    async fn from_request_parts(request: &mut Parts, hub: &Arc<Hub>) -> Result<Self> {
        hub.count_stranger(request).map(|()| Self)
    }
}

/// The secret that is shown, and whose it is.
async fn signed_in(request: &Parts, hub: &Hub) -> Result<(String, Session)> {
    if let Some(secret) = shown(&request.headers)
        && let Some(session) = hub.intake.database.session(&secret, Timestamp::now()).await?
    {
        return Ok((secret, session));
    }
    hub.count_stranger(request)?;
    Err(Error::SignedOut)
}

fn shown(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookie = all.flat_map(Cookie::split_parse).flatten().find(|cookie| cookie.name() == COOKIE)?;
    Some(cookie.value().to_owned())
}

/// A cookie that a browser shows to nobody but this hub, and no script sees. For links from elsewhere too, or they would lead to the
/// sign-in; what changes something does not come by a link.
fn to_show(secret: String, seconds: i64) -> [(HeaderName, String); 1] {
    let cookie = Cookie::build((COOKIE, secret)).path("/").secure(true).http_only(true).same_site(SameSite::Lax);
    [(SET_COOKIE, cookie.max_age(Duration::seconds(seconds)).to_string())]
}

async fn page(State(hub): State<Arc<Hub>>, visitor: Result<Visitor>, Path(file): Path<String>) -> Result<Response> {
    let Visitor(session) = match visitor {
        Err(Error::SignedOut) => return Ok(Redirect::to("sign-in").into_response()),
        visitor => visitor?,
    };
    let page = Page::ALL.into_iter().find(|page| page.file() == file).ok_or(Error::NotFound(file))?;
    let place = Place::Hub { name: &session.name, now: Timestamp::now() };
    let Some(mut board) = hub.boards.get(&hub.intake.objects).await? else {
        let text =
            "The workstation has put nothing here yet: `flywheel round`, `flywheel loop` and `flywheel pages` do.";
        return Ok(Html(message("No pages yet", text)).into_response());
    };
    if page == Page::Fleet {
        board.devices = hub.statuses.of_known_devices(&hub.intake.database).await?;
    }
    Ok(Html(page.html(&board, place)).into_response())
}

async fn picture(State(hub): State<Arc<Hub>>, _: Viewer, Path(file): Path<String>) -> Result<Response> {
    let object = format!("{PICTURES}/{file}");
    let name = Name::parse(&object)?;
    let png = hub.intake.objects.get(&object).await?.bytes().await?;
    // What it shows is its name. Who signs out may still have it.
    Ok(([(CONTENT_TYPE, name.content_type()), (CACHE_CONTROL, "private, max-age=86400")], png).into_response())
}

/// What was taken in.
#[derive(Debug, Serialize)]
struct Decided {
    images: usize,
}

/// JSON, which a page elsewhere could not send in a visitor's name without being asked for first.
async fn decide(
    State(hub): State<Arc<Hub>>,
    Visitor(session): Visitor,
    Json(decisions): Json<Vec<Decision>>,
) -> Result<Json<Decided>> {
    let images = board::decide(&hub.intake.objects, decisions, &session.name, Timestamp::now()).await?;
    Ok(Json(Decided { images }))
}

async fn form() -> Html<String> {
    Html(sign_in(None))
}

#[derive(Debug, Deserialize)]
struct Entry {
    token: String,
}

async fn enter(State(hub): State<Arc<Hub>>, _: Stranger, Form(entry): Form<Entry>) -> Result<Response> {
    let (secret, now) = (BASE64_URL_SAFE_NO_PAD.encode(secret()?), Timestamp::now());
    let database = &hub.intake.database;
    let session = match database.sign_in(entry.token.trim(), &secret, now).await {
        Err(e @ Error::Token) => {
            return Ok((StatusCode::FORBIDDEN, Html(sign_in(Some(&e.to_string())))).into_response());
        }
        session => session?,
    };
    database.log(&session.name, "signed in", session.role.name(), now).await?;
    Ok((to_show(secret, SESSION.as_secs()), Redirect::to(Page::Overview.file())).into_response())
}

async fn leave(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Result<Response> {
    if let Some(secret) = shown(&headers) {
        hub.intake.database.sign_out(&secret).await?;
    }
    Ok((to_show(String::new(), 0), Redirect::to("sign-in")).into_response())
}
