//! What a round trains on: chosen when it begins and written down, or what was written down when it began.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use jiff::Timestamp;
use models::{Digest, Pixels, Sample, calibration::argmax, durable};
use trainer::data::LabeledImages;

use super::{
    Current,
    record::{Inputs, inputs, inputs_file},
};
use crate::{
    progress::Progress,
    project::{Field, Project, ProjectData},
    steps::{
        choose::{self, Choice, Chosen},
        collected::Collected,
        relabel::{Labeler, Relabeled, relabel},
        shift::Confusion,
        teacher::teacher,
    },
};

/// What the round trains on, and the images themselves.
pub(super) fn choose(
    project: &Project,
    round: u32,
    current: Option<&Current>,
    data: &ProjectData,
    collected: &Collected,
    now: Timestamp,
) -> Result<(Inputs, Field)> {
    let inputs = if let Some(inputs) = inputs(project, round)? {
        inputs
    } else {
        let inputs = match current {
            Some(current) => choose_now(project, current, data, collected, now)?,
            None => Inputs { words: collected.reviews.words(), ..Inputs::none(now) },
        };
        durable::write_json(&inputs_file(project, round), &inputs)?;
        inputs
    };
    let field = images(project, data, &inputs, &collected.samples)?;
    Ok((inputs, field))
}

fn choose_now(
    project: &Project,
    current: &Current,
    data: &ProjectData,
    collected: &Collected,
    now: Timestamp,
) -> Result<Inputs> {
    let config = project.config();
    let test = data.test_images();
    let current = current.labeler(project)?;
    let logits = current.model.logits(&test.images)?;
    let (teacher, refused_teacher) = match teacher(project, data, &logits)? {
        Some(Ok(teacher)) => (Some(teacher), None),
        Some(Err(reason)) => (None, Some(reason)),
        None => (None, None),
    };
    let labeler = teacher.as_ref().unwrap_or(&current);
    let (relabeled, unreadable) = relabel(labeler, &config.preprocessing, collected.samples.clone())?;
    let near = config.collection.near_duplicates;
    let (calibration, reviews) = (&labeler.calibration, &collected.reviews);
    let chosen = choose::choose(&relabeled, &data.labels, calibration, &data.pictures(), reviews, &config.choice, near);
    let prior = config.choice.estimate_shares.then(|| {
        let on_test = teacher.as_ref().map(|teacher| teacher.model.logits(&test.images)).transpose()?;
        shares(data, &test.labels, (&current, &logits), (labeler, on_test.as_deref().unwrap_or(&logits)), &chosen)
    });
    let Chosen { labeled, unlabeled, choice } = chosen;
    let image = |candidate: &Relabeled| candidate.sample.record.image;
    Ok(Inputs {
        began: now,
        choice: Choice { unreadable, ..choice },
        samples: unlabeled.into_iter().map(image).collect(),
        labels: labeled.into_iter().map(|(candidate, label)| (image(candidate), label.to_owned())).collect(),
        words: collected.reviews.words(),
        teacher: labeler.teacher,
        refused_teacher,
        prior: prior.transpose()?,
    })
}

/// The estimated share of each class among all unlabeled images: of the project's own by the current model, of the chosen ones by who
/// labeled them, each with its logits on the test set, whose classes are `truths`.
fn shares(
    data: &ProjectData,
    truths: &[usize],
    (current, current_logits): (&Labeler, &[Vec<f32>]),
    (labeler, logits): (&Labeler, &[Vec<f32>]),
    chosen: &Chosen<'_>,
) -> Result<Vec<f64>> {
    let classes = data.labels.len();
    let own: Vec<Pixels> = data.own_images().cloned().collect();
    let on_test = current_logits.iter().map(|logits| argmax(logits));
    let all = Confusion::of(truths.iter().copied().zip(on_test), classes);
    let mut counts = all.counts(current.model.logits(&own)?.iter().map(|logits| argmax(logits)));
    // The chosen ones are those that the labeler is sure of: what it confuses among such images is another matter.
    let predictions = logits.iter().map(|logits| labeler.calibration.predict(logits));
    let sure = truths.iter().zip(predictions).filter(|(_, prediction)| labeler.calibration.is_confident(prediction));
    let among_sure = Confusion::of(sure.map(|(truth, prediction)| (*truth, prediction.class)), classes);
    let of_field = among_sure.counts(chosen.unlabeled.iter().map(|candidate| candidate.prediction.class));
    for (count, of_field) in counts.iter_mut().zip(of_field) {
        *count += of_field;
    }
    for (_, label) in &chosen.labeled {
        counts[data.labels.index(label).context("a label that the project knows")?] += 1.0;
    }
    let total: f64 = counts.iter().sum();
    Ok(counts.into_iter().map(|count| count / total).collect())
}

/// The images of a round's inputs.
pub(super) fn images(project: &Project, data: &ProjectData, inputs: &Inputs, samples: &[Sample]) -> Result<Field> {
    let mut field = Field { labeled: LabeledImages::default(), unlabeled: Vec::new(), prior: inputs.prior.clone() };
    let mut missing: BTreeSet<Digest> = inputs.samples.iter().chain(inputs.labels.keys()).copied().collect();
    for sample in samples {
        let image = sample.record.image;
        let label = inputs.labels.get(&image);
        if label.is_none() && !inputs.samples.contains(&image) {
            continue;
        }
        let pixels = project.config().preprocessing.pixels(&sample.record.source, &sample.image)?;
        match label {
            Some(label) => {
                let class = data.labels.index(label).with_context(|| format!("{label:?} is no class any more"))?;
                field.labeled.images.push(pixels);
                field.labeled.labels.push(class);
            }
            None => field.unlabeled.push(pixels),
        }
        missing.remove(&image);
    }
    anyhow::ensure!(
        missing.is_empty(),
        "{} samples that the round is made of are gone or cannot be read, as {}",
        missing.len(),
        missing.first().map_or(String::new(), Digest::to_string)
    );
    Ok(field)
}

/// Says what was chosen, and why not more.
pub(super) fn tell(inputs: &Inputs, data: &ProjectData, name: &str, progress: &Progress) {
    let Inputs { choice, prior, refused_teacher, .. } = inputs;
    if let Some(reason) = refused_teacher {
        progress.line(format!("{name}: the teacher is not listened to: {reason}"));
    }
    progress.line(format!("{name}: {choice}"));
    if choice.like_test > 0 {
        let count = choice.like_test;
        progress.line(format!(
            "{name}: {count} samples look like images of the test set: is it of the same scenes as the devices see?"
        ));
    }
    let shares = prior.iter().flatten().zip(data.labels.names());
    let mut shares: Vec<_> = shares.collect();
    shares.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    if let (Some((most, often)), Some((least, seldom))) = (shares.first(), shares.last()) {
        let (most, least) = (100.0 * **most, 100.0 * **least);
        progress
            .line(format!("{name}: of all images, {most:.1} % are {often:?} and {least:.1} % {seldom:?}, by estimate"));
    }
}
