use std::{collections::BTreeSet, fs};

use flywheel::demo::Summary;
use serde_json::Value;
use trainer::data::digits;

use crate::{TestResult, succeed};

/// The loop from end to end, with fewer steps than people see.
#[test]
fn the_demo_goes_round() -> TestResult {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let printed = succeed(folder, &["demo", "--steps", "200", "--seed", "3", "--json"])?;
    let demo = folder.join("flywheel-demo");
    assert_eq!(printed.trim(), fs::read_to_string(demo.join("summary.json"))?.trim());
    let summary: Summary = serde_json::from_str(&printed)?;

    assert_eq!((summary.seed, summary.labels), (3, 40));
    assert!(summary.parity_max_abs_diff > 0.0 && summary.parity_max_abs_diff <= 1e-4, "{summary:?}");
    assert_eq!(summary.rounds.len(), 2);
    assert!(summary.rounds[0].published, "the first model is better than guessing: {summary:?}");
    // A damaged image a device was counted and skipped.
    assert_eq!(summary.unreadable, 2);
    for accuracy in [summary.baseline_accuracy, summary.all_labels_accuracy, summary.rounds[0].test_accuracy] {
        assert!((0.4..=1.0).contains(&accuracy), "{summary:?}");
    }

    // What the summary says of devices follows from what they wrote down themselves.
    let mut journal = Vec::new();
    for device in ["cam-1", "cam-2"] {
        let text = fs::read_to_string(demo.join("devices").join(device).join("state/predictions.jsonl"))?;
        let entries = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let sources: BTreeSet<_> = entries.iter().map(|entry| entry["source"].to_string()).collect();
        assert_eq!((entries.len(), sources.len()), (300, 300), "every image exactly once on {device}");
        journal.extend(entries);
    }
    let kept =
        journal.iter().filter(|entry| entry["kept"].as_array().is_some_and(|reasons| !reasons.is_empty())).count();
    assert_eq!(kept, summary.rounds.iter().map(|round| round.collected).sum::<usize>(), "nothing kept was lost");
    let audited = summary.rounds.iter().map(|round| round.audit).sum::<usize>();
    // 600 images, each with a chance of 0.1: four standard deviations either way.
    assert!((31..=90).contains(&audited), "{audited} audit samples");

    // And is what the truth says of it, which the demo holds back from everyone: image n of device d is number 2n + d.
    let truth = digits::split(3).field.labels;
    for (half, round) in summary.rounds.iter().enumerate() {
        let number = |entry: &Value| -> Option<usize> { entry["source"].as_str()?.get(..4)?.parse().ok() };
        let right = journal.iter().enumerate().filter(|(i, entry)| {
            let number = number(entry).unwrap_or(usize::MAX);
            number / 150 == half && entry["class"] == truth[2 * number + i / 300]
        });
        assert_eq!(right.count() as f64 / 300.0, round.device_accuracy, "round {}", round.round);
    }

    // The devices judged the first half by round 1's bundle, and the second by what was current then.
    let current = if summary.rounds[1].published { 1 } else { 0 };
    for (half, round) in [(0, 0), (1, current)] {
        let judged = journal.iter().filter(|entry| {
            let index: usize = entry["source"].as_str().and_then(|s| s.get(..4)?.parse().ok()).unwrap_or(usize::MAX);
            index / 150 == half && entry["bundle"] == summary.rounds[round].bundle.to_string()
        });
        assert_eq!(judged.count(), 300, "half {half}");
    }

    // Round 2 trained on field samples, and on none that were kept for audit.
    let record: Value = serde_json::from_str(&fs::read_to_string(demo.join("flywheel/rounds/round-2.json"))?)?;
    let trained_on = record["inputs"]["samples"].to_string();
    let for_audit = journal.iter().filter(|entry| entry["kept"].to_string().contains("audit"));
    assert!(for_audit.filter_map(|entry| entry["image"].as_str()).all(|image| !trained_on.contains(image)));
    assert_eq!(record["inputs"]["samples"].as_array().map(Vec::len), Some(summary.rounds[1].field_samples));

    let report = fs::read_to_string(demo.join("report.html"))?;
    assert!(!report.contains("http://") && !report.contains("https://"), "the report refers to something outside");
    for part in ["Accuracy by round", "Learning curves", "Reliability", "Collected images", "all-labels"] {
        assert!(report.contains(part), "the report has no {part:?}");
    }
    crate::reviews::people_have_the_last_word(&demo, 3)
}
