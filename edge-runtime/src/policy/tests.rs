use models::{
    collection::{Agreement, Balance, NearDuplicates},
    sync::Wish,
};
use rand::SeedableRng;

use super::*;
use crate::journal::Entry;

/// A device that sees images of two classes, one a second.
struct Device {
    policy: Policy,
    rng: ChaCha8Rng,
    history: History,
    demand: Demand,
    views_agree: bool,
    kept: usize,
    dropped: Vec<Dropped>,
}

/// Everything off but what a test turns on.
fn nothing() -> CollectionPolicy {
    let mut policy = CollectionPolicy { audit_probability: 0.0, ..CollectionPolicy::default() };
    policy.uncertain.per_class = 0;
    policy.near_duplicates.window = 0;
    policy
}

impl Device {
    fn new(collection: CollectionPolicy) -> Self {
        let calibration = Calibration { temperature: 1.0, thresholds: vec![0.8, 0.9] };
        let labels = LabelSet::new(["cat", "dog"]).expect("two labels");
        let bundle = Digest::of(b"bundle");
        Self {
            policy: Policy { bundle, labels, collection, calibration, limits: LocalLimits::default() },
            rng: ChaCha8Rng::seed_from_u64(11),
            history: History::default(),
            demand: Demand::default(),
            views_agree: true,
            kept: 0,
            dropped: Vec::new(),
        }
    }

    fn see(&mut self, image: u32, class: usize, confidence: f64) -> Verdict {
        self.see_at(i64::from(image), image, class, confidence)
    }

    fn see_at(&mut self, second: i64, image: u32, class: usize, confidence: f64) -> Verdict {
        // Looks of different images differ in half of their bits.
        let look = format!("{:016x}", u64::from(image + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.see_like(second, image, &look, class, confidence)
    }

    fn see_like(&mut self, second: i64, image: u32, look: &str, class: usize, confidence: f64) -> Verdict {
        let mut probs = vec![1.0 - confidence; 2];
        probs[class] = confidence;
        let prediction = Prediction { class, confidence, probs };
        let source = format!("door/{image}.png");
        let candidate = Candidate {
            source: &source,
            image: Digest::of(&image.to_le_bytes()),
            bytes: 1 << 18,
            look: look.parse().expect("a look"),
            prediction: &prediction,
            classified: Timestamp::from_second(second).expect("a time"),
        };
        let drawn = draw(&mut self.rng);
        let agree = self.views_agree;
        let verdict = self.policy.judge(&candidate, drawn, &self.history, &self.demand, |_| agree);
        self.kept += usize::from(verdict.is_ok());
        self.dropped.extend(verdict.as_ref().err());
        self.history.add(&Entry {
            source: source.clone(),
            image: candidate.image,
            classified: candidate.classified,
            bundle: self.policy.bundle,
            sequence: 1,
            class,
            label: class.to_string(),
            confidence,
            kept: verdict.clone().unwrap_or_default(),
            dropped: verdict.as_ref().err().copied(),
            arrived: false,
            look: verdict.as_ref().ok().map(|_| candidate.look),
            bytes: verdict.as_ref().ok().map(|_| candidate.bytes),
        });
        verdict
    }
}

#[test]
fn confident_samples_are_kept_up_to_their_class_number() {
    let mut device = Device::new(CollectionPolicy { confident_per_class: 2, ..nothing() });
    let kept: Vec<bool> = (0..4).map(|i| device.see(i, 0, 0.85).is_ok()).collect();
    assert_eq!(kept, [true, true, false, false]);
    // The other class has its own threshold and its own number; reaching the threshold is enough.
    assert_eq!(device.see(10, 1, 0.85), Err(Dropped::Ordinary));
    assert_eq!(device.see(11, 1, 0.9), Ok(vec![Reason::Confident { threshold: 0.9 }]));
    assert_eq!(device.dropped, [Dropped::ClassQuota, Dropped::ClassQuota, Dropped::Ordinary]);
    // A new bundle starts anew.
    device.policy.bundle = Digest::of(b"next");
    assert!(device.see(20, 0, 0.85).is_ok());
}

#[test]
fn a_class_that_outweighs_the_fleet_is_held_back_and_a_rare_one_is_not() {
    let balance = Balance { ratio: 1.5, from: 4 };
    let mut device = Device::new(CollectionPolicy { balance, ..nothing() });
    // Alone: the fifth is more than three quarters of all.
    let kept = (0..8).filter(|i| device.see(*i, 0, 0.95).is_ok()).count();
    assert_eq!((kept, device.dropped.first()), (4, Some(&Dropped::ClassShare)));
    // The fleet has many of the other class: this one may come in again, and the other may not.
    device.demand.held.insert("dog".into(), 100);
    assert!(device.see(20, 0, 0.95).is_ok());
    assert_eq!(device.see(21, 1, 0.95), Err(Dropped::ClassShare));
}

#[test]
fn uncertain_is_a_small_margin_or_a_large_entropy() {
    let mut device = Device::new(CollectionPolicy::default());
    device.policy.collection.uncertain.per_class = 2;
    device.policy.collection.uncertain.entropy = 1.0;
    assert!(matches!(device.see(0, 0, 0.54).as_deref(), Ok([Reason::Uncertain { .. }])));
    assert_eq!(device.see(1, 0, 0.6), Err(Dropped::Ordinary));
    // Of 0.6 and 0.4 it is 0.971 of the largest.
    device.policy.collection.uncertain.entropy = 0.97;
    assert!(device.see(2, 0, 0.6).is_ok());
    assert_eq!(device.see(3, 0, 0.5), Err(Dropped::ClassQuota));
}

#[test]
fn a_pseudo_label_needs_the_frames_before_and_the_views() {
    let agreement = Agreement { views: 2, frames: 2, of_frames: 3 };
    let mut device = Device::new(CollectionPolicy { agreement, ..nothing() });
    assert_eq!(device.see(0, 0, 0.95), Err(Dropped::Disagreement), "the first has nobody beside it");
    assert_eq!(device.see(1, 1, 0.95), Err(Dropped::Disagreement));
    assert!(device.see(2, 0, 0.95).is_ok(), "two of three");
    device.views_agree = false;
    assert_eq!(device.see(3, 0, 0.95), Err(Dropped::Disagreement));
}

#[test]
fn what_looks_like_a_kept_sample_is_not_kept_within_the_window() {
    let near_duplicates = NearDuplicates { bits: 3, window: 2 };
    let mut device = Device::new(CollectionPolicy { near_duplicates, ..nothing() });
    let mut see = |image: u32, look: &str| device.see_like(0, image, look, 0, 0.95);
    assert!(see(0, "00000000000000ff").is_ok());
    assert_eq!(see(1, "00000000000000f8"), Err(Dropped::NearDuplicate));
    assert!(see(2, "00000000000000f0").is_ok(), "four bits are another picture");
    assert!(see(3, "ffffffff00000000").is_ok());
    assert!(see(4, "00000000000000ff").is_ok(), "the first is out of the window");
}

#[test]
fn what_the_workstation_wants_is_kept_beyond_the_shares_as_often_as_it_asks() {
    let mut device = Device::new(CollectionPolicy { confident_per_class: 0, ..nothing() });
    let asked = Timestamp::UNIX_EPOCH;
    device.demand.wanted.insert("dog".into(), Wish { per_device: 2, asked });
    device.demand.wanted.insert("unicorn".into(), Wish { per_device: 2, asked });
    // Not the most probable class, but probable enough; a pseudo-label stays one.
    assert_eq!(device.see(0, 0, 0.65), Ok(vec![Reason::Wanted { class: 1, asked }]));
    assert_eq!(device.see(1, 0, 0.75), Err(Dropped::Ordinary), "0.25 is too little");
    let both = device.see(2, 1, 0.95);
    assert_eq!(both, Ok(vec![Reason::Confident { threshold: 0.9 }, Reason::Wanted { class: 1, asked }]));
    assert_eq!(device.see(3, 1, 0.95), Err(Dropped::ClassQuota));
    // Another request counts anew, within what the bundle allows.
    let later = Timestamp::from_second(9).expect("a time");
    device.demand.wanted.insert("dog".into(), Wish { per_device: 9, asked: later });
    device.policy.collection.wanted.per_class = 1;
    assert!(device.see(4, 1, 0.85).is_ok());
    assert_eq!(device.see(5, 1, 0.85), Err(Dropped::Ordinary));
}

#[test]
fn budgets_hold_for_their_time_and_the_smaller_one_counts() {
    const DAY: i64 = 86_400;
    let budget = |per_minute, per_hour, per_day, mebibytes_per_day| Budget {
        per_minute: Some(per_minute),
        per_hour: Some(per_hour),
        per_day: Some(per_day),
        mebibytes_per_day: Some(mebibytes_per_day),
    };
    let mut device = Device::new(CollectionPolicy { budget: budget(2, 9, 9, 9), ..nothing() });
    device.policy.limits.budget = budget(9, 3, 4, 9);
    let mut image = 0;
    let mut see = |device: &mut Device, second: i64| {
        image += 1;
        device.see_at(second, image, 0, 0.95).err()
    };
    assert_eq!([0, 0, 59].map(|s| see(&mut device, s)), [None, None, Some(Dropped::MinuteBudget)]);
    assert_eq!([60, 61].map(|s| see(&mut device, s)), [None, Some(Dropped::HourBudget)]);
    assert_eq!([3700, 3800].map(|s| see(&mut device, s)), [None, Some(Dropped::DayBudget)]);
    assert_eq!(see(&mut device, DAY), None, "the first two are a day old");
    // Four images a mebibyte; and each is written twice.
    device.policy.limits.budget = Budget { mebibytes_per_day: Some(1), ..Budget::default() };
    device.policy.collection.budget = Budget::default();
    assert_eq!(see(&mut device, DAY + 1), None);
    assert_eq!(see(&mut device, DAY + 1), Some(Dropped::ByteBudget));
    device.policy.limits = LocalLimits { write_mebibytes_per_day: Some(2), ..LocalLimits::default() };
    assert_eq!(see(&mut device, DAY + 1), Some(Dropped::WriteBudget));
    // A clock that was set back to its beginning: what was kept later does not count.
    assert_eq!(see(&mut device, -DAY), None);
}

#[test]
fn a_copy_is_never_kept_and_never_disturbs_the_draws_of_others() {
    let policy = CollectionPolicy { audit_probability: 0.5, ..nothing() };
    let mut plain = Device::new(policy.clone());
    let mut copies = Device::new(policy);
    for i in 0..200 {
        let copy = i % 3 == 1;
        let expected = plain.see(i, 0, 0.7);
        let found = copies.see(if copy { i - 1 } else { i }, 0, 0.7);
        assert_eq!(found, if copy { Err(Dropped::Duplicate) } else { expected });
    }
}

#[test]
fn nothing_displaces_audit_samples() {
    const IMAGES: u32 = 20_000;
    // Sure and unsure images in turn; the number of the sure ones is soon reached, and the budget is spent.
    let budget = Budget { per_day: Some(10), ..Budget::default() };
    let policy = CollectionPolicy { confident_per_class: 5, audit_probability: 0.1, budget, ..nothing() };
    let (mut mixed, mut unsure) = (Device::new(policy.clone()), Device::new(policy));
    let mut drawn = [0.0; 2];
    let is_audit = |verdict: Verdict| verdict.is_ok_and(|kept| kept.contains(&Reason::Audit { probability: 0.1 }));
    for i in 0..IMAGES {
        let sure = (i % 2) as usize;
        let audited = is_audit(mixed.see(i, 0, [0.7, 0.99][sure]));
        drawn[sure] += f64::from(audited);
        assert_eq!(audited, is_audit(unsure.see(i, 1, 0.7)), "image {i}: the prediction changed the draw");
    }
    // Five standard deviations of a binomial of 10 000 draws with probability 0.1 are 150.
    assert!(drawn.iter().all(|&n: &f64| (n - 1000.0).abs() < 150.0), "{drawn:?}");
    assert_eq!(mixed.kept + mixed.dropped.len(), IMAGES as usize, "each is kept or dropped");
}

#[test]
fn a_restart_goes_on_with_the_next_draw() {
    let policy = CollectionPolicy { audit_probability: 0.5, ..nothing() };
    let mut whole = Device::new(policy.clone());
    let mut restarted = Device::new(policy);
    for i in 0..50 {
        restarted.rng = ChaCha8Rng::seed_from_u64(11);
        seek(&mut restarted.rng, &restarted.history);
        assert_eq!(whole.see(i, 0, 0.7), restarted.see(i, 0, 0.7));
    }
}
