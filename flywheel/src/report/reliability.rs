//! Whether the probabilities mean what they say, before and after calibration.

use maud::{Markup, html};
use models::{ReportCard, bundle::ReliabilityBin};

use super::{
    chart::{Axis, Chart, Mark},
    format::{count, decimal, percent, plural, round_percent, short},
    ink::{Ink, Shape, legend},
};

/// Confidence between two counts written on a diagram, at least: closer ones would overlap.
const APART: f64 = 0.06;
const TICKS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// Two diagrams side by side, and their numbers; `what` is whose they are.
pub(super) fn diagrams(what: &str, card: &ReportCard) -> Markup {
    let sides = [
        ("Before calibration", card.ece_before, &card.reliability_before),
        ("After calibration", card.ece_after, &card.reliability_after),
    ];
    html! {
        h3 { "Reliability" }
        p.note {
            "Test images grouped by the model's confidence. On the dashed line it is right as often as it says; "
            "below it, the model is surer than it should be. The number at a disc, and its size, are its images. "
            "ECE, the expected calibration error, is the mean distance from the line over all images."
        }
        div.pair {
            @for (name, ece, bins) in sides {
                figure {
                    figcaption { strong { (name) } ": ECE " (decimal(ece)) }
                    (diagram(&format!("{name} of {what}"), ece, bins))
                }
            }
        }
        (legend([
            (Ink::series(0), Some(Shape::Disc), "accuracy at a confidence".to_owned()),
            (Ink::Gap, None, "distance from the line".to_owned()),
            (Ink::reference(0), None, "right as often as it says".to_owned()),
        ]))
        details.numbers {
            summary { "The numbers" }
            div.pair { @for (name, _, bins) in sides { (table(name, bins)) } }
        }
    }
}

fn drawable(bin: &&ReliabilityBin) -> bool {
    let fraction = |value: f64| (0.0..=1.0).contains(&value);
    bin.count > 0 && fraction(bin.confidence) && fraction(bin.accuracy)
}

fn diagram(what: &str, ece: f64, bins: &[ReliabilityBin]) -> Markup {
    let bins: Vec<&ReliabilityBin> = bins.iter().filter(drawable).collect();
    let images: usize = bins.iter().map(|bin| bin.count).sum();
    let mut marks = vec![Mark::Line { ink: Ink::reference(0), points: vec![(0.0, 0.0), (1.0, 1.0)], width: 2 }];
    for bin in &bins {
        let points = vec![(bin.confidence, bin.confidence), (bin.confidence, bin.accuracy)];
        marks.push(Mark::Line { ink: Ink::Gap, points, width: 3 });
    }
    let mut written = f64::NEG_INFINITY;
    for bin in &bins {
        let at = (bin.confidence, bin.accuracy);
        let radius = 3.0 + 13.0 * (bin.count as f64 / images as f64).sqrt();
        marks.push(Mark::Point { ink: Ink::series(0), at, shape: Shape::Disc, radius });
        if bin.confidence - written >= APART {
            let beyond = radius as i32 + 9;
            let above = if bin.accuracy >= bin.confidence && bin.accuracy < 0.85 { beyond } else { -beyond };
            marks.push(Mark::Text { at, text: short(bin.count as f64), above });
            written = bin.confidence;
        }
    }
    let axis = || Axis { range: 0.0..1.0, ticks: Some(TICKS.into()), format: round_percent };
    let alt = format!("Reliability {what}: {}, ECE {}.", plural(images, "image"), decimal(ece));
    // Room for the counts below discs at zero.
    let y = Axis { range: -0.08..1.0, ..axis() };
    Chart { x: axis(), x_name: "confidence", y, marks }.svg(&alt)
}

fn table(name: &str, bins: &[ReliabilityBin]) -> Markup {
    html! {
        table {
            caption { (name) }
            thead { tr { @for column in ["confidence", "accuracy", "images"] { th scope="col" { (column) } } } }
            tbody {
                @for bin in bins.iter().filter(|bin| bin.count > 0) {
                    tr { td { (percent(bin.confidence)) } td { (percent(bin.accuracy)) } td { (count(bin.count)) } }
                }
            }
        }
    }
}
