use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use models::{
    Digest,
    hub::{Action, DeviceKey, DeviceKeys, Elsewhere, OBJECTS, Role},
    signing::request::Claim,
    sync::{self, DeviceStatus},
};
use serde::{Deserialize, Serialize};

use super::{
    Hub, allow, declared,
    name::{Name, check_folder},
    signed_content,
};
use crate::{
    Error, Result,
    auth::signed_headers,
    board,
    database::{Client, SegmentRow},
    intake::Intake,
    objects::Stored,
};

/// No file of a bundle is larger, in bytes.
const MAX_BUNDLE_FILE: u64 = 1 << 30;
const DAY: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Below {
    #[serde(default)]
    prefix: String,
}

/// Names of the objects below a prefix.
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    below: Result<Query<Below>, QueryRejection>,
    request: Request,
) -> Result<Json<Vec<String>>> {
    let (parts, _) = request.into_parts();
    let (client, claim) = hub.admit(&parts, Timestamp::now()).await?;
    without_content(&claim)?;
    let Query(below) = below.map_err(|e| Error::Content(e.to_string()))?;
    // What is below "segments/cam-1" is below "segments/cam-1/", and not in "segments/cam-10".
    let folder = below.prefix.trim_end_matches('/');
    allow(&client, Action::Read, &format!("{folder}/"))?;
    if folder == "devices" {
        hub.statuses.flush(&hub.intake.database).await?;
        let devices = hub.intake.database.devices().await?;
        return Ok(Json(devices.iter().map(|device| sync::device_status(device)).collect()));
    }
    if !folder.is_empty() {
        check_folder(folder)?;
    }
    let mut names = hub.intake.objects.list(&below.prefix).await?;
    if matches!(folder, "" | "channels") {
        for channel in hub.intake.database.channels().await? {
            names.extend(hub.channels.get(&channel).await?.stable.map(|_| sync::channel(&channel)));
        }
        names.sort_unstable();
        names.dedup();
    }
    Ok(Json(names))
}

/// An object's content.
pub(super) async fn read(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response> {
    let (parts, _) = request.into_parts();
    let (object, client, _) = admit(&hub, &parts, Action::Read).await?;
    let name = Name::parse(&object)?;
    if let Some(record) = record(&hub, name, &client, Timestamp::now()).await? {
        return Ok(([(CONTENT_TYPE, name.content_type())], record.ok_or(Error::NotFound(object))?).into_response());
    }
    if name.is_large()
        && let Some(elsewhere) = hub.intake.objects.download(&object).await?
    {
        return Ok(redirect(elsewhere));
    }
    let found = hub.intake.objects.get(&object).await?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(name.content_type())),
        (CONTENT_LENGTH, HeaderValue::from(found.meta.size)),
    ];
    Ok((headers, Body::from_stream(found.into_stream())).into_response())
}

/// An object's size.
pub(super) async fn look_up(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response> {
    let (parts, _) = request.into_parts();
    let (object, client, _) = admit(&hub, &parts, Action::Read).await?;
    let size = match record(&hub, Name::parse(&object)?, &client, Timestamp::now()).await? {
        Some(record) => record.ok_or(Error::NotFound(object))?.len() as u64,
        None => hub.intake.objects.head(&object).await?.size,
    };
    Ok([(CONTENT_LENGTH, size)].into_response())
}

/// What of an object is in the database: as JSON, or nothing if it is not there. Nothing at all for those in the store.
async fn record(hub: &Hub, name: Name<'_>, client: &Client, now: Timestamp) -> Result<Option<Option<String>>> {
    let database = &hub.intake.database;
    let record = match name {
        Name::Status(device) => hub.statuses.get(database, device).await?,
        Name::Pointer(channel) => {
            let channel = hub.channels.get(channel).await?;
            let is_device = client.role == Role::Device;
            let pointer = if is_device { channel.pointer(&client.name) } else { channel.stable };
            pointer.map(|pointer| json(&pointer)).transpose()?
        }
        Name::Rollout(channel) => {
            hub.statuses.flush(database).await?;
            Some(json(&hub.channels.report(channel, now).await?)?)
        }
        Name::Keys(device) => {
            let clients = database.clients_named(device).await?;
            let key = |Client { key, revoked, .. }: Client| DeviceKey { public_key: key.to_pem(), revoked };
            Some(json(&DeviceKeys { keys: clients.into_iter().map(key).collect() })?)
        }
        Name::Rollback(channel) => match hub.channels.get(channel).await?.order() {
            Some(order) => Some(order.to_owned()),
            // What who publishes has ordered.
            None => return Ok(None),
        },
        Name::Demand | Name::Fallback | Name::BundleFile | Name::Segment(..) | Name::Receipt => return Ok(None),
        Name::Board | Name::Picture | Name::Reviews(_) => return Ok(None),
    };
    Ok(Some(record))
}

fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(value).map_err(|e| models::Error::malformed("a record", "JSON", e))?)
}

/// Writes an object: a segment, a status, a bundle's file, a channel's message.
pub(super) async fn write(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response> {
    let now = Timestamp::now();
    let (parts, body) = request.into_parts();
    let (object, client, claim) = admit(&hub, &parts, Action::Write).await?;
    let (name, objects) = (Name::parse(&object)?, &hub.intake.objects);
    if let Name::Segment(device, digest) = name {
        return take_segment(&hub, &parts.headers, device, digest, &claim, body, now).await;
    }
    if name.is_large() && objects.is_direct() {
        let expected = Stored { bytes: length(&parts.headers)?, digest: Some(claim.content) };
        if expected.bytes > MAX_BUNDLE_FILE {
            return Err(Error::TooLarge { what: object, found: expected.bytes, most: MAX_BUNDLE_FILE });
        }
        if objects.stored(&object).await? != Some(expected)
            && let Some(elsewhere) = objects.upload(&object, claim.content, expected.bytes).await?
        {
            return Ok(redirect(elsewhere));
        }
        hub.intake.database.log(&client.name, "wrote", &object, now).await?;
        return Ok(StatusCode::CREATED.into_response());
    }
    if name.is_large() {
        hub.intake.keep(&object, claim.content, body.into_data_stream(), MAX_BUNDLE_FILE).await?;
        hub.intake.database.log(&client.name, "wrote", &object, now).await?;
        return Ok(StatusCode::CREATED.into_response());
    }
    let content = signed_content(&object, &parts.headers, body, &claim, name.most()).await?;
    let wrong = |e: serde_json::Error| Error::Content(format!("{object}: {e}"));
    match name {
        Name::Status(device) => {
            let status: DeviceStatus = serde_json::from_slice(&content).map_err(wrong)?;
            if status.device != device {
                let found = status.device;
                return Err(Error::Content(format!("expected the status of {device}, found that of {found:?}")));
            }
            // By the time of its signature, which goes by our clock: the device's own may be anything.
            hub.statuses.put(DeviceStatus { reported: claim.created.min(now), ..status });
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Name::Pointer(channel) => {
            let to = serde_json::from_slice(&content).map_err(wrong)?;
            hub.channels.publish(channel, to, &client.name, now).await?;
        }
        Name::Board => board::put(objects, content).await?,
        Name::Picture => objects.put(&object, content).await?,
        _ => {
            match name {
                Name::Reviews(digest) => board::check(objects, &object, digest, &content, &client.name, now).await?,
                _ => name.check(&object, &content)?,
            }
            objects.put(&object, content).await?;
            hub.intake.database.log(&client.name, "wrote", &object, now).await?;
        }
    }
    Ok(StatusCode::CREATED.into_response())
}

async fn take_segment(
    hub: &Hub,
    headers: &HeaderMap,
    device: &str,
    digest: Digest,
    claim: &Claim,
    body: Body,
    now: Timestamp,
) -> Result<Response> {
    if claim.content != digest {
        return Err(Error::Content("the name of a segment is its content's sha256, and another one was signed".into()));
    }
    let (most, declared) = (hub.limits.segment_bytes, length(headers)?);
    if declared > most {
        return Err(Error::TooLarge { what: "a segment".into(), found: declared, most });
    }
    let Intake { database, objects, .. } = &hub.intake;
    let seal = signed_headers(headers)?;
    // What came in, or was let in, is sent again where a receipt was lost: that is no more than there was.
    let is_known = database.segment_bytes(device, digest).await?.is_some_and(|bytes| bytes >= declared);
    if is_known
        && objects.is_direct()
        && let Some(receipt) = hub.intake.confirm(device, digest, declared, seal.clone(), now).await?
    {
        hub.metrics.segment(declared);
        return Ok((StatusCode::CREATED, Json(receipt)).into_response());
    }
    let (_upload, ongoing) = hub.uploads.begin(device, declared, hub.limits.device_uploads)?;
    let today = database.bytes_since(device, now - DAY).await?;
    if !is_known && today.saturating_add(ongoing) > hub.limits.device_bytes_per_day {
        return Err(Error::TooMuch { what: format!("segments of {device} in a day"), seconds: 3600 });
    }
    if let Some(elsewhere) = objects.upload(&sync::segment(device, digest), digest, declared).await? {
        // It counts from now on, whether it is brought or not.
        let row = SegmentRow { device: device.to_owned(), digest, bytes: declared, samples: 0, received: now };
        database.add_segment(&row).await?;
        return Ok(redirect(elsewhere));
    }
    let Ok(_place) = hub.places.acquire().await else {
        return Err(Error::BrokenOff("the hub stops".into()));
    };
    let receipt = hub.intake.take(device, digest, seal, body.into_data_stream(), most, now).await?;
    hub.metrics.segment(declared);
    Ok((StatusCode::CREATED, Json(receipt)).into_response())
}

fn redirect(elsewhere: Elsewhere) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, elsewhere.url.clone())], Json(elsewhere)).into_response()
}

fn length(headers: &HeaderMap) -> Result<u64> {
    declared(headers).ok_or_else(|| Error::BrokenOff("expected a content-length, as a proxy may drop it".into()))
}

/// The object of a request that may do this.
async fn admit(hub: &Hub, parts: &Parts, action: Action) -> Result<(String, Client, Claim)> {
    let (client, claim) = hub.admit(parts, Timestamp::now()).await?;
    let name = parts.uri.path().strip_prefix(OBJECTS).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    allow(&client, action, name)?;
    if action == Action::Read {
        without_content(&claim)?;
    }
    Ok((name.to_owned(), client, claim))
}

fn without_content(claim: &Claim) -> Result<()> {
    if claim.content == Digest::of(b"") { Ok(()) } else { Err(Error::Content("expected no content".into())) }
}
