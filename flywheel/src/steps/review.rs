//! What people said of samples, on disk.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use edge_runtime::sync::Remote;
use models::{Digest, LabelSet, Review, Reviews, Said, durable, sync};

use super::ingest::sorted_entries;
use crate::project::Project;

/// What was said in one go is no longer, in bytes.
const MAX_REVIEWS: u64 = 1 << 20;

/// The files of what was said.
pub(crate) fn files(project: &Project) -> Result<Vec<PathBuf>> {
    sorted_entries(&project.reviews_folder())
}

/// All that was said so far.
///
/// # Errors
/// If a file cannot be read, or is not what its name says.
pub fn reviews(project: &Project) -> Result<Reviews> {
    let mut all: Vec<Review> = Vec::new();
    for path in files(project)? {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let named = path.file_stem().is_some_and(|stem| stem.to_str() == Some(&Digest::of(&bytes).to_string()));
        ensure!(named, "{} was changed: expected the bytes whose sha256 is its name", path.display());
        let said: Vec<Review> =
            serde_json::from_slice(&bytes).with_context(|| format!("{} holds no reviews", path.display()))?;
        all.extend(said);
    }
    Ok(Reviews::new(all))
}

/// Fetches what people have said at a hub's pages and is not here yet: of how many images. Another remote has no pages, and proves nobody's
/// name. What is not what it must be is left there, and told in `refused`.
///
/// # Errors
/// If the remote or the disk fails.
pub fn fetch(project: &Project, remote: &Remote, refused: &mut Vec<String>) -> Result<usize> {
    if remote.enrolled().is_none() {
        return Ok(0);
    }
    let mut images = 0;
    for name in remote.list(sync::REVIEWS)? {
        let digest = match sync::parse_reviews(&name) {
            Ok(digest) => digest,
            Err(e) => {
                refused.push(e.to_string());
                continue;
            }
        };
        if path(project, digest).exists() {
            continue;
        }
        let bytes = match remote.get(&name, MAX_REVIEWS) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(edge_runtime::Error::Models(e)) => {
                refused.push(e.to_string());
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        match serde_json::from_slice::<Vec<Review>>(&bytes) {
            Ok(said) if Digest::of(&bytes) == digest => {
                keep(project, &bytes)?;
                images += said.len();
            }
            Ok(_) => refused.push(format!("{name}: expected the content whose sha256 is its name")),
            Err(e) => refused.push(format!("{name} holds no reviews: {e}")),
        }
    }
    Ok(images)
}

/// Adds what was said in one go.
///
/// # Errors
/// If a label is none of the project's, or the file cannot be written.
pub fn add(project: &Project, labels: &LabelSet, said: &[Review]) -> Result<()> {
    for review in said {
        if let Said::Label(label) = &review.said {
            ensure!(
                labels.index(label).is_some(),
                "{label:?} for image {}: expected one of {}",
                review.image.short(),
                labels.names().join(", ")
            );
        }
    }
    if said.is_empty() {
        return Ok(());
    }
    keep(project, &serde_json::to_vec_pretty(said)?)
}

fn keep(project: &Project, bytes: &[u8]) -> Result<()> {
    durable::create_folders(&project.reviews_folder())?;
    Ok(durable::write(&path(project, Digest::of(bytes)), bytes)?)
}

fn path(project: &Project, said: Digest) -> PathBuf {
    project.reviews_folder().join(format!("{said}.json"))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_was_said_is_read_again_and_a_changed_file_is_an_error() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let project = super::super::testing::project(folder.path())?;
        let labels = LabelSet::new(["cat", "dog"])?;
        let review = |second: i64, image: &[u8], said: Said| Review {
            at: Timestamp::constant(second, 0),
            image: Digest::of(image),
            by: "ann".into(),
            said,
        };
        assert_eq!(reviews(&project)?, Reviews::default());
        add(&project, &labels, &[review(1, b"a", Said::Label("cat".into())), review(1, b"b", Said::Reject)])?;
        add(&project, &labels, &[review(2, b"a", Said::Label("dog".into()))])?;
        let all = reviews(&project)?;
        assert_eq!(all.of(Digest::of(b"a")), Some(&Said::Label("dog".into())));
        assert_eq!(all.of(Digest::of(b"b")), Some(&Said::Reject));
        let unknown = add(&project, &labels, &[review(3, b"a", Said::Label("cow".into()))]);
        assert!(unknown.is_err_and(|e| e.to_string().contains("cat, dog")));
        let path = &files(&project)?[0];
        fs::write(path, fs::read_to_string(path)?.replace("ann", "eve"))?;
        assert!(reviews(&project).is_err_and(|e| e.to_string().contains("was changed")));
        Ok(())
    }
}
