use maud::{Markup, html};
use models::{
    Board, Said,
    board::{Waiting, Why},
};

use super::frame::{image, percent, time};

/// The images of which somebody has said something lately, the latest word first.
pub(super) fn main(board: &Board) -> Markup {
    let mut spoken: Vec<&Waiting> = board.queue.iter().filter(|waiting| !waiting.history.is_empty()).collect();
    spoken.sort_by_key(|waiting| std::cmp::Reverse(waiting.history.last().map(|review| review.at)));
    html! {
        @if spoken.is_empty() {
            p { "Nobody has labeled anything yet." }
        } @else {
            p.quiet { "The latest " (spoken.len()) " images. The last word holds." }
            ul.gallery aria-label="Labeled images" {
                @for waiting in spoken {
                    @let (class, confidence) = waiting.guesses.first().copied().unwrap_or_default();
                    li id=(waiting.image) {
                        (image(waiting.image, "labeled image"))
                        ol.history {
                            @for review in &waiting.history {
                                li { b { (word(&review.said)) } " " span.quiet { (review.by) ", " (time(review.at)) } }
                            }
                        }
                        span.quiet {
                            // Who looks at a sample once more that is to judge the model is not led by it.
                            @if waiting.why != Why::Audit { "model: " (board.labels.name(class)) " " (percent(confidence)) " · " }
                            (waiting.device)
                        }
                    }
                }
            }
        }
    }
}

/// What was said, in a word.
pub(super) fn word(said: &Said) -> &str {
    match said {
        Said::Label(label) => label,
        Said::Reject => "no class",
        Said::Unsure => "unsure",
        Said::Undo => "undone",
    }
}
