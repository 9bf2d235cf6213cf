use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use models::hub::{Refusal, RefusalCode};

/// What can go wrong in a hub. The first three are its own trouble.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),

    /// The store of objects failed.
    #[error("the store failed: {0}")]
    Store(#[from] object_store::Error),

    /// A file of the hub's own is not as it should be.
    #[error(transparent)]
    Models(#[from] models::Error),

    /// A request without a signature, or with one that proves nothing.
    #[error("not signed by a key that is known here: {0}")]
    Key(String),

    /// A request's time is too far from the hub's.
    #[error("signed at {signed}, and it is {now} here: set the clock, or sign again by the time in the header date")]
    Clock {
        /// What the request says.
        signed: jiff::Timestamp,
        /// The hub's time.
        now: jiff::Timestamp,
    },

    /// A token that is not good.
    #[error("the token is unknown, used up or too old: ask for another one")]
    Token,

    /// Who looks at a page, and has not signed in.
    #[error("not signed in")]
    SignedOut,

    /// A name that has a key already.
    #[error("{name:?} has a key already: revoke it first")]
    NameInUse {
        /// The name.
        name: String,
    },

    /// A key that may not do this.
    #[error("a {role} named {name:?} may not {action} {object:?}")]
    Role {
        /// Its role.
        role: &'static str,
        /// Its name.
        name: String,
        /// What it wanted to do.
        action: &'static str,
        /// With what.
        object: String,
    },

    /// An object that is not there.
    #[error("there is no {0:?}")]
    NotFound(String),

    /// A key that was enrolled before.
    #[error("this key was known before, and is revoked or has another name: enrol with a new one")]
    KnownKey,

    /// Content that is not what it must be: sending it again changes nothing.
    #[error("{0}")]
    Content(String),

    /// More content than the hub takes at once.
    #[error("{what} of {found} bytes; expected at most {most}")]
    TooLarge {
        /// Of what.
        what: String,
        /// How many bytes.
        found: u64,
        /// The limit.
        most: u64,
    },

    /// Something broke off that may go better the next time.
    #[error("{0}")]
    BrokenOff(String),

    /// More than is allowed at once or in a day.
    #[error("too much: {what}; try again in {seconds} seconds")]
    TooMuch {
        /// Of what.
        what: String,
        /// When there may be room.
        seconds: u64,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn answer(&self) -> (StatusCode, RefusalCode) {
        match self {
            Self::Database(_) | Self::Store(_) | Self::Models(_) => (StatusCode::SERVICE_UNAVAILABLE, RefusalCode::Hub),
            Self::Key(_) | Self::SignedOut => (StatusCode::UNAUTHORIZED, RefusalCode::Key),
            Self::Clock { .. } => (StatusCode::UNAUTHORIZED, RefusalCode::Clock),
            Self::Token => (StatusCode::FORBIDDEN, RefusalCode::Token),
            Self::Role { .. } => (StatusCode::FORBIDDEN, RefusalCode::Role),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, RefusalCode::NotFound),
            Self::KnownKey => (StatusCode::CONFLICT, RefusalCode::Key),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, RefusalCode::TooLarge),
            Self::BrokenOff(_) => (StatusCode::BAD_REQUEST, RefusalCode::Hub),
            Self::NameInUse { .. } | Self::Content(_) => (StatusCode::UNPROCESSABLE_ENTITY, RefusalCode::Content),
            Self::TooMuch { .. } => (StatusCode::TOO_MANY_REQUESTS, RefusalCode::TooMuch),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.answer();
        let message = if status == StatusCode::SERVICE_UNAVAILABLE {
            // What is wrong inside is the operator's business.
            tracing::error!("{self}");
            "the hub has a trouble of its own; its log says which".to_owned()
        } else {
            self.to_string()
        };
        let mut response = (status, Json(Refusal { code, message })).into_response();
        if let Self::TooMuch { seconds, .. } = self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
