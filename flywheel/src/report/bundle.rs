//! What is in a bundle, for whoever has to decide whether to run it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{Markup, html};
use models::{Bundle, Pixels, Result};

use super::{
    Fact, confusion,
    format::{NONE, count, interval, percent},
    page, reliability,
};

/// The page of a bundle; `signature` says in words who has signed it. It needs nothing else.
///
/// # Errors
/// [`models::Error`] for a golden vector or a report card that cannot be read.
pub fn bundle_page(bundle: &Bundle, signature: &str) -> Result<String> {
    let (manifest, card, golden) = (bundle.manifest(), bundle.report_card()?, bundle.golden()?);
    let (labels, calibration) = (&manifest.labels, &manifest.calibration);
    let title = format!("Bundle {}", bundle.digest().short());
    let what = "the bundle";
    let main = html! {
        section aria-label="Measured" {
            h2 { "Measured on the frozen test set" }
            dl.facts {
                @for (name, value) in [
                    ("Test accuracy", percent(card.accuracy)),
                    ("95 % interval", interval(card.accuracy_interval)),
                    ("Test images", count(card.test_images)),
                    ("Labels", count(card.training.labeled)),
                    ("Unlabeled images", count(card.training.unlabeled)),
                    ("Parity of the export", card.parity_max_abs_diff.map_or(NONE.into(), |parity| format!("{parity:.1e}"))),
                ] { div { dt { (name) } dd { (value) } } }
            }
            div.pair.uneven { (confusion::matrix(what, labels, &card)) (confusion::by_class(labels, &card)) }
            (reliability::diagrams(what, &card))
        }
        section aria-label="Golden vectors" {
            h2 { "Golden vectors" }
            p.note {
                "Images that every engine has to answer as the trainer did, before the bundle serves. With each, what the "
                "trainer's logits mean."
            }
            ul.gallery aria-label="Golden images" {
                @for (image, logits) in golden.images.iter().zip(&golden.logits) {
                    @let prediction = calibration.predict(logits);
                    (tile(image, labels.name(prediction.class), prediction.confidence)?)
                }
            }
        }
        section aria-label="Pseudo-labels" {
            h2 { "From which confidence a prediction becomes a pseudo-label" }
            table {
                thead { tr { th scope="col" { "class" } th scope="col" { "confidence" } } }
                tbody {
                    @for (name, threshold) in labels.names().iter().zip(&calibration.thresholds) {
                        tr { th scope="row" { (name) } td { (threshold_text(*threshold)) } }
                    }
                }
            }
        }
    };
    Ok(page::frame(&title, &facts(bundle, signature), None, &html! {}, &main).into_string())
}

/// The manifest in words.
pub fn facts(bundle: &Bundle, signature: &str) -> Vec<Fact> {
    let manifest = bundle.manifest();
    let (release, network) = (&manifest.release, &manifest.network);
    let parameters = network.tensors().iter().filter(|t| t.role.is_trained()).map(|t| t.len()).sum();
    let input = manifest.input_spec();
    let time = |time: Option<jiff::Timestamp>, none: &str| time.map_or(none.to_owned(), |time| time.to_string());
    let targets = if release.targets.is_empty() { "all".to_owned() } else { release.targets.join(", ") };
    let size: u64 = manifest.files.values().map(|entry| entry.bytes).sum();
    vec![
        Fact::new("Digest", bundle.digest()),
        Fact::new("Signature", signature),
        Fact::new("Sequence", manifest.sequence),
        Fact::new("Replaces", manifest.parent.map_or("nothing".to_owned(), |parent| parent.short())),
        Fact::new("Made", manifest.created),
        Fact::new("Channel", &release.channel),
        Fact::new("Targets", targets),
        Fact::new("Not before", time(release.not_before, "any time")),
        Fact::new("Expires", time(release.expires, "never")),
        Fact::new("Needs version", &release.minimum_runtime),
        Fact::new("Network", format!("{}, {} weights", network.name(), count(parameters))),
        Fact::new("Kernels, arithmetic", format!("{}, {}", manifest.weights.name(), manifest.arithmetic.name())),
        Fact::new("Input", format!("{} {:?}", input.layout.number(), input.dims())),
        Fact::new("Labels", manifest.labels.names().join(", ")),
        Fact::new("Temperature", format!("{:.3}", manifest.calibration.temperature)),
        Fact::new(
            "Collects",
            format!(
                "at most {} confident and {} uncertain samples a class, {} of all images for audit",
                manifest.collection.confident_per_class,
                manifest.collection.uncertain.per_class,
                percent(manifest.collection.audit_probability)
            ),
        ),
        Fact::new("Size", format!("{} bytes", count(size as usize))),
    ]
}

fn threshold_text(threshold: f64) -> String {
    if threshold > 1.0 { "never".into() } else { percent(threshold) }
}

fn tile(image: &Pixels, label: &str, confidence: f64) -> Result<Markup> {
    let source = format!("data:image/png;base64,{}", STANDARD.encode(image.to_png()?));
    Ok(html! {
        li {
            img.pixels src=(source) alt={ "golden image, " (label) } decoding="async";
            span.label title=(label) { (label) }
            span.quiet { (percent(confidence)) }
        }
    })
}
