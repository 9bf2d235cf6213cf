//! Accuracy by round against the references.

use std::ops::Range;

use maud::{Markup, html};

use super::{
    Reference, RoundSection,
    chart::{Axis, Chart, Mark, fraction_range},
    format::{percent, round_percent},
    ink::{Ink, Shape, legend},
};

/// Rounds up to which each has its number and its accuracy written on the chart.
const WRITTEN: usize = 8;
const TEST: Ink = Ink::Series(0);
const DEVICE: Ink = Ink::Series(1);

/// The chart; `rounds` from the oldest to the newest.
pub(super) fn figure(references: &[Reference], rounds: &[&RoundSection]) -> Markup {
    let x = place(rounds.first()) - 0.5..place(rounds.last()) + 0.5;
    let mut marks = reference_lines(references, &x);
    marks.extend(device_marks(rounds, &x));
    marks.extend(test_marks(rounds, &x));
    let values = references.iter().map(|reference| reference.accuracy);
    let values = values.chain(rounds.iter().flat_map(|round| {
        let [low, high] = round.card.accuracy_interval;
        [low, high, round.card.accuracy, round.device_accuracy.unwrap_or(f64::NAN)]
    }));
    let ticks = (rounds.len() <= WRITTEN).then(|| rounds.iter().map(|round| place(Some(round))).collect());
    let chart = Chart {
        x: Axis { range: x, ticks, format: |round| round.to_string() },
        x_name: "round",
        y: Axis { range: fraction_range(values), ticks: None, format: round_percent },
        marks,
    };
    let each = rounds.iter().map(|round| format!("round {} {}", round.round, percent(round.card.accuracy)));
    let alt = format!("Test accuracy by round: {}.", each.collect::<Vec<_>>().join(", "));
    html! {
        h3 { "Accuracy by round" }
        figure.beside { (chart.svg(&alt)) figcaption { (legend(entries(references, rounds))) } }
    }
}

fn place(round: Option<&&RoundSection>) -> f64 {
    round.map_or(1.0, |round| f64::from(round.round))
}

fn reference_lines(references: &[Reference], x: &Range<f64>) -> Vec<Mark> {
    let line = |(place, reference): (usize, &Reference)| Mark::Line {
        ink: Ink::reference(place),
        points: vec![(x.start, reference.accuracy), (x.end, reference.accuracy)],
        width: 2,
    };
    references.iter().enumerate().map(line).collect()
}

/// The devices' triangles stand a little to the right, so that the test set's intervals stay readable.
fn device_marks(rounds: &[&RoundSection], x: &Range<f64>) -> Vec<Mark> {
    let aside = 0.04 * (x.end - x.start);
    let at = |round: &&RoundSection| Some((place(Some(round)) + aside, round.device_accuracy?));
    let points: Vec<_> = rounds.iter().filter_map(at).collect();
    let point = |&at: &(f64, f64)| Mark::Point { ink: DEVICE, at, shape: Shape::Triangle, radius: 6.0 };
    let triangles: Vec<_> = points.iter().map(point).collect();
    [Mark::Line { ink: DEVICE, points, width: 2 }].into_iter().chain(triangles).collect()
}

fn test_marks(rounds: &[&RoundSection], x: &Range<f64>) -> Vec<Mark> {
    let cap = 0.012 * (x.end - x.start);
    let line = |points| Mark::Line { ink: TEST, points, width: 2 };
    let mut marks = vec![line(rounds.iter().map(|round| (place(Some(round)), round.card.accuracy)).collect())];
    for round in rounds {
        let (x, [low, high]) = (place(Some(round)), round.card.accuracy_interval);
        marks.push(line(vec![(x, low), (x, high)]));
        marks.extend([low, high].map(|end| line(vec![(x - cap, end), (x + cap, end)])));
        let shape = if round.published { Shape::Disc } else { Shape::Ring };
        marks.push(Mark::Point { ink: TEST, at: (x, round.card.accuracy), shape, radius: 5.0 });
        if rounds.len() <= WRITTEN {
            marks.push(Mark::Text { at: (x, low), text: percent(round.card.accuracy), above: -12 });
        }
    }
    marks
}

fn entries(references: &[Reference], rounds: &[&RoundSection]) -> Vec<(Ink, Option<Shape>, String)> {
    let mut entries = Vec::new();
    if rounds.iter().any(|round| round.published) {
        entries.push((TEST, Some(Shape::Disc), "test set, with its 95 % interval".to_owned()));
    }
    if rounds.iter().any(|round| !round.published) {
        entries.push((TEST, Some(Shape::Ring), "test set, round held back".to_owned()));
    }
    if rounds.iter().any(|round| round.device_accuracy.is_some()) {
        entries.push((DEVICE, Some(Shape::Triangle), "on devices, images seen after the round".to_owned()));
    }
    entries.extend(references.iter().enumerate().map(|(place, reference)| {
        (Ink::reference(place), None, format!("{}: {}", reference.name, percent(reference.accuracy)))
    }));
    entries
}
