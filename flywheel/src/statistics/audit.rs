//! What audit samples say of everything that devices see, when people have labeled only some of them.
//!
//! An audit sample was kept with a known probability and stands for as many images as the probability's inverse says. Which of them a
//! person has labeled is chance too. So two samples of the field are at hand: a large one, of which the models' own words are known,
//! and a small one within it, of which the truth is. What the models say corrects for what the small one has by chance too much of.
//!
//! # Reference
//! Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, "Prediction-powered inference" (2023); with the tuning of Angelopoulos, Duchi
//! and Zrnic, "PPI++" (2023), section 6, for labeled images that are a part of all: Cochran, "Sampling Techniques" (1977),
//! section 12.6.

use models::Estimate;

use super::{Z_ONE_SIDED, effective, proportion};

/// Labels from which on the model's own words are used.
const ENOUGH: f64 = 30.0;

/// A question about an audit sample, such as whether a model is right, as far as the answer is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// How many images of the field it stands for.
    pub weight: f64,
    /// What is foreseen by the model's own words.
    pub expected: f64,
    /// The answer by a person's label, and how many images it stands for among those with labels.
    pub found: Option<(f64, bool)>,
}

/// What two models make of an audit sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// How many images of the field it stands for.
    pub weight: f64,
    /// Whether they give it different classes.
    pub differ: bool,
    /// Whether each is right, the current one first, if a person has labeled it, and how many images it stands for among those with
    /// labels.
    pub found: Option<(f64, [bool; 2])>,
}

/// Accuracy in the field with its two-sided 95 % interval, where `expected` is the model's confidence; none without labels.
///
/// The interval is Wilson's, for as many images as the estimate is worth: at least the labeled ones, at most all.
pub fn accuracy(samples: &[Outcome]) -> Option<Estimate> {
    let labeled: Vec<(f64, f64, f64)> = samples
        .iter()
        .filter_map(|sample| sample.found.map(|(weight, right)| (weight, sample.expected, f64::from(u8::from(right)))))
        .collect();
    let (n, all) = (effective(labeled.iter().map(|(w, ..)| *w)), effective(samples.iter().map(|s| s.weight)));
    if n <= 0.0 {
        return None;
    }
    let mean = |value: &dyn Fn(f64, f64) -> f64| {
        let sum: f64 = labeled.iter().map(|(w, ..)| w).sum();
        labeled.iter().map(|(w, expected, right)| w * value(*expected, *right)).sum::<f64>() / sum
    };
    let (right, expected) = (mean(&|_, y| y), mean(&|c, _| c));
    let (spread, shared) = (mean(&|c, _| (c - expected).powi(2)), mean(&|c, y| (c - expected) * (y - right)));
    let expected_of_all =
        samples.iter().map(|s| s.weight * s.expected).sum::<f64>() / samples.iter().map(|s| s.weight).sum::<f64>();
    // How far to follow the model's own words: not at all if they have nothing to do with being right, or if too few labels say whether
    // they have.
    let tuning = if spread > 0.0 && n >= ENOUGH { (shared / spread).clamp(0.0, 1.0) } else { 0.0 };
    let value = (right + tuning * (expected_of_all - expected)).clamp(0.0, 1.0);
    let beyond = (1.0 / n - 1.0 / all).max(0.0);
    let variance = right * (1.0 - right) / n + beyond * (tuning * tuning * spread - 2.0 * tuning * shared);
    let worth = value * (1.0 - value) / variance;
    let worth = if worth.is_finite() { worth.clamp(n, all.max(n)) } else { n };
    let [at_least, at_most] = proportion::of_fraction(value, worth);
    Some(Estimate { value, at_least, at_most })
}

/// By how much more often the new model is right in the field, with the ends of its one-sided 95 % intervals.
///
/// Where both models give the same class there is no difference, whoever is right: that much is known of every audit sample, labeled or
/// not. Only what the difference is among the others needs labels; without any, it is anything. As in Agresti and Min (2005), two
/// images are added to each of the two parts, half of them better and half worse.
pub fn difference(samples: &[Pair]) -> Estimate {
    let all = effective(samples.iter().map(|sample| sample.weight));
    let sum = |of: &dyn Fn(&Pair) -> bool| samples.iter().filter(|s| of(s)).map(|s| s.weight).sum::<f64>();
    let differ = if all > 0.0 { sum(&|s| s.differ) / sum(&|_| true) } else { 1.0 };
    let found: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.differ)
        .filter_map(|sample| sample.found)
        .map(|(weight, [current, new])| (weight, f64::from(u8::from(new)) - f64::from(u8::from(current))))
        .collect();
    let n = effective(found.iter().map(|(w, _)| *w));
    let mean = |power: i32| {
        let weights: f64 = found.iter().map(|(w, _)| w).sum();
        if weights > 0.0 { found.iter().map(|(w, y)| w * y.powi(power)).sum::<f64>() / weights } else { 0.0 }
    };
    let share = (differ * all + 1.0) / (all + 2.0);
    let within = mean(1) * n / (n + 2.0);
    let within_variance = ((mean(2) * n + 2.0) / (n + 2.0) - within * within) / (n + 2.0);
    let share_variance = share * (1.0 - share) / (all + 2.0);
    let variance = (share * share + share_variance) * within_variance + within * within * share_variance;
    let (centre, half) = (share * within, Z_ONE_SIDED * variance.sqrt());
    Estimate { value: differ * mean(1), at_least: (centre - half).max(-1.0), at_most: (centre + half).min(1.0) }
}

#[cfg(test)]
mod tests {
    use models::tolerance::SAME_MATH;
    use rand::RngExt;
    use trainer::random::{self, Stream};

    use super::*;

    const WEIGHTS: [f64; 12] = [10.0, 10.0, 10.0, 20.0, 20.0, 10.0, 10.0, 20.0, 10.0, 10.0, 20.0, 10.0];
    const LABELED: [usize; 8] = [0, 2, 3, 4, 6, 7, 8, 9];

    /// The weight of a sample among those with labels, which then stand for all.
    fn found(i: usize) -> Option<f64> {
        let sum: f64 = LABELED.iter().map(|i| WEIGHTS[*i]).sum();
        LABELED.contains(&i).then(|| WEIGHTS[i] * WEIGHTS.iter().sum::<f64>() / sum)
    }

    fn same(found: Estimate, expected: [f64; 3]) {
        let Estimate { value, at_least, at_most } = found;
        let all = [value, at_least, at_most].into_iter().zip(expected);
        assert!(all.into_iter().all(|(a, b)| SAME_MATH.same(a, b)), "{found:?}, expected {expected:?}");
    }

    /// Values of the same formulas in numpy.
    #[test]
    fn estimates_are_what_numpy_says() {
        let confidences = [0.9, 0.2, 0.99, 0.6, 0.95, 0.1, 0.97, 0.3, 0.93, 0.88, 0.65, 0.99];
        let samples: Vec<Outcome> = (0..12)
            .map(|i| Outcome {
                weight: WEIGHTS[i],
                expected: confidences[i],
                found: found(i).map(|weight| (weight, ![3, 9].contains(&i))),
            })
            .collect();
        // So few labels do not say how far confidences are to be followed; five times as many do.
        let estimate = |samples: &[Outcome]| accuracy(samples).expect("some have labels");
        same(estimate(&samples), [0.727_272_727_273, 0.372_157_969_297, 0.923_057_183_582]);
        same(estimate(&samples.repeat(5)), [0.705_490_645_186, 0.546_390_593_867, 0.826_506_533_821]);
        // Four are taken for different classes; of these, the new model is right about the eighth alone, the current one about two.
        let pair = |i: usize, found: Option<f64>| Pair {
            weight: WEIGHTS[i],
            differ: [1, 3, 7, 9].contains(&i),
            found: found.map(|weight| (weight, if i == 7 { [false, true] } else { [true, ![3, 9].contains(&i)] })),
        };
        let pairs: Vec<Pair> = (0..12).map(|i| pair(i, found(i))).collect();
        same(difference(&pairs), [-0.075, -0.359_379_016_116, 0.267_579_750_510]);
        // Without labels, the difference may be anything that so many different answers allow.
        let without: Vec<Pair> = (0..12).map(|i| pair(i, None)).collect();
        same(difference(&without), [0.0, -0.486_108_172_617, 0.486_108_172_617]);
        let unlabeled: Vec<_> = samples.into_iter().map(|sample| Outcome { found: None, ..sample }).collect();
        assert!(accuracy(&unlabeled).is_none());
    }

    /// What a model with an accuracy of 0.9 says of `all` images, each of which it gets right as often as it says, and the truth of the
    /// first `labeled`.
    fn draw(all: usize, labeled: usize, rng: &mut Stream) -> Vec<Outcome> {
        (0..all)
            .map(|i| {
                let confidence = 1.0 - 0.2 * rng.random::<f64>();
                let right = rng.random::<f64>() < confidence;
                Outcome { weight: 10.0, expected: confidence, found: (i < labeled).then_some((10.0, right)) }
            })
            .collect()
    }

    #[test]
    fn intervals_hold_the_truth_in_95_of_100_draws_and_confidences_make_them_narrower() {
        let mut rng = random::stream(1, "coverage");
        let (mut held, mut width, mut width_without) = (0, 0.0, 0.0);
        for _ in 0..2000 {
            let samples = draw(600, 60, &mut rng);
            let estimate = accuracy(&samples).expect("some have labels");
            held += usize::from((estimate.at_least..=estimate.at_most).contains(&0.9));
            width += estimate.at_most - estimate.at_least;
            let alone = accuracy(&samples[..60]).expect("all have labels");
            width_without += alone.at_most - alone.at_least;
        }
        assert!((1880..=1960).contains(&held), "{held} of 2000");
        assert!(width < 0.99 * width_without, "{width} {width_without}");
    }

    #[test]
    fn ends_of_a_difference_hold_in_95_of_100_draws_and_equal_answers_need_no_labels() {
        let mut rng = random::stream(2, "coverage");
        // A sixth differ; of these, half are worse and a quarter better.
        let truth = (0.25 - 0.5) / 6.0;
        let (mut below, mut above) = (0, 0);
        for _ in 0..2000 {
            let mut pair = |i: usize| {
                let differ = rng.random::<f64>() < 1.0 / 6.0;
                let right = match (differ, rng.random::<f64>()) {
                    (false, _) => [true, true],
                    (true, draw) if draw < 0.5 => [true, false],
                    (true, draw) if draw < 0.75 => [false, true],
                    (true, _) => [false, false],
                };
                Pair { weight: 5.0, differ, found: (i < 100).then_some((5.0, right)) }
            };
            let samples: Vec<Pair> = (0..500).map(&mut pair).collect();
            let estimate = difference(&samples);
            below += usize::from(estimate.at_least <= truth);
            above += usize::from(truth <= estimate.at_most);
        }
        assert!((1870..=1960).contains(&below) && (1870..=1980).contains(&above), "{below} {above} of 2000");
        let same: Vec<Pair> = (0..500).map(|_| Pair { weight: 5.0, differ: false, found: None }).collect();
        assert!(difference(&same).at_least > -0.01);
    }
}
