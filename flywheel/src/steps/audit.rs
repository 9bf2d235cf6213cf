//! Audit samples with what people have said of them, ready to judge models.
//!
//! Devices keep audit samples by chance alone. Which of them people have labeled has to be chance too, or they would say something of
//! the easy ones alone. So those that came in together have an order that chance draws, and only what was decided without a gap from the
//! first on counts as labeled. Whoever reviews in that order loses nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use models::{Digest, LabelSet, Pixels, Preprocessing, Reviews, Said, Sample, durable};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ingest::sorted_entries;
use crate::{project::Project, statistics::effective};

/// Audit samples that came in together, as in `audit/N.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// When.
    pub came_in: Timestamp,
    /// Their images.
    pub samples: BTreeSet<Digest>,
}

impl Cohort {
    /// Where each of its images stands in the order in which they are reviewed, the lowest first. All that came in together draw it, and
    /// when they did: no device can make an image that will stand before those of others.
    pub fn order(&self) -> impl Fn(Digest) -> Digest + use<> {
        let mut all = self.came_in.to_string().into_bytes();
        self.samples.iter().for_each(|image| all.extend(image.into_bytes()));
        let drawn = Digest::of(&all);
        move |image| Digest::of(format!("{drawn}/{image}").as_bytes())
    }
}

/// An audit sample.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditSample {
    /// Digest of its file.
    pub image: Digest,
    /// Its image.
    pub pixels: Pixels,
    /// When it came in.
    pub came_in: Timestamp,
    /// Whether it judges models: people have labeled enough of those that came in with it.
    pub judges: bool,
    /// Whether somebody said that it cannot be told what it shows.
    pub undecidable: bool,
    /// How many images that devices have seen it stands for.
    pub weight: f64,
    /// What it shows, and how many images it stands for among those with labels.
    pub found: Option<(f64, Truth)>,
}

/// What a person saw in an audit sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// A class.
    Class(usize),
    /// None of the classes: whatever a model says of it is wrong.
    NoClass,
}

/// Takes note of the audit samples that are new, and returns all cohorts, the oldest first.
///
/// # Errors
/// If a cohort cannot be read or written.
pub fn cohorts(project: &Project, samples: &[Sample], now: Timestamp) -> Result<Vec<Cohort>> {
    let folder = project.audit_folder();
    durable::create_folders(&folder)?;
    durable::delete_temporary(&folder)?;
    let mut cohorts = Vec::new();
    for path in sorted_entries(&folder)? {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let cohort: Cohort =
            serde_json::from_slice(&bytes).with_context(|| format!("{} names no audit samples", path.display()))?;
        cohorts.push(cohort);
    }
    let known: BTreeSet<Digest> = cohorts.iter().flat_map(|cohort: &Cohort| &cohort.samples).copied().collect();
    let audited = samples.iter().filter(|sample| sample.record.audit_probability().is_some());
    let new: BTreeSet<Digest> = audited.map(|s| s.record.image).filter(|image| !known.contains(image)).collect();
    if !new.is_empty() {
        let cohort = Cohort { came_in: now, samples: new };
        durable::write_json(&folder.join(format!("{:06}.json", cohorts.len() + 1)), &cohort)?;
        cohorts.push(cohort);
    }
    Ok(cohorts)
}

/// What audit samples are held against.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The classes.
    pub labels: &'a LabelSet,
    /// How images become inputs.
    pub preprocessing: &'a Preprocessing,
    /// With which probability devices keep an image for audit while they run a bundle. What a device says of it counts for nothing, and a
    /// sample of another bundle is none.
    pub probabilities: &'a BTreeMap<Digest, f64>,
    /// When.
    pub now: Timestamp,
    /// Days for which a sample counts.
    pub days: u32,
}

/// The audit samples of cohorts that came in within the days that count. A cohort of which so few are labeled that the others say more
/// without it does not judge.
pub fn audit(cohorts: &[Cohort], samples: &[&Sample], reviews: &Reviews, rules: &Rules<'_>) -> Vec<AuditSample> {
    let images: BTreeMap<Digest, &Sample> = samples.iter().map(|sample| (sample.record.image, *sample)).collect();
    let length = SignedDuration::from_hours(24 * i64::from(rules.days));
    let recent = cohorts.iter().filter(|cohort| rules.now.duration_since(cohort.came_in) <= length);
    let mut all: Vec<Vec<AuditSample>> = recent.map(|cohort| of_cohort(cohort, &images, reviews, rules)).collect();
    // Those of which the most are labeled first: whether one more is of use depends on numbers alone, and on nothing that was found.
    let found =
        |cohort: &[AuditSample]| -> Vec<f64> { cohort.iter().filter_map(|s| Some(s.found.as_ref()?.0)).collect() };
    let scale = |cohort: &Vec<AuditSample>| found(cohort).first().copied().unwrap_or(f64::INFINITY);
    all.sort_by(|a, b| scale(a).total_cmp(&scale(b)));
    let mut weights = Vec::new();
    for cohort in &mut all {
        let with: Vec<f64> = weights.iter().copied().chain(found(cohort)).collect();
        let is_of_use = effective(with.iter().copied()) > effective(weights.iter().copied());
        cohort.iter_mut().for_each(|sample| sample.judges = is_of_use);
        if is_of_use {
            weights = with;
        }
    }
    all.into_iter().flatten().collect()
}

fn of_cohort(
    cohort: &Cohort,
    images: &BTreeMap<Digest, &Sample>,
    reviews: &Reviews,
    rules: &Rules<'_>,
) -> Vec<AuditSample> {
    let decode = |image: &Digest| {
        let sample = images.get(image)?;
        sample.record.audit_probability()?;
        let probability = rules.probabilities.get(&sample.record.bundle).filter(|probability| **probability > 0.0)?;
        let pixels = rules.preprocessing.pixels(&sample.record.source, &sample.image).ok()?;
        let (came_in, weight) = (cohort.came_in, 1.0 / probability);
        Some(AuditSample { image: *image, pixels, came_in, weight, judges: false, undecidable: false, found: None })
    };
    let mut all: Vec<AuditSample> =
        cohort.samples.iter().collect::<Vec<_>>().into_par_iter().filter_map(decode).collect();
    let place = cohort.order();
    all.sort_by_cached_key(|sample| place(sample.image));
    let decided = all.iter().take_while(|sample| reviews.of(sample.image).is_some()).count();
    let truth = |sample: &AuditSample| match reviews.of(sample.image)? {
        Said::Label(label) => Some(rules.labels.index(label).map_or(Truth::NoClass, Truth::Class)),
        Said::Reject => Some(Truth::NoClass),
        Said::Unsure | Said::Undo => None,
    };
    let found: Vec<Option<Truth>> = all[..decided].iter().map(truth).collect();
    let weight_of_all: f64 = all.iter().map(|sample| sample.weight).sum();
    let weight_of_found: f64 = all.iter().zip(&found).filter(|(_, f)| f.is_some()).map(|(s, _)| s.weight).sum();
    for (sample, truth) in all.iter_mut().zip(found) {
        sample.undecidable = truth.is_none();
        sample.found = truth.map(|truth| (sample.weight * weight_of_all / weight_of_found, truth));
    }
    all
}

#[cfg(test)]
mod tests {
    use models::{Reason, Review};

    use super::*;
    use crate::steps::testing;

    #[test]
    fn what_came_in_together_stays_together_and_counts_as_labeled_up_to_the_first_gap() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let project = testing::project(folder.path())?;
        let labels = LabelSet::new(["cat", "dog"])?;
        let picture = |shade: u8| Pixels { height: 8, width: 8, channels: 1, data: vec![shade; 64] }.to_png();
        let sample = |shade: u8, reason| Ok::<_, models::Error>(testing::sample("cam-1", &picture(shade)?, reason));
        let audit_reason = Reason::Audit { probability: 0.25 };
        let mut samples = (0..8).map(|shade| sample(shade, audit_reason)).collect::<Result<Vec<_>, _>>()?;
        samples.push(sample(100, Reason::Confident { threshold: 0.9 })?);
        let first = cohorts(&project, &samples, Timestamp::UNIX_EPOCH)?;
        assert_eq!(first.iter().map(|cohort| cohort.samples.len()).collect::<Vec<_>>(), [8]);
        let later = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24);
        samples.push(sample(200, audit_reason)?);
        let both = cohorts(&project, &samples, later)?;
        assert_eq!(both.iter().map(|cohort| cohort.samples.len()).collect::<Vec<_>>(), [8, 1]);
        assert_eq!(cohorts(&project, &samples, later)?, both, "nothing new came in");

        let mut order: Vec<Digest> = first[0].samples.iter().copied().collect();
        let place = first[0].order();
        order.sort_by_key(|image| place(*image));
        // Had they come in at another time, it would be another order.
        let other = Cohort { came_in: later, ..first[0].clone() };
        assert!(order.iter().all(|image| other.order()(*image) != place(*image)));
        let review = |image: Digest, said| Review { at: later, image, by: "ann".into(), said };
        let cat = || Said::Label("cat".into());
        // The first, the second and the fourth are cats, the third cannot be told; somebody has labeled the seventh before its turn.
        let said = [(0, cat()), (1, Said::Reject), (2, Said::Unsure), (3, cat()), (6, cat())];
        let reviews = Reviews::new(said.map(|(i, said)| review(order[i], said)));
        let (samples, preprocessing) = (samples.iter().collect::<Vec<_>>(), &project.config().preprocessing);
        let probabilities = BTreeMap::from([(Digest::of(b"bundle"), 0.25)]);
        let rules = |days| Rules { labels: &labels, preprocessing, probabilities: &probabilities, now: later, days };
        let of = |days: u32| audit(&both, &samples, &reviews, &rules(days));
        let all = of(1);
        let judges = all.iter().filter(|sample| sample.judges).count();
        assert_eq!((all.len(), judges), (9, 8), "of the second cohort nothing is labeled");
        let found: Vec<_> =
            order.iter().filter_map(|image| all.iter().find(|sample| sample.image == *image)?.found).collect();
        // Three stand for what all eight do: 32 images.
        let weight = 32.0 / 3.0;
        assert_eq!(found, [(weight, Truth::Class(0)), (weight, Truth::NoClass), (weight, Truth::Class(0))]);
        assert_eq!(all.iter().filter(|sample| sample.undecidable).count(), 1);
        assert_eq!(of(0).len(), 1, "the others are older than the days that count");
        let none = BTreeMap::new();
        assert!(audit(&both, &samples, &reviews, &Rules { probabilities: &none, ..rules(1) }).is_empty());
        Ok(())
    }
}
