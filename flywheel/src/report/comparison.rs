//! Accuracies of several runs on one chart, as a file of its own.

use super::{
    Curve,
    chart::{Axis, Chart, Mark, fraction_range},
    format::{percent, round_percent, short},
    ink::Ink,
    page::style,
};

/// The chart as an SVG document that follows the reader's light or dark setting. Its key is at the bottom right, which
/// rising lines leave free, the highest end first.
pub fn comparison_svg(curves: &[Curve]) -> String {
    let points = |curve: &Curve| curve.points.iter().map(|&(step, value)| (step as f64, value)).collect::<Vec<_>>();
    let last_step = curves.iter().flat_map(points).map(|(step, _)| step).fold(1.0, f64::max);
    let range = fraction_range(curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| *value));
    let line = |ink, points| Mark::Line { ink, points, width: 2 };
    let mut inked: Vec<(Ink, &Curve)> = (0..).map(Ink::series).zip(curves).collect();
    let mut marks: Vec<Mark> = inked.iter().map(|(ink, curve)| line(*ink, points(curve))).collect();
    let end = |curve: &Curve| curve.points.last().map_or(f64::NAN, |(_, value)| *value);
    inked.sort_by(|(_, a), (_, b)| end(a).total_cmp(&end(b)));
    for (place, (ink, curve)) in inked.into_iter().enumerate() {
        let y = range.start + (0.06 + 0.08 * place as f64) * (range.end - range.start);
        marks.push(line(ink, vec![(0.62 * last_step, y), (0.72 * last_step, y)]));
        marks.push(Mark::Text { at: (0.86 * last_step, y), text: curve.name.clone(), above: 0 });
    }
    let chart = Chart {
        x: Axis { range: 0.0..last_step, ticks: None, format: short },
        x_name: "step",
        y: Axis { range, ticks: None, format: round_percent },
        marks,
    };
    let ends = curves.iter().filter_map(|curve| Some(format!("{} {}", curve.name, percent(curve.points.last()?.1))));
    let alt = format!("Test accuracy over steps. At the end: {}.", ends.collect::<Vec<_>>().join(", "));
    let svg = chart.svg(&alt).into_string();
    let opening = r#"<svg xmlns="http://www.w3.org/2000/svg" width="720" font-family="sans-serif""#;
    let styled = svg.replacen("<svg", opening, 1);
    styled.replacen('>', &format!("><style>{} svg {{ background: var(--paper) }}</style>", style()), 1)
}
