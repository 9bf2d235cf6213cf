//! The page that tells a person how the loop went: one HTML file that needs nothing else.
//!
//! [`html`] turns plain numbers into a page with its style, charts and images inside it. It refers to nothing
//! outside itself, runs no script, follows the reader's light or dark setting, and can be read on a phone or aloud.
//!
//! | module | what it draws |
//! |---|---|
//! | `data` | what a caller fills in |
//! | `page` | the document and the order of its sections |
//! | `summary`, `trend` | headline numbers, the table of rounds, accuracy by round |
//! | `curves` | learning curves of each run |
//! | `round` | what one round did, from the three below |
//! | `confusion`, `reliability`, `gallery` | the test set by class, the probabilities, the collected images |
//! | `bundle` | what is in a bundle |
//! | `verdict` | what the gate said of a round, with the images its model gets wrong |
//! | `simulation` | what a simulation found |
//! | `training` | the page of one run, from its log |
//! | `comparison` | several runs on one chart, as a file of its own |
//! | `chart`, `ink` | marks on two axes as SVG, and what their colours stand for |
//! | `format` | numbers as text |

mod bundle;
mod chart;
mod comparison;
mod confusion;
mod curves;
mod data;
mod format;
mod gallery;
mod ink;
mod page;
mod reliability;
mod round;
mod simulation;
mod summary;
#[cfg(test)]
mod tests;
mod training;
mod trend;
mod verdict;

pub use bundle::{bundle_page, facts as bundle_facts};
pub use comparison::comparison_svg;
pub use data::{CollectedSample, Curve, Fact, ImageFormat, Page, Reference, RoundSection, Run};
pub use simulation::{simulation_page, simulation_svg};
pub use training::training_page;
pub use verdict::round_page;

/// The whole page as one HTML document.
///
/// Every text in it is escaped. Numbers that are not finite are written as `n/a` and left out of charts.
pub fn html(page: &Page) -> String {
    page::document(page).into_string()
}
