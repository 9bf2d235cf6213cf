//! The whole of an embedded hub in one file, and back.
//!
//! A plain tar: `hub.db`, `keys/`, `tls/`, `objects/`. It can be made while the hub serves: the database is copied first, at one
//! moment, and whatever it speaks of was stored before, so that it is among the objects that are copied after. It holds the hub's
//! keys: whoever has it can be the hub.

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::{Component, Path, PathBuf},
};

use models::{Digest, durable, sync};

use crate::{
    Error, Result,
    server::{DataFolder, STAGED},
};

const DATABASE: &str = "hub.db";
const FOLDERS: [&str; 3] = ["keys", "tls", "objects"];
/// What comes in meanwhile must not tear things apart: a receipt is there after its segment, and a channel points to a bundle that
/// is there, so each is looked for before what it speaks of.
const ORDER: [&str; 8] = [
    "keys",
    "tls",
    "objects/receipts",
    "objects/segments",
    "objects/channels",
    "objects/bundles",
    "objects/reviews",
    "objects/pages",
];

/// Writes everything in a hub's folder to `file`, which appears only when it is whole. Returns how many files are in it.
///
/// # Errors
/// [`Error::Models`] with the path; [`Error::Database`]; [`Error::Content`] for a hub whose database is elsewhere.
pub async fn backup(data: &DataFolder, file: &Path) -> Result<usize> {
    if data.database.is_some() || data.bucket.is_some() {
        let reason =
            "database or objects are elsewhere: back them up by their own means, as pg_dump and versions of a bucket";
        return Err(Error::Content(reason.to_owned()));
    }
    let own = data.path.join(DATABASE);
    if !own.exists() {
        return Err(Error::Content(format!("{} holds no hub", data.path.display())));
    }
    // Beside the database, so that it fits and is on the same disk.
    let copy = tempfile::Builder::new().prefix(durable::TEMPORARY_PREFIX).tempdir_in(&data.path);
    let copy = copy.map_err(models::Error::io("create a folder in", &data.path))?;
    let database = copy.path().join(DATABASE);
    data.database().await?.copy_to(&database).await?;
    let root = data.path.clone();
    let to = file.to_owned();
    let written = tokio::task::spawn_blocking(move || write(&root, &database, &to)).await;
    written.map_err(|e| Error::Content(format!("the backup ended badly: {e}")))?
}

fn write(root: &Path, database: &Path, file: &Path) -> Result<usize> {
    let mut names = Vec::new();
    for folder in ORDER {
        list(root, Path::new(folder), &mut names)?;
    }
    durable::write_secret_with(file, |out| {
        let mut tar = tar::Builder::new(out);
        tar.append_path_with_name(database, DATABASE)?;
        for name in &names {
            match tar.append_path_with_name(root.join(name), name) {
                // Forgotten meanwhile.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
        tar.finish()
    })?;
    Ok(names.len() + 1)
}

/// Files below a folder, by their paths from the root. What is still being written is no part of it.
fn list(root: &Path, folder: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    let path = root.join(folder);
    if !path.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(&path).map_err(models::Error::io("list", &path))? {
        let entry = entry.map_err(models::Error::io("list", &path))?;
        let name = folder.join(entry.file_name());
        if entry.path().is_dir() {
            list(root, &name, names)?;
        } else if !entry.file_name().to_string_lossy().contains(STAGED) {
            names.push(name);
        }
    }
    Ok(())
}

/// Makes a hub's folder from a backup; it appears only when it is whole, and every segment in it has the sha256 of its name.
/// Returns how many files are in it.
///
/// # Errors
/// [`Error::Models`] with the path; [`Error::Content`] if there is a folder already, or for what is no backup.
pub fn restore(file: &Path, folder: &Path) -> Result<usize> {
    if folder.exists() {
        return Err(Error::Content(format!("{} is there already: expected a new folder", folder.display())));
    }
    let parent = folder.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    durable::create_folders(parent)?;
    let temporary = tempfile::Builder::new().prefix(durable::TEMPORARY_PREFIX).tempdir_in(parent);
    let temporary = temporary.map_err(models::Error::io("create a folder in", parent))?;
    let input = File::open(file).map_err(models::Error::io("open", file))?;
    let read = models::Error::io("read", file);
    let mut archive = tar::Archive::new(BufReader::new(input));
    let mut count = 0;
    let entries = match archive.entries() {
        Ok(entries) => entries,
        Err(e) => return Err(read(e).into()),
    };
    for entry in entries {
        let mut entry = entry.map_err(models::Error::io("read", file))?;
        let name = entry.path().map_err(models::Error::io("read", file))?.into_owned();
        if !is_ours(&name) || !entry.header().entry_type().is_file() {
            return Err(Error::Content(format!("{}: {} is no part of a backup", file.display(), name.display())));
        }
        unpack(&mut entry, &temporary.path().join(&name))?;
        check(&name, &temporary.path().join(&name))?;
        count += 1;
    }
    if !temporary.path().join(DATABASE).exists() {
        return Err(Error::Content(format!("{}: expected a backup, found no {DATABASE} in it", file.display())));
    }
    durable::sync_folders(temporary.path())?;
    fs::rename(temporary.path(), folder).map_err(models::Error::io("rename a folder to", folder))?;
    durable::sync_folder(parent)?;
    Ok(count)
}

fn is_ours(name: &Path) -> bool {
    let mut parts = name.components();
    let first = parts.next().and_then(|part| part.as_os_str().to_str());
    let is_plain = name.components().all(|part| matches!(part, Component::Normal(_)));
    is_plain && (name == Path::new(DATABASE) || first.is_some_and(|first| FOLDERS.contains(&first)))
}

fn unpack(content: &mut impl Read, to: &Path) -> Result<()> {
    durable::create_folders(to.parent().unwrap_or(Path::new("")))?;
    // Keys are among them.
    durable::write_secret_with(to, |file| std::io::copy(content, file).map(drop))?;
    Ok(())
}

fn check(name: &Path, path: &Path) -> Result<()> {
    let object = name.strip_prefix("objects").ok().and_then(Path::to_str);
    let Some(Ok((_, expected))) = object.map(sync::parse_segment) else { return Ok(()) };
    let found = Digest::of_file(path)?;
    if found == expected {
        return Ok(());
    }
    Err(models::Error::DigestMismatch { path: name.to_owned(), expected, found }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_leads_nowhere_else() {
        for name in ["hub.db", "keys/hub.pem", "objects/segments/cam-1/x.tar"] {
            assert!(is_ours(Path::new(name)), "{name}");
        }
        for name in ["/etc/passwd", "../hub.db", "objects/../../x", "other/x", "hub.db/x/..", ""] {
            assert!(!is_ours(Path::new(name)), "{name}");
        }
    }
}
