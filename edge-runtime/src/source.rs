//! Where images come from: a folder, a camera, or whoever posts them to the device.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use models::segment::MAX_IMAGE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;

mod folder;
mod frames;
mod mjpeg;
#[cfg(feature = "v4l2")]
mod v4l2;

pub use folder::{Failure, Folder};
pub(crate) use frames::{Arrival, Arrivals, watch};

/// Where a device's images come from: a folder, a camera's MJPEG stream by its `http://` or `https://` address, or a camera of
/// this machine, as `v4l2:/dev/video0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Origin {
    /// A folder in which images appear.
    Folder(PathBuf),
    /// An MJPEG stream.
    Stream(String),
    /// A device file of Video4Linux.
    Camera(PathBuf),
}

impl From<String> for Origin {
    fn from(text: String) -> Self {
        if text.starts_with("https://") || text.starts_with("http://") {
            return Self::Stream(text);
        }
        match text.strip_prefix("v4l2:") {
            Some(path) => Self::Camera(path.into()),
            None => Self::Folder(text.into()),
        }
    }
}

impl From<PathBuf> for Origin {
    fn from(folder: PathBuf) -> Self {
        Self::Folder(folder)
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Folder(path) => path.display().to_string(),
            Origin::Stream(url) => url,
            Origin::Camera(path) => format!("v4l2:{}", path.display()),
        }
    }
}

impl fmt::Display for Origin {
    /// Without the password that an address may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from(self.clone());
        let host = text.find("://").map(|scheme| scheme + 3).zip(text.rfind('@')).filter(|(host, at)| host < at);
        match host {
            Some((host, at)) => write!(f, "{}{}", &text[..host], &text[at + 1..]),
            None => f.write_str(&text),
        }
    }
}

/// An image that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name at the source, with a file name's extension: its path below the folder, with `/` between the parts, or its time.
    pub name: String,
    /// Where its bytes are.
    pub content: Content,
}

/// Where an image's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In a file.
    File(PathBuf),
    /// Here.
    Bytes(Vec<u8>),
}

impl Found {
    /// The name's extension in lower case.
    pub fn extension(&self) -> String {
        Path::new(&self.name).extension().unwrap_or_default().to_string_lossy().to_lowercase()
    }

    /// The image's bytes.
    ///
    /// # Errors
    /// [`crate::Error::Models`] with the path; also for a file too large to be an image of a segment.
    pub fn read(&self) -> Result<Vec<u8>> {
        let path = match &self.content {
            Content::File(path) => path,
            Content::Bytes(bytes) => return Ok(bytes.clone()),
        };
        let file = File::open(path).map_err(models::Error::io("open", path))?;
        let mut bytes = Vec::new();
        file.take(MAX_IMAGE + 1).read_to_end(&mut bytes).map_err(models::Error::io("read", path))?;
        if bytes.len() as u64 > MAX_IMAGE {
            let expected = format!("an image of at most {MAX_IMAGE} bytes");
            return Err(models::Error::malformed(path.display(), expected, "more").into());
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_known_by_its_form_and_tells_no_password() {
        let kinds = ["camera", "http://u:p@cam/x@y", "https://cam/?action=stream", "v4l2:/dev/video0"];
        let [folder, stream, other, camera] = kinds.map(|text| Origin::from(text.to_owned()));
        assert_eq!(folder, Origin::Folder("camera".into()));
        assert_eq!(stream, Origin::Stream(kinds[1].into()));
        assert_eq!(camera, Origin::Camera("/dev/video0".into()));
        assert_eq!([&other, &camera].map(ToString::to_string), [kinds[2], kinds[3]]);
        assert!(!stream.to_string().contains("u:p"), "{stream}");
        assert_eq!(String::from(stream), kinds[1], "the configuration keeps it");
    }
}
