//! Learning curves of each run.

use maud::{Markup, html};

use super::{
    Curve, Run,
    chart::{Axis, Chart, Mark, fraction_range},
    format::{NONE, decimal, percent, round_percent, short},
    ink::{Ink, Shape, legend},
};

/// Points of a line beyond which neighbours are averaged.
const POINTS: usize = 160;
/// Points of a line up to which each gets its disc.
const DISCS: usize = 24;

/// The section, or nothing without runs.
pub(super) fn section(runs: &[Run]) -> Markup {
    html! {
        @if !runs.is_empty() {
            section #curves aria-labelledby="curves-heading" {
                h2 #curves-heading { "Learning curves" }
                @for run in runs {
                    h3 { (run.name) }
                    div.pair { (losses(run)) (accuracies(run)) }
                }
            }
        }
    }
}

fn losses(run: &Run) -> Markup {
    let (low, high) = finite(&run.losses).fold((0.0, 0.0), |(low, high), (_, loss)| (loss.min(low), loss.max(high)));
    let top = if high > low { 1.05 * high } else { low + 1.0 };
    let y = Axis { range: low..top, ticks: None, format: tick };
    plot(run, &run.losses, y, "Losses", decimal)
}

fn accuracies(run: &Run) -> Markup {
    let range = fraction_range(finite(&run.accuracies).map(|(_, accuracy)| accuracy));
    let y = Axis { range, ticks: None, format: round_percent };
    plot(run, &run.accuracies, y, "Accuracies", percent)
}

fn plot(run: &Run, curves: &[Curve], y: Axis, what: &str, format: fn(f64) -> String) -> Markup {
    let last_step = finite(curves).map(|(step, _)| step).fold(1.0, f64::max);
    let averaged = curves.iter().map(|curve| curve.points.len().div_ceil(POINTS)).max().unwrap_or(1);
    let mut marks = Vec::new();
    let mut entries = Vec::new();
    for (place, curve) in curves.iter().enumerate() {
        let ink = Ink::series(place);
        let points = thinned(curve);
        let last = finite(std::slice::from_ref(curve)).last();
        entries.push((ink, None, format!("{} {}", curve.name, last.map_or(NONE.into(), |(_, y)| format(y)))));
        if points.len() <= DISCS {
            marks.extend(points.iter().map(|&at| Mark::Point { ink, at, shape: Shape::Disc, radius: 3.0 }));
        }
        marks.push(Mark::Line { ink, points, width: 2 });
    }
    // The first curves are the ones to look for: they are drawn last, over the others.
    marks.reverse();
    let ends: Vec<&str> = entries.iter().map(|(_, _, text)| text.as_str()).collect();
    let alt = format!("{what} of {} over its steps. At the end: {}.", run.name, ends.join(", "));
    let chart = Chart { x: Axis { range: 0.0..last_step, ticks: None, format: short }, x_name: "step", y, marks };
    html! {
        figure {
            @if entries.is_empty() {
                figcaption { strong { (what) } " are not recorded." }
            } @else {
                figcaption {
                    strong { (what) } " with their last values"
                    @if averaged > 1 { ", lines through means of up to " (averaged) " records" }
                }
                (chart.svg(&alt))
                (legend(entries))
            }
        }
    }
}

fn finite(curves: &[Curve]) -> impl Iterator<Item = (f64, f64)> {
    let points = curves.iter().flat_map(|curve| &curve.points);
    points.map(|&(step, value)| (step as f64, value)).filter(|(_, value)| value.is_finite())
}

/// The curve's finite points, neighbours averaged where there are too many to see.
fn thinned(curve: &Curve) -> Vec<(f64, f64)> {
    let points: Vec<_> = finite(std::slice::from_ref(curve)).collect();
    let mean = |chunk: &[(f64, f64)]| {
        let (step, value) = chunk.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (step / chunk.len() as f64, value / chunk.len() as f64)
    };
    points.chunks(points.len().div_ceil(POINTS).max(1)).map(mean).collect()
}

/// A loss at an axis: as many decimals as it needs, up to three.
fn tick(loss: f64) -> String {
    if loss.abs() >= 1000.0 {
        return short(loss);
    }
    let text = format!("{loss:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_mean_and_drops_what_is_no_number() {
        let mut points: Vec<_> = (0..=1000_u64).map(|step| (step, step as f64)).collect();
        points[500].1 = f64::NAN;
        let thin = thinned(&Curve { name: "loss".into(), points });
        assert!(thin.len() <= POINTS && thin.iter().all(|(step, value)| step == value), "{thin:?}");
        assert_eq!(thin[0], (3.0, 3.0), "the mean of 0 to 6");
    }
}
