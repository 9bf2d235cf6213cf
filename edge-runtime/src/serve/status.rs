use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use jiff::Timestamp;
use models::{
    Digest, Dropped,
    sync::{Counters, UpdateStatus},
};
use serde::Serialize;

use super::{
    Serving,
    answers::{Refusal, failed},
};
use crate::device::Shared;

/// How the device is.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    device: String,
    source: String,
    channel: String,
    time: Timestamp,
    model: Option<Model>,
    update: Option<UpdateStatus>,
    counters: Counters,
    /// Frames of the camera that there was no time for.
    skipped_frames: u64,
    /// Why the camera gives nothing, or why the folder cannot be listed, if that is so.
    source_trouble: Option<String>,
    store: Stored,
    remote: Contact,
    /// The last images, the latest first.
    recent: Vec<Recent>,
}

#[derive(Debug, Serialize)]
struct Model {
    bundle: Digest,
    sequence: u64,
    created: Timestamp,
    labels: Vec<String>,
    /// Fraction of the frozen test set that it gives the right label.
    test_accuracy: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Stored {
    bytes: u64,
    limit_bytes: u64,
    open_samples: usize,
    sealed_segments: usize,
}

#[derive(Debug, Serialize)]
struct Contact {
    address: String,
    last_contact: Option<Timestamp>,
    trouble: Option<String>,
}

#[derive(Debug, Serialize)]
struct Recent {
    number: u64,
    time: Timestamp,
    source: String,
    label: String,
    confidence: f64,
    kept: Vec<&'static str>,
    dropped: Option<Dropped>,
}

pub(super) async fn status(State(serving): State<Serving>) -> Result<Json<Status>, Refusal> {
    // Books and store are locked while something is written.
    let read = tokio::task::spawn_blocking(move || Status::of(&serving.device)).await;
    read.map_err(failed)?.map(Json).map_err(failed)
}

impl Status {
    fn of(device: &Shared) -> crate::Result<Self> {
        let config = &device.config;
        let counters = device.books().counters.clone();
        let store = Stored::of(device)?;
        let view = device.view();
        let recent = view.recent.iter().rev().map(|glance| Recent {
            number: glance.number,
            time: glance.at,
            source: glance.source.clone(),
            label: glance.label.clone(),
            confidence: glance.confidence,
            kept: glance.kept.iter().map(|reason| reason.kind().name()).collect(),
            dropped: glance.dropped,
        });
        let model = device.models().serving.map(|serving| {
            let manifest = serving.classifier.manifest();
            Model {
                bundle: serving.classifier.digest(),
                sequence: manifest.sequence,
                created: manifest.created,
                labels: manifest.labels.names().to_vec(),
                test_accuracy: serving.classifier.bundle().report_card().ok().map(|card| card.accuracy),
            }
        });
        Ok(Self {
            device: config.device.clone(),
            source: config.source.to_string(),
            channel: config.channel.clone(),
            time: Timestamp::now(),
            model,
            update: view.update.clone(),
            counters,
            source_trouble: view.source_trouble.clone(),
            skipped_frames: device.skipped.load(std::sync::atomic::Ordering::Relaxed),
            store,
            remote: Contact {
                address: config.remote.to_string(),
                last_contact: view.contact,
                trouble: view.trouble.clone(),
            },
            recent: recent.collect(),
        })
    }
}

impl Stored {
    fn of(device: &Shared) -> crate::Result<Self> {
        let store = device.store();
        Ok(Self {
            bytes: store.bytes(),
            limit_bytes: device.config.store_mebibytes << 20,
            open_samples: store.open_samples(),
            sealed_segments: store.sealed()?.len(),
        })
    }
}

/// One of the last images, as the network saw it.
pub(super) async fn recent(
    State(serving): State<Serving>,
    Path(file): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let number = file.strip_suffix(".png").and_then(|number| number.parse::<u64>().ok());
    let gone = || Refusal::new(StatusCode::NOT_FOUND, "it is not among the last images");
    let pixels = {
        let view = serving.device.view();
        let found = view.recent.iter().find(|glance| Some(glance.number) == number);
        found.map(|glance| std::sync::Arc::clone(&glance.pixels)).ok_or_else(gone)?
    };
    let png = pixels.to_png().map_err(failed)?;
    Ok(([(header::CONTENT_TYPE, "image/png")], png))
}
