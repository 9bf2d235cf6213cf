//! Chooses what a round trains on of all that came in: what is surely of a class, each scene once, and of no class and no device too
//! much.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use models::{Calibration, Digest, LabelSet, PerceptualHash, Reviews, Said, collection::NearDuplicates};
use serde::{Deserialize, Serialize};

use super::relabel::Relabeled;
use crate::project::{ChoiceConfig, Pictures};

/// From so many devices on, none may have sent too much of a class: of two, one is bound to have sent half.
const DEVICES: usize = 3;

/// How many samples went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Choice {
    /// To be trained on.
    pub chosen: usize,
    /// Of these, how many people have labeled.
    pub labeled: usize,
    /// Of these, how many look like an image of the test set without being one.
    pub like_test: usize,
    /// Kept apart because they were drawn for audit: what judges models must not have taught them.
    pub audit: usize,
    /// Left out because the image, or one that looks like it, is an audit sample.
    pub like_audit: usize,
    /// Left out because somebody said that it shows none of the classes, or that it cannot be told.
    pub rejected: usize,
    /// Left out because the image is in the test set.
    pub in_test_set: usize,
    /// Left out because the workstation has the image already.
    pub known: usize,
    /// Left out because the current model is not confident.
    pub unsure: usize,
    /// Left out because the current model contradicts the device's pseudo-label.
    pub contradicted: usize,
    /// Left out because the image cannot be read.
    pub unreadable: usize,
    /// Left out because another one looks like it, of which the current model is more confident.
    pub near_duplicate: usize,
    /// Left out because its device has sent too much of its class.
    pub over_device: usize,
    /// Left out because there is enough of its class.
    pub over_class: usize,
}

impl Choice {
    /// How many samples were looked at.
    pub fn total(&self) -> usize {
        let left = [
            self.audit,
            self.like_audit,
            self.rejected,
            self.in_test_set,
            self.known,
            self.unsure,
            self.contradicted,
            self.unreadable,
        ];
        let too_many = [self.near_duplicate, self.over_device, self.over_class];
        self.chosen + left.iter().chain(&too_many).sum::<usize>()
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples to train on", self.chosen)?;
        let others = [
            (self.labeled, "of them labeled by people"),
            (self.audit, "kept apart for audit"),
            (self.like_audit, "like audit samples"),
            (self.rejected, "rejected by people"),
            (self.in_test_set, "in the test set"),
            (self.known, "known"),
            (self.unsure, "unsure"),
            (self.contradicted, "contradicted"),
            (self.unreadable, "unreadable"),
            (self.near_duplicate, "like others"),
            (self.over_device, "too many of a device"),
            (self.over_class, "too many of a class"),
        ];
        others.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, why)| write!(f, ", {count} {why}"))
    }
}

/// What a round trains on.
#[derive(Clone, Debug, Default)]
pub struct Chosen<'a> {
    /// Samples that people have labeled, each with its label. Nothing a model says bears on them.
    pub labeled: Vec<(&'a Relabeled, &'a str)>,
    /// Samples without labels.
    pub unlabeled: Vec<&'a Relabeled>,
    /// How many samples went which way.
    pub choice: Choice,
}

/// Chooses the samples to train on.
pub fn choose<'a>(
    relabeled: &'a [Relabeled],
    labels: &LabelSet,
    calibration: &Calibration,
    pictures: &Pictures,
    reviews: &'a Reviews,
    config: &ChoiceConfig,
    near: NearDuplicates,
) -> Chosen<'a> {
    let mut choice = Choice::default();
    let (mut labeled, mut labeled_looks, mut sure) = (Vec::new(), Vec::new(), Vec::new());
    let looks_alike = |a: PerceptualHash, b: PerceptualHash| near.window > 0 && a.distance(b) <= near.bits;
    let is_audit = |candidate: &&Relabeled| candidate.sample.record.audit_probability().is_some();
    let audit: BTreeSet<Digest> = relabeled.iter().filter(is_audit).map(|audit| audit.pixels.digest()).collect();
    let audit_looks: Vec<_> =
        relabeled.iter().filter(is_audit).map(|audit| PerceptualHash::of(&audit.pixels)).collect();
    for candidate in relabeled {
        let record = &candidate.sample.record;
        let contradicts = |label: usize| label != candidate.prediction.class;
        let (picture, look) = (candidate.pixels.digest(), PerceptualHash::of(&candidate.pixels));
        let counter = if pictures.test.contains(&picture) {
            &mut choice.in_test_set
        } else if record.audit_probability().is_some() {
            &mut choice.audit
        } else if audit.contains(&picture) || audit_looks.iter().any(|audit| looks_alike(*audit, look)) {
            &mut choice.like_audit
        } else if let Some(said) = reviews.of(record.image) {
            // A label may be of a class from before.
            if let Said::Label(label) = said
                && labels.index(label).is_some()
            {
                labeled.push((candidate, label.as_str()));
                labeled_looks.push(look);
                continue;
            }
            &mut choice.rejected
        } else if pictures.known.contains(&picture) {
            &mut choice.known
        } else if record.pseudo_label().is_some_and(contradicts) {
            &mut choice.contradicted
        } else if !calibration.is_confident(&candidate.prediction) {
            &mut choice.unsure
        } else {
            sure.push((candidate, look));
            continue;
        };
        *counter += 1;
    }
    let once = once(sure, looks_alike, &mut choice);
    let chosen = in_shares(once, config, &mut choice);
    (choice.chosen, choice.labeled) = (labeled.len() + chosen.len(), labeled.len());
    let is_like_test = |look: PerceptualHash| pictures.test_looks.iter().any(|test| looks_alike(*test, look));
    let looks = chosen.iter().map(|(_, look)| *look).chain(labeled_looks);
    choice.like_test = looks.filter(|look| is_like_test(*look)).count();
    Chosen { labeled, unlabeled: chosen.into_iter().map(|(candidate, _)| candidate).collect(), choice }
}

type Look<'a> = (&'a Relabeled, PerceptualHash);

/// Of those that look alike, the one that the current model is most confident of.
fn once<'a>(
    mut sure: Vec<Look<'a>>,
    looks_alike: impl Fn(PerceptualHash, PerceptualHash) -> bool,
    choice: &mut Choice,
) -> Vec<Look<'a>> {
    sure.sort_by(|(a, _), (b, _)| {
        let by_confidence = b.prediction.confidence.total_cmp(&a.prediction.confidence);
        by_confidence.then(a.sample.record.image.cmp(&b.sample.record.image))
    });
    let mut kept: Vec<Look<'a>> = Vec::new();
    for (candidate, look) in sure {
        if kept.iter().any(|(_, other)| looks_alike(*other, look)) {
            choice.near_duplicate += 1;
        } else {
            kept.push((candidate, look));
        }
    }
    kept
}

/// Bounds what one device has of a class, then what there is of a class. What stays of a device and class is a choice by digest, and
/// not by confidence, which would make a class of its clearest images alone.
fn in_shares<'a>(candidates: Vec<Look<'a>>, config: &ChoiceConfig, choice: &mut Choice) -> Vec<Look<'a>> {
    let mut classes: BTreeMap<usize, BTreeMap<&str, Vec<Look<'a>>>> = BTreeMap::new();
    for candidate in candidates {
        let (relabeled, _) = candidate;
        let devices = classes.entry(relabeled.prediction.class).or_default();
        devices.entry(&relabeled.sample.record.device).or_default().push(candidate);
    }
    let mut chosen = Vec::new();
    for mut devices in classes.into_values() {
        for samples in devices.values_mut() {
            samples.sort_by_key(|(relabeled, _)| relabeled.sample.record.image);
        }
        if devices.len() >= DEVICES {
            let fits = |most: usize, all: usize| most as f64 <= config.device_share * all as f64;
            choice.over_device += cut(&mut devices, fits);
        }
        if let Some(quota) = config.per_class {
            choice.over_class += cut(&mut devices, |_, all| all <= quota as usize);
        }
        chosen.extend(devices.into_values().flatten());
    }
    chosen.sort_by_key(|(relabeled, _)| Reverse(relabeled.sample.record.image));
    chosen
}

/// Leaves each device the same number at most: the largest that fits, given that and what is then left of all. How many went.
fn cut<T>(devices: &mut BTreeMap<&str, Vec<T>>, fits: impl Fn(usize, usize) -> bool) -> usize {
    let counts: Vec<usize> = devices.values().map(Vec::len).collect();
    let left = |most: usize| counts.iter().map(|count| *count.min(&most)).sum::<usize>();
    let largest = counts.iter().copied().max().unwrap_or(0);
    let most = (1..=largest).rev().find(|most| fits(*most, left(*most))).unwrap_or(0);
    devices.values_mut().for_each(|samples| samples.truncate(most));
    counts.iter().sum::<usize>() - left(most)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use models::{Pixels, Prediction, Reason, Review, Sample, SampleRecord};

    use super::*;

    /// A picture of its own for every number: noise that nothing else looks like.
    fn picture(number: u64) -> Pixels {
        let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        Pixels { height: 8, width: 9, channels: 1, data: (0..72).map(|_| noise()).collect() }
    }

    fn candidate(number: u64, device: &str, class: usize, now: [f64; 2], reason: Reason) -> Relabeled {
        let predict = |probs: [f64; 2]| {
            let class = usize::from(probs[1] > probs[0]);
            Prediction { class, confidence: probs[class], probs: probs.to_vec() }
        };
        let record = SampleRecord {
            image: Digest::of(&number.to_le_bytes()),
            extension: "png".into(),
            device: device.into(),
            source: number.to_string(),
            captured: Timestamp::UNIX_EPOCH,
            bundle: Digest::of(b"bundle"),
            prediction: predict(if class == 0 { [0.95, 0.05] } else { [0.05, 0.95] }),
            reasons: vec![reason],
        };
        Relabeled { sample: Sample { record, image: Vec::new() }, pixels: picture(number), prediction: predict(now) }
    }

    fn said(number: u64, said: Said) -> Review {
        Review { at: Timestamp::UNIX_EPOCH, image: Digest::of(&number.to_le_bytes()), by: "ann".into(), said }
    }

    const CONFIDENT: Reason = Reason::Confident { threshold: 0.9 };

    fn labels() -> LabelSet {
        LabelSet::new(["a", "b"]).expect("two classes")
    }

    fn calibration() -> Calibration {
        Calibration { temperature: 1.0, thresholds: vec![0.9, 0.9] }
    }

    fn names<'a>(chosen: &[&'a Relabeled]) -> BTreeSet<&'a str> {
        chosen.iter().map(|candidate| candidate.sample.record.source.as_str()).collect()
    }

    #[test]
    fn only_agreed_confident_new_images_are_trained_on() {
        let sure = [0.97, 0.03];
        let candidates = [
            candidate(1, "cam-1", 0, sure, CONFIDENT),
            candidate(2, "cam-1", 1, sure, CONFIDENT),
            candidate(3, "cam-1", 0, [0.6, 0.4], CONFIDENT),
            candidate(4, "cam-1", 0, sure, Reason::Audit { probability: 0.05 }),
            candidate(5, "cam-1", 0, sure, CONFIDENT),
            candidate(6, "cam-1", 0, sure, CONFIDENT),
            // Whatever the models say, people have the last word, but not on what is to judge.
            candidate(7, "cam-1", 0, [0.5, 0.5], CONFIDENT),
            candidate(8, "cam-1", 0, sure, CONFIDENT),
            candidate(9, "cam-1", 0, sure, Reason::Audit { probability: 0.05 }),
            // Another file of an audit sample's picture, which somebody has labeled.
            Relabeled { pixels: picture(4), ..candidate(10, "cam-2", 0, sure, CONFIDENT) },
        ];
        let label = || Said::Label("b".into());
        let reviews = Reviews::new([
            said(7, label()),
            said(8, Said::Reject),
            said(9, label()),
            said(5, label()),
            said(10, label()),
        ]);
        let set = |number: u64| BTreeSet::from([picture(number).digest()]);
        let pictures = Pictures { test: set(5), test_looks: Vec::new(), known: set(6) };
        let (config, near) = (ChoiceConfig::default(), NearDuplicates::default());
        let Chosen { labeled, unlabeled, choice } =
            choose(&candidates, &labels(), &calibration(), &pictures, &reviews, &config, near);
        assert_eq!(names(&unlabeled), BTreeSet::from(["1"]));
        let labeled: Vec<_> = labeled.iter().map(|(c, label)| (c.sample.record.source.as_str(), *label)).collect();
        assert_eq!(labeled, [("7", "b")]);
        let expected = Choice {
            chosen: 2,
            labeled: 1,
            audit: 2,
            like_audit: 1,
            rejected: 1,
            in_test_set: 1,
            known: 1,
            unsure: 1,
            contradicted: 1,
            ..Choice::default()
        };
        assert_eq!((choice, choice.total()), (expected, candidates.len()));
        let said = "2 samples to train on, 1 of them labeled by people, 2 kept apart for audit, 1 like audit samples, 1 rejected by people, \
                    1 in the test set, 1 known, 1 unsure, 1 contradicted";
        assert_eq!(choice.to_string(), said);
    }

    #[test]
    fn a_label_of_a_class_that_is_no_more_is_not_trained_on() {
        let candidates = [candidate(1, "cam-1", 0, [0.97, 0.03], CONFIDENT)];
        let reviews = Reviews::new([said(1, Said::Label("c".into()))]);
        let (config, near) = (ChoiceConfig::default(), NearDuplicates::default());
        let Chosen { labeled, unlabeled, choice } =
            choose(&candidates, &labels(), &calibration(), &Pictures::default(), &reviews, &config, near);
        assert_eq!((labeled.len(), unlabeled.len(), choice.rejected), (0, 0, 1));
    }

    #[test]
    fn what_looks_alike_is_trained_on_once_and_what_looks_like_the_test_set_is_counted() {
        let like = |number: u64, original: u64, confidence: f64| {
            let mut pixels = picture(original);
            pixels.data[0] ^= 1;
            let now = [confidence, 1.0 - confidence];
            Relabeled { pixels, ..candidate(number, "cam-1", 0, now, CONFIDENT) }
        };
        let candidates = [like(1, 100, 0.95), like(2, 100, 0.99), like(3, 100, 0.97), like(4, 200, 0.95)];
        let looks = vec![PerceptualHash::of(&picture(200))];
        let pictures = Pictures { test_looks: looks, ..Pictures::default() };
        let (reviews, config, near) = (Reviews::default(), ChoiceConfig::default(), NearDuplicates::default());
        let Chosen { unlabeled, choice, .. } =
            choose(&candidates, &labels(), &calibration(), &pictures, &reviews, &config, near);
        assert_eq!(names(&unlabeled), BTreeSet::from(["2", "4"]));
        assert_eq!((choice.chosen, choice.near_duplicate, choice.like_test), (2, 2, 1));
    }

    #[test]
    fn no_device_and_no_class_has_too_much() {
        // Of class 0, devices have sent 60, 10 and 10; of class 1, one has sent all 30.
        let sent = [("cam-1", 0, 60), ("cam-2", 0, 10), ("cam-3", 0, 10), ("cam-1", 1, 30)];
        let sent = sent.into_iter().flat_map(|(device, class, count)| (0..count).map(move |_| (device, class)));
        let candidates: Vec<Relabeled> = (0..)
            .zip(sent)
            .map(|(number, (device, class))| {
                let now = if class == 0 { [0.97, 0.03] } else { [0.03, 0.97] };
                candidate(number, device, class, now, CONFIDENT)
            })
            .collect();
        let count = |chosen: &[&Relabeled], device: &str, class: usize| {
            let is_it = |c: &&&Relabeled| c.sample.record.device == device && c.prediction.class == class;
            chosen.iter().filter(is_it).count()
        };
        let near = NearDuplicates { window: 0, ..NearDuplicates::default() };
        let reviews = Reviews::default();
        let choose = |config: ChoiceConfig| {
            let chosen = choose(&candidates, &labels(), &calibration(), &Pictures::default(), &reviews, &config, near);
            (chosen.unlabeled, chosen.choice)
        };
        // Half of the class at most: 20 of 40.
        let (chosen, choice) = choose(ChoiceConfig::default());
        let counts = [("cam-1", 0), ("cam-2", 0), ("cam-3", 0), ("cam-1", 1)].map(|(d, c)| count(&chosen, d, c));
        assert_eq!((counts, choice.over_device, choice.over_class), ([20, 10, 10, 30], 40, 0));
        // And 25 of a class at most: the quota goes to all devices alike, 8 each, since 9 each would be 27.
        let (chosen, choice) = choose(ChoiceConfig { per_class: Some(25), ..ChoiceConfig::default() });
        let counts = [("cam-1", 0), ("cam-2", 0), ("cam-3", 0), ("cam-1", 1)].map(|(d, c)| count(&chosen, d, c));
        assert_eq!((counts, choice.over_device, choice.over_class), ([8, 8, 8, 25], 40, 16 + 5));
        // Without a limit, all.
        let (chosen, _) = choose(ChoiceConfig { device_share: 1.0, ..ChoiceConfig::default() });
        assert_eq!(chosen.len(), 110);
    }
}
