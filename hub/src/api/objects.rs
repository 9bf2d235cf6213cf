use std::sync::Arc;

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Query, Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_LENGTH, LOCATION},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use models::{
    Digest,
    hub::{Action, DeviceKey, DeviceKeys, Elsewhere, OBJECTS, Role},
    signing::request::Claim,
    sync::{self, DeviceStatus, is_device_name},
};
use serde::Deserialize;

use super::{Hub, MAX_MESSAGE, allow};
use crate::{
    Error, Result,
    auth::signed_headers,
    database::{Client, SegmentRow},
    intake::Intake,
    objects::Stored,
};

/// No file of a bundle is larger, in bytes.
const MAX_BUNDLE_FILE: usize = 1 << 30;
const DAY: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, Deserialize)]
pub(super) struct Below {
    #[serde(default)]
    prefix: String,
}

/// Names of the objects below a prefix.
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Query(below): Query<Below>,
    request: Request,
) -> Result<Json<Vec<String>>> {
    let (parts, _) = request.into_parts();
    let (client, claim) = hub.admit(&parts, Timestamp::now()).await?;
    without_content(&claim)?;
    // What is below "segments/cam-1" is below "segments/cam-1/", and not in "segments/cam-10".
    let folder = format!("{}/", below.prefix.trim_end_matches('/'));
    allow(&client, Action::Read, &folder)?;
    let folder = below.prefix.trim_end_matches('/');
    if folder == "devices" {
        hub.statuses.flush(&hub.intake.database).await?;
        let devices = hub.intake.database.devices().await?;
        return Ok(Json(devices.iter().map(|device| sync::device_status(device)).collect()));
    }
    if !below.prefix.is_empty() {
        check_name(folder)?;
    }
    let mut names = hub.intake.objects.list(&below.prefix).await?;
    if matches!(folder, "" | "channels") {
        names.extend(hub.intake.database.channels().await?.iter().map(|channel| sync::channel(channel)));
        names.sort_unstable();
        names.dedup();
    }
    Ok(Json(names))
}

/// An object's content.
pub(super) async fn read(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response> {
    let (parts, _) = request.into_parts();
    let (name, client, _) = admit(&hub, &parts, Action::Read).await?;
    if let Some(record) = Record::named(&name) {
        return Ok(record.json(&hub, &client, Timestamp::now()).await?.ok_or(Error::NotFound(name))?.into_response());
    }
    if is_large(&name)
        && let Some(elsewhere) = hub.intake.objects.download(&name).await?
    {
        return Ok(redirect(elsewhere));
    }
    let object = hub.intake.objects.get(&name).await?;
    let size = object.meta.size;
    Ok(([(CONTENT_LENGTH, size)], Body::from_stream(object.into_stream())).into_response())
}

/// An object's size.
pub(super) async fn look_up(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response> {
    let (parts, _) = request.into_parts();
    let (name, client, _) = admit(&hub, &parts, Action::Read).await?;
    let size = if let Some(record) = Record::named(&name) {
        let json = record.json(&hub, &client, Timestamp::now()).await?;
        json.ok_or(Error::NotFound(name))?.len() as u64
    } else {
        hub.intake.objects.head(&name).await?.size
    };
    Ok([(CONTENT_LENGTH, size)].into_response())
}

/// Writes an object: a segment, a status, a bundle's file, a channel's message.
pub(super) async fn write(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response> {
    let now = Timestamp::now();
    let (parts, body) = request.into_parts();
    let (name, client, claim) = admit(&hub, &parts, Action::Write).await?;
    if let Ok((device, digest)) = sync::parse_segment(&name) {
        return take_segment(&hub, &parts.headers, &device, digest, &claim, body, now).await;
    }
    if is_large(&name) && hub.intake.objects.is_direct() {
        let expected = Stored { bytes: length(&parts.headers)?, digest: Some(claim.content) };
        if hub.intake.objects.stored(&name).await? != Some(expected)
            && let Some(elsewhere) = hub.intake.objects.upload(&name, claim.content, expected.bytes).await?
        {
            return Ok(redirect(elsewhere));
        }
        hub.intake.database.log(&client.name, "wrote", &name, now).await?;
        return Ok(StatusCode::CREATED.into_response());
    }
    let limit = if name.starts_with("bundles/") { MAX_BUNDLE_FILE } else { MAX_MESSAGE };
    let content = to_bytes(body, limit).await.map_err(|e| Error::BrokenOff(format!("{name}: {e}")))?;
    if Digest::of(&content) != claim.content {
        return Err(Error::Content(format!("{name}: the content is not what was signed")));
    }
    let parsed = |e: serde_json::Error| Error::Content(format!("{name}: {e}"));
    match Record::named(&name) {
        Some(Record::Status(device)) => {
            let status: DeviceStatus = serde_json::from_slice(&content).map_err(parsed)?;
            if status.device != device {
                return Err(Error::Content(format!(
                    "expected the status of {device}, found that of {:?}",
                    status.device
                )));
            }
            // By a clock that is ahead, no later status would count.
            hub.statuses.put(DeviceStatus { reported: status.reported.min(now), ..status });
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Some(Record::Pointer(channel)) => {
            let to = serde_json::from_slice(&content).map_err(parsed)?;
            hub.channels.publish(channel, to, &client.name, now).await?;
            return Ok(StatusCode::CREATED.into_response());
        }
        // Nobody may write the others.
        Some(Record::Rollout(_) | Record::Seal(..) | Record::Keys(_)) | None => {}
    }
    hub.intake.objects.put(&name, content).await?;
    hub.intake.database.log(&client.name, "wrote", &name, now).await?;
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
    let is_let_in = objects.is_direct() && database.seal(device, digest).await?.is_some();
    if is_let_in && let Some(receipt) = hub.intake.confirm(device, digest, declared, now).await? {
        return Ok((StatusCode::CREATED, Json(receipt)).into_response());
    }
    let (_upload, ongoing) = hub.uploads.begin(device, declared, hub.limits.device_uploads)?;
    let today = database.bytes_since(device, now - DAY).await?;
    if !is_let_in && today.saturating_add(ongoing) > hub.limits.device_bytes_per_day {
        return Err(Error::TooMuch { what: format!("segments of {device} in a day"), seconds: 3600 });
    }
    if let Some(elsewhere) = objects.upload(&sync::segment(device, digest), digest, declared).await? {
        // It counts from now on, whether it is brought or not.
        let row = SegmentRow { device: device.to_owned(), digest, bytes: declared, samples: 0, received: now };
        database.add_segment(&row, &signed_headers(headers)?).await?;
        return Ok(redirect(elsewhere));
    }
    let Ok(_place) = hub.places.acquire().await else {
        return Err(Error::BrokenOff("the hub stops".into()));
    };
    let receipt = hub.intake.take(device, digest, signed_headers(headers)?, body.into_data_stream(), most, now).await?;
    Ok((StatusCode::CREATED, Json(receipt)).into_response())
}

/// What a store takes and hands out itself, if it can. The rest are pages of text.
fn is_large(name: &str) -> bool {
    name.starts_with("bundles/") || sync::parse_segment(name).is_ok()
}

fn redirect(elsewhere: Elsewhere) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, elsewhere.url.clone())], Json(elsewhere)).into_response()
}

fn length(headers: &HeaderMap) -> Result<u64> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.ok_or_else(|| Error::BrokenOff("expected a content-length, as a proxy may drop it".into()))
}

/// The object of a request that may do this.
async fn admit(hub: &Hub, parts: &Parts, action: Action) -> Result<(String, Client, Claim)> {
    let (client, claim) = hub.admit(parts, Timestamp::now()).await?;
    let name = parts.uri.path().strip_prefix(OBJECTS).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    check_name(name)?;
    allow(&client, action, name)?;
    if action == Action::Read {
        without_content(&claim)?;
    }
    Ok((name.to_owned(), client, claim))
}

fn without_content(claim: &Claim) -> Result<()> {
    if claim.content == Digest::of(b"") { Ok(()) } else { Err(Error::Content("expected no content".into())) }
}

/// Names are those of `models::sync`: nothing in them leads out of the store, or has two spellings.
fn check_name(name: &str) -> Result<()> {
    let is_plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    if name.len() <= 256 && name.split('/').all(is_plain) { Ok(()) } else { Err(Error::NotFound(name.to_owned())) }
}

/// An object that is in the database.
enum Record<'a> {
    /// Of a device.
    Status(&'a str),
    /// Of a channel: not the same for all devices while a bundle goes out.
    Pointer(&'a str),
    /// Of a channel.
    Rollout(&'a str),
    /// Of a device's segment.
    Seal(&'a str, Digest),
    /// Of a device.
    Keys(&'a str),
}

impl<'a> Record<'a> {
    fn named(name: &'a str) -> Option<Self> {
        let (folder, rest) = name.split_once('/')?;
        let stem = rest.strip_suffix(".json")?;
        let (record, of) = match folder {
            "devices" => (Self::Status(stem), stem),
            "clients" => (Self::Keys(stem), stem),
            "channels" => match stem.strip_suffix(".rollout") {
                Some(channel) => (Self::Rollout(channel), channel),
                None => (Self::Pointer(stem), stem),
            },
            "seals" => {
                let (device, digest) = stem.split_once('/')?;
                (Self::Seal(device, digest.parse().ok()?), device)
            }
            _ => return None,
        };
        is_device_name(of).then_some(record)
    }

    async fn json(&self, hub: &Hub, client: &Client, now: Timestamp) -> Result<Option<String>> {
        let no_json = |e| Error::Models(models::Error::malformed("a record", "JSON", e));
        match self {
            Self::Status(device) => hub.statuses.get(&hub.intake.database, device).await,
            Self::Pointer(channel) => {
                let channel = hub.channels.get(channel).await?;
                let pointer = match client.role {
                    Role::Device => channel.pointer(&client.name),
                    Role::Reviewer | Role::Publisher | Role::Admin => channel.stable,
                };
                pointer.map(|pointer| serde_json::to_string(&pointer).map_err(no_json)).transpose()
            }
            Self::Seal(device, digest) => hub.intake.database.seal(device, *digest).await,
            Self::Keys(device) => {
                let clients = hub.intake.database.clients_named(device).await?;
                let key = |Client { key, revoked, .. }: Client| DeviceKey { public_key: key.to_pem(), revoked };
                let keys = DeviceKeys { keys: clients.into_iter().map(key).collect() };
                Ok(Some(serde_json::to_string(&keys).map_err(no_json)?))
            }
            Self::Rollout(channel) => {
                hub.statuses.flush(&hub.intake.database).await?;
                let report = hub.channels.report(channel, now).await?;
                report.map(|report| serde_json::to_string(&report).map_err(no_json)).transpose()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        let digest = Digest::of(b"x");
        for name in [sync::segment("cam-1", digest), sync::channel("stable"), sync::bundle_file(digest, "model.onnx")] {
            assert!(check_name(&name).is_ok(), "{name}");
        }
        let long = "a/".repeat(200) + "a";
        let wrong =
            ["", "/etc/passwd", "channels/../keys", "channels//x", "channels/%2e%2e/x", "channels/.x", "a\\b", &long];
        for name in wrong {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
