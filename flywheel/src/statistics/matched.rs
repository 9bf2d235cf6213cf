use models::Estimate;

use super::{Z_ONE_SIDED, effective};

/// Fraction of a class's images on which two models that are as good differ.
const TYPICAL: f64 = 0.1;

/// By how much more often the second of each pair is right, with the ends of its one-sided 95 % intervals. The first number of each is
/// its weight.
///
/// # Reference
/// The interval is that of Agresti and Min (2005) for matched pairs; with unequal weights, for as many images as say as much.
pub fn matched(pairs: impl Iterator<Item = (f64, bool, bool)> + Clone) -> Estimate {
    let count = effective(pairs.clone().map(|(weight, ..)| weight));
    let (mut better, mut worse, mut sum) = (0.0, 0.0, 0.0);
    for (weight, current, new) in pairs {
        sum += weight;
        match (current, new) {
            (false, true) => better += weight,
            (true, false) => worse += weight,
            _ => {}
        }
    }
    let share = |weight: f64| if sum > 0.0 { weight / sum } else { 0.0 };
    let (better, worse) = (share(better), share(worse));
    let n = count + 2.0;
    let adjusted = (better - worse) * count / n;
    let error = (((better + worse) * count + 1.0) / n - adjusted * adjusted).max(0.0).sqrt() / n.sqrt();
    let half = Z_ONE_SIDED * error;
    Estimate { value: better - worse, at_least: adjusted - half, at_most: adjusted + half }
}

/// Whether so many images can show that a model which is as good is within a margin: half of the interval is then at most half of the
/// margin, if the models differ on a tenth of them. Nothing that is found bears on it.
pub fn is_enough(images: usize, margin: f64) -> bool {
    images as f64 + 2.0 >= pairs(margin, TYPICAL)
}

/// About how many images it takes for nineteen of twenty models that are as good to be shown to be within a margin, if they differ from
/// the current one on this fraction of the images: the interval's width if they do not differ at all, and what their differences add.
pub fn needed(margin: f64, differing: f64) -> f64 {
    (Z_ONE_SIDED / margin + pairs(margin, differing) - 2.0).ceil()
}

/// So many pairs, of which this fraction differs, have an interval of the margin's width.
fn pairs(margin: f64, differing: f64) -> f64 {
    differing * (2.0 * Z_ONE_SIDED / margin).powi(2)
}

#[cfg(test)]
mod tests {
    use models::tolerance::SAME_MATH;

    use super::*;

    /// In numpy, of 100,000 models each that are as good, differing on 0, 2 and 10 % of so many images, these shares had
    /// `matched(..).at_least >= -0.02`: 100.0, 96.1 and 95.4 %.
    #[test]
    fn so_many_images_are_needed() {
        assert_eq!([0.0, 0.02, 0.1].map(|differing| needed(0.02, differing)), [81.0, 622.0, 2786.0]);
        assert_eq!(
            [26, 25, 107, 106].map(|images| is_enough(images, if images < 100 { 0.2 } else { 0.1 })),
            [true, false, true, false]
        );
    }

    /// 102 adjusted pairs, 5.5 of them better and 1.5 worse.
    #[test]
    fn the_interval_is_that_of_matched_pairs() {
        let pairs = (0..100).map(|i| (1.0, i >= 5, i != 5));
        let Estimate { value, at_least, .. } = matched(pairs.clone());
        // The same in Python: 4 / 102 - 1.644854 * ((7 / 102 - (4 / 102) ** 2) / 102) ** 0.5.
        assert!(SAME_MATH.same(value, 0.04) && SAME_MATH.same(at_least, -0.002_968_998_6), "{at_least}");
        // Equal weights of any size are the same; an image that counts for all leaves one.
        let scaled = pairs.map(|(_, current, new)| (7.5, current, new));
        assert!(SAME_MATH.same(matched(scaled).at_least, at_least));
        assert!(matched([(1e9, true, true), (1.0, false, true)].into_iter()).at_least < -0.3);
    }
}
