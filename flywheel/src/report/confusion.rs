//! The test set by class: what was taken for what, and how often each class was recognised.

use maud::{Markup, html};

use models::{LabelSet, ReportCard};

use super::format::{count, percent, plural};

/// Class names up to this many characters stand upright over their columns.
const UPRIGHT: usize = 3;
/// Confusions named in words.
const NAMED: usize = 3;

/// Counts of true and predicted classes, shaded by their share of the row; `what` is whose they are.
pub(super) fn matrix(what: &str, labels: &LabelSet, card: &ReportCard) -> Markup {
    let names = labels.names();
    let cell =
        |row: usize, column: usize| card.confusion.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0);
    let turned = names.iter().any(|name| name.chars().count() > UPRIGHT);
    html! {
        div {
            h3 { "Confusion matrix" }
            div.scroll role="region" aria-label={ "Confusion matrix of " (what) } tabindex="0" {
                table.confusion.turned[turned] {
                    caption { span { "Test images: a row for each true class, a column for each predicted class." } }
                    thead {
                        tr {
                            td.corner { "true ↓" br; "predicted →" }
                            @for name in names { th scope="col" title=(name) { span { (name) } } }
                            th.sum scope="col" { span { "sum" } }
                        }
                    }
                    tbody {
                        @for (row, name) in names.iter().enumerate() {
                            @let sum: usize = (0..names.len()).map(|column| cell(row, column)).sum();
                            tr {
                                th scope="row" title=(name) { span { (name) } }
                                @for column in 0..names.len() { (shaded(cell(row, column), sum, row == column)) }
                                td.sum { (count(sum)) }
                            }
                        }
                    }
                }
            }
            (most_confused(labels, card))
        }
    }
}

fn shaded(images: usize, sum: usize, right: bool) -> Markup {
    let share = images as f64 / sum.max(1) as f64;
    // Errors are few: their shade grows with the root of their share, so that a single one can be seen.
    let (class, heat) = if right { ("right", 0.1 + 0.5 * share) } else { ("wrong", 0.1 + 0.9 * share.sqrt()) };
    html! {
        @if images == 0 { td.zero { "0" } }
        @else { td class=(class) style=(format!("--heat:{:.2}", heat.min(0.6))) { (count(images)) } }
    }
}

fn most_confused(labels: &LabelSet, card: &ReportCard) -> Markup {
    let names = labels.names();
    let mut errors = Vec::new();
    for (truth, (name, row)) in names.iter().zip(&card.confusion).enumerate() {
        for (taken, (for_name, &images)) in names.iter().zip(row).enumerate() {
            if truth != taken && images > 0 {
                errors.push((images, name, for_name));
            }
        }
    }
    errors.sort_by_key(|(images, ..)| std::cmp::Reverse(*images));
    html! {
        @if !errors.is_empty() {
            p.note {
                "Most often: "
                @for (place, (images, name, for_name)) in errors.iter().take(NAMED).enumerate() {
                    @if place > 0 { ", " }
                    b { (name) } " taken for " b { (for_name) } " (" (plural(*images, "time")) ")"
                }
                "."
            }
        }
    }
}

/// Accuracy of each class as bars, the weakest first.
pub(super) fn by_class(labels: &LabelSet, card: &ReportCard) -> Markup {
    let images = |class: usize| card.confusion.get(class).map_or(0, |row| row.iter().sum());
    let accuracy = |class: usize| card.per_class_accuracy.get(class).copied().unwrap_or(f64::NAN);
    let mut classes: Vec<usize> = (0..labels.len()).collect();
    classes.sort_by(|&a, &b| accuracy(a).total_cmp(&accuracy(b)));
    html! {
        div {
            h3 { "Accuracy by class" }
            table.bars {
                caption { "Fraction of test images recognised, the weakest class first." }
                thead {
                    tr {
                        th scope="col" { "class" }
                        th.bar aria-hidden="true" {}
                        th scope="col" { "accuracy" }
                        th scope="col" { "images" }
                    }
                }
                tbody {
                    @for class in classes {
                        @let width = if accuracy(class).is_finite() { accuracy(class).clamp(0.0, 1.0) } else { 0.0 };
                        tr {
                            th scope="row" { (labels.name(class)) }
                            td.bar aria-hidden="true" { span style=(format!("--width:{width:.4}")) {} }
                            td { (percent(accuracy(class))) }
                            td { (count(images(class))) }
                        }
                    }
                }
            }
        }
    }
}
