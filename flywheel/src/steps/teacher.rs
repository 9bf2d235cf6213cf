//! A larger network whose labels choose the samples in place of the current model's, as long as it is not the worse one.

use anyhow::Result;
use models::{Digest, Pixels, Weights, weights::Storage};

use super::{calibrate::calibrate, gate, model::DeviceModel, relabel::Labeler};
use crate::project::{Project, ProjectData};

/// A teacher, or why nobody should listen to it.
pub type Heard = Result<Labeler, String>;

/// The teacher that the configuration names, if it does. One that is worse than the current model, by its logits on the test set, is not
/// listened to.
///
/// # Errors
/// If its weights cannot be read, or are for other images or classes.
pub fn teacher(project: &Project, data: &ProjectData, current_logits: &[Vec<f32>]) -> Result<Option<Heard>> {
    let config = project.config();
    let Some(path) = config.choice.teacher.as_ref().map(|path| project.path(path)) else { return Ok(None) };
    let weights = Weights::read(&path)?;
    data.check_fits(project, &weights.spec, &path)?;
    let model = DeviceModel::stored(&weights, Storage::F32, config.train.first_device())?;
    let test = data.test_images();
    let logits = model.logits(&test.images)?;
    let verdict = gate::against(current_logits, &logits, &test.labels, &data.labels, &config.gate);
    if !verdict.passed {
        return Ok(Some(Err(verdict.reason)));
    }
    let pool: Vec<Pixels> = data.own_images().cloned().collect();
    let calibration = calibrate(&logits, &test.labels, &model.logits(&pool)?, data.labels.len(), &config.calibration);
    Ok(Some(Ok(Labeler { model, calibration, teacher: Some(Digest::of_file(&path)?) })))
}
