use std::path::{Path, PathBuf};

use crate::Digest;

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
