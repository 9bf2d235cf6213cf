//! What people said of samples, on disk.

use std::fs;

use anyhow::{Context, Result, ensure};
use models::{Digest, LabelSet, Review, Reviews, Said, durable};

use super::ingest::sorted_entries;
use crate::project::Project;

/// All that was said so far.
///
/// # Errors
/// If a file cannot be read, or is not what its name says.
pub fn reviews(project: &Project) -> Result<Reviews> {
    let mut all: Vec<Review> = Vec::new();
    for path in sorted_entries(&project.reviews_folder())? {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let named = path.file_stem().is_some_and(|stem| stem.to_str() == Some(&Digest::of(&bytes).to_string()));
        ensure!(named, "{} was changed: expected the bytes whose sha256 is its name", path.display());
        let said: Vec<Review> =
            serde_json::from_slice(&bytes).with_context(|| format!("{} holds no reviews", path.display()))?;
        all.extend(said);
    }
    Ok(Reviews::new(all))
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
    let bytes = serde_json::to_vec_pretty(said)?;
    let folder = project.reviews_folder();
    durable::create_folders(&folder)?;
    Ok(durable::write(&folder.join(format!("{}.json", Digest::of(&bytes))), &bytes)?)
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
        let path = &sorted_entries(&project.reviews_folder())?[0];
        fs::write(path, fs::read_to_string(path)?.replace("ann", "eve"))?;
        assert!(reviews(&project).is_err_and(|e| e.to_string().contains("was changed")));
        Ok(())
    }
}
