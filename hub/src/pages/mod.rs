//! Pages for people, from what the workstation has put on the board.
//!
//! Each is one HTML document with its style, and a script where there is something to do; it refers to nothing but its pictures and the other
//! pages. A hub serves them to who has signed in, and takes their labels. As files they need no server: labels are then saved as a table that
//! `flywheel samples import` reads.
//!
//! | module | page |
//! |---|---|
//! | `overview` | the rounds: accuracy with intervals, what went out and why not |
//! | `fleet` | the devices: what they run, what they have not sent yet |
//! | `review` | the samples that wait for a person, as a grid for the keyboard |
//! | `confusion` | what is taken for what, with the images; the worst mistakes |
//! | `history` | what was said of each image |
//! | `sign_in` | where a hub is shown a token |
//! | `frame` | what all of them have in common |

mod confusion;
mod fleet;
mod frame;
mod history;
mod overview;
mod review;
mod sign_in;

use jiff::Timestamp;
use maud::html;
use models::{Board, Digest};

pub use self::{frame::PALETTE, sign_in::sign_in};

/// A page, by its file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The rounds.
    Overview,
    /// The devices.
    Fleet,
    /// The samples that wait for a person.
    Review,
    /// What is taken for what.
    Confusion,
    /// What was said of each image.
    History,
}

impl Page {
    /// All of them, in the order of the menu.
    pub const ALL: [Self; 5] = [Self::Overview, Self::Fleet, Self::Review, Self::Confusion, Self::History];

    /// The name of its file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Overview => "index.html",
            Self::Fleet => "fleet.html",
            Self::Review => "review.html",
            Self::Confusion => "confusion.html",
            Self::History => "history.html",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Overview => "Rounds",
            Self::Fleet => "Fleet",
            Self::Review => "Review",
            Self::Confusion => "Confusion",
            Self::History => "History",
        }
    }

    /// The page as an HTML document.
    pub fn html(self, board: &Board, place: Place<'_>) -> String {
        let main = match self {
            Self::Overview => overview::main(board),
            Self::Fleet => fleet::main(board, place),
            Self::Review => review::main(board, place),
            Self::Confusion => confusion::main(board),
            Self::History => history::main(board),
        };
        frame::page(self, board, place, &main).into_string()
    }
}

/// Where pages are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// As files: what is decided is kept in the browser, and saved as a table.
    Files,
    /// At a hub: what is decided goes there.
    Hub {
        /// Who has signed in.
        name: &'a str,
        /// The hub's time, which knows how the devices are now.
        now: Timestamp,
    },
}

/// A page that says one thing.
pub fn message(title: &str, text: &str) -> String {
    frame::document(title, &html! { h1 { (title) } }, &html! { p { (text) } }, None).into_string()
}

/// Where a picture is, from any page.
pub fn picture(image: Digest) -> String {
    format!("images/{image}.png")
}
