//! Finds a data set's files in a folder: as they are, or inside the official archive.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use walkdir::WalkDir;

use crate::{Error, Result};

/// How deep below the folder a file may be, itself counted: an archive holds one folder, which may lie in one of its own.
const DEPTH: usize = 3;

/// The wanted files of a folder.
#[derive(Debug, Default)]
pub(super) struct Files {
    found: BTreeMap<&'static str, Found>,
}

#[derive(Debug)]
struct Found {
    /// For messages: the file, or the archive and the file in it.
    name: String,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    /// Still on the disk.
    Plain(PathBuf),
    /// Out of an archive.
    Read(Vec<u8>),
}

impl Files {
    /// Looks for `wanted` below `folder`, by their names alone, and for what is not there in `archive`.
    ///
    /// # Errors
    /// [`models::Error::Io`] for a folder or archive that cannot be read.
    pub(super) fn find(folder: &Path, wanted: &[&'static str], archive: Option<&str>) -> Result<Self> {
        let mut files = Self::default();
        let mut packed = None;
        for entry in WalkDir::new(folder).max_depth(DEPTH).follow_links(true).sort_by_file_name() {
            let entry = match entry {
                Ok(entry) => entry,
                // A link to nowhere is none of them.
                Err(error) if error.depth() > 0 && is_dangling(&error) => continue,
                Err(error) => return Err(models::Error::io("list", folder)(error.into()).into()),
            };
            let name = entry.file_name().to_str().unwrap_or_default();
            if !entry.file_type().is_file() {
                continue;
            }
            if let Some(wanted) = wanted.iter().find(|wanted| **wanted == name) {
                let found = Found { name: entry.path().display().to_string(), bytes: Bytes::Plain(entry.into_path()) };
                files.found.entry(wanted).or_insert(found);
            } else if Some(name) == archive {
                packed = Some(entry.into_path());
            }
        }
        let is_complete = wanted.iter().all(|name| files.found.contains_key(name));
        if let (Some(path), false) = (packed, is_complete) {
            files.unpack(&path, wanted)?;
        }
        Ok(files)
    }

    fn unpack(&mut self, path: &Path, wanted: &[&'static str]) -> Result<()> {
        let failed = || models::Error::io("unpack", path);
        let file = File::open(path).map_err(models::Error::io("open", path))?;
        let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
        for entry in archive.entries().map_err(failed())? {
            let mut entry = entry.map_err(failed())?;
            let inside = entry.path().map_err(failed())?.into_owned();
            let name = inside.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(wanted) = wanted.iter().find(|wanted| **wanted == name) else { continue };
            if self.found.contains_key(wanted) {
                continue;
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(failed())?;
            let name = format!("{} in {}", inside.display(), path.display());
            self.found.insert(wanted, Found { name, bytes: Bytes::Read(bytes) });
        }
        // To its end: only there is the checksum.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed())?;
        Ok(())
    }

    /// Those of `names` that were not found.
    pub(super) fn lacking<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        names.iter().copied().filter(|name| !self.found.contains_key(name)).collect()
    }

    /// Takes a file's name for messages and its bytes.
    ///
    /// # Errors
    /// [`models::Error::Io`]; [`Error::Data`] if it was not found.
    pub(super) fn take(&mut self, name: &str) -> Result<(String, Vec<u8>)> {
        let found = self.found.remove(name).ok_or_else(|| Error::Data {
            what: name.to_owned(),
            expected: "the file".into(),
            found: "none".into(),
        })?;
        let bytes = match found.bytes {
            Bytes::Plain(path) => fs::read(&path).map_err(models::Error::io("read", &path))?,
            Bytes::Read(bytes) => bytes,
        };
        Ok((found.name, bytes))
    }
}

fn is_dangling(error: &walkdir::Error) -> bool {
    error.loop_ancestor().is_some() || error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// The error for a folder that lacks some of a data set's `wanted` files.
pub(super) fn missing(set: &str, folder: &Path, expected: &str, wanted: &[&str], lacking: &[&str]) -> Error {
    let found = if lacking.len() < wanted.len() { format!("all but {}", lacking.join(", ")) } else { "none".into() };
    Error::Data {
        what: format!("data set {set} in {}", folder.display()),
        expected: format!("{expected}; `flywheel data fetch {set}` downloads it"),
        found,
    }
}

/// An error about a file's content.
pub(super) fn malformed(name: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::Data { what: name.to_owned(), expected: expected.into(), found: found.into() }
}
