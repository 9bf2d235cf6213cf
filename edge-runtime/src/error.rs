use std::path::PathBuf;

use models::{
    Digest,
    bundle::Disagreement,
    hub::{Refusal, RefusalCode},
};

use crate::sync::Address;

/// What can go wrong on a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, a bundle or a message is not as it should be.
    #[error(transparent)]
    Models(#[from] models::Error),

    /// The engine refuses a graph, or fails to run it.
    #[error("cannot run {model}: {reason}")]
    Engine {
        /// The graph's file, or how else it is known.
        model: String,
        /// The engine's reason.
        reason: String,
    },

    /// A graph's input or output is not what a bundle's must be.
    #[error("{model} does not fit: expected {expected}, found {found}")]
    Shape {
        /// The graph's file, or how else it is known.
        model: String,
        /// What it should have.
        expected: String,
        /// What it has.
        found: String,
    },

    /// A network answers an image with something that is no number.
    #[error("the network answers {image} with logits that are no finite numbers: {logits:?}")]
    NotFinite {
        /// The image.
        image: String,
        /// The answer.
        logits: Vec<f32>,
    },

    /// A bundle computes something else here than where it was made.
    #[error("the bundle in {} must not serve: {disagreement}", bundle.display())]
    Golden {
        /// The bundle's folder.
        bundle: PathBuf,
        /// How its logits differ from the golden ones.
        disagreement: Disagreement,
    },

    /// A bundle's manifest carries another sequence number than the pointer to it.
    #[error("bundle {} is not what its channel promises: expected sequence {expected}, found {found}", bundle.short())]
    Sequence {
        /// The bundle.
        bundle: Digest,
        /// The pointer's number.
        expected: u64,
        /// The manifest's number.
        found: u64,
    },

    /// A camera gives no frames at the moment.
    #[error("cannot read {camera}: {why}")]
    Camera {
        /// Its address, without a password.
        camera: String,
        /// What failed.
        why: String,
    },

    /// The store shared with the workstation cannot be used at the moment.
    #[error("cannot {action} {name:?} in the remote: {source}")]
    Remote {
        /// What was tried, as a verb.
        action: &'static str,
        /// The object, or the remote itself.
        name: String,
        /// The store's reason.
        source: object_store::Error,
    },

    /// A hub cannot be reached.
    #[error("cannot reach {hub}: {source}")]
    Offline {
        /// The hub's address.
        hub: String,
        /// What failed.
        source: Box<ureq::Error>,
    },

    /// A hub refuses a request.
    #[error("the hub refuses to {action} {name:?}: {}", refusal.message)]
    Refused {
        /// What was tried, as a verb.
        action: &'static str,
        /// The object, or the hub itself.
        name: String,
        /// The hub's reason.
        refusal: Refusal,
    },

    /// A hub does not know us yet.
    #[error("not enrolled at {hub}: {why}; ask for a token, and run `flywheel-edge enrol`")]
    NotEnrolled {
        /// The hub's address.
        hub: String,
        /// What is missing.
        why: String,
    },

    /// An object that another one refers to is not in the remote.
    #[error("{name:?} is not in the remote, though {because}")]
    Missing {
        /// The object.
        name: String,
        /// What says that it is there.
        because: String,
    },

    /// The configuration cannot be used.
    #[error("{what}: {reason}")]
    Config {
        /// The file or the setting.
        what: String,
        /// What is wrong and what would do.
        reason: String,
    },

    /// Another process uses the state folder.
    #[error("{} is in use: another device runs with this state folder", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },

    /// There is nothing to classify with.
    #[error("no bundle: channel {channel:?} of {remote} names none that this device takes, and none was given")]
    NoBundle {
        /// The remote.
        remote: Address,
        /// The channel.
        channel: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether nothing of the remote can be had at the moment.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Remote { .. } | Self::Offline { .. } | Self::NotEnrolled { .. } | Self::Config { .. })
    }

    /// Whether the cause lies in a disk, a connection or the clock, so that the same step may succeed later.
    pub fn is_passing(&self) -> bool {
        use models::Error::{Io, TooEarly};
        match self {
            Self::Remote { .. } | Self::Missing { .. } | Self::Offline { .. } | Self::NotEnrolled { .. } => true,
            // A key can be enrolled again.
            Self::Refused { refusal, .. } => refusal.code != RefusalCode::Content,
            Self::Models(e) => matches!(e, Io { .. } | TooEarly { .. }),
            _ => false,
        }
    }
}
