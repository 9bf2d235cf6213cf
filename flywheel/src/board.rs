//! What the pages show, put together from a project.

use std::collections::{BTreeMap, btree_map::Entry};

use anyhow::Result;
use edge_runtime::sync::statuses;
use jiff::Timestamp;
use models::{
    Board, Digest, PerceptualHash, Pixels, Reviews,
    board::{Cell, Interval, Mistake, RoundLine, Waiting},
    calibration::argmax,
    collection::NearDuplicates,
    preprocess,
};
use rayon::prelude::*;

use crate::{
    exchange::{Queued, Why, queue},
    project::{Project, ProjectData},
    round::{self, RoundRecord, records},
    statistics::Estimate,
    steps::{
        audit::cohorts,
        gate::{self, Answer},
        ingest,
        relabel::{Labeler, relabel},
        review::reviews,
    },
};

/// Largest width and height of a picture, in pixels.
const SIDE: u32 = 256;
/// Pictures of a class that is right.
const RIGHT: usize = 12;

/// Pictures as PNG files, by what they are of.
pub type Pictures = BTreeMap<Digest, Vec<u8>>;

/// The board with its pictures; of the samples that wait for a person, the first `limit`.
///
/// # Errors
/// If something of the project cannot be read, or the remote fails.
pub fn board(project: &Project, limit: usize, now: Timestamp) -> Result<(Board, Pictures)> {
    let data = ProjectData::load(project)?;
    let records = records(project)?;
    let mut pictures = Pictures::new();
    let mut board = Board {
        made: now,
        labels: data.labels.clone(),
        rounds: records.iter().map(|record| line(project, record)).collect::<Result<_>>()?,
        devices: statuses(&round::open_remote(project)?)?,
        confusion: Vec::new(),
        worst: Vec::new(),
        waiting: 0,
        queue: Vec::new(),
    };
    if let Some(labeler) = round::current_labeler(project, &data)? {
        mistakes(&mut board, &data, &labeler, &mut pictures)?;
        (board.queue, board.waiting) = waiting(project, &labeler, limit, now, &mut pictures)?;
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
        test: Interval { value: card.accuracy, at_least, at_most },
        field: record.verdict.field.as_ref().map(|field| {
            let Estimate { value, at_least, at_most } = field.new;
            Interval { value, at_least, at_most }
        }),
        told: record.watched.iter().flat_map(|watched| watched.told(precision)).collect(),
    })
}

/// Fills in what the current model makes of the test set.
fn mistakes(board: &mut Board, data: &ProjectData, labeler: &Labeler, pictures: &mut Pictures) -> Result<()> {
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
    Ok(())
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
    project: &Project,
    labeler: &Labeler,
    limit: usize,
    now: Timestamp,
    pictures: &mut Pictures,
) -> Result<(Vec<Waiting>, usize)> {
    let samples = ingest::samples(project)?;
    let cohorts = cohorts(project, &samples, now)?;
    let reviews = reviews(project)?;
    let (relabeled, _) = relabel(labeler, &project.config().preprocessing, samples)?;
    let mut queue = queue(&relabeled, &cohorts, &reviews);
    let undecided =
        queue.iter().take_while(|queued| reviews.of(queued.relabeled.sample.record.image).is_none()).count();
    if undecided > limit {
        queue.drain(limit..undecided);
    }
    let likes = likes(&queue, &reviews, project.config().collection.near_duplicates);
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
            why: queued.why.name().to_owned(),
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
