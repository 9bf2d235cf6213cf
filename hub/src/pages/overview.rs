use maud::{Markup, html};
use models::{Board, Estimate, board::RoundLine};

use super::frame::{percent, time};

/// The latest round first: what a reader came for.
pub(super) fn main(board: &Board) -> Markup {
    let serving = board.serving();
    html! {
        dl.tiles {
            (tile("In service", &serving.map_or("nothing".into(), |round| format!("round {}", round.round))))
            (tile("On the test set", &serving.map_or("n/a".into(), |round| percent(round.test.value))))
            (tile("In the field", &serving.and_then(|round| round.field).map_or("not labeled".into(), |field| percent(field.value))))
            (tile("Waiting for a label", &board.waiting.to_string()))
        }
        @if board.rounds.is_empty() {
            p { "There is no round yet: `flywheel round` runs the first." }
        } @else {
            div.scroll role="region" aria-label="Rounds" tabindex="0" {
                table {
                    caption { "Every round, the latest first. The bars span 95 % intervals." }
                    thead {
                        tr {
                            @for name in ["round", "done", "went out", "on the test set", "in the field", "why"] { th scope="col" { (name) } }
                        }
                    }
                    tbody { @for round in board.rounds.iter().rev() { (row(round, &scale(board))) } }
                }
            }
        }
    }
}

fn tile(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn row(round: &RoundLine, scale: &[f64; 2]) -> Markup {
    html! {
        tr id={ "round-" (round.round) } {
            th scope="row" { (round.round) }
            td { (time(round.finished)) }
            td {
                @match (round.published, round.withdrawn) {
                    (true, None) => span.good { "✓ yes" },
                    (true, Some(_)) => span.bad { "↩ taken back" },
                    (false, _) => span.bad { "✕ no" },
                }
            }
            td { (interval(&round.test, scale)) }
            td { @if let Some(field) = &round.field { (interval(field, scale)) } @else { span.quiet { "not labeled" } } }
            td.why { (round.reason) @for told in &round.told { br; span.note { (told) } } }
        }
    }
}

/// An interval as a bar on a scale that all rows share, and in words.
fn interval(found: &Estimate, [low, high]: &[f64; 2]) -> Markup {
    let place = |value: f64| 100.0 * ((value - low) / (high - low)).clamp(0.0, 1.0);
    let (from, to, at) = (place(found.at_least), place(found.at_most), place(found.value));
    html! {
        span.number { (percent(found.value)) }
        svg.interval viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true" {
            line x1=(format!("{from:.1}")) x2=(format!("{to:.1}")) y1="6" y2="6" {}
            circle cx=(format!("{at:.1}")) cy="6" r="4" {}
        }
        span.quiet { (percent(found.at_least)) " to " (percent(found.at_most)) }
    }
}

/// From the lowest end of all intervals to 1.
fn scale(board: &Board) -> [f64; 2] {
    let all = board.rounds.iter().flat_map(|round| std::iter::once(round.test).chain(round.field));
    let low = all.map(|interval| interval.at_least).fold(1.0, f64::min);
    [(low - 0.02).clamp(0.0, 0.95), 1.0]
}
