//! What holds for the page as a whole.

use models::{LabelSet, Reason, ReportCard, bundle::ReliabilityBin};

use super::*;

const HOSTILE: &str = "<script src=\"http://example.org\">&'";

/// A text for every place of a page that takes one.
fn page(text: &str) -> Page {
    let labels = LabelSet::new([text, "other"]).expect("two names");
    let bin = ReliabilityBin { count: 8, confidence: 0.9, accuracy: 0.75 };
    let card = ReportCard {
        test_images: 8,
        accuracy: 0.75,
        accuracy_interval: [0.409, 0.929],
        per_class_accuracy: vec![1.0, 0.5],
        confusion: vec![vec![4, 0], vec![2, 2]],
        ece_before: 0.15,
        ece_after: 0.05,
        reliability_before: vec![bin],
        reliability_after: vec![bin],
        parity_max_abs_diff: Some(1e-6),
        training: models::TrainingFacts { labeled: 4, unlabeled: 8, steps: 20, seed: 7 },
    };
    let round = RoundSection {
        round: 1,
        published: true,
        gate: text.into(),
        device_accuracy: Some(0.8),
        collected: 3,
        audit: 1,
        pseudo_label_precision: Some(0.5),
        labels,
        card,
        samples: vec![sample(text, Some(text), true), sample(text, Some("other"), true), sample(text, None, false)],
    };
    let curve = |points| vec![Curve { name: text.into(), points }];
    let run = Run { name: text.into(), losses: curve(vec![(10, 2.0), (20, 1.0)]), accuracies: curve(vec![(20, 0.75)]) };
    Page {
        refresh: None,
        title: text.into(),
        facts: vec![Fact::new(text, text)],
        references: vec![Reference { name: text.into(), accuracy: 0.5 }],
        rounds: vec![round],
        runs: vec![run],
    }
}

fn sample(label: &str, truth: Option<&str>, confident: bool) -> CollectedSample {
    CollectedSample {
        image: vec![0; 24],
        format: ImageFormat::Png,
        label: label.into(),
        confidence: 0.9,
        truth: truth.map(str::to_owned),
        device: label.into(),
        reasons: vec![if confident {
            Reason::Confident { threshold: 0.8 }
        } else {
            Reason::Audit { probability: 0.05 }
        }],
    }
}

#[test]
fn nothing_outside_the_page_is_needed() {
    let html = html(&page("cat"));
    assert!(!html.contains("://") && !html.contains("<script") && !html.contains("<link") && !html.contains("@import"));
    for (attribute, allowed) in [("src=\"", "data:image/"), ("href=\"", "#"), ("url(", "data:")] {
        let values: Vec<&str> = html.split(attribute).skip(1).collect();
        assert!(values.iter().all(|value| value.starts_with(allowed)), "{attribute}");
    }
}

#[test]
fn every_text_is_escaped() {
    let html = html(&page(HOSTILE));
    assert!(!html.contains("<script") && !html.contains("=\"http"));
    assert!(html.matches("&lt;script src=&quot;").count() >= 20);
}

#[test]
fn wrong_images_are_counted_marked_and_first() {
    let html = html(&page("cat"));
    assert!(html.contains("1 of 2 pseudo-labels") && html.contains("The truth of 1 image is not known."));
    assert_eq!(html.matches("<li class=\"wrong\">").count(), 1);
    let grid = html.split_once("class=\"gallery\"").expect("a grid").1;
    let first = grid.split("</li>").next().expect("an image");
    assert!(first.contains("class=\"wrong\"") && first.contains("✕ is other"), "{first}");
}

#[test]
fn missing_numbers_leave_the_page_whole() {
    let mut page = page("cat");
    let round = &mut page.rounds[0];
    round.samples.clear();
    (round.device_accuracy, round.pseudo_label_precision) = (None, Some(f64::NAN));
    let card = &mut round.card;
    (card.accuracy, card.accuracy_interval, card.ece_before) = (f64::NAN, [f64::NAN; 2], f64::NAN);
    card.per_class_accuracy = vec![f64::NAN];
    card.confusion.clear();
    card.reliability_before = vec![ReliabilityBin { count: 0, confidence: f64::NAN, accuracy: f64::NAN }];
    card.reliability_after.clear();
    page.references[0].accuracy = f64::INFINITY;
    page.runs[0].losses[0].points = vec![(0, f64::NAN), (1, f64::INFINITY)];
    page.runs[0].accuracies[0].points = vec![(0, 0.5)];
    let html = html(&page);
    assert!(html.ends_with("</html>") && html.contains("n/a"));
    assert!(!html.contains("NaN") && !html.contains("inf"), "numbers that are none reached the page");
    page.runs[0].losses[0].points = vec![(1, f64::from(f32::MAX)), (2, -1.0)];
    assert!(super::html(&page).contains("1e38"), "a training run that went astray has its axis, too");
    assert!(super::html(&Page::default()).contains("No round has run yet."));
}
