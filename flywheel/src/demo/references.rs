//! Two models to hold the rounds against: one that has the labels alone, one for which every image has a label.

use anyhow::Result;
use trainer::{
    Classifier,
    config::{Algorithm, TrainConfig},
    data::{
        TrainingData,
        digits::{self, DigitsSplit},
    },
};

use crate::{progress::Progress, project::Project, steps::train::train};

/// Name of the run on the labels alone.
pub(super) const BASELINE: &str = "baseline";
/// Name of the run on all labels.
pub(super) const ALL_LABELS: &str = "all-labels";

/// Test accuracies of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct References {
    pub(super) baseline: f64,
    pub(super) all_labels: f64,
}

/// Trains both: supervised, with the project's other settings.
pub(super) fn train_both(project: &Project, split: &DigitsSplit, progress: &Progress) -> Result<References> {
    let mut all = split.labeled.clone();
    all.extend(split.pool.clone());
    all.extend(split.field.clone());
    let accuracy = |name: &str, labeled| -> Result<f64> {
        let config = project.config();
        let data = TrainingData {
            labels: digits::labels(),
            preprocessing: config.preprocessing.clone(),
            labeled,
            unlabeled: Vec::new(),
            prior: None,
            test: split.test.clone(),
        };
        let supervised = TrainConfig { algorithm: Algorithm::Supervised, ..config.train.clone() };
        let weights = train(name, &supervised, &config.network, &data, &project.run_folder(name), progress)?;
        Ok(Classifier::new(&weights, config.train.first_device())?.evaluate(&data.test)?.accuracy)
    };
    Ok(References { baseline: accuracy(BASELINE, split.labeled.clone())?, all_labels: accuracy(ALL_LABELS, all)? })
}
