//! Tasks of Label Studio, with the images in them, so that it needs no access to files. In the CSV that it exports, the columns `image` and
//! `label` are those that we take back in.

use std::{io, path::Path};

use anyhow::Result;
use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{Markup, html};
use models::{board::Why, durable, preprocess};
use serde_json::{Value, json};

use super::{Known, metadata::Metadata, queue::Queued, said};

/// Name of the tasks.
const TASKS: &str = "label_studio.json";
/// Name of the labeling interface.
const INTERFACE: &str = "label_studio.xml";
/// Largest width and height of an image, in pixels.
const SIDE: u32 = 256;

/// Writes tasks of samples, in their order, and the interface to a folder.
///
/// # Errors
/// If an image cannot be read, or a file not be written.
pub(super) fn write(folder: &Path, queue: &[Queued<'_>], known: Known<'_>) -> Result<()> {
    // One after another: all the images together may be more than the memory holds.
    durable::write_with(&folder.join(TASKS), |file| {
        let mut separator = "[";
        for queued in queue {
            let task = task(&Metadata::of(queued, known), queued).map_err(io::Error::other)?;
            writeln!(file, "{separator}{task}")?;
            separator = ",";
        }
        writeln!(file, "{}]", if queue.is_empty() { separator } else { "" })
    })?;
    Ok(durable::write(&folder.join(INTERFACE), interface(known.labels.names()).as_bytes())?)
}

/// An image to label, with what the model says of it; not of one that is to judge the model, which would lead who labels it.
///
/// # Errors
/// If the image cannot be read.
fn task(known: &Metadata, queued: &Queued<'_>) -> Result<Value> {
    let png = preprocess::thumbnail(&known.source, &queued.relabeled.sample.image, SIDE)?;
    let shown = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png));
    let data = json!({
        "image": known.image,
        "shown": shown,
        "why": known.why,
        "device": known.device,
        "held": known.held,
    });
    let choice = |label: &str| json!([{ "from_name": "label", "to_name": "shown", "type": "choices", "value": { "choices": [label] } }]);
    let mut task = json!({ "data": data });
    if queued.why != Why::Audit {
        let prediction =
            json!({ "model_version": "current", "score": known.confidence, "result": choice(&known.predicted) });
        task["predictions"] = json!([prediction]);
    }
    if !known.label.is_empty() {
        task["annotations"] = json!([{ "result": choice(&known.label) }]);
    }
    Ok(task)
}

/// A labeling interface with the classes.
fn interface(classes: &[String]) -> String {
    let choices: Markup = html! {
        View {
            Image name="shown" value="$shown" zoom="true" {}
            Choices name="label" toName="shown" choice="single" showInline="true" {
                @for class in classes { Choice value=(class) {} }
                Choice value="no class" alias=(said::REJECT) {}
                Choice value="cannot be told" alias=(said::UNSURE) {}
            }
        }
    };
    choices.into_string()
}
