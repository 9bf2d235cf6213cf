//! Marks on two axes as SVG; the only file that names plotters.
//!
//! A chart is drawn on a grid of [`SCALE`] units a pixel, since plotters rounds to whole units. What it
//! writes as a colour is only the mark of an [`Ink`] and becomes a class, so that the style sheet decides.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::{
    coord::{
        ranged1d::{BoldPoints, KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
        types::RangedCoordf64,
    },
    drawing::DrawingAreaErrorKind,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::ink::{Ink, Shape};

const SCALE: u32 = 4;
const SIZE: (u32, u32) = (480 * SCALE, 280 * SCALE);
/// Numbers written at an axis, at most.
const TICKS: usize = 8;

/// Something on a chart, in the chart's coordinates; sizes in pixels.
#[derive(Clone, Debug)]
pub(super) enum Mark {
    /// A line through points.
    Line { ink: Ink, points: Vec<(f64, f64)>, width: u32 },
    /// A point.
    Point { ink: Ink, at: (f64, f64), shape: Shape, radius: f64 },
    /// A text whose middle is `above` pixels over a point.
    Text { at: (f64, f64), text: String, above: i32 },
}

/// One direction of a chart.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// From where to where.
    pub range: Range<f64>,
    /// The numbers written at it; none means round numbers of the range.
    pub ticks: Option<Vec<f64>>,
    /// How they are written.
    pub format: fn(f64) -> String,
}

impl Axis {
    fn numbers(&self) -> RangedCoordf64 {
        self.range.clone().into()
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.numbers().map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone().unwrap_or_else(|| self.numbers().key_points(BoldPoints(TICKS)))
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.format)(*value)
    }
}

/// Marks on two axes.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// From left to right.
    pub x: Axis,
    /// What is along it.
    pub x_name: &'static str,
    /// From bottom to top.
    pub y: Axis,
    /// In the order of drawing, all inside the axes' ranges; what is not finite is left out.
    pub marks: Vec<Mark>,
}

impl Chart {
    /// The chart as an image that `alt` describes.
    pub(super) fn svg(&self, alt: &str) -> Markup {
        let mut svg = String::new();
        self.draw(&mut svg).expect("a string takes any drawing");
        for ink in Ink::all() {
            let [r, g, b] = ink.mark();
            for paint in ["stroke", "fill"] {
                let class = format!("class=\"{paint} {}\"", ink.class());
                svg = svg.replace(&format!("{paint}=\"#{r:02X}{g:02X}{b:02X}\""), &class);
            }
        }
        // Our own opening tag: no fixed size, and a text for those who cannot see it.
        let inner = svg.split_once('>').map_or("", |(_, rest)| rest).trim_end().trim_end_matches("</svg>");
        let view_box = format!("0 0 {} {}", SIZE.0, SIZE.1);
        html! { svg.chart viewBox=(view_box) role="img" aria-label=(alt) { (PreEscaped(inner)) } }
    }

    fn draw(&self, svg: &mut String) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let text = ("sans-serif", 17 * SCALE).into_font().color(&color(Ink::Text));
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(20 * SCALE)
            .margin_right(24 * SCALE)
            .set_label_area_size(LabelAreaPosition::Left, 50 * SCALE)
            .set_label_area_size(LabelAreaPosition::Bottom, 42 * SCALE)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(color(Ink::Grid).stroke_width(SCALE))
            .axis_style(color(Ink::Grid).stroke_width(SCALE))
            .set_all_tick_mark_size(4 * SCALE)
            .x_desc(self.x_name)
            .axis_desc_style(text.clone())
            .label_style(text.clone())
            .draw()?;
        let finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        for mark in &self.marks {
            match mark {
                Mark::Line { ink, points, width } => {
                    let points: Vec<_> = points.iter().copied().filter(finite).collect();
                    chart.draw_series([PathElement::new(points, color(*ink).stroke_width(width * SCALE))])?;
                }
                Mark::Point { at, .. } | Mark::Text { at, .. } if !finite(at) => {}
                Mark::Point { ink, at, shape, radius } => {
                    let (ink, radius) = (color(*ink), (radius * f64::from(SCALE)).round() as u32);
                    match shape {
                        Shape::Disc => _ = chart.draw_series([Circle::new(*at, radius, ink.filled())])?,
                        Shape::Triangle => _ = chart.draw_series([TriangleMarker::new(*at, radius, ink.filled())])?,
                        Shape::Ring => {
                            let styles = [color(Ink::Surface).filled(), ink.stroke_width(2 * SCALE)];
                            chart.draw_series(styles.map(|style| Circle::new(*at, radius, style)))?;
                        }
                    }
                }
                Mark::Text { at, text: words, above } => {
                    let style = text.pos(Pos::new(HPos::Center, VPos::Center));
                    let label = Text::new(words.clone(), (0, -above * SCALE as i32), style);
                    chart.draw_series([EmptyElement::at(*at) + label])?;
                }
            }
        }
        root.present()
    }
}

fn color(ink: Ink) -> RGBColor {
    let [r, g, b] = ink.mark();
    RGBColor(r, g, b)
}

/// A range for fractions in steps of five percentage points, from below the lowest to above the highest.
pub(super) fn fraction_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let low = ((low * 20.0 - 0.3).floor() / 20.0).clamp(0.0, 0.9);
    let high = ((high * 20.0 + 0.3).ceil() / 20.0).clamp(low + 0.1, 1.0);
    low..high
}
