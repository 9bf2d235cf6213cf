//! The report's page from what the demo left on disk.

use anyhow::{Context, Result};
use models::Sample;
use trainer::metrics::{self, METRICS_FILE};

use super::{
    references::{ALL_LABELS, BASELINE},
    summary::{Played, Summary},
};
use crate::{
    project::{Project, round_name},
    report::{CollectedSample, Fact, ImageFormat, Page, Reference, RoundSection, Run},
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
        runs: runs.map(|name| run(project, &name)).collect::<Result<_>>()?,
        refresh: None,
    })
}

/// The curves of a training run's log.
fn run(project: &Project, name: &str) -> Result<Run> {
    let path = project.run_folder(name).join(METRICS_FILE);
    let records = metrics::read(&path).with_context(|| format!("cannot draw the curves of {name}"))?;
    Ok(Run::of_log(name, &records))
}
