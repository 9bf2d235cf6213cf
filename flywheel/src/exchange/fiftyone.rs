//! What the model says of each image, as FiftyOne reads it beside the images: `fo.Dataset.from_dir` with the type
//! `FiftyOneImageClassificationDataset`, of which `images` is the `data_path`.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use models::{Digest, durable};
use serde_json::{Value, json};

use super::{Known, metadata::Metadata, queue::Queued};

/// Name of the file.
const LABELS: &str = "labels.json";

/// Writes the labels of samples to a folder.
///
/// # Errors
/// If they cannot be written.
pub(super) fn write(folder: &Path, queue: &[Queued<'_>], known: Known<'_>) -> Result<()> {
    let by_image: BTreeMap<Digest, Value> = queue
        .iter()
        .map(|queued| Metadata::of(queued, known))
        .map(|of_sample| (of_sample.image, label(&of_sample)))
        .collect();
    Ok(durable::write_json(&folder.join(LABELS), &json!({ "classes": known.labels.names(), "labels": by_image }))?)
}

/// What the model says, with what else is known.
fn label(known: &Metadata) -> Value {
    let attributes = json!({
        "why": known.why,
        "label_of_people": known.label,
        "device": known.device,
        "device_label": known.device_label,
        "captured": known.captured,
        "probs": known.probs,
    });
    json!({ "label": known.predicted, "confidence": known.confidence, "attributes": attributes })
}
