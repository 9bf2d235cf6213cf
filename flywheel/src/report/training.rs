//! The page of a training run, from its log.

use trainer::{
    config::TrainConfig,
    data::TrainingData,
    metrics::{self, EvaluationRecord, Record, TrainRecord},
};

use super::{
    Curve, Fact, Page, Run,
    format::{count, percent},
};

/// Seconds after which a browser looks again while the run goes on.
const REFRESH: u32 = 20;

/// The page of a run with the records so far.
pub fn training_page(name: &str, config: &TrainConfig, data: &TrainingData, records: &[Record]) -> Page {
    let step = records.iter().map(Record::step).max().unwrap_or(0);
    let mut facts = vec![
        Fact::new("Method", config.algorithm.name()),
        Fact::new("Steps", format!("{step} of {}", config.steps)),
        Fact::new("Labeled images", count(data.labeled.len())),
        Fact::new("Unlabeled images", count(data.unlabeled.len())),
        Fact::new("Test images", count(data.test.len())),
        Fact::new("Seed", config.seed),
    ];
    if let Some(speed) = records.iter().rev().find_map(Record::images_per_second) {
        facts.push(Fact::new("Images a second", format!("{speed:.0}")));
    }
    if let Some(summary) = metrics::summary(records) {
        let over = summary.evaluations.min(metrics::LAST);
        facts.push(Fact::new(format!("Median of the last {over}"), percent(summary.median_of_last_20)));
        facts.push(Fact::new("Best (chosen on the test set)", percent(summary.best)));
        facts.push(Fact::new("Last", percent(summary.last)));
    }
    Page {
        title: format!("Training run: {name}"),
        facts,
        runs: vec![Run::of_log(name, records)],
        refresh: (step < config.steps).then_some(REFRESH),
        ..Page::default()
    }
}

impl Run {
    /// The curves of a run's log.
    pub fn of_log(name: &str, records: &[Record]) -> Self {
        let curve = |curve: &str, value: &dyn Fn(&Record) -> Option<f64>| {
            let points: Vec<_> = records.iter().filter_map(|record| Some((record.step(), value(record)?))).collect();
            (!points.is_empty()).then(|| Curve { name: curve.into(), points })
        };
        let train = |value: fn(&TrainRecord) -> Option<f64>| {
            move |record: &Record| match record {
                Record::Train(record) => value(record),
                Record::Evaluation(_) => None,
            }
        };
        let evaluation = |value: fn(&EvaluationRecord) -> Option<f64>| {
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
        Self {
            name: name.to_owned(),
            losses: losses.into_iter().flatten().collect(),
            accuracies: accuracies.into_iter().flatten().collect(),
        }
    }
}
