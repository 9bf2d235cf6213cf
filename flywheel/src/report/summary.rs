//! Headline numbers and the table of rounds.

use maud::{Markup, html};

use super::{
    Page, RoundSection,
    format::{count, interval, maybe_percent, percent, plural, points},
    round::badge,
    trend,
};

/// The section; `rounds` from the oldest to the newest.
pub(super) fn section(page: &Page, rounds: &[&RoundSection]) -> Markup {
    html! {
        section #summary aria-labelledby="summary-heading" {
            h2 #summary-heading { "Summary" }
            @if rounds.is_empty() {
                p { "No round has run yet." }
            } @else {
                (headlines(page, rounds))
                (table(rounds))
            }
            @if !rounds.is_empty() || !page.references.is_empty() { (trend::figure(&page.references, rounds)) }
        }
    }
}

/// Number, what it is, and what it refers to.
fn headlines(page: &Page, rounds: &[&RoundSection]) -> Markup {
    let mut tiles: Vec<(String, &str, String)> = Vec::new();
    match rounds.iter().rfind(|round| round.published) {
        None => tiles.push(("none".into(), "Published round", "every round was held back".into())),
        Some(newest) => {
            let accuracy = newest.card.accuracy;
            let of = format!("round {}, 95 % interval {}", newest.round, interval(newest.card.accuracy_interval));
            tiles.push((percent(accuracy), "Test accuracy", of));
            if let Some(reference) = page.references.first() {
                let over = format!("points over {}", reference.name);
                tiles.push((points(accuracy - reference.accuracy), "Gain", over));
            }
        }
    }
    let collected = rounds.iter().map(|round| round.collected).sum();
    let audit = rounds.iter().map(|round| round.audit).sum();
    let of = format!("in {}, {} for audit", plural(rounds.len(), "round"), count(audit));
    tiles.push((count(collected), "Images collected", of));
    let newest = |value: fn(&RoundSection) -> Option<f64>| {
        rounds.iter().rev().find_map(|round| Some((value(round)?, format!("round {}", round.round))))
    };
    if let Some((precision, round)) = newest(|round| round.pseudo_label_precision) {
        tiles.push((percent(precision), "Pseudo-labels right", round));
    }
    if let Some((accuracy, round)) = newest(|round| round.device_accuracy) {
        tiles.push((percent(accuracy), "Accuracy on devices", format!("{round}, images seen after it")));
    }
    html! {
        dl.tiles {
            @for (number, name, of) in tiles { div { dt { (name) } dd.number { (number) } dd { (of) } } }
        }
    }
}

fn table(rounds: &[&RoundSection]) -> Markup {
    const COLUMNS: [&str; 8] = [
        "Round",
        "Gate",
        "Test accuracy",
        "95 % interval",
        "On devices",
        "Collected",
        "For audit",
        "Pseudo-labels right",
    ];
    html! {
        div.scroll role="region" aria-label="Table of rounds" tabindex="0" {
            table.rounds {
                caption { span { "On devices: what they themselves predicted for the images that came after the round." } }
                thead { tr { @for column in COLUMNS { th scope="col" { (column) } } } }
                tbody {
                    @for round in rounds {
                        tr {
                            th scope="row" { a href={ "#round-" (round.round) } { (round.round) } }
                            td { (badge(round.published)) }
                            td.strong { (percent(round.card.accuracy)) }
                            td { (interval(round.card.accuracy_interval)) }
                            td { (maybe_percent(round.device_accuracy)) }
                            td { (count(round.collected)) }
                            td { (count(round.audit)) }
                            td { (maybe_percent(round.pseudo_label_precision)) }
                        }
                    }
                }
            }
        }
    }
}
