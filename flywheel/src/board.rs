//! What the pages show, put together from a project.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use anyhow::{Context, Result};
use edge_runtime::sync::{Address, Remote};
use jiff::{SignedDuration, Timestamp};
use models::{
    Board, Digest, Estimate, PerceptualHash, Pixels, Prediction, Reviews,
    board::{Cell, DeviceDrift, Mistake, RoundLine, Waiting, Why},
    calibration::argmax,
    collection::NearDuplicates,
    hub::PAGES,
    preprocess,
    sync::{self, BOARD, DeviceStatus, PICTURES},
};
use rayon::prelude::*;

use crate::{
    exchange::{Queued, queue},
    progress::Progress,
    project::{Project, ProjectData},
    round::{self, RoundRecord, records},
    steps::{
        collected::Collected,
        gate::{self, Answer},
        relabel::{Labeler, Relabeled, relabel},
        watch::Drift,
    },
};

/// Samples to review that there are on the pages, if nobody says otherwise.
pub const LIMIT: usize = 500;
/// Largest width and height of a picture, in pixels.
const SIDE: u32 = 256;
/// Test images that a device's samples are compared with, at most.
const COMPARED: usize = 1000;
/// Pictures of a class that is right.
const RIGHT: usize = 12;

/// Pictures as PNG files, by what they are of.
pub type Pictures = BTreeMap<Digest, Vec<u8>>;

/// Brings the pages of the project's hub up to date, if its remote is one. That it failed is said, and returned as false.
pub fn show(project: &Project, progress: &Progress) -> bool {
    let Address::Hub(url) = project.remote() else { return true };
    let shown = round::take_in(project).and_then(|(_lock, remote, _)| show_at(&remote, project));
    if let Err(e) = &shown {
        progress.line(format!("the pages at {url}{PAGES}/ are as they were: {e:#}"));
    }
    shown.is_ok()
}

/// Takes from the pages of the project's hub, if its remote is one, what is not here any more. Nothing new is taken in.
///
/// # Errors
/// If the hub fails, or a round is running.
pub fn show_less(project: &Project) -> Result<()> {
    let Address::Hub(url) = project.remote() else { return Ok(()) };
    let shown = round::hold(project).and_then(|(_lock, remote)| show_at(&remote, project));
    shown.with_context(|| format!("the pages at {url}{PAGES}/ are as they were; `flywheel pages` tries again"))
}

fn show_at(remote: &Remote, project: &Project) -> Result<()> {
    // How devices are, a hub shows by itself.
    let (board, pictures) = board(project, Vec::new(), LIMIT, Timestamp::now())?;
    put(remote, &board, pictures)
}

/// Puts a board on a hub, after those of its pictures that are not there yet.
///
/// # Errors
/// If the remote fails.
pub fn put(remote: &Remote, board: &Board, pictures: Pictures) -> Result<()> {
    let there: BTreeSet<String> = remote.list(PICTURES)?.into_iter().collect();
    for (image, png) in pictures {
        let name = sync::picture(image);
        if !there.contains(&name) {
            remote.put(&name, png)?;
        }
    }
    Ok(remote.put(BOARD, serde_json::to_vec(board)?)?)
}

/// The board with its pictures; of the samples that wait for a person the first `limit`, of those that had their turn the latest as many.
///
/// # Errors
/// If something of the project cannot be read.
pub fn board(project: &Project, devices: Vec<DeviceStatus>, limit: usize, now: Timestamp) -> Result<(Board, Pictures)> {
    let data = ProjectData::load(project)?;
    let records = records(project)?;
    let mut pictures = Pictures::new();
    let mut board = Board {
        made: now,
        labels: data.labels.clone(),
        rounds: records.iter().map(|record| line(project, record)).collect::<Result<_>>()?,
        devices,
        drifts: Vec::new(),
        confusion: Vec::new(),
        worst: Vec::new(),
        waiting: 0,
        queue: Vec::new(),
    };
    if let Some(labeler) = round::current_labeler(project, &data)? {
        let on_test = mistakes(&mut board, &data, &labeler, &mut pictures)?;
        let Collected { samples, cohorts, reviews } = Collected::load(project, now)?;
        let (relabeled, _) = relabel(&labeler, &project.config().preprocessing, samples)?;
        let since = now - SignedDuration::from_hours(24 * i64::from(project.config().gate.audit_days));
        let lately: BTreeSet<Digest> = cohorts
            .iter()
            .filter(|cohort| cohort.came_in >= since)
            .flat_map(|cohort| cohort.samples.iter().copied())
            .collect();
        board.drifts = drifts(&relabeled, &lately, &on_test, data.labels.len());
        let queue = queue(&relabeled, &cohorts, &reviews);
        let near = project.config().collection.near_duplicates;
        (board.queue, board.waiting) = waiting(queue, &reviews, near, limit, &mut pictures)?;
    }
    Ok((board, pictures))
}

fn line(project: &Project, record: &RoundRecord) -> Result<RoundLine> {
    let card = models::Bundle::open(&project.bundle_folder(record.round))?.report_card()?;
    let [at_least, at_most] = card.accuracy_interval;
    let precision = project.config().calibration.precision;
    Ok(RoundLine {
        round: record.round,
        finished: record.finished,
        bundle: record.bundle,
        published: record.published,
        withdrawn: record.withdrawn,
        reason: record.verdict.reason.clone(),
        test: Estimate { value: card.accuracy, at_least, at_most },
        field: record.verdict.field.as_ref().map(|field| field.new),
        told: record.watched.iter().flat_map(|watched| watched.told(precision)).collect(),
    })
}

/// Fills in what the current model makes of the test set, and returns what it says of it.
fn mistakes(
    board: &mut Board,
    data: &ProjectData,
    labeler: &Labeler,
    pictures: &mut Pictures,
) -> Result<Vec<Prediction>> {
    let test = data.test_images();
    let logits = labeler.model.logits(&test.images)?;
    let classes = data.labels.len();
    board.confusion = vec![vec![Cell::default(); classes]; classes];
    for ((image, truth), logits) in test.images.iter().zip(&test.labels).zip(&logits) {
        let said = argmax(logits);
        let cell = &mut board.confusion[*truth][said];
        cell.count += 1;
        if said != *truth || cell.pictures.len() < RIGHT {
            cell.pictures.push(picture(image, pictures)?);
        }
    }
    let predictions: Vec<_> = logits.iter().map(|logits| labeler.calibration.predict(logits)).collect();
    let answers = predictions.iter().zip(test.images.iter().zip(&test.labels));
    let answers = answers.map(|(new, (image, truth))| Answer { image, truth: Some(*truth), new, current: None });
    for answer in gate::worst(answers) {
        board.worst.push(Mistake {
            picture: picture(answer.image, pictures)?,
            truth: answer.truth,
            taken_for: answer.new.class,
            confidence: answer.new.confidence,
        });
    }
    Ok(predictions)
}

/// How what each device sees differs from the test set, by those of its audit samples that came in lately.
fn drifts(
    relabeled: &[Relabeled],
    lately: &BTreeSet<Digest>,
    on_test: &[Prediction],
    classes: usize,
) -> Vec<DeviceDrift> {
    let mut by_device: BTreeMap<&str, Vec<&Prediction>> = BTreeMap::new();
    for Relabeled { sample, prediction, .. } in relabeled.iter().filter(|r| lately.contains(&r.sample.record.image)) {
        by_device.entry(&sample.record.device).or_default().push(prediction);
    }
    // Evenly, since test images are often in the order of their classes.
    let on_test: Vec<&Prediction> = on_test.iter().step_by(on_test.len().div_ceil(COMPARED).max(1)).collect();
    let drift = |(device, now): (&str, Vec<&Prediction>)| {
        let drift = Drift::between(&now, &on_test, classes)?;
        let [confidence, of_classes] = [drift.confidence.distance, drift.classes.distance];
        Some(DeviceDrift { device: device.to_owned(), confidence, classes: of_classes, is_rare: drift.is_rare() })
    };
    by_device.into_par_iter().filter_map(drift).collect()
}

fn picture(image: &Pixels, pictures: &mut Pictures) -> Result<Digest> {
    let digest = image.digest();
    if let Entry::Vacant(place) = pictures.entry(digest) {
        place.insert(image.to_png()?);
    }
    Ok(digest)
}

/// The samples that wait for a person, with what is known of each.
fn waiting(
    mut queue: Vec<Queued<'_>>,
    reviews: &Reviews,
    near: NearDuplicates,
    limit: usize,
    pictures: &mut Pictures,
) -> Result<(Vec<Waiting>, usize)> {
    let undecided =
        queue.iter().take_while(|queued| reviews.of(queued.relabeled.sample.record.image).is_none()).count();
    if undecided > limit {
        queue.drain(limit..undecided);
    }
    // Of what somebody has spoken of, the latest.
    let spoken = queue.split_off(undecided.min(limit));
    let latest = |queued: &Queued<'_>| reviews.history(queued.relabeled.sample.record.image).last().map(|last| last.at);
    let mut spoken: Vec<_> = spoken.into_iter().map(|queued| (latest(&queued), queued)).collect();
    spoken.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    queue.extend(spoken.into_iter().take(limit).map(|(_, queued)| queued));
    let likes = likes(&queue, reviews, near);
    let thumbnails = queue.par_iter().map(|queued| {
        let sample = &queued.relabeled.sample;
        Ok((sample.record.image, preprocess::thumbnail(&sample.record.source, &sample.image, SIDE)?))
    });
    pictures.extend(thumbnails.collect::<Result<Vec<_>>>()?);
    let waiting = queue.iter().zip(likes).map(|(queued, like)| {
        let (record, prediction) = (&queued.relabeled.sample.record, &queued.relabeled.prediction);
        let mut guesses: Vec<(usize, f64)> = prediction.probs.iter().copied().enumerate().collect();
        guesses.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        Waiting {
            image: record.image,
            why: queued.why,
            like,
            device: record.device.clone(),
            captured: record.captured,
            guesses,
            history: reviews.history(record.image).to_vec(),
        }
    });
    Ok((waiting.collect(), undecided))
}

/// For each image the first of those that look like it: one decision covers them. Audit samples stand for themselves, and so does what
/// somebody has decided.
fn likes(queue: &[Queued<'_>], reviews: &Reviews, near: NearDuplicates) -> Vec<Digest> {
    let mut firsts: Vec<(PerceptualHash, Digest)> = Vec::new();
    let mut likes = Vec::with_capacity(queue.len());
    for queued in queue {
        let image = queued.relabeled.sample.record.image;
        if near.window == 0 || queued.why == Why::Audit || reviews.of(image).is_some() {
            likes.push(image);
            continue;
        }
        let look = PerceptualHash::of(&queued.relabeled.pixels);
        let known = firsts.iter().find(|(other, _)| other.distance(look) <= near.bits);
        likes.push(known.map_or(image, |(_, first)| *first));
        if known.is_none() {
            firsts.push((look, image));
        }
    }
    likes
}

#[cfg(test)]
mod tests {
    use models::Reason;

    use super::*;
    use crate::steps::testing::sample;

    #[test]
    fn a_device_that_sees_what_the_test_set_is_not_of_drifts_and_too_few_samples_say_nothing() {
        let said = |class: usize| Prediction { class, confidence: 0.9, probs: vec![0.1; 2] };
        let relabeled = |device: &str, i: u8, class: usize| Relabeled {
            sample: sample(device, &[i], Reason::Audit { probability: 0.1 }),
            pixels: Pixels { height: 1, width: 1, channels: 1, data: vec![0] },
            prediction: said(class),
        };
        let mut all: Vec<Relabeled> = (0..60).map(|i| relabeled("same", i, usize::from(i % 2))).collect();
        all.extend((60..120).map(|i| relabeled("other", i, 0)));
        all.extend((120..130).map(|i| relabeled("few", i, 0)));
        all.extend((130..190).map(|i| relabeled("long ago", i, 0)));
        let lately = (0..130).map(|i: u8| Digest::of(&[i])).collect();
        let on_test: Vec<Prediction> = (0..100).map(|i| said(i % 2)).collect();
        let found = drifts(&all, &lately, &on_test, 2);
        let found: Vec<_> =
            found.iter().map(|d| (d.device.as_str(), (100.0 * d.classes).round() as u32, d.is_rare)).collect();
        assert_eq!(found, [("other", 50, true), ("same", 0, false)]);
    }
}
