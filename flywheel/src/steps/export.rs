//! From trained weights to a bundle that has been proven and measured.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use edge_runtime::{Engine, engine::Backend};
use exporter::{OnnxOptions, Parts};
use jiff::{SignedDuration, Timestamp};
use models::{
    Bundle, Calibration, Digest, Pixels, Weights,
    bundle::{Golden, Release},
    calibration::argmax,
    preprocess::InputSpec,
    weights::Storage,
};
use serde::Serialize;
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

/// What a trained model says of a project's images.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Logits of each test image.
    pub test_logits: Vec<Vec<f32>>,
    /// From its logits to probabilities and pseudo-labels.
    pub calibration: Calibration,
    /// What every engine has to reproduce.
    pub golden: Golden,
    /// What kernels in fewer bits cost, if they are.
    pub rounding: Option<Rounding>,
}

/// What it costs to store kernels in fewer bits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rounding {
    /// How they are stored.
    pub storage: Storage,
    /// Accuracy on the test set as trained.
    pub accuracy_before: f64,
    /// Accuracy as stored.
    pub accuracy: f64,
    /// Fraction of the test images with the same answer.
    pub agreement: f64,
    /// Size of the ONNX file with kernels as trained, in bytes.
    pub bytes_before: usize,
    /// Its size as stored.
    pub bytes: usize,
}

impl Rounding {
    fn of(
        weights: &Weights,
        storage: Storage,
        before: &[Vec<f32>],
        after: &[Vec<f32>],
        labels: &[usize],
    ) -> exporter::Result<Self> {
        let count = labels.len().max(1) as f64;
        let fraction = |hits: usize| hits as f64 / count;
        let right = |logits: &[Vec<f32>]| logits.iter().zip(labels).filter(|(logits, l)| argmax(logits) == **l).count();
        let same = before.iter().zip(after).filter(|(before, after)| argmax(before) == argmax(after)).count();
        let [accuracy_before, accuracy, agreement] = [right(before), right(after), same].map(fraction);
        let size = |weights: &Weights, storage| {
            exporter::to_onnx(weights, &OnnxOptions { weights: storage, ..OnnxOptions::default() })
                .map(|onnx| onnx.len())
        };
        let (bytes_before, bytes) = (size(weights, Storage::F32)?, size(weights, storage)?);
        Ok(Self { storage, accuracy_before, accuracy, agreement, bytes_before, bytes })
    }
}

/// Measures a model on the test set and calibrates it, with its kernels as they will be stored.
///
/// # Errors
/// If the device that computes is not there, or storing kernels in fewer bits costs more accuracy than `export.max_loss`.
pub fn measure(project: &Project, weights: &Weights, data: &TrainingData) -> Result<Measured> {
    let config = project.config();
    let storage = config.export.weights;
    let classifier = Classifier::new(&exporter::rounded(weights, storage), config.train.device)?;
    let test_logits = classifier.logits(&data.test.images);
    let rounding = match storage {
        Storage::F32 => None,
        Storage::F16 | Storage::Int8 => {
            let before = Classifier::new(weights, config.train.device)?.logits(&data.test.images);
            Some(Rounding::of(weights, storage, &before, &test_logits, &data.test.labels)?)
        }
    };
    if let Some(Rounding { accuracy_before, accuracy, .. }) = rounding {
        ensure!(
            accuracy_before - accuracy <= config.export.max_loss,
            "kernels in {} cost {:.2} points of accuracy ({:.2} to {:.2} %): expected at most export.max_loss, {:.2} points",
            storage.name(),
            100.0 * (accuracy_before - accuracy),
            100.0 * accuracy_before,
            100.0 * accuracy,
            100.0 * config.export.max_loss
        );
    }
    let unlabeled = classifier.logits(&data.unlabeled);
    let classes = weights.spec.labels.len();
    let calibration = calibrate(&test_logits, &data.test.labels, &unlabeled, classes, &config.calibration);
    Ok(Measured { test_logits, calibration, golden: classifier.golden(&data.labeled.images, GOLDEN), rounding })
}

/// A bundle, and what its model says of the test set.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The bundle.
    pub bundle: Bundle,
    /// Logits of each test image.
    pub test_logits: Vec<Vec<f32>>,
    /// What kernels in fewer bits cost, if they are.
    pub rounding: Option<Rounding>,
}

/// Measures a model on the test set, calibrates it, and writes its bundle to `folder` once tract has reproduced the
/// trainer's logits.
///
/// # Errors
/// Those of [`measure`] and [`exporter::bundle`].
pub fn export(
    project: &Project,
    weights: &Weights,
    data: &TrainingData,
    place: Place,
    folder: &Path,
) -> Result<Exported> {
    let config = project.config();
    let Measured { test_logits, calibration, golden, rounding } = measure(project, weights, data)?;
    let classes = weights.spec.labels.len();
    let report_card = score::report_card(&test_logits, &data.test.labels, classes, weights.training);
    let key = project.signing_key()?;
    let parts = Parts {
        weights,
        storage: config.export.weights,
        golden: &golden,
        calibration,
        collection: config.collection.clone(),
        report_card,
        sequence: place.sequence,
        parent: place.parent,
        created: place.created,
        release: release(project, place.created)?,
        input: config.export.input,
        licence: config.export.licence.clone(),
        key: key.as_ref(),
    };
    let load = |onnx: &[u8]| {
        let input = InputSpec { layout: config.export.input, shape: weights.spec.network.input };
        let engine = Engine::from_bytes(onnx, input, Backend::Tract)?;
        Ok::<_, edge_runtime::Error>(move |image: &Pixels| engine.logits(image))
    };
    let bundle = exporter::bundle(folder, parts, load);
    let bundle = bundle.with_context(|| format!("cannot export to {}", folder.display()))?;
    Ok(Exported { bundle, test_logits, rounding })
}

fn release(project: &Project, created: Timestamp) -> Result<Release> {
    let config = project.config();
    let days = config.export.expires_after_days;
    let expires = days.map(|days| created.checked_add(SignedDuration::from_hours(24 * i64::from(days)))).transpose()?;
    Ok(Release { targets: config.export.targets.clone(), expires, ..Release::to_channel(&config.store.channel) })
}
