//! From trained weights to a bundle that has been proven and measured.

use std::path::Path;

use anyhow::{Context, Result};
use edge_runtime::{Engine, engine::Backend};
use exporter::{Parts, Ranges};
use jiff::{SignedDuration, Timestamp};
use models::{
    Bundle, Calibration, Digest, Pixels, Weights,
    bundle::{Golden, Release},
    preprocess::InputSpec,
    weights::Arithmetic,
};
use trainer::{Classifier, data::TrainingData};

use super::{
    calibrate::calibrate,
    check::{Checked, EngineName, check},
    rounding::{Candidate, Rounding},
    score,
};
use crate::project::Project;

/// Golden vectors in a bundle.
const GOLDEN: usize = 16;
/// Images among which they are chosen.
const LOOKED_AT: usize = 256;

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
    /// What makes it a model in 8 bits, if it is one.
    pub ranges: Option<Ranges>,
    /// What fewer bits cost, if there are fewer.
    pub rounding: Option<Rounding>,
}

impl Measured {
    /// Proves that fewer bits, if there are fewer, cost at most this fraction of the test set.
    ///
    /// # Errors
    /// As [`Rounding::within`].
    pub fn within(&self, max_loss: f64) -> Result<()> {
        self.rounding.as_ref().map_or(Ok(()), |rounding| rounding.within(max_loss))
    }
}

/// Measures a model on the test set and calibrates it, in the bits in which it will run. The golden vectors are of some of
/// `golden_images`, which go to every device.
///
/// # Errors
/// If the device that computes is not there.
pub fn measure(
    project: &Project,
    weights: &Weights,
    data: &TrainingData,
    golden_images: &[Pixels],
) -> Result<Measured> {
    let config = project.config();
    let candidate = Candidate::new(weights, &data.unlabeled, &config.export, config.train.first_device())?;
    let test = (data.test.images.as_slice(), data.test.labels.as_slice());
    let test_logits = candidate.logits(test.0)?;
    let rounding = Rounding::is_asked_for(&config.export).then(|| {
        let before = Classifier::new(weights, config.train.first_device())?.logits(test.0)?;
        Rounding::of(weights, &candidate, &config.export, test, [&before, &test_logits])
    });
    let unlabeled = candidate.logits(&data.unlabeled)?;
    let classes = weights.spec.labels.len();
    let calibration = calibrate(&test_logits, test.1, &unlabeled, classes, &config.calibration);
    let golden = golden(&candidate, golden_images, config.export.arithmetic)?;
    Ok(Measured { test_logits, calibration, golden, ranges: candidate.ranges, rounding: rounding.transpose()? })
}

/// Golden vectors for a few of the images, whose class no tolerance can change if there are as many.
fn golden(candidate: &Candidate, images: &[Pixels], arithmetic: Arithmetic) -> Result<Golden> {
    let images = Golden::choose(images, LOOKED_AT);
    let logits = candidate.logits(&images)?;
    // How many times the tolerance the first class is ahead of the second, with room for a difference of either.
    let lead = |logits: &Vec<f32>| {
        let mut sorted = logits.clone();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let largest = logits.iter().fold(1.0, |largest: f32, value| largest.max(value.abs()));
        f64::from((sorted[0] - sorted[1]) / largest) / (2.0 * arithmetic.tolerance().bound)
    };
    let mut leads: Vec<(f64, usize)> = logits.iter().map(lead).zip(0..).collect();
    leads.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let clear = leads.iter().filter(|(lead, _)| *lead > 1.0).count();
    let mut picked: Vec<usize> = leads.iter().take(clear.max(GOLDEN)).map(|(_, index)| *index).collect();
    picked.sort_unstable();
    let picked = Golden::choose(&picked, GOLDEN);
    let (images, logits) = picked.into_iter().map(|index| (images[index].clone(), logits[index].clone())).unzip();
    Ok(Golden { images, logits })
}

/// A bundle, and what its model says of the test set.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The bundle.
    pub bundle: Bundle,
    /// Logits of each test image.
    pub test_logits: Vec<Vec<f32>>,
    /// What fewer bits cost, if there are fewer.
    pub rounding: Option<Rounding>,
    /// What the engines asked for made of the golden vectors.
    pub checks: Vec<Checked>,
}

/// Writes the bundle of a model that was measured to `folder`, once tract, and every other engine asked for, has reproduced the
/// golden logits. In 8 bits these are tract's own: other engines can be proven by them, and tract only by the accuracy.
///
/// # Errors
/// Those of [`check`] and [`exporter::bundle`]; what is in `folder` is then left as it is.
pub fn export(
    project: &Project,
    weights: &Weights,
    data: &TrainingData,
    measured: Measured,
    place: Place,
    folder: &Path,
    engines: &[EngineName],
) -> Result<Exported> {
    let config = project.config();
    let Measured { test_logits, calibration, golden, ranges, rounding } = measured;
    let classes = weights.spec.labels.len();
    let report_card = score::report_card(&test_logits, &data.test.labels, classes, weights.training);
    let key = project.signing_key()?;
    let parts = Parts {
        weights,
        storage: config.export.weights,
        ranges: ranges.as_ref(),
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
    let mut checks = Vec::new();
    let load = |onnx: &[u8]| {
        let input = InputSpec { layout: config.export.input, shape: weights.spec.network.input };
        checks = check(engines, onnx, input, &golden, config.export.arithmetic.tolerance())?;
        let engine = Engine::from_bytes(onnx, input, Backend::Tract)?;
        Ok::<_, anyhow::Error>(move |image: &Pixels| Ok(engine.logits(image)?))
    };
    let bundle = exporter::bundle(folder, parts, load);
    let bundle = bundle.with_context(|| format!("cannot export to {}", folder.display()))?;
    Ok(Exported { bundle, test_logits, rounding, checks })
}

fn release(project: &Project, created: Timestamp) -> Result<Release> {
    let config = project.config();
    let days = config.export.expires_after_days;
    let expires = days.map(|days| created.checked_add(SignedDuration::from_hours(24 * i64::from(days)))).transpose()?;
    Ok(Release { targets: config.export.targets.clone(), expires, ..Release::to_channel(&config.store.channel) })
}
