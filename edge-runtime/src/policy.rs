//! Which samples are kept and why.
//!
//! Two reasons, decided apart from each other:
//!
//! - **confident**: the probability reached its class's threshold, so that the prediction is a pseudo-label. At most
//!   `confident_per_class` for a class and bundle, lest a frequent class fill the disk.
//! - **audit**: chance alone, with a known probability, so that the accuracy on the device can be estimated without
//!   bias. No share limits it and nothing about the image or its prediction bears on it.
//!
//! An image whose bytes were seen before is not kept again. Audit samples are therefore a sample of the distinct
//! images, each drawn once, when it first appeared: drawing again with every copy would include images with many
//! copies more often than the recorded probability says. The draw is still made for a copy, and dropped, so that
//! the n-th image of a device always gets the n-th draw of its seed, whatever came before and however often the
//! device was restarted.

use models::{Calibration, CollectionPolicy, Digest, Prediction, Reason, sync::Counters};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Classifier, journal::History};

/// Words of the generator that one draw takes: an `f64`.
const WORDS_PER_DRAW: u128 = 2;

/// The rules of one bundle.
#[derive(Clone, Debug)]
pub struct Policy {
    bundle: Digest,
    collection: CollectionPolicy,
    calibration: Calibration,
}

impl Policy {
    /// The rules of the bundle that `classifier` runs.
    pub fn of(classifier: &Classifier) -> Self {
        let manifest = classifier.manifest();
        Self::new(classifier.digest(), manifest.collection.clone(), manifest.calibration.clone())
    }

    /// The rules of `bundle` from its two parts.
    pub fn new(bundle: Digest, collection: CollectionPolicy, calibration: Calibration) -> Self {
        Self { bundle, collection, calibration }
    }

    /// Why an image that was just classified is to be kept; nothing if it is not. Counts it as classified, and as a
    /// duplicate or over quota where it is.
    ///
    /// `rng` has to stand where [`seek`] puts it; each call takes one draw. `history` holds the images before.
    pub fn judge(
        &self,
        rng: &mut ChaCha8Rng,
        history: &History,
        image: Digest,
        prediction: &Prediction,
        counters: &mut Counters,
    ) -> Vec<Reason> {
        let probability = self.collection.audit_probability;
        let audited = rng.random::<f64>() < probability;
        counters.classified += 1;
        if history.has_image(image) {
            counters.duplicates += 1;
            return Vec::new();
        }
        let mut reasons = Vec::new();
        if self.calibration.is_confident(prediction) {
            if history.confident(self.bundle, prediction.class) < self.collection.confident_per_class {
                reasons.push(Reason::Confident { threshold: self.calibration.thresholds[prediction.class] });
            } else {
                counters.over_quota += 1;
            }
        }
        if audited {
            reasons.push(Reason::Audit { probability });
        }
        reasons
    }
}

/// Puts a generator where the draw for the next image begins.
pub fn seek(rng: &mut ChaCha8Rng, history: &History) {
    rng.set_word_pos(WORDS_PER_DRAW * u128::from(history.entries()));
}

/// Counts a sample that is safely on disk.
pub fn count_kept(reasons: &[Reason], counters: &mut Counters) {
    for reason in reasons {
        match reason {
            Reason::Confident { .. } => counters.confident += 1,
            Reason::Audit { .. } => counters.audit += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rand::SeedableRng;

    use super::*;
    use crate::journal::Entry;

    struct Device {
        policy: Policy,
        rng: ChaCha8Rng,
        history: History,
        counters: Counters,
    }

    impl Device {
        fn new(confident_per_class: u32, audit_probability: f64) -> Self {
            let calibration = Calibration { temperature: 1.0, thresholds: vec![0.8, 0.9] };
            let collection = CollectionPolicy { confident_per_class, audit_probability };
            Self {
                policy: Policy::new(Digest::of(b"bundle"), collection, calibration),
                rng: ChaCha8Rng::seed_from_u64(11),
                history: History::default(),
                counters: Counters::default(),
            }
        }

        fn see(&mut self, image: u32, class: usize, confidence: f64) -> Vec<Reason> {
            let image = Digest::of(&image.to_le_bytes());
            let prediction = Prediction { class, confidence, probs: vec![confidence; 2] };
            let Self { policy, rng, history, counters } = self;
            let kept = policy.judge(rng, history, image, &prediction, counters);
            count_kept(&kept, counters);
            history.add(&Entry {
                source: image.to_string(),
                image,
                classified: Timestamp::UNIX_EPOCH,
                bundle: policy.bundle,
                sequence: 1,
                class,
                label: class.to_string(),
                confidence,
                kept: kept.clone(),
            });
            kept
        }
    }

    #[test]
    fn confident_samples_are_kept_up_to_their_class_share() {
        let mut device = Device::new(2, 0.0);
        let kept: Vec<usize> = (0..4).map(|i| device.see(i, 0, 0.85).len()).collect();
        assert_eq!(kept, [1, 1, 0, 0]);
        // The other class has its own threshold and its own share; reaching the threshold is enough.
        assert!(device.see(10, 1, 0.85).is_empty());
        assert_eq!(device.see(11, 1, 0.9), [Reason::Confident { threshold: 0.9 }]);
        let expected = Counters { classified: 6, confident: 3, over_quota: 2, ..Counters::default() };
        assert_eq!(device.counters, expected);
        // A new bundle starts with a full share.
        device.policy.bundle = Digest::of(b"next");
        assert_eq!(device.see(20, 0, 0.85).len(), 1);
    }

    #[test]
    fn a_copy_is_never_kept_and_never_disturbs_the_draws_of_others() {
        let mut plain = Device::new(0, 0.5);
        let mut copies = Device::new(0, 0.5);
        for i in 0..200 {
            let copy = i % 3 == 1;
            let expected = plain.see(i, 0, 0.1);
            let found = copies.see(if copy { i - 1 } else { i }, 0, 0.1);
            assert_eq!(found, if copy { Vec::new() } else { expected });
        }
        assert_eq!(copies.counters.duplicates, 67);
    }

    #[test]
    fn audit_ignores_confidence_and_share() {
        const IMAGES: u32 = 20_000;
        // Sure and unsure images in turn; the share of the sure ones is soon spent.
        let mut mixed = Device::new(5, 0.1);
        let mut unsure = Device::new(5, 0.1);
        let mut drawn = [0.0; 2];
        let is_audit = |reasons: &[Reason]| reasons.contains(&Reason::Audit { probability: 0.1 });
        for i in 0..IMAGES {
            let sure = (i % 2) as usize;
            let audited = is_audit(&mixed.see(i, 0, [0.1, 0.99][sure]));
            drawn[sure] += f64::from(audited);
            assert_eq!(audited, is_audit(&unsure.see(i, 1, 0.2)), "image {i}: the prediction changed the draw");
        }
        // Five standard deviations of a binomial of 10 000 draws with probability 0.1 are 150.
        assert!(drawn.iter().all(|&n: &f64| (n - 1000.0).abs() < 150.0), "{drawn:?}");
    }

    #[test]
    fn a_restart_goes_on_with_the_next_draw() {
        let mut whole = Device::new(0, 0.5);
        let mut restarted = Device::new(0, 0.5);
        for i in 0..50 {
            restarted.rng = ChaCha8Rng::seed_from_u64(11);
            seek(&mut restarted.rng, &restarted.history);
            assert_eq!(whole.see(i, 0, 0.1), restarted.see(i, 0, 0.1));
        }
    }
}
