//! Judges a round's model by everything that is known, and shows what it gets wrong.

use anyhow::Result;
use jiff::Timestamp;
use models::{Bundle, Calibration, LabelSet, Pixels, Prediction, Weights, calibration::argmax, durable};

use super::{Current, record};
use crate::{
    project::{Project, ProjectData},
    report,
    steps::{
        audit::{AuditSample, Truth},
        gate::{self, Answer, Verdict, WrongImage},
        model::DeviceModel,
        watch::{Said, Watched, watch},
    },
};

/// A new model, as devices would run it.
pub(super) struct New<'a> {
    pub(super) weights: &'a Weights,
    pub(super) bundle: &'a Bundle,
    /// Its logits on the test set.
    pub(super) test_logits: &'a [Vec<f32>],
}

/// Images of the field that a model is held against.
pub(super) struct FieldImages<'a> {
    /// Audit samples.
    pub(super) audit: &'a [AuditSample],
    /// What the model was trained on without labels.
    pub(super) trained_on: &'a [Pixels],
    /// When the round before began, if there was one.
    pub(super) since: Option<Timestamp>,
}

/// What was found, and the images that go with it.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) watched: Option<Watched>,
    worst: Vec<Pixels>,
}

/// Judges a new model: on the test set, on audit samples that people have labeled, and by what it costs. One that cannot be afforded
/// says why in `affordable` and is not compared.
pub(super) fn judge(
    project: &Project,
    current: Option<&Current>,
    new: &New<'_>,
    affordable: Result<()>,
    data: &ProjectData,
    field: &FieldImages<'_>,
) -> Result<Judged> {
    let (test, labels, config) = (data.test_images(), &data.labels, &project.config().gate);
    let device = project.config().train.first_device();
    let current_model = current.map(|current| current.model(project)).transpose()?;
    let current_logits = current_model.as_ref().map(|model| model.logits(&test.images)).transpose()?;
    let verdict = match (affordable, &current_logits) {
        (Err(e), _) => Verdict::refused(e.to_string()),
        (Ok(()), None) => gate::first(new.test_logits, &test.labels, labels.len()),
        (Ok(()), Some(current)) => gate::against(current, new.test_logits, &test.labels, labels, config),
    };

    let judging: Vec<AuditSample> = field.audit.iter().filter(|sample| sample.judges).cloned().collect();
    let audited: Vec<Pixels> = judging.iter().map(|sample| sample.pixels.clone()).collect();
    let calibration = &new.bundle.manifest().calibration;
    let new_model = DeviceModel::of(new.bundle, new.weights, device)?;
    let new_in_field = new_model.logits(&audited)?;
    let current_in_field = current_model.as_ref().map(|model| model.logits(&audited)).transpose()?;
    let found = current.zip(current_in_field.as_ref()).and_then(|(current, logits)| {
        let current = (logits.as_slice(), &current.bundle.manifest().calibration);
        gate::against_in_field(&judging, current, (&new_in_field, calibration), labels, config)
    });
    let watched = match (current, &current_model, &current_logits) {
        (Some(current), Some(model), Some(on_test)) => {
            let calibration = &current.bundle.manifest().calibration;
            Some(watch_field(model, &new_model, on_test, calibration, field)?)
        }
        _ => None,
    };

    let (card, cost) = (new.bundle.report_card()?, gate::latency(new.bundle)?);
    let verdict = verdict.and_field(found).and_cost(cost, &gate::check_limits(&card, &cost, config));

    let predict = |logits: &[Vec<f32>]| -> Vec<Prediction> { logits.iter().map(|l| calibration.predict(l)).collect() };
    let (on_test, in_field) = (predict(new.test_logits), predict(&new_in_field));
    let class = |logits: &Option<Vec<Vec<f32>>>, i: usize| Some(argmax(logits.as_ref()?.get(i)?));
    let tested = on_test.iter().zip(&data.test).enumerate().map(|(i, (new, (file, truth)))| {
        let image = (file.path.display().to_string(), &file.pixels);
        Answer { image, truth: Some(*truth), new, current: class(&current_logits, i) }
    });
    let in_field = in_field.iter().zip(&judging).enumerate().filter_map(|(i, (new, sample))| {
        let truth = match sample.found?.1 {
            Truth::Class(class) => Some(class),
            Truth::NoClass => None,
        };
        let image = (format!("audit sample {}", sample.image), &sample.pixels);
        Some(Answer { image, truth, new, current: class(&current_in_field, i) })
    });
    let (named, worst) = gate::worst(tested.chain(in_field)).into_iter().map(|answer| named(answer, labels)).unzip();
    Ok(Judged { verdict: Verdict { worst: named, ..verdict }, watched, worst })
}

/// What both models say of the images of the field that are watched.
fn watch_field(
    current: &DeviceModel,
    new: &DeviceModel,
    on_test: &[Vec<f32>],
    calibration: &Calibration,
    field: &FieldImages<'_>,
) -> Result<Watched> {
    let pixels: Vec<Pixels> = field.audit.iter().map(|sample| sample.pixels.clone()).collect();
    let predict = |logits: &[Vec<f32>]| -> Vec<Prediction> { logits.iter().map(|l| calibration.predict(l)).collect() };
    let classes = |logits: Vec<Vec<f32>>| logits.into_iter().map(|logits| argmax(&logits));
    let flips = classes(current.logits(field.trained_on)?).zip(classes(new.logits(field.trained_on)?));
    let (on_test, on_audit) = (predict(on_test), predict(&current.logits(&pixels)?));
    let said = Said { on_test: &on_test, on_audit: &on_audit, flips: &flips.collect::<Vec<_>>(), calibration };
    Ok(watch(&said, field.audit, field.since))
}

fn named(answer: Answer<'_, (String, &Pixels)>, labels: &LabelSet) -> (WrongImage, Pixels) {
    let was_right = answer.was_right();
    let (image, pixels) = answer.image;
    let wrong = WrongImage {
        image,
        truth: answer.truth.map(|class| labels.name(class).to_owned()),
        taken_for: labels.name(answer.new.class).to_owned(),
        confidence: answer.new.confidence,
        was_right,
    };
    (wrong, pixels.clone())
}

impl Judged {
    /// Writes the page of the round, with the images that its model gets wrong.
    pub(super) fn write_page(&self, project: &Project, round: u32, bundle: &Bundle) -> Result<()> {
        let page = report::round_page(round, bundle, &self.verdict, self.watched.as_ref(), &self.worst)?;
        Ok(durable::write(&record::file(project, round, "html"), page.as_bytes())?)
    }
}
