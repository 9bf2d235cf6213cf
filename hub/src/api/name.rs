//! What a request's path names: the objects of [`models::sync`], and nothing else.

use models::{
    Digest,
    signing::{Message, RollbackOrder},
    sync::{self, Demand, is_device_name},
};

use super::MAX_MESSAGE;
use crate::{Error, Result};

/// Some hundred bytes for each of ten thousand samples.
const MAX_BOARD: usize = 64 << 20;
/// Of an image as a network sees it, or a small picture of a larger one.
const MAX_PICTURE: usize = 8 << 20;

/// An object, by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// A channel's bundle: not the same for all devices while one goes out.
    Pointer(&'a str),
    /// How a channel's last bundle goes out.
    Rollout(&'a str),
    /// What is wanted of a channel's devices.
    Demand,
    /// The order to go back, if it was given.
    Rollback(&'a str),
    /// The order to go back, for the hub to give.
    Fallback,
    /// A file of a bundle.
    BundleFile,
    /// A device's segment.
    Segment(&'a str, Digest),
    /// The hub's receipt of a segment.
    Receipt,
    /// How a device is.
    Status(&'a str),
    /// The keys that a device was known by.
    Keys(&'a str),
    /// What the pages show.
    Board,
    /// A picture on them.
    Picture,
    /// What was said of samples in one go.
    Reviews(Digest),
}

impl<'a> Name<'a> {
    /// # Errors
    /// [`Error::NotFound`] for what can be no object's name.
    pub(super) fn parse(name: &'a str) -> Result<Self> {
        Self::parsed(name).ok_or_else(|| Error::NotFound(name.to_owned()))
    }

    fn parsed(name: &'a str) -> Option<Self> {
        let device = |name: &'a str| is_device_name(name).then_some(name);
        match name.split('/').collect::<Vec<_>>()[..] {
            ["channels", file] => {
                let (channel, kind) = file.split_once('.')?;
                device(channel)?;
                match kind {
                    "json" => Some(Self::Pointer(channel)),
                    "rollout.json" => Some(Self::Rollout(channel)),
                    "demand.json" => Some(Self::Demand),
                    "rollback.json" => Some(Self::Rollback(channel)),
                    "fallback.json" => Some(Self::Fallback),
                    _ => None,
                }
            }
            ["bundles", bundle, file] => {
                bundle.parse::<Digest>().ok()?;
                is_file_name(file).then_some(Self::BundleFile)
            }
            [sync::REVIEWS, _] => Some(Self::Reviews(sync::parse_reviews(name).ok()?)),
            _ if name == sync::BOARD => Some(Self::Board),
            ["pages", "images", file] => {
                file.strip_suffix(".png")?.parse::<Digest>().ok()?;
                Some(Self::Picture)
            }
            ["devices", file] => Some(Self::Status(device(file.strip_suffix(".json")?)?)),
            ["clients", file] => Some(Self::Keys(device(file.strip_suffix(".json")?)?)),
            [folder, of, file] => {
                let (of, (digest, kind)) = (device(of)?, file.split_once('.')?);
                let digest = digest.parse().ok()?;
                match (folder, kind) {
                    (sync::SEGMENTS, models::segment::EXTENSION) => Some(Self::Segment(of, digest)),
                    ("receipts", "json") => Some(Self::Receipt),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// What a store takes and hands out itself, if it can. The rest fits into memory.
    pub(super) fn is_large(self) -> bool {
        matches!(self, Self::BundleFile | Self::Segment(..))
    }

    /// Bytes that something that is not large may have.
    pub(super) fn most(self) -> usize {
        match self {
            Self::Board => MAX_BOARD,
            Self::Picture => MAX_PICTURE,
            _ => MAX_MESSAGE,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::BundleFile | Self::Segment(..) => "application/octet-stream",
            Self::Picture => "image/png",
            _ => "application/json",
        }
    }

    /// Whether what is to be written as a plain object is what it must be.
    ///
    /// # Errors
    /// [`Error::Content`].
    pub(super) fn check(self, name: &str, content: &[u8]) -> Result<()> {
        let wrong = |e: &dyn std::fmt::Display| Error::Content(format!("{name}: {e}"));
        match self {
            Self::Demand => serde_json::from_slice::<Demand>(content).map(drop).map_err(|e| wrong(&e)),
            // Whose it is, devices verify.
            Self::Rollback(_) | Self::Fallback => {
                RollbackOrder::open_unverified(name, content).map(drop).map_err(|e| wrong(&e))
            }
            _ => Ok(()),
        }
    }
}

/// Of a bundle's file, or of a folder: nothing in it leads out of the store, or has two spellings.
fn is_file_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_plain)
}

/// # Errors
/// [`Error::NotFound`] for what can be no folder's name, from the top on.
pub(super) fn check_folder(name: &str) -> Result<()> {
    let is_folder = name.len() <= 256 && name.split('/').all(is_file_name);
    is_folder.then_some(()).ok_or_else(|| Error::NotFound(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_shared_store_and_lead_nowhere_else() {
        let digest = Digest::of(b"x");
        for (name, expected) in [
            (sync::channel("stable"), Name::Pointer("stable")),
            (sync::rollout("stable"), Name::Rollout("stable")),
            (sync::demand("stable"), Name::Demand),
            (sync::rollback("stable"), Name::Rollback("stable")),
            (sync::fallback("stable"), Name::Fallback),
            (sync::bundle_file(digest, "model.onnx"), Name::BundleFile),
            (sync::segment("cam-1", digest), Name::Segment("cam-1", digest)),
            (sync::receipt("cam-1", digest), Name::Receipt),
            (sync::device_status("cam-1"), Name::Status("cam-1")),
            (sync::device_keys("cam-1"), Name::Keys("cam-1")),
            (sync::BOARD.to_owned(), Name::Board),
            (sync::picture(digest), Name::Picture),
            (sync::reviews(digest), Name::Reviews(digest)),
        ] {
            assert_eq!(Name::parse(&name).ok(), Some(expected), "{name}");
        }
        let (long, deep) = (format!("bundles/{digest}/{}", "a".repeat(65)), "a/".repeat(200) + "a");
        let wrong = [
            "",
            "/etc/passwd",
            "channels/../keys",
            "channels//x.json",
            "channels/%2e%2e.json",
            "channels/.json",
            "channels/x.y.json",
            "bundles/x/model.onnx",
            "a\\b",
            &format!("bundles/{digest}/../x"),
            &format!("bundles/{digest}/.x"),
            &long,
            "pages/index.html",
            "pages/images/x.png",
            "reviews/x.json",
            &format!("segments/cam-1/{digest}.json"),
            &format!("segments/cam 1/{digest}.tar"),
        ];
        for name in wrong {
            assert!(Name::parse(name).is_err(), "{name}");
        }
        assert!(check_folder("segments/cam-1").is_ok());
        for wrong in ["", "/", "segments/", "../keys", "segments//x", &deep] {
            assert!(check_folder(wrong).is_err(), "{wrong}");
        }
    }
}
