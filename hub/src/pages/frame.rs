use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use models::Board;
use sha2::{Digest, Sha256};

use super::{Page, picture};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("review.js");

/// What a page may load and run: its style, its pictures, and the one script of the review page. A text that slipped through unescaped could
/// load nothing and run nothing.
fn policy(page: Page) -> String {
    let script = match page {
        Page::Review => format!("'sha256-{}'", STANDARD.encode(Sha256::digest(SCRIPT))),
        _ => "'none'".to_owned(),
    };
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src {script}; img-src 'self' data: file:; form-action 'none'"
    )
}

/// A page with its menu.
pub(super) fn document(page: Page, board: &Board, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(policy(page));
                title { (page.title()) " · Flywheel" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header {
                    nav aria-label="Pages" {
                        ul {
                            @for other in Page::ALL {
                                li { a href=(other.file()) aria-current=[(other == page).then_some("page")] { (other.title()) } }
                            }
                        }
                    }
                    h1 { (page.title()) }
                    p.quiet { "As of " (time(board.made)) }
                }
                main id="main" { (main) }
                @if page == Page::Review { script { (PreEscaped(SCRIPT)) } }
            }
        }
    }
}

/// A picture of an image, scaled up by whole pixels where it is small.
pub(super) fn image(image: models::Digest, alt: &str) -> Markup {
    html! { img src=(picture(image)) alt=(alt) loading="lazy" decoding="async"; }
}

/// A time, to the minute, in UTC.
pub(super) fn time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A fraction in percent.
pub(super) fn percent(fraction: f64) -> String {
    if fraction.is_finite() { format!("{:.1}\u{202f}%", 100.0 * fraction) } else { "n/a".into() }
}
