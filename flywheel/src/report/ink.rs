//! What the colours of a chart stand for, and the list that says so.

use maud::{Markup, html};

/// Series that a chart tells apart before it starts over.
const SERIES: u8 = 6;
/// References that it tells apart.
const REFERENCES: u8 = 3;

/// What a stroke or a fill stands for. Inks differ in colour and, as lines, in their dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// Numbers and names.
    Text,
    /// Lines that help the eye.
    Grid,
    /// The paper.
    Surface,
    /// How far something is from where it should be.
    Gap,
    /// Something to compare with, by its place.
    Reference(u8),
    /// What the chart is about, by its place.
    Series(u8),
}

impl Ink {
    /// The ink of the series at `place`.
    pub(super) fn series(place: usize) -> Self {
        Self::Series((place % usize::from(SERIES)) as u8)
    }

    /// The ink of the reference at `place`.
    pub(super) fn reference(place: usize) -> Self {
        Self::Reference((place % usize::from(REFERENCES)) as u8)
    }

    /// Its class in the style sheet.
    pub(super) fn class(self) -> String {
        match self {
            Self::Text => "ink-text".into(),
            Self::Grid => "ink-grid".into(),
            Self::Surface => "ink-surface".into(),
            Self::Gap => "ink-gap".into(),
            Self::Reference(place) => format!("ink-reference-{place}"),
            Self::Series(place) => format!("ink-series-{place}"),
        }
    }

    /// Every one.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Self::Text, Self::Grid, Self::Surface, Self::Gap]
            .into_iter()
            .chain((0..REFERENCES).map(Self::Reference))
            .chain((0..SERIES).map(Self::Series))
    }

    /// Three bytes that no other ink has.
    pub(super) fn mark(self) -> [u8; 3] {
        match self {
            Self::Text => [0, 0, 1],
            Self::Grid => [0, 0, 2],
            Self::Surface => [0, 0, 3],
            Self::Gap => [0, 0, 4],
            Self::Reference(place) => [0, 1, place],
            Self::Series(place) => [0, 2, place],
        }
    }
}

/// How a point looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Filled circle.
    Disc,
    /// Empty circle.
    Ring,
    /// Filled triangle.
    Triangle,
}

/// What the lines and points of a chart stand for, as a list.
pub(super) fn legend(entries: impl IntoIterator<Item = (Ink, Option<Shape>, String)>) -> Markup {
    html! {
        ul.legend {
            @for (ink, shape, text) in entries {
                @let class = ink.class();
                li {
                    svg viewBox="0 0 128 56" aria-hidden="true" {
                        @match shape {
                            None => { line class={ "stroke " (class) } x2="128" y1="28" y2="28" stroke-width="8" {} }
                            Some(Shape::Disc) => { circle class={ "fill " (class) } cx="64" cy="28" r="20" {} }
                            Some(Shape::Triangle) => { polygon class={ "fill " (class) } points="64,4 88,46 40,46" {} }
                            Some(Shape::Ring) => {
                                circle class={ "stroke " (class) } cx="64" cy="28" r="18"
                                    fill="none" stroke-width="8" {}
                            }
                        }
                    }
                    (text)
                }
            }
        }
    }
}
