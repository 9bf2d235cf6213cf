use std::collections::BTreeMap;

use maud::{Markup, html};
use models::{
    Board, Digest,
    board::{Waiting, Why},
};

use super::{
    Place,
    frame::{image, percent},
};

/// Classes at hand on each image.
const GUESSES: usize = 3;

/// The grid: the first of those that look alike stands for all of them.
pub(super) fn main(board: &Board, place: Place<'_>) -> Markup {
    let names = board.labels.names();
    let firsts: Vec<&Waiting> = board.queue.iter().filter(|waiting| waiting.like == waiting.image).collect();
    let mut alike: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
    for waiting in &board.queue {
        alike.entry(waiting.like).or_default().push(waiting.image);
    }
    let name = match place {
        Place::Files => None,
        Place::Hub { name, .. } => Some(name),
    };
    html! {
        @if firsts.is_empty() {
            p { "No device has sent anything yet." }
        } @else {
            noscript { p.bad { "This page needs its script. `flywheel samples export` writes the same as a table." } }
            div.bar {
                p id="progress" role="status" aria-live="polite" { (firsts.len()) " images wait." }
                @if place == Place::Files {
                    label for="by" { "Your name" }
                    input id="by" autocomplete="name" size="12" value="me";
                    button id="save" type="button" { "Save labels" }
                }
                button id="help" type="button" aria-expanded="false" aria-controls="keys" { "Keys" }
                // For fingers, what the keys do to the image that is selected.
                ol.classes id="classes" aria-label="Classes and their keys" {
                    @for (key, name) in keys(names).iter().zip(names) {
                        li { button type="button" tabindex="-1" data-label=(name) { @if let Some(key) = key { kbd { (key) } " " } (name) } }
                    }
                    @for (key, name) in [("x", "no class"), ("u", "unsure"), ("z", "undo")] {
                        li { button type="button" tabindex="-1" data-key=(key) { kbd { (key) } " " (name) } }
                    }
                }
            }
            dl.keys id="keys" hidden {
                @for (key, what) in [
                    ("arrows", "go to another image"),
                    ("Enter", "what the model says is right; not of images kept by chance"),
                    ("a digit", "it is the class with this key"),
                    ("c", "choose the class from a list"),
                    ("x", "it is of no class: learn nothing from it"),
                    ("u", "cannot be told"),
                    ("z", "take the last decision back"),
                    ("n", "go to the next image without a decision"),
                ] { div { dt { kbd { (key) } } dd { (what) } } }
            }
            p.note {
                "Images kept by chance come first, in an order that chance has drawn: decide them one after another, without gaps, and stop where "
                "you like. Only so they say how good the model is on everything that devices see; for the same reason, what the model says of them "
                "is not shown."
            }
            ul.grid id="grid" role="listbox" aria-label="Images to review" data-labels=(json(&names)) data-keys=(json(&keys(names)))
                data-post=[name.map(|_| "reviews")] data-by=[name] {
                @for first in firsts { (tile(board, first, &alike[&first.image])) }
            }
            dialog id="choose" aria-label="Choose a class" {
                form method="dialog" {
                    label for="class" { "Class" }
                    input id="class" list="names" autocomplete="off";
                    datalist id="names" { @for name in names { option value=(name) {} } }
                    button value="ok" { "Choose" }
                    button value="" { "Cancel" }
                }
            }
        }
    }
}

/// The key of each class: the digit of its place; where all are called by a digit, as digits are, that one.
fn keys(names: &[String]) -> Vec<Option<char>> {
    let digit = |name: &String| name.parse::<u8>().ok().filter(|digit| *digit < 10 && name.len() == 1);
    if let Some(digits) = names.iter().map(digit).collect::<Option<Vec<u8>>>() {
        return digits.into_iter().map(|digit| char::from_digit(digit.into(), 10)).collect();
    }
    (0..names.len()).map(|class| "1234567890".chars().nth(class)).collect()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// An image to decide. Of one that is to judge the model, nothing shows what the model says: who decides is not led by it.
fn tile(board: &Board, first: &Waiting, alike: &[Digest]) -> Markup {
    let name = |class: usize| board.labels.name(class);
    let judges = first.why == Why::Audit;
    let guesses = if judges { &[] } else { first.guesses.as_slice() };
    let guess = guesses.first().map(|(class, _)| name(*class));
    let shows = match guess {
        _ if judges => "kept by chance".to_owned(),
        Some(guess) => format!("the model says {guess}"),
        None => "the model says nothing".to_owned(),
    };
    let said = first.holds();
    let images: Vec<String> = alike.iter().map(Digest::to_string).collect();
    html! {
        li role="option" tabindex="-1" aria-selected="false" data-images=(images.join(" ")) data-guess=[guess]
            data-said=[said.map(json)] data-shows=(shows) aria-label=(shows) {
            (image(first.image, &format!("image to review: {shows}")))
            span.said aria-hidden="true" {}
            ul.guesses {
                @for (class, probability) in guesses.iter().take(GUESSES) {
                    li { button type="button" tabindex="-1" data-label=(name(*class)) { (name(*class)) " " span.quiet { (percent(*probability)) } } }
                }
            }
            span.quiet { (first.why.name()) " · " (first.device) @if alike.len() > 1 { " · " b { "×" (alike.len()) } } }
        }
    }
}
