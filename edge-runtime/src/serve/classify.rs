use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::StatusCode,
};
use image::ImageFormat;
use jiff::Timestamp;
use models::Digest;
use serde::Serialize;

use super::{
    Serving,
    answers::{Refusal, failed, no_bundle},
};
use crate::{
    Error,
    device::{Named, Seen},
    source::Arrival,
};

/// What an image shows.
#[derive(Debug, Serialize)]
pub(super) struct Classified {
    /// The most probable label.
    label: String,
    /// Its calibrated probability.
    confidence: f64,
    /// Whether that reaches the label's threshold.
    is_confident: bool,
    /// All labels, the most probable first.
    probabilities: Vec<Probability>,
    /// Who says so.
    bundle: Digest,
    sequence: u64,
    /// Time that the network took.
    milliseconds: f64,
}

#[derive(Debug, Serialize)]
struct Probability {
    label: String,
    probability: f64,
}

pub(super) async fn classify(State(serving): State<Serving>, request: Request) -> Result<Json<Classified>, Refusal> {
    // Before the image is read: so many are in memory, and no more.
    let Ok(place) = serving.places.clone().try_acquire_owned() else {
        return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many images at once"));
    };
    let bytes = Bytes::from_request(request, &()).await.map_err(|e| Refusal::new(e.status(), e.body_text()))?;
    let answer = tokio::task::spawn_blocking(move || {
        // Given back when the image is dealt with, also if nobody waits for the answer any more.
        let _place = place;
        answer(&serving, &bytes)
    })
    .await;
    answer.map_err(failed)?
}

fn answer(serving: &Serving, bytes: &Bytes) -> Result<Json<Classified>, Refusal> {
    let mut models = serving.device.models();
    if serving.posted.is_none() {
        // Whoever may not say what is learned has no say in which model serves.
        models.beside = None;
    }
    let by = models.serving.as_ref().ok_or_else(no_bundle)?;
    let extension = match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => "png",
        Ok(ImageFormat::Jpeg) => "jpg",
        _ => return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected the bytes of a JPEG or PNG file")),
    };
    let name = format!("posted/{}.{extension}", Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ"));
    let image = Named { name, arrived: true, extension: extension.to_owned(), bytes: bytes.to_vec() };
    let seen = serving.device.look(&models, by, image).map_err(|e| Refusal::new(status(&e), e.to_string()))?;
    let answer = Classified::new(&seen);
    if let Some(posted) = &serving.posted {
        // Waits for a place. A device that stops takes no more.
        let _ = posted.send(Arrival::Posted(Box::new(seen)));
    }
    Ok(Json(answer))
}

fn status(error: &Error) -> StatusCode {
    match error {
        Error::Models(_) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Classified {
    fn new(seen: &Seen) -> Self {
        let manifest = seen.by.classifier.manifest();
        let label = |class: usize| manifest.labels.name(class).to_owned();
        let probs = seen.prediction.probs.iter().enumerate();
        let mut probabilities: Vec<Probability> =
            probs.map(|(class, probability)| Probability { label: label(class), probability: *probability }).collect();
        probabilities.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        Self {
            label: label(seen.prediction.class),
            confidence: seen.prediction.confidence,
            is_confident: manifest.calibration.is_confident(&seen.prediction),
            probabilities,
            bundle: seen.by.classifier.digest(),
            sequence: manifest.sequence,
            milliseconds: seen.milliseconds,
        }
    }
}
