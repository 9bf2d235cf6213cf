//! Which samples are kept and why.
//!
//! An image is kept because it is
//!
//! - **confident**: the probability reached its class's threshold, and views of it and the images before it agree, so that the
//!   prediction is a pseudo-label;
//! - **uncertain**: the model cannot tell two classes apart, or any;
//! - **wanted**: it may be of a class that the workstation asks for;
//! - **audit**: chance alone, with a known probability, so that the accuracy on the device can be estimated without
//!   bias. No limit but the disk's binds it, and nothing about the image or its prediction bears on it.
//!
//! The first three are bound by the number of samples and the share of each class, by what looks like a sample that was
//! kept, and by budgets. Each image has either reasons for which it is kept or the one thing that stopped its best reason.
//!
//! An image whose bytes were seen before is not kept again. Audit samples are therefore a sample of the distinct
//! images, each drawn once, when it first appeared: drawing again with every copy would include images with many
//! copies more often than the recorded probability says. The draw is still made for a copy, and dropped, so that
//! the n-th image of a device always gets the n-th draw of its seed, whatever came before and however often the
//! device was restarted.

use jiff::{SignedDuration, Timestamp};
use models::{
    Calibration, CollectionPolicy, Digest, Dropped, LabelSet, PerceptualHash, Prediction, Reason, ReasonKind,
    collection::Budget, sync::Demand,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    Classifier, EdgeConfig,
    journal::{History, stream},
};

#[cfg(test)]
mod tests;

/// Words of the generator that one draw takes: an `f64`.
const WORDS_PER_DRAW: u128 = 2;
/// A kept sample is written twice: when it is kept, and into its segment.
const WRITES_PER_SAMPLE: u64 = 2;

/// Puts a generator where the draw for the next image begins.
pub fn seek(rng: &mut ChaCha8Rng, history: &History) {
    rng.set_word_pos(WORDS_PER_DRAW * u128::from(history.entries()));
}

/// The draw for the next image, which decides whether it is kept for audit: a number from 0 to 1.
pub fn draw(rng: &mut ChaCha8Rng) -> f64 {
    rng.random()
}

/// What a device allows itself beyond the bundle's rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalLimits {
    /// Samples and bytes in a time.
    pub budget: Budget,
    /// Mebibytes written to disk in a day.
    pub write_mebibytes_per_day: Option<u32>,
}

impl LocalLimits {
    /// Those of a configuration.
    pub fn of(config: &EdgeConfig) -> Self {
        Self { budget: config.budget, write_mebibytes_per_day: config.write_mebibytes_per_day }
    }
}

/// The rules of one bundle, within the limits of one device.
#[derive(Clone, Debug)]
pub struct Policy {
    bundle: Digest,
    labels: LabelSet,
    collection: CollectionPolicy,
    calibration: Calibration,
    limits: LocalLimits,
}

/// An image that was just classified.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name at the source.
    pub source: &'a str,
    /// Digest of its bytes.
    pub image: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it looks like.
    pub look: PerceptualHash,
    /// What the model says of it.
    pub prediction: &'a Prediction,
    /// When.
    pub classified: Timestamp,
}

/// What becomes of an image: the reasons to keep it, at least one, or what stopped it.
pub type Verdict = Result<Vec<Reason>, Dropped>;

impl Policy {
    /// The rules of the bundle that `classifier` runs.
    pub fn of(classifier: &Classifier, limits: LocalLimits) -> Self {
        let manifest = classifier.manifest();
        Self {
            bundle: classifier.digest(),
            labels: manifest.labels.clone(),
            collection: manifest.collection.clone(),
            calibration: manifest.calibration.clone(),
            limits,
        }
    }

    /// Whether an image is to be kept, and why.
    ///
    /// `draw` is the image's draw for audit; `history` holds the images before it. `views_agree` is asked of otherwise
    /// confident images alone: whether so many views of the image are given its class.
    pub fn judge(
        &self,
        candidate: &Candidate<'_>,
        draw: f64,
        history: &History,
        demand: &Demand,
        views_agree: impl FnOnce(usize) -> bool,
    ) -> Verdict {
        if history.has_image(candidate.image) {
            return Err(Dropped::Duplicate);
        }
        let probability = self.collection.audit_probability;
        let audit = (draw < probability).then_some(Reason::Audit { probability });
        match (self.chosen(candidate, history, demand, views_agree), audit) {
            (Ok(reasons), audit) => Ok(reasons.into_iter().chain(audit).collect()),
            (Err(_), Some(audit)) => Ok(vec![audit]),
            (Err(dropped), None) => Err(dropped),
        }
    }

    /// Why the image is kept for what it is, and not by chance.
    fn chosen(
        &self,
        candidate: &Candidate<'_>,
        history: &History,
        demand: &Demand,
        views_agree: impl FnOnce(usize) -> bool,
    ) -> Verdict {
        let interesting = self.interesting(candidate, history, views_agree);
        let reasons = match self.wanted(candidate.prediction, history, demand) {
            // What is asked for is not bound by the shares of its class.
            Some(wanted) => interesting.into_iter().chain([wanted]).collect(),
            None => vec![self.within_share(interesting?, candidate.prediction.class, history, demand)?],
        };
        let near = self.collection.near_duplicates;
        if history.looks_like(candidate.look, near.window, near.bits) {
            return Err(Dropped::NearDuplicate);
        }
        self.within_budget(candidate, history)?;
        Ok(reasons)
    }

    fn interesting(
        &self,
        candidate: &Candidate<'_>,
        history: &History,
        views_agree: impl FnOnce(usize) -> bool,
    ) -> Result<Reason, Dropped> {
        let prediction = candidate.prediction;
        if self.calibration.is_confident(prediction) {
            let rules = self.collection.agreement;
            let before = history.agreeing(stream(candidate.source), rules.of_frames - 1, prediction.class);
            if before + 1 < rules.frames || (rules.views > 0 && !views_agree(rules.views)) {
                return Err(Dropped::Disagreement);
            }
            return Ok(Reason::Confident { threshold: self.calibration.thresholds[prediction.class] });
        }
        let (margin, entropy) = (prediction.margin(), prediction.entropy());
        let rules = self.collection.uncertain;
        let is_uncertain = margin <= rules.margin || (rules.entropy < 1.0 && entropy >= rules.entropy);
        if is_uncertain && rules.per_class > 0 {
            return Ok(Reason::Uncertain { margin, entropy });
        }
        Err(Dropped::Ordinary)
    }

    /// The class that is asked for and not yet served, of which the image is most probable.
    fn wanted(&self, prediction: &Prediction, history: &History, demand: &Demand) -> Option<Reason> {
        let rules = self.collection.wanted;
        let probability = |class: &usize| prediction.probs[*class];
        let classes = demand.wanted.iter().filter_map(|(label, request)| {
            let class = self.labels.index(label)?;
            let number = request.per_device.min(rules.per_class);
            let is_open = history.wanted(request.asked, class) < number && probability(&class) >= rules.confidence;
            is_open.then_some((class, request.asked))
        });
        let (class, asked) = classes.max_by(|(a, _), (b, _)| probability(a).total_cmp(&probability(b)))?;
        Some(Reason::Wanted { class, asked })
    }

    fn within_share(
        &self,
        reason: Reason,
        class: usize,
        history: &History,
        demand: &Demand,
    ) -> Result<Reason, Dropped> {
        let kind = reason.kind();
        let kept = |class: usize| history.kept_for(self.bundle, kind, class);
        if kind == ReasonKind::Uncertain {
            return if kept(class) < self.collection.uncertain.per_class {
                Ok(reason)
            } else {
                Err(Dropped::ClassQuota)
            };
        }
        if kept(class) >= self.collection.confident_per_class {
            return Err(Dropped::ClassQuota);
        }
        let held = |class: usize| {
            let fleet = demand.held.get(self.labels.name(class)).copied().unwrap_or(0);
            // Its own that came in already count twice: it holds back a little earlier.
            fleet.saturating_add(kept(class).into())
        };
        let classes = self.labels.len();
        let total = (0..classes).map(held).fold(0, u64::saturating_add);
        if self.collection.balance.admits(held(class), total, classes) { Ok(reason) } else { Err(Dropped::ClassShare) }
    }

    fn within_budget(&self, candidate: &Candidate<'_>, history: &History) -> Result<(), Dropped> {
        let budget = self.collection.budget.and(self.limits.budget);
        let numbers = [
            (budget.per_minute, SignedDuration::from_mins(1), Dropped::MinuteBudget),
            (budget.per_hour, SignedDuration::from_hours(1), Dropped::HourBudget),
            (budget.per_day, SignedDuration::from_hours(24), Dropped::DayBudget),
        ];
        for (most, length, dropped) in numbers {
            if most.is_some_and(|most| history.kept_within(length, candidate.classified).0 >= most) {
                return Err(dropped);
            }
        }
        let sizes = [
            (budget.mebibytes_per_day, 1, Dropped::ByteBudget),
            (self.limits.write_mebibytes_per_day, WRITES_PER_SAMPLE, Dropped::WriteBudget),
        ];
        for (most, times, dropped) in sizes {
            let bytes =
                || history.kept_within(SignedDuration::from_hours(24), candidate.classified).1 + candidate.bytes;
            if most.is_some_and(|most| times * bytes() > u64::from(most) << 20) {
                return Err(dropped);
            }
        }
        Ok(())
    }
}
