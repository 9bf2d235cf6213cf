//! How a new bundle does beside the one before it, on the same images of this device.
//!
//! The new one first answers in its shadow, and nobody sees its answers; then, on probation, it serves and the old one answers
//! beside it. Since both answer the same images, a change of what the camera sees is no fault of either.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// With fewer images nothing is said of a bundle.
const FEWEST: usize = 20;

/// What a new bundle has to show before it stays. It answers beside the one that serves, then serves on probation with that one
/// beside it; if it then does worse than this, the device goes back, and does not take that bundle again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrialConfig {
    /// Images that a new bundle answers beside the one that serves before it takes over. 0: it takes over at once.
    pub shadow_images: u32,
    /// Seconds after which it takes over with what images there were, unless they show something else. With `--once`, the images
    /// of one start count.
    pub shadow_seconds: f64,
    /// Images that it then answers on probation. 0: none.
    pub probation_images: u32,
    /// Seconds after which its probation ends with what images there were.
    pub probation_seconds: f64,
    /// Fraction of images to which both have to give the same label.
    pub agreement: f64,
    /// The median time of its answers, as a multiple of the other's, at most.
    pub slowdown: f64,
    /// The median time of its answers in milliseconds, at most. None: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
    /// Mebibytes that the program may take while it holds both, at most. None: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mebibytes: Option<u32>,
    /// Fraction of images of which it is not sure though the other one is, less the fraction where it is the other way round, at
    /// most.
    pub abstention: f64,
    /// Fraction of images that it moves from some labels to others (half the sum of the differences of all labels' shares), at
    /// most.
    pub class_shift: f64,
}

impl Default for TrialConfig {
    fn default() -> Self {
        Self {
            shadow_images: 50,
            shadow_seconds: 60.0,
            probation_images: 200,
            probation_seconds: 3600.0,
            agreement: 0.5,
            slowdown: 3.0,
            milliseconds: None,
            memory_mebibytes: None,
            abstention: 0.3,
            class_shift: 0.3,
        }
    }
}

impl TrialConfig {
    /// Checks every value; returns what is wrong.
    pub(crate) fn fault(&self) -> Option<String> {
        let seconds = [("shadow_seconds", self.shadow_seconds), ("probation_seconds", self.probation_seconds)];
        let fractions =
            [("agreement", self.agreement), ("abstention", self.abstention), ("class_shift", self.class_shift)];
        let wrong =
            |(name, value, expected): (&str, f64, &str)| format!("trial.{name} is {value}; expected {expected}");
        let seconds = seconds.map(|(name, v)| ((0.0..=604_800.0).contains(&v), (name, v, "0 to 604800 seconds")));
        let fractions = fractions.map(|(name, v)| ((0.0..=1.0).contains(&v), (name, v, "0 to 1")));
        let images = [("shadow_images", self.shadow_images), ("probation_images", self.probation_images)];
        let few = images.into_iter().find(|(_, images)| (1..FEWEST as u32).contains(images));
        if let Some((name, images)) = few {
            return Some(format!("trial.{name} is {images}; expected 0, or {FEWEST} or more"));
        }
        let slowdown = [(self.slowdown >= 1.0, ("slowdown", self.slowdown, "1 or more"))];
        let found = seconds.into_iter().chain(fractions).chain(slowdown).find(|(is_right, _)| !is_right);
        found.map(|(_, values)| wrong(values))
    }
}

/// What a bundle says of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The most probable label.
    pub label: String,
    /// Whether its probability reaches the label's threshold.
    pub is_confident: bool,
    /// How long it took.
    pub milliseconds: f64,
}

/// What both said of the same images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    agreeing: usize,
    old: Tally,
    new: Tally,
    /// What the new one could not answer.
    failure: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Tally {
    confident: usize,
    labels: BTreeMap<String, usize>,
    milliseconds: Vec<f64>,
}

impl Tally {
    fn add(&mut self, answer: Answer) {
        self.confident += usize::from(answer.is_confident);
        *self.labels.entry(answer.label).or_default() += 1;
        self.milliseconds.push(answer.milliseconds);
    }

    fn median_milliseconds(&self) -> f64 {
        let mut sorted = self.milliseconds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }
}

impl Comparison {
    /// Takes in what both say of an image.
    pub fn add(&mut self, old: Answer, new: Answer) {
        self.agreeing += usize::from(old.label == new.label);
        self.old.add(old);
        self.new.add(new);
    }

    /// Takes note that the new one could not answer an image that the old one could.
    pub fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// Images that both answered.
    pub fn images(&self) -> usize {
        self.new.milliseconds.len()
    }

    /// What speaks against the new one, if anything does; `resident` are the bytes that the program takes.
    pub fn fault(&self, limits: &TrialConfig, resident: Option<u64>) -> Option<String> {
        if let Some(why) = &self.failure {
            return Some(why.clone());
        }
        let mebibytes = resident.map(|bytes| bytes >> 20);
        if let (Some(found), Some(most)) = (mebibytes, limits.memory_mebibytes)
            && found > u64::from(most)
        {
            return Some(format!("with it the program takes {found} MiB; expected at most {most}"));
        }
        let images = self.images();
        if images < FEWEST {
            return None;
        }
        let of = |count: usize| count as f64 / images as f64;
        let percent = |fraction: f64| format!("{:.1} %", 100.0 * fraction);
        let (agreement, shift) = (of(self.agreeing), self.class_shift());
        let abstention = of(self.old.confident) - of(self.new.confident);
        let (old, new) = (self.old.median_milliseconds(), self.new.median_milliseconds());
        let most = limits.milliseconds.unwrap_or(f64::INFINITY).min(limits.slowdown * old);
        let faults = [
            (agreement < limits.agreement, format!("gives {} the same label", percent(agreement)), limits.agreement),
            (abstention > limits.abstention, format!("is sure of {} fewer", percent(abstention)), limits.abstention),
            (shift > limits.class_shift, format!("moves {} to other labels", percent(shift)), limits.class_shift),
        ];
        if let Some((_, found, limit)) = faults.into_iter().find(|(is_fault, ..)| *is_fault) {
            return Some(format!("of {images} images it {found} as the one before; the limit is {}", percent(limit)));
        }
        (new > most)
            .then(|| format!("it takes {new:.1} ms an image, the one before {old:.1}; expected at most {most:.1}"))
    }

    /// Half the sum of the differences of the labels' shares: the total variation distance.
    fn class_shift(&self) -> f64 {
        let count = |tally: &Tally, label| tally.labels.get(label).copied().unwrap_or(0);
        let labels = self.old.labels.keys().chain(self.new.labels.keys().filter(|l| !self.old.labels.contains_key(*l)));
        let differences = labels.map(|label| count(&self.old, label).abs_diff(count(&self.new, label)));
        differences.sum::<usize>() as f64 / (2 * self.images().max(1)) as f64
    }

    /// It in one line.
    pub fn summary(&self) -> String {
        let (old, new) = (self.old.median_milliseconds(), self.new.median_milliseconds());
        let (images, agreeing) = (self.images(), self.agreeing);
        format!("{images} images, {agreeing} with the same label, {new:.1} ms an image instead of {old:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(images: usize, pair: impl Fn(usize) -> [(&'static str, bool, f64); 2]) -> Comparison {
        let mut comparison = Comparison::default();
        for image in 0..images {
            let [old, new] = pair(image).map(|(label, is_confident, milliseconds)| Answer {
                label: label.into(),
                is_confident,
                milliseconds,
            });
            comparison.add(old, new);
        }
        comparison
    }

    fn fault(comparison: &Comparison) -> String {
        comparison.fault(&TrialConfig::default(), Some(64 << 20)).unwrap_or_default()
    }

    #[test]
    fn each_fault_is_found_and_named() {
        let label = |i| ["cat", "dog"][i % 2];
        let same = compared(40, |i| [(label(i), true, 5.0), (label(i), true, 14.9)]);
        assert_eq!(fault(&same), "");
        let slow = compared(40, |i| [(label(i), true, 5.0), (label(i), true, 15.1)]);
        assert!(fault(&slow).contains("15.1 ms"), "{}", fault(&slow));
        let unsure = compared(40, |i| [(label(i), true, 5.0), (label(i), i % 3 > 0, 5.0)]);
        assert!(fault(&unsure).contains("35.0 % fewer"), "{}", fault(&unsure));
        let swapped = compared(40, |i| [(label(i), true, 5.0), (label(i + 1), true, 5.0)]);
        assert!(fault(&swapped).contains("0.0 % the same label"), "{}", fault(&swapped));
        let collapsed = compared(40, |i| [(if i % 10 < 4 { "cat" } else { "dog" }, true, 5.0), ("cat", true, 5.0)]);
        let lenient = TrialConfig { agreement: 0.3, ..TrialConfig::default() };
        let said = collapsed.fault(&lenient, None).unwrap_or_default();
        assert!(said.contains("moves 60.0 %"), "{said}");
        let large = TrialConfig { memory_mebibytes: Some(63), ..TrialConfig::default() };
        assert!(same.fault(&large, Some(64 << 20)).is_some_and(|said| said.contains("64 MiB")));
        let mut mute = Comparison::default();
        mute.fail("no answer".into());
        assert_eq!(fault(&mute), "no answer");
        let few = compared(FEWEST - 1, |i| [(label(i), true, 5.0), (label(i + 1), false, 500.0)]);
        assert_eq!(fault(&few), "", "nothing is said of few images");
    }
}
