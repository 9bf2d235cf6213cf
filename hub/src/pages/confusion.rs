use maud::{Markup, html};
use models::{
    Board,
    board::{Cell, Mistake},
};

use super::frame::{image, percent};

/// The matrix, whose cells lead to their images, and the worst mistakes.
pub(super) fn main(board: &Board) -> Markup {
    let names = board.labels.names();
    if board.confusion.is_empty() {
        return html! { p { "There is no model yet." } };
    }
    html! {
        section aria-labelledby="matrix" {
            h2 id="matrix" { "What is taken for what" }
            div.scroll role="region" aria-label="Confusion matrix" tabindex="0" {
                table.confusion {
                    caption { "Test images: a row for each true class, a column for what the current model says. A number leads to its images." }
                    thead { tr { td { "true ↓ said →" } @for name in names { th scope="col" { (name) } } } }
                    tbody {
                        @for (truth, (name, row)) in names.iter().zip(&board.confusion).enumerate() {
                            tr {
                                th scope="row" { (name) }
                                @for (said, cell) in row.iter().enumerate() { (number(truth, said, cell, row)) }
                            }
                        }
                    }
                }
            }
        }
        section aria-labelledby="worst" {
            h2 id="worst" { "Worst mistakes" }
            @if board.worst.is_empty() { p { "There are none." } }
            ul.gallery aria-label="Worst mistakes" { @for mistake in &board.worst { (tile(board, mistake)) } }
        }
        @for (truth, row) in board.confusion.iter().enumerate() {
            @for (said, cell) in row.iter().enumerate() {
                @if truth != said && cell.count > 0 {
                    section id={ "cell-" (truth) "-" (said) } tabindex="-1" aria-label={ (board.labels.name(truth)) " taken for " (board.labels.name(said)) } {
                        h2 { (board.labels.name(truth)) " taken for " (board.labels.name(said)) " (" (cell.count) ")" }
                        ul.gallery {
                            @for picture in &cell.pictures { li { (image(*picture, board.labels.name(truth))) } }
                        }
                        p { a href="#matrix" { "Back to the matrix" } }
                    }
                }
            }
        }
    }
}

fn number(truth: usize, said: usize, cell: &Cell, row: &[Cell]) -> Markup {
    let all: usize = row.iter().map(|cell| cell.count).sum();
    let share = cell.count as f64 / all.max(1) as f64;
    let heat = if truth == said { 0.5 * share } else { 0.9 * share.sqrt() };
    html! {
        @if cell.count == 0 { td.zero { "0" } }
        @else {
            td class=(if truth == said { "right" } else { "wrong" }) style=(format!("--heat:{:.2}", heat.min(0.6))) {
                @if truth == said { (cell.count) } @else { a href={ "#cell-" (truth) "-" (said) } { (cell.count) } }
            }
        }
    }
}

fn tile(board: &Board, mistake: &Mistake) -> Markup {
    let truth = mistake.truth.map_or("no class", |class| board.labels.name(class));
    html! {
        li {
            (image(mistake.picture, truth))
            span { (board.labels.name(mistake.taken_for)) " " (percent(mistake.confidence)) }
            span.bad { "✕ is " (truth) }
        }
    }
}
