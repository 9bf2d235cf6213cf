//! The report's page from what the demo left on disk.

use anyhow::{Context, Result};
use models::Sample;
use trainer::{
    fit::METRICS_FILE,
    metrics::{self, Record},
};

use super::{
    references::{ALL_LABELS, BASELINE},
    summary::{Played, Summary},
};
use crate::{
    project::{Project, round_name},
    report::{CollectedSample, Curve, Fact, ImageFormat, Page, Reference, RoundSection, Run},
};

/// Everything the page shows.
pub(super) fn page(project: &Project, summary: &Summary, played: &Played) -> Result<Page> {
    let Played { records, bundles, waves, samples, field, .. } = played;
    let mut rounds = Vec::new();
    for (((record, bundle), wave), row) in records.iter().zip(bundles).zip(waves).zip(&summary.rounds) {
        let labels = bundle.manifest().labels.clone();
        let collected = |sample: &Sample| {
            let record = &sample.record;
            Some(CollectedSample {
                image: sample.image.clone(),
                format: ImageFormat::from_extension(&record.extension)?,
                label: labels.name(record.prediction.class).to_owned(),
                confidence: record.prediction.confidence,
                truth: field.truth(&record.device, &record.source).map(|class| labels.name(class).to_owned()),
                device: record.device.clone(),
                reasons: record.reasons.clone(),
            })
        };
        rounds.push(RoundSection {
            round: record.round,
            published: record.published,
            gate: record.verdict.reason.clone(),
            device_accuracy: Some(row.device_accuracy),
            collected: row.collected,
            audit: row.audit,
            pseudo_label_precision: row.pseudo_label_precision,
            card: bundle.report_card()?,
            samples: wave.kept(samples).filter_map(collected).collect(),
            labels,
        });
    }
    let names = records.iter().map(|record| round_name(record.round));
    let runs = names.chain([BASELINE.to_owned(), ALL_LABELS.to_owned()]);
    Ok(Page {
        title: "Flywheel: the loop on handwritten digits".into(),
        facts: vec![
            Fact::new("Seed", summary.seed),
            Fact::new("Labeled images", summary.labels),
            Fact::new("Devices", field.devices().collect::<Vec<_>>().join(", ")),
            Fact::new("Damaged images skipped", summary.unreadable),
            Fact::new("Largest difference between trainer and tract", format!("{:.1e}", summary.parity_max_abs_diff)),
            Fact::new("Seconds", format!("{:.0}", summary.seconds)),
        ],
        references: vec![
            Reference { name: format!("baseline ({} labels)", summary.labels), accuracy: summary.baseline_accuracy },
            Reference { name: "all labels".into(), accuracy: summary.all_labels_accuracy },
        ],
        rounds,
        runs: runs.map(|name| run(project, name)).collect::<Result<_>>()?,
    })
}

/// The curves of a training run's log.
fn run(project: &Project, name: String) -> Result<Run> {
    let path = project.run_folder(&name).join(METRICS_FILE);
    let records = metrics::read(&path).with_context(|| format!("cannot draw the curves of {name}"))?;
    let curve = |curve: &str, value: &dyn Fn(&Record) -> Option<f64>| {
        let points: Vec<_> = records.iter().filter_map(|record| Some((record.step(), value(record)?))).collect();
        (!points.is_empty()).then(|| Curve { name: curve.into(), points })
    };
    let train = |value: fn(&metrics::TrainRecord) -> Option<f64>| {
        move |record: &Record| match record {
            Record::Train(record) => value(record),
            Record::Evaluation(_) => None,
        }
    };
    let evaluation = |value: fn(&metrics::EvaluationRecord) -> Option<f64>| {
        move |record: &Record| match record {
            Record::Evaluation(record) => value(record),
            Record::Train(_) => None,
        }
    };
    let losses = [
        curve("labeled", &train(|r| Some(r.labeled))),
        curve("unlabeled", &train(|r| r.unlabeled)),
        curve("pre_mixup", &train(|r| r.pre_mixup)),
        curve("rotation", &train(|r| r.rotation)),
    ];
    let accuracies = [
        curve("test", &evaluation(|r| r.test.map(|test| test.accuracy))),
        curve("labeled", &evaluation(|r| Some(r.labeled.accuracy))),
    ];
    let losses = losses.into_iter().flatten().collect();
    Ok(Run { losses, accuracies: accuracies.into_iter().flatten().collect(), name })
}
