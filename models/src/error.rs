use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::{Digest, signing::TrustedKeys};

/// What can be wrong with a file, a folder or a message that this crate reads or writes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "read", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// Bytes that should be an image could not be decoded.
    #[error("{what} is not a readable image (expected a whole JPEG or PNG): {source}")]
    Image {
        /// File name, or how else the image is known.
        what: String,
        /// The decoder's reason.
        source: image::ImageError,
    },

    /// A file's content does not have the expected form.
    #[error("{what} is malformed: expected {expected}, found {found}")]
    Malformed {
        /// The file, or the entry in it.
        what: String,
        /// The form it should have.
        expected: String,
        /// What is there instead.
        found: String,
    },

    /// A file's content is not the content that was promised.
    #[error("{} does not have the promised content: expected sha256 {expected}, found {found}", path.display())]
    DigestMismatch {
        /// The file.
        path: PathBuf,
        /// The promised digest.
        expected: Digest,
        /// The digest of the bytes that are there.
        found: Digest,
    },

    /// A folder holds an entry that must not be there: an unlisted file, a link, a folder.
    #[error("{} must not be in a bundle: {why}", path.display())]
    UnexpectedEntry {
        /// The entry.
        path: PathBuf,
        /// Why it is refused.
        why: &'static str,
    },

    /// A format version that this build does not know.
    #[error("{what} has format {found}; this build reads format {known}")]
    UnknownFormat {
        /// The file.
        what: String,
        /// The version it declares.
        found: u32,
        /// The version this build knows.
        known: u32,
    },

    /// A file that should hold a key does not.
    #[error("{} holds no key that can be used: expected {expected}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },

    /// More trusted keys than a device believes.
    #[error("{found} trusted keys: expected at most {}, the one in use and the next one", TrustedKeys::MAX)]
    TooManyKeys {
        /// How many there are.
        found: usize,
    },

    /// A bundle without a signature, where one is needed.
    #[error("the bundle {bundle} is not signed: expected a signature by a trusted key")]
    Unsigned {
        /// The bundle.
        bundle: String,
    },

    /// No trusted key made a signature, or what it is over was changed.
    #[error("{what} is no signature of a trusted key over its content: trusted are {}", list(trusted))]
    Untrusted {
        /// The signed file.
        what: String,
        /// Short ids of the trusted keys.
        trusted: Vec<String>,
    },

    /// A signature by a trusted key, but not over these files.
    #[error("{what} signs other files than these: they differ in {file:?}")]
    SignedOther {
        /// The signature.
        what: String,
        /// The first file that differs.
        file: String,
    },

    /// A bundle that is not to be taken over yet.
    #[error("the bundle is not to be taken over before {not_before}; here it is {now}")]
    TooEarly {
        /// From when on it is.
        not_before: Timestamp,
        /// The device's time.
        now: Timestamp,
    },

    /// A bundle that is not meant for a device, or not any more.
    #[error("the bundle is not for this device: its {key} has to be {expected}, found {found}")]
    NotForHost {
        /// The condition.
        key: &'static str,
        /// What the bundle is for.
        expected: String,
        /// What the device is.
        found: String,
    },

    /// A list of labels that cannot name classes.
    #[error("invalid label set: {0}")]
    Labels(String),

    /// Numbers that describe no network.
    #[error("invalid network: {0}")]
    Network(String),
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] maker for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::Malformed`].
    pub fn malformed(what: impl ToString, expected: impl ToString, found: impl ToString) -> Self {
        Self::Malformed { what: what.to_string(), expected: expected.to_string(), found: found.to_string() }
    }
}

fn list(ids: &[String]) -> String {
    if ids.is_empty() { "none".into() } else { ids.join(", ") }
}
