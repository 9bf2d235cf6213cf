//! The loop as it is: real rounds in a project of its own, with devices in this process and somebody who labels audit samples.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use edge_runtime::Classifier;
use jiff::{SignedDuration, Timestamp};
use models::{Bundle, Digest, Review, Said, Weights, board::Why};
use trainer::{data::LabeledImages, fit::MODEL_FILE, random};

use super::{
    Play,
    coverage::{self, Truths, right},
    device::{Device, upload},
    outcome::{Audited, Replaced, RoundOutcome},
};
use crate::{
    exchange::{self, Queued},
    progress::Progress,
    project::{ProjectData, round_name},
    round::{self, RoundRecord},
    steps::{collected::Collected, ingest, model::DeviceModel, relabel::relabel, review},
};

/// Days from one round to the next.
const DAYS: i64 = 7;

/// What has happened so far.
struct Loop<'a, 'b> {
    play: &'a Play<'b>,
    devices: Vec<Device>,
    /// What every image shows that a device has seen.
    truth: BTreeMap<Digest, usize>,
    /// What devices have seen in each round.
    seen: Vec<LabeledImages>,
}

/// Plays all rounds, with the weights of the first.
pub(super) fn play(play: &Play<'_>, progress: &Progress) -> Result<(Vec<RoundOutcome>, Weights)> {
    let devices = play.devices().map(|(number, lies)| Device::new(format!("cam-{number}"), play.seed, lies)).collect();
    let mut going = Loop { play, devices, truth: BTreeMap::new(), seen: Vec::new() };
    let mut outcomes: Vec<RoundOutcome> = Vec::new();
    for round in 1..=play.options.rounds {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * DAYS * i64::from(round));
        let record = round::run_by(&|| now, &play.project, progress)?;
        let outcome = going.outcome(&record, outcomes.last())?;
        let serving = outcome.serving;
        outcomes.push(outcome);
        going.see(round, serving, now)?;
        going.review(now + SignedDuration::from_hours(24))?;
    }
    let first = Weights::read(&play.project.run_folder(&round_name(1)).join(MODEL_FILE))?;
    Ok((outcomes, first))
}

impl Loop<'_, '_> {
    /// Lets the devices see the images of a round.
    fn see(&mut self, round: u32, serving: u32, now: Timestamp) -> Result<()> {
        let Play { project, world, options, seed, .. } = self.play;
        let classifier = Classifier::open(&project.bundle_folder(serving))?;
        let remote = round::open_remote(project)?;
        let mut all = LabeledImages::default();
        for (number, device) in self.devices.iter_mut().enumerate() {
            let mut rng = random::stream(u64::from(*seed), &format!("field {round} {number}"));
            let seen = world.seen(round, options.images, &mut rng);
            for (image, class) in seen.images.iter().zip(&seen.labels) {
                self.truth.insert(Digest::of(&image.to_png()?), *class);
            }
            let kept = device.see(&classifier, &seen, now)?;
            upload(&remote, &device.name, &kept)?;
            all.extend(seen);
        }
        self.seen.push(all);
        Ok(())
    }

    /// Somebody labels audit samples that came in, in the order of chance, and some of those of which a label is worth most.
    fn review(&self, now: Timestamp) -> Result<()> {
        let Play { project, world, options, .. } = self.play;
        ingest::ingest(project, &round::open_remote(project)?, now)?;
        let Collected { samples, cohorts, reviews } = Collected::load(project, now)?;
        let Some(newest) = cohorts.last() else { return Ok(()) };
        let data = ProjectData::load(project)?;
        let labeler = round::current_labeler(project, &data)?.context("a model is out")?;
        let (relabeled, _) = relabel(&labeler, &project.config().preprocessing, samples)?;
        let queue = exchange::queue(&relabeled, &cohorts, &reviews);
        let image = |queued: &Queued<'_>| queued.relabeled.sample.record.image;
        let audit = queue.iter().map(image).filter(|image| newest.samples.contains(image));
        let others = queue.iter().filter(|queued| matches!(queued.why, Why::Contradicted | Why::Unsure)).map(image);
        let say = |image: Digest| {
            let class = *self.truth.get(&image).context("somebody sent an image that no device has seen")?;
            let label = world.labels.names().get(class).cloned();
            let said = label.map_or(Said::Reject, Said::Label);
            Ok(Review { at: now, image, by: "simulation".into(), said })
        };
        let chosen = audit.take(options.reviews).chain(others.take(options.labels));
        review::add(project, &world.labels, &chosen.map(say).collect::<Result<Vec<_>>>()?)
    }

    fn model(&self, round: u32) -> Result<(DeviceModel, Bundle)> {
        let project = &self.play.project;
        let weights = Weights::read(&project.run_folder(&round_name(round)).join(MODEL_FILE))?;
        let bundle = Bundle::open(&project.bundle_folder(round))?;
        Ok((DeviceModel::of(&bundle, &weights, project.config().train.first_device())?, bundle))
    }

    fn outcome(&self, record: &RoundRecord, before: Option<&RoundOutcome>) -> Result<RoundOutcome> {
        let (play, round) = (self.play, record.round);
        let (new, new_bundle) = self.model(round)?;
        let serving = if record.published { round } else { before.context("the first model has to go out")?.serving };
        let share = |right: usize, images: &LabeledImages| right as f64 / images.len() as f64;
        let accuracy = |model: &DeviceModel, images: &LabeledImages| {
            Ok::<_, anyhow::Error>(share(right(&model.logits(&images.images)?, &images.labels), images))
        };
        let like_labels = play.truth_of_labels();
        let (serves, _) = self.model(serving)?;
        let mut outcome = RoundOutcome {
            round,
            published: record.published,
            reason: record.verdict.reason.clone(),
            serving,
            test_accuracy: record.test_accuracy,
            field_accuracy: accuracy(&serves, &play.truth(round))?,
            labels_accuracy: accuracy(&serves, &like_labels)?,
            replaced: None,
            field_samples: record.inputs.samples.len(),
            wrong_samples: 0,
            audit: None,
            coverage: None,
        };
        let Some(before) = before else { return Ok(outcome) };

        let (old, old_bundle) = self.model(before.serving)?;
        let in_field = play.truth(round - 1);
        let [old_field, new_field] = [old.logits(&in_field.images)?, new.logits(&in_field.images)?];
        let [old_test, new_test] = [old.logits(&like_labels.images)?, new.logits(&like_labels.images)?];
        outcome.replaced = Some(Replaced {
            field: [before.field_accuracy, share(right(&new_field, &in_field.labels), &in_field)],
            labels: [before.labels_accuracy, share(right(&new_test, &like_labels.labels), &like_labels)],
        });
        outcome.wrong_samples = self.wrong(&record.inputs.samples, &old)?;
        if let Some(field) = &record.verdict.field {
            let days = i64::from(play.project.config().gate.audit_days);
            let mut counted = LabeledImages::default();
            let rounds = self.seen.iter().rev().take((days / DAYS) as usize);
            rounds.for_each(|seen| counted.extend(seen.clone()));
            outcome.audit = Some(Audited { estimate: field.current, truth: accuracy(&old, &counted)? });
        }
        let calibrations = [&old_bundle, &new_bundle].map(|bundle| &bundle.manifest().calibration);
        outcome.coverage = Some(coverage::measure(
            &coverage::Said { in_field: &old_field, on_test: &old_test, calibration: calibrations[0] },
            &coverage::Said { in_field: &new_field, on_test: &new_test, calibration: calibrations[1] },
            &Truths { in_field: &in_field.labels, on_test: &like_labels.labels },
            &play.world.labels,
            &play.project.config().gate,
            &mut random::stream(u64::from(play.seed), &format!("coverage {round}")),
        ));
        Ok(outcome)
    }

    /// How many samples the current model takes for something that they are not.
    fn wrong(&self, chosen: &BTreeSet<Digest>, model: &DeviceModel) -> Result<usize> {
        let project = &self.play.project;
        let mut images = LabeledImages::default();
        for sample in ingest::samples(project)?.iter().filter(|sample| chosen.contains(&sample.record.image)) {
            images.images.push(project.config().preprocessing.pixels(&sample.record.source, &sample.image)?);
            images.labels.push(*self.truth.get(&sample.record.image).context("a device has seen the sample")?);
        }
        Ok(images.len() - right(&model.logits(&images.images)?, &images.labels))
    }
}
