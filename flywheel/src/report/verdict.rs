//! What the gate said of a round's model, with the images that speak against it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{Markup, html};
use models::{Bundle, Estimate, Pixels, Result};

use super::{
    Fact, confusion,
    format::{NONE, count, interval, maybe_percent, percent, points},
    gallery, page, reliability,
    round::badge,
};
use crate::{
    statistics::Difference,
    steps::{
        gate::{ClassVerdict, FieldVerdict, Verdict, WrongImage},
        watch::{Drift, Watched},
    },
};

/// The page of a round: the verdict with its reasons, and the `images` of those that it names as worst. It needs nothing else.
///
/// # Errors
/// [`models::Error`] for a report card that cannot be read or an image that cannot be written.
pub fn round_page(
    round: u32,
    bundle: &Bundle,
    verdict: &Verdict,
    watched: Option<&Watched>,
    images: &[Pixels],
) -> Result<String> {
    let (card, labels) = (bundle.report_card()?, &bundle.manifest().labels);
    let cost = verdict.cost;
    let facts = [
        Fact::new("Bundle", bundle.digest().short()),
        Fact::new("Test accuracy", percent(card.accuracy)),
        Fact::new("95 % interval", interval(card.accuracy_interval)),
        Fact::new("Calibration error", percent(card.ece_after)),
        Fact::new("Model file", cost.map_or(NONE.into(), |cost| format!("{} bytes", count(cost.model_bytes as usize)))),
        Fact::new("Inference", cost.map_or(NONE.into(), |cost| format!("{:.2} ms", cost.milliseconds))),
    ];
    let what = format!("round {round}");
    let header = html! { (badge(verdict.passed)) p.gate { (verdict.reason) } };
    let main = html! {
        @if let Some(field) = &verdict.field { (in_field(field)) }
        @if !verdict.classes.is_empty() { (by_class("On the test set, by class", &verdict.classes)) }
        @if let Some(watched) = watched { (watch(watched)) }
        (wrong(&verdict.worst, images)?)
        section aria-label="Measured" {
            h2 { "Measured on the frozen test set" }
            div.pair.uneven { (confusion::matrix(&what, labels, &card)) (confusion::by_class(labels, &card)) }
            (reliability::diagrams(&what, &card))
        }
    };
    Ok(page::frame(&format!("Round {round}"), &facts, None, &header, &main).into_string())
}

fn in_field(field: &FieldVerdict) -> Markup {
    let row = |name: &str, estimate: &Estimate| {
        let Estimate { value, at_least, at_most } = *estimate;
        html! { tr { th scope="row" { (name) } td { (percent(value)) } td { (interval([at_least, at_most])) } } }
    };
    let Estimate { value, at_least, at_most } = field.difference;
    html! {
        section aria-label="In the field" {
            h2 { "In the field" }
            p.note {
                "Estimated from " (count(field.samples)) " audit samples, of which people have labeled " (count(field.labeled))
                " and could not tell " (count(field.undecidable)) ". The two models take " (count(field.differ)) " of them for different classes."
            }
            table {
                thead { tr { th scope="col" { "model" } th scope="col" { "accuracy" } th scope="col" { "95 % interval" } } }
                tbody {
                    (row("current", &field.current))
                    (row("new", &field.new))
                    tr {
                        th scope="row" { "difference, points" }
                        td { (points(value)) }
                        td { (points(at_least)) " to " (points(at_most)) " (each end at 95 %)" }
                    }
                }
            }
            @if !field.classes.is_empty() { (by_class("In the field, by class", &field.classes)) }
        }
    }
}

fn watch(watched: &Watched) -> Markup {
    let estimate = |found: Option<Estimate>| {
        found.map_or(NONE.into(), |found| {
            format!("{}, {}", percent(found.value), interval([found.at_least, found.at_most]))
        })
    };
    let drift = |drift: Option<Drift>| {
        let text = |Difference { distance, p_value }: Difference| format!("{distance:.2} (p = {p_value:.3})");
        drift.map_or(NONE.into(), |drift| format!("{}; classes {}", text(drift.confidence), text(drift.classes)))
    };
    let facts = [
        ("Audit samples since the round before", count(watched.audit_samples)),
        ("The model is not sure of", maybe_percent(watched.abstained)),
        ("The same on the test set", percent(watched.abstained_on_test_set)),
        ("Pseudo-labels that are right, 95 %", estimate(watched.pseudo_label_precision)),
        ("Of no class, 95 %", estimate(watched.of_no_class)),
        ("Labels that the new model changes", maybe_percent(watched.label_flips)),
        ("Confidence against the test set", drift(watched.from_test_set)),
        ("Confidence against what came before", drift(watched.from_before)),
    ];
    html! {
        section aria-label="Watched" {
            h2 { "Watched" }
            dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } }
        }
    }
}

fn by_class(title: &str, classes: &[ClassVerdict]) -> Markup {
    html! {
        section aria-label=(title) {
            h2 { (title) }
            table {
                thead {
                    tr {
                        @for name in ["class", "images", "difference, points", "at least (95 %)"] { th scope="col" { (name) } }
                    }
                }
                tbody {
                    @for class in classes {
                        tr {
                            th scope="row" { (class.label) }
                            td { (count(class.images)) }
                            td { (points(class.difference)) }
                            td { (points(class.difference_at_least)) }
                        }
                    }
                }
            }
        }
    }
}

fn wrong(named: &[WrongImage], images: &[Pixels]) -> Result<Markup> {
    let tiles = named.iter().zip(images).map(|(wrong, image)| tile(wrong, image)).collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section aria-label="Images it gets wrong" {
            h2 { "Images it gets wrong" }
            @if tiles.is_empty() {
                p.note { "There are none." }
            } @else {
                p.note { "First those that the current model gets right, and of these the ones that the new model is surest of." }
                ul.gallery aria-label="Images it gets wrong" { @for tile in tiles { (tile) } }
            }
        }
    })
}

fn tile(wrong: &WrongImage, image: &Pixels) -> Result<Markup> {
    let source = format!("data:image/png;base64,{}", STANDARD.encode(image.to_png()?));
    let truth = wrong.truth.as_deref().unwrap_or("no class");
    Ok(html! {
        li.wrong {
            img.pixels[image.width <= gallery::SMALL as usize] src=(source) alt={ "image of " (truth) } title=(wrong.image) decoding="async";
            span.label title=(wrong.taken_for) { (wrong.taken_for) }
            span.truth { "✕ is " (truth) }
            span.quiet { (percent(wrong.confidence)) }
            @if wrong.was_right { span.tag { "was right" } }
        }
    })
}
