use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// Why a request was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
}

#[derive(Serialize)]
struct Content {
    error: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(Content { error: self.message })).into_response()
    }
}

/// The device itself failed.
pub(super) fn failed(why: impl ToString) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why.to_string())
}

pub(super) fn no_bundle() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the device has no model yet: its channel names none that it takes")
}
