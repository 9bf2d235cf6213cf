//! Which samples a device keeps while it runs a bundle.
//!
//! The rules are part of the signed bundle, so that whoever publishes a model says what it is to be taught next. A device
//! may keep less, by limits of its own; never more.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which samples a device keeps while it runs a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CollectionPolicy {
    /// Confident samples kept per class and bundle, at most. Keeps a frequent class from filling the disk.
    pub confident_per_class: u32,
    /// Probability with which any image at all is kept for audit, whatever the model says of it.
    pub audit_probability: f64,
    /// Which images the model is unsure of.
    pub uncertain: Uncertain,
    /// How far a class may outweigh the others.
    pub balance: Balance,
    /// Who else has to agree before a prediction becomes a pseudo-label.
    pub agreement: Agreement,
    /// Which images are too much like one that was kept.
    pub near_duplicates: NearDuplicates,
    /// What is kept of classes that the workstation asks for.
    pub wanted: Wanted,
    /// How much is kept in a time. Audit samples are kept all the same.
    pub budget: Budget,
}

impl Default for CollectionPolicy {
    fn default() -> Self {
        Self {
            confident_per_class: 1000,
            audit_probability: 0.05,
            uncertain: Uncertain::default(),
            balance: Balance::default(),
            agreement: Agreement::default(),
            near_duplicates: NearDuplicates::default(),
            wanted: Wanted::default(),
            budget: Budget::default(),
        }
    }
}

/// Images that the model is unsure of: either sign suffices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Uncertain {
    /// Difference of the two largest probabilities up to which an image is uncertain.
    pub margin: f64,
    /// Entropy of the probabilities from which it is, as a fraction of the largest that so many classes allow. 1: never.
    pub entropy: f64,
    /// Uncertain samples kept per predicted class and bundle, at most. 0: none.
    pub per_class: u32,
}

impl Default for Uncertain {
    fn default() -> Self {
        Self { margin: 0.1, entropy: 0.8, per_class: 100 }
    }
}

/// How far a class may outweigh the others among confident samples, on this device and, as far as the workstation has told,
/// in the fleet: distribution alignment, where it is cheapest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Balance {
    /// No class may have more than so many times an equal share of the samples.
    pub ratio: f64,
    /// Samples that a class may have before that counts.
    pub from: u32,
}

impl Default for Balance {
    fn default() -> Self {
        Self { ratio: 3.0, from: 50 }
    }
}

impl Balance {
    /// Whether a class that has `of_class` samples out of `total` may have one more.
    pub fn admits(&self, of_class: u64, total: u64, classes: usize) -> bool {
        let share = self.ratio * total as f64 / classes as f64;
        of_class < u64::from(self.from) || (of_class as f64) < share
    }
}

/// Who else has to agree before a prediction becomes a pseudo-label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Agreement {
    /// Views of the same image, each moved a little, that must be given the same class: 0 to 4. Each costs an inference, of
    /// confident images alone.
    pub views: usize,
    /// Of the last `of_frames` images of the same stream, this one included, so many must have the same class. For cameras that
    /// see a thing in several images in a row.
    pub frames: usize,
    /// How many images in a row those are: 1 to 16. 1: each image speaks for itself.
    pub of_frames: usize,
}

impl Agreement {
    /// Views that there are.
    pub const MAX_VIEWS: usize = 4;
    /// Images that are looked back at, at most.
    pub const MAX_FRAMES: usize = 16;
}

impl Default for Agreement {
    fn default() -> Self {
        Self { views: 0, frames: 1, of_frames: 1 }
    }
}

/// Images too much like one that was kept, told by a perceptual hash of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NearDuplicates {
    /// Bits out of 64 in which two images may differ and still be taken for the same. Default: what tells noisy copies from other
    /// images on CIFAR-10, docs/results.md.
    pub bits: u32,
    /// Kept samples that a new one is compared with, the latest ones: at most 10000. 0: none.
    pub window: usize,
}

impl NearDuplicates {
    /// Samples that are looked back at, at most.
    pub const MAX_WINDOW: usize = 10_000;
}

impl Default for NearDuplicates {
    fn default() -> Self {
        Self { bits: 6, window: 500 }
    }
}

/// What is kept of classes that the workstation asks for, beyond the shares of their class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// Probability of the class from which an image is kept.
    pub confidence: f64,
    /// Samples kept for one request and class, at most, however many it asks for. 0: none.
    pub per_class: u32,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { confidence: 0.3, per_class: 1000 }
    }
}

/// How much is kept in a time; what is left out is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Samples in the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Samples in the last hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// Samples in the last 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// Mebibytes of images in the last 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mebibytes_per_day: Option<u32>,
}

impl Budget {
    /// What both allow.
    pub fn and(self, other: Self) -> Self {
        let least = |a: Option<u32>, b: Option<u32>| a.into_iter().chain(b).min();
        Self {
            per_minute: least(self.per_minute, other.per_minute),
            per_hour: least(self.per_hour, other.per_hour),
            per_day: least(self.per_day, other.per_day),
            mebibytes_per_day: least(self.mebibytes_per_day, other.mebibytes_per_day),
        }
    }
}

impl CollectionPolicy {
    /// Checks every value; `what` names the policy's place in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the key.
    pub fn validate(&self, what: &str) -> Result<()> {
        let fractions = [
            ("audit_probability", self.audit_probability),
            ("uncertain.margin", self.uncertain.margin),
            ("uncertain.entropy", self.uncertain.entropy),
            ("wanted.confidence", self.wanted.confidence),
        ];
        for (key, value) in fractions {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::malformed(format!("{what}.{key}"), "a number from 0 to 1", value));
            }
        }
        if !(self.balance.ratio >= 1.0 && self.balance.ratio.is_finite()) {
            return Err(Error::malformed(format!("{what}.balance.ratio"), "a number from 1", self.balance.ratio));
        }
        let Agreement { views, frames, of_frames } = self.agreement;
        if views > Agreement::MAX_VIEWS {
            let expected = format!("at most {} views", Agreement::MAX_VIEWS);
            return Err(Error::malformed(format!("{what}.agreement.views"), expected, views));
        }
        if !(1 <= frames && frames <= of_frames && of_frames <= Agreement::MAX_FRAMES) {
            let expected = format!("1 <= frames <= of_frames <= {}", Agreement::MAX_FRAMES);
            return Err(Error::malformed(
                format!("{what}.agreement"),
                expected,
                format!("{frames} of {of_frames} frames"),
            ));
        }
        let NearDuplicates { bits, window } = self.near_duplicates;
        if bits > 64 || window > NearDuplicates::MAX_WINDOW {
            let expected = format!("at most 64 bits and a window of {}", NearDuplicates::MAX_WINDOW);
            let found = format!("{bits} bits and {window}");
            return Err(Error::malformed(format!("{what}.near_duplicates"), expected, found));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_held_back_once_it_outweighs_the_others() {
        let balance = Balance { ratio: 2.0, from: 10 };
        // 10 classes: an equal share of 200 is 20, twice that 40.
        assert!(balance.admits(9, 9, 10), "the first ten come in whatever the others have");
        assert!(!balance.admits(10, 10, 10));
        assert!(balance.admits(39, 200, 10) && !balance.admits(40, 200, 10));
    }

    #[test]
    fn senseless_rules_are_errors_that_name_the_key() {
        type Change = fn(&mut CollectionPolicy);
        let changes: [(Change, &str); 8] = [
            (|p| p.audit_probability = 1.5, "audit_probability"),
            (|p| p.uncertain.entropy = f64::NAN, "uncertain.entropy"),
            (|p| p.balance.ratio = 0.5, "balance.ratio"),
            (|p| p.agreement.views = 5, "agreement.views"),
            (|p| p.agreement.frames = 0, "agreement"),
            (|p| p.agreement.frames = 2, "2 of 1 frames"),
            (|p| p.near_duplicates.bits = 65, "near_duplicates"),
            (|p| p.near_duplicates.window = 10_001, "near_duplicates"),
        ];
        assert!(CollectionPolicy::default().validate("collection").is_ok());
        for (change, said) in changes {
            let mut policy = CollectionPolicy::default();
            change(&mut policy);
            let error = policy.validate("collection").err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains("collection") && error.contains(said), "{error:?} does not say {said:?}");
        }
    }
}
