//! Samples out to other tools, and the labels that people give them there back in.
//!
//! | module | what it holds |
//! |---|---|
//! | `queue` | the samples in the order in which a label is worth most |
//! | `metadata` | what is known of a sample, and what of what comes back is new |
//! | `said` | what people say, in words |
//! | `table` | a folder of images with a table |
//! | `webdataset` | a tar of images with their descriptions |
//! | `label_studio` | tasks of Label Studio, beside the table |
//! | `fiftyone` | labels as FiftyOne reads them, beside the table |

mod fiftyone;
mod label_studio;
mod metadata;
mod queue;
mod said;
mod table;
mod webdataset;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use jiff::Timestamp;
use models::{Digest, LabelSet, Review, Reviews};

pub use metadata::Imported;
use metadata::new_reviews;
pub use queue::{Queued, queue};

/// What is known besides the samples themselves.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The classes.
    pub labels: &'a LabelSet,
    /// What people have said.
    pub reviews: &'a Reviews,
    /// What the network sees in each image, by its digest; none of those that are to do without.
    pub embeddings: &'a BTreeMap<Digest, Vec<f32>>,
    /// Whether a folder is for Label Studio, too, whose tasks have all images in them once more.
    pub label_studio: bool,
}

/// Writes samples to a tar, if the path says so, or else to a folder.
///
/// # Errors
/// If it is there already, or cannot be written.
pub fn export(path: &Path, queue: &[Queued<'_>], known: Known<'_>) -> Result<()> {
    let export = if is_tar(path) { webdataset::export } else { table::export };
    export(path, queue, known)
}

/// Reads what people have said, from a tar or a table. What holds already is not said again.
///
/// # Errors
/// If it cannot be read, or names no image or no class; the error says where.
pub fn import(
    path: &Path,
    labels: &LabelSet,
    reviews: &Reviews,
    by: &str,
    at: Timestamp,
) -> Result<(Vec<Review>, Imported)> {
    let rows = if is_tar(path) { webdataset::rows(path, labels)? } else { table::rows(path, labels)? };
    new_reviews(rows, reviews, by, at).with_context(|| format!("in {}", path.display()))
}

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}
