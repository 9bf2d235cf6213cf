//! The document and the order of its sections.

use hub::pages::PALETTE;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Fact, Page, RoundSection, curves, round, summary};

/// Even a text that slipped through unescaped could load nothing and run nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The style sheet of documents and of charts that are files of their own.
pub(super) fn style() -> String {
    format!("{PALETTE}{}", include_str!("style.css"))
}

/// The whole page.
pub(super) fn document(page: &Page) -> Markup {
    let mut rounds: Vec<&RoundSection> = page.rounds.iter().collect();
    rounds.sort_by_key(|round| round.round);
    let summarised = !training_only(page);
    let header = html! { @if summarised { (contents(page, &rounds)) } };
    let main = html! {
        @if summarised { (summary::section(page, &rounds)) }
        (curves::section(&page.runs))
        // The newest round is what a reader came for; the others wait folded.
        @for (age, round) in rounds.iter().rev().enumerate() { (round::section(round, age == 0)) }
    };
    frame(&page.title, &page.facts, page.refresh, &header, &main)
}

/// A document that needs nothing else: title and facts, then what is given.
pub(super) fn frame(title: &str, facts: &[Fact], refresh: Option<u32>, header: &Markup, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                title { (title) }
                style { (PreEscaped(style())) }
            }
            body {
                header {
                    h1 { (title) }
                    @if !facts.is_empty() { dl.facts { @for fact in facts { div { dt { (fact.name) } dd { (fact.value) } } } } }
                    (header)
                }
                main { (main) }
            }
        }
    }
}

/// Whether there is nothing to sum up: a page about training runs.
fn training_only(page: &Page) -> bool {
    page.rounds.is_empty() && page.references.is_empty() && !page.runs.is_empty()
}

fn contents(page: &Page, rounds: &[&RoundSection]) -> Markup {
    html! {
        nav aria-label="Contents" {
            ul {
                li { a href="#summary" { "Summary" } }
                @if !page.runs.is_empty() { li { a href="#curves" { "Learning curves" } } }
                @for round in rounds.iter().rev() {
                    li { a href={ "#round-" (round.round) } { "Round " (round.round) } }
                }
            }
        }
    }
}
