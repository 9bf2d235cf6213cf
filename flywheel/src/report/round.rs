//! What one round did.

use maud::{Markup, html};

use super::{
    RoundSection, confusion,
    format::{NONE, count, interval, maybe_percent, percent},
    gallery, reliability,
};

/// The section, unfolded if `open`.
pub(super) fn section(round: &RoundSection, open: bool) -> Markup {
    let (card, id, what) = (&round.card, format!("round-{}", round.round), format!("round {}", round.round));
    let parity = card.parity_max_abs_diff;
    let facts = [
        ("Test accuracy", percent(card.accuracy)),
        ("95 % interval", interval(card.accuracy_interval)),
        ("On devices", maybe_percent(round.device_accuracy)),
        ("Test images", count(card.test_images)),
        ("Labels", count(card.training.labeled)),
        ("Unlabeled images", count(card.training.unlabeled)),
        ("Steps", count(usize::try_from(card.training.steps).unwrap_or(usize::MAX))),
        ("Seed", card.training.seed.to_string()),
        ("Parity of the export", parity.map_or(NONE.into(), |parity| format!("{parity:.1e}"))),
    ];
    html! {
        section.round id=(id) aria-labelledby={ (id) "-heading" } {
            details open[open] {
                summary {
                    h2 id={ (id) "-heading" } { "Round " (round.round) }
                    (badge(round.published))
                    span.quiet { (percent(card.accuracy)) " on the test set" }
                }
                p.gate { (round.gate) }
                dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } }
                div.pair.uneven { (confusion::matrix(&what, &round.labels, card)) (confusion::by_class(&round.labels, card)) }
                (reliability::diagrams(&what, card))
                (gallery::grid(round))
            }
        }
    }
}

/// Whether a round's bundle went out, as a mark with a word.
pub(super) fn badge(published: bool) -> Markup {
    html! {
        @if published { span.badge.good { "✓ published" } } @else { span.badge.bad { "✕ held back" } }
    }
}
