use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use models::Board;
use sha2::{Digest, Sha256};

use super::{Page, Place, picture};

/// The colours of all pages, by what they stand for, as a style sheet.
pub const PALETTE: &str = include_str!("palette.css");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("review.js");

/// What a page may load, run and send: its style, its pictures, its own script if it has one, and its own server. A text that slipped through
/// unescaped could load nothing and run nothing.
fn policy(script: Option<&str>) -> String {
    let script =
        script.map_or("'none'".to_owned(), |script| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script))));
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src {script}; img-src 'self' data: file:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'"
    )
}

/// One of the pages, with its menu.
pub(super) fn page(page: Page, board: &Board, place: Place<'_>, main: &Markup) -> Markup {
    let header = html! {
        nav aria-label="Pages" {
            ul {
                @for other in Page::ALL {
                    li { a href=(other.file()) aria-current=[(other == page).then_some("page")] { (other.title()) } }
                }
            }
        }
        @if let Place::Hub { name, .. } = place {
            form.who method="post" action="sign-out" { span { (name) } " " button { "Sign out" } }
        }
        h1 { (page.title()) }
        p.quiet { "As of " (time(board.made)) }
    };
    document(page.title(), &header, main, (page == Page::Review).then_some(SCRIPT))
}

/// An HTML document.
pub(super) fn document(title: &str, header: &Markup, main: &Markup, script: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(policy(script));
                title { (title) " · Flywheel" }
                style { (PreEscaped(PALETTE)) (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header { (header) }
                main id="main" { (main) }
                @if let Some(script) = script { script { (PreEscaped(script)) } }
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
