//! What is known of a sample, as other tools get it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use models::{Digest, Review, Reviews, Said};
use serde::Serialize;

use super::{Known, queue::Queued, said};

/// What is known of a sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Metadata {
    /// Digest of its image's file: its name.
    pub image: Digest,
    /// Why a label is worth something.
    pub why: &'static str,
    /// What people have said, in the words of [`said`]; empty if nothing.
    pub label: String,
    /// The same again, to stay as it is: what was changed beside it is new.
    pub held: String,
    /// The device that sent it.
    pub device: String,
    /// Name of the image at its source.
    pub source: String,
    /// When it was classified.
    pub captured: Timestamp,
    /// What the device took it for.
    pub device_label: String,
    /// How sure the device was.
    pub device_confidence: f64,
    /// What the current model takes it for.
    pub predicted: String,
    /// How sure the current model is.
    pub confidence: f64,
    /// Probability of each class by the current model, in the order of the label set.
    pub probs: Vec<f64>,
    /// What its network sees in the image, if that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub embedding: Vec<f32>,
    /// Number of the class that people have said.
    #[serde(skip)]
    pub class: Option<usize>,
    /// Extension of the image's file.
    #[serde(skip)]
    pub extension: String,
}

impl Metadata {
    pub(super) fn of(queued: &Queued<'_>, known: Known<'_>) -> Self {
        let Known { labels, reviews, embeddings, .. } = known;
        let (record, prediction) = (&queued.relabeled.sample.record, &queued.relabeled.prediction);
        let name = |class: usize| labels.names().get(class).cloned().unwrap_or_default();
        let holds = reviews.of(record.image);
        let class = match holds {
            Some(Said::Label(label)) => labels.index(label),
            _ => None,
        };
        Self {
            image: record.image,
            why: queued.why.name(),
            label: holds.map_or(String::new(), said::text),
            held: holds.map_or(String::new(), said::text),
            device: record.device.clone(),
            source: record.source.clone(),
            captured: record.captured,
            device_label: name(record.prediction.class),
            device_confidence: record.prediction.confidence,
            predicted: name(prediction.class),
            confidence: prediction.confidence,
            probs: prediction.probs.clone(),
            embedding: embeddings.get(&record.image).cloned().unwrap_or_default(),
            class,
            extension: record.extension.clone(),
        }
    }
}

/// What a tool gave back of an image.
pub(super) struct Row {
    /// The image.
    pub image: Digest,
    /// What is said of it.
    pub said: Option<Said>,
    /// What held when it went out, if that is known: what is still the same is not said anew.
    pub held: Option<Option<Said>>,
    /// When it was said, if that is known: it goes over no later word.
    pub said_at: Option<Timestamp>,
}

/// What came back from a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Images of which something new is said.
    pub new: usize,
    /// Images of which what is known is said.
    pub known: usize,
    /// Images of which nothing is said.
    pub empty: usize,
}

/// Tells what is new from what holds already.
///
/// # Errors
/// If two different things are said of an image.
pub(super) fn new_reviews(
    rows: Vec<Row>,
    reviews: &Reviews,
    by: &str,
    at: Timestamp,
) -> Result<(Vec<Review>, Imported)> {
    let mut all: BTreeMap<Digest, Review> = BTreeMap::new();
    let (mut new, mut imported) = (BTreeMap::new(), Imported::default());
    for row in rows {
        let Row { image, said: Some(said), held, said_at } = row else {
            imported.empty += 1;
            continue;
        };
        let review = Review { at: said_at.map_or(at, |said_at| said_at.min(at)), image, by: by.to_owned(), said };
        if let Some(before) = all.get(&image) {
            ensure!(before.said == review.said, "image {image} stands there twice, with different labels");
        }
        all.insert(image, review.clone());
        let is_unchanged = held.is_some_and(|held| held.as_ref() == Some(&review.said));
        let holds = reviews.of(image);
        let is_known = holds == Some(&review.said) || (review.said == Said::Undo && holds.is_none());
        let was_said = reviews.history(image).contains(&review);
        if is_unchanged || is_known || was_said {
            imported.known += 1;
        } else {
            imported.new += 1;
            new.insert(image, review);
        }
    }
    Ok((new.into_values().collect(), imported))
}
