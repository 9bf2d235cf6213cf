//! Writing files so that a power cut leaves the old or the new content, never half of it.
//!
//! The order is always the same: write to a temporary name in the same folder, `fsync` the file, rename it over
//! the final name, `fsync` the folder.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde::Serialize;
use tempfile::{NamedTempFile, TempDir};

use crate::{Error, Result};

/// Prefix of temporary names. What carries it after a restart was cut off and can be deleted.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Replaces the file at `path` by what `write` writes.
///
/// # Errors
/// [`Error::Io`] with the path; the old content is then still in place.
pub fn write_with(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    write_as(0o666, path, write)
}

/// Replaces the file at `path` by `bytes` that nobody but its owner may read.
///
/// # Errors
/// As [`write_with`].
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    write_as(0o600, path, |file| file.write_all(bytes))
}

/// Replaces the file at `path` by what `write` writes and nobody but its owner may read.
///
/// # Errors
/// As [`write_with`].
pub fn write_secret_with(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    write_as(0o600, path, write)
}

fn write_as(mode: u32, path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let folder = parent(path);
    let mut file = builder(mode).tempfile_in(folder).map_err(Error::io("create a file in", folder))?;
    write_through(&mut file, write).map_err(Error::io("write", path))?;
    file.persist(path).map_err(|e| Error::io("rename a file to", path)(e.error))?;
    sync_folder(folder)
}

fn write_through(file: &mut NamedTempFile, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffered = io::BufWriter::new(file.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()
}

/// Replaces the file at `path` by `bytes`.
///
/// # Errors
/// As [`write_with`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Replaces the file at `path` by `value` as indented JSON.
///
/// # Errors
/// As [`write_with`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_with(path, |mut file| {
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")
    })
}

/// Makes the folder `path` appear whole: `fill` writes its files into a temporary folder beside it, which is
/// synced and renamed. A folder already there is deleted just before the rename: a cut between the two leaves none.
///
/// # Errors
/// What `fill` returns, or [`Error::Io`].
pub fn write_folder<E: From<Error>>(path: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let parent = parent(path);
    create_folders(parent)?;
    let temporary = builder(0o777).tempdir_in(parent).map_err(Error::io("create a folder in", parent))?;
    fill(temporary.path())?;
    Ok(publish_folder(temporary, path)?)
}

fn publish_folder(temporary: TempDir, path: &Path) -> Result<()> {
    for entry in fs::read_dir(temporary.path()).map_err(Error::io("list", temporary.path()))? {
        let file = entry.map_err(Error::io("list", temporary.path()))?.path();
        File::open(&file).and_then(|f| f.sync_all()).map_err(Error::io("sync", &file))?;
    }
    sync_folder(temporary.path())?;
    if path.exists() {
        fs::remove_dir_all(path).map_err(Error::io("replace", path))?;
    }
    fs::rename(temporary.keep(), path).map_err(Error::io("rename a folder to", path))?;
    sync_folder(parent(path))
}

/// Creates a folder and those above it that are missing, and makes them last.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn create_folders(path: &Path) -> Result<()> {
    let missing = path.ancestors().take_while(|folder| !folder.exists() && *folder != Path::new("")).count();
    fs::create_dir_all(path).map_err(Error::io("create", path))?;
    path.ancestors().take(missing).try_for_each(|created| sync_folder(parent(created)))
}

/// Gives a file that is complete its final name in the same folder, and makes that last.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    File::open(from).and_then(|file| file.sync_all()).map_err(Error::io("sync", from))?;
    fs::rename(from, to).map_err(Error::io("rename a file to", to))?;
    sync_folder(parent(to))
}

/// Deletes a file and makes the deletion last.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(Error::io("delete", path))?;
    sync_folder(parent(path))
}

/// Deletes from a folder what carries a temporary name: a writer was cut off.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn delete_temporary(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            let path = entry.path();
            let deleted = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            deleted.map_err(Error::io("delete", &path))?;
        }
    }
    Ok(())
}

/// Temporary files and folders with the usual permissions, less the process's umask: what is written may be shared.
fn builder(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Makes what was created, renamed or deleted in a folder and all folders below it last.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn sync_folders(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        let below = entry.map_err(Error::io("list", path))?.path();
        if below.is_dir() {
            sync_folders(&below)?;
        }
    }
    sync_folder(path)
}

/// Makes what was created, renamed or deleted in a folder last.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_litter() -> Result<()> {
        let folder = tempfile::tempdir().map_err(Error::io("create", Path::new("tmp")))?;
        let path = folder.path().join("state.json");
        write(&path, b"old")?;
        let cut_off = write_with(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let message = cut_off.map_err(|e| e.to_string());
        assert!(message.as_ref().is_err_and(|m| m.contains("state.json")), "{message:?}");
        assert_eq!(fs::read(&path).map_err(Error::io("read", &path))?, b"old");
        assert_eq!(fs::read_dir(folder.path()).map_err(Error::io("list", &path))?.count(), 1);
        Ok(())
    }
}
