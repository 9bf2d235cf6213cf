//! Accuracies of several runs on one chart, as a file of its own.

use super::{
    Curve,
    chart::{Axis, Chart, Mark, fraction_range},
    format::{percent, round_percent, short},
    ink::Ink,
    page::STYLE,
};

/// The chart as an SVG document that follows the reader's light or dark setting; each line ends with its name.
pub fn comparison_svg(curves: &[Curve]) -> String {
    let points = |curve: &Curve| curve.points.iter().map(|&(step, value)| (step as f64, value)).collect::<Vec<_>>();
    let last_step = curves.iter().flat_map(points).map(|(step, _)| step).fold(1.0, f64::max);
    let mut marks = Vec::new();
    for (place, curve) in curves.iter().enumerate() {
        let points = points(curve);
        if let Some(&(step, value)) = points.last() {
            let at = (step - 0.1 * last_step, value);
            marks.push(Mark::Text { at, text: curve.name.clone(), above: 8 });
        }
        marks.push(Mark::Line { ink: Ink::series(place), points, width: 2 });
    }
    let range = fraction_range(curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| *value));
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
    styled.replacen('>', &format!("><style>{STYLE} svg {{ background: var(--paper) }}</style>"), 1)
}
