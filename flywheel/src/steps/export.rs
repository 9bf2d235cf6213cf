//! From trained weights to a bundle that has been proven and measured.

use std::path::Path;

use anyhow::{Context, Result};
use edge_runtime::Engine;
use exporter::Parts;
use jiff::Timestamp;
use models::{Bundle, Digest, Weights};
use trainer::{Classifier, data::TrainingData};

use super::{calibrate::calibrate, score};
use crate::project::Project;

/// Golden vectors in a bundle.
const GOLDEN: usize = 16;

/// Where a bundle stands among the others of its project.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Higher than every bundle before.
    pub sequence: u64,
    /// The bundle it replaces.
    pub parent: Option<Digest>,
    /// When it is made.
    pub created: Timestamp,
}

/// A bundle, and what its model says of the test set.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The bundle.
    pub bundle: Bundle,
    /// Logits of each test image.
    pub test_logits: Vec<Vec<f32>>,
}

/// Measures a model on the test set, calibrates it, and writes its bundle to `folder` once tract has reproduced the
/// trainer's logits.
///
/// # Errors
/// Those of [`exporter::bundle`].
pub fn export(
    project: &Project,
    weights: &Weights,
    data: &TrainingData,
    place: Place,
    folder: &Path,
) -> Result<Exported> {
    let config = project.config();
    let classifier = Classifier::new(weights, config.train.device)?;
    let classes = weights.spec.labels.len();
    let logits = classifier.logits(&data.test.images);
    let unlabeled = classifier.logits(&data.unlabeled);
    let report_card = score::report_card(&logits, &data.test.labels, classes, weights.training);
    let golden = classifier.golden(&data.labeled.images, GOLDEN);
    let parts = Parts {
        weights,
        golden: &golden,
        calibration: calibrate(&logits, &data.test.labels, &unlabeled, classes, &config.calibration),
        collection: config.collection.clone(),
        report_card,
        sequence: place.sequence,
        parent: place.parent,
        created: place.created,
    };
    let load = |onnx: &[u8]| {
        let engine = Engine::from_bytes(onnx, weights.spec.network.input)?;
        Ok::<_, edge_runtime::Error>(move |input: &[f32]| engine.logits(input))
    };
    let bundle = exporter::bundle(folder, parts, load);
    let bundle = bundle.with_context(|| format!("cannot export to {}", folder.display()))?;
    Ok(Exported { bundle, test_logits: logits })
}
