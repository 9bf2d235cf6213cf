use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use trainer::random::{self, Stream};

/// Divisions of the images by chance with which the one that is found is compared.
const PERMUTATIONS: usize = 999;

/// Whether two samples may be of the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// How far they are apart: 0 to 1.
    pub distance: f64,
    /// How often chance alone sets them as far apart.
    pub p_value: f64,
}

/// How far numbers are apart: the largest difference of their distribution functions, with its p-value by permutation.
///
/// # Reference
/// The statistic is that of Kolmogorov and Smirnov.
pub fn of_numbers(a: &[f64], b: &[f64]) -> Difference {
    let mut numbers: Vec<f64> = a.iter().chain(b).copied().collect();
    numbers.sort_by(f64::total_cmp);
    // The places of equal numbers are one.
    let place = |number: f64| numbers.partition_point(|other| *other < number);
    let places: Vec<usize> = a.iter().chain(b).map(|number| place(*number)).collect();
    let distance = |histogram: &[[f64; 2]]| {
        let (mut sums, mut largest) = ([0.0; 2], 0.0_f64);
        for counts in histogram {
            sums = [sums[0] + counts[0], sums[1] + counts[1]];
            largest = largest.max((sums[0] - sums[1]).abs());
        }
        largest
    };
    by_permutation(&places, a.len(), numbers.len(), distance)
}

/// How far classes are apart: half of the sum of the differences of their shares, with its p-value by permutation.
pub fn of_classes(a: &[usize], b: &[usize], classes: usize) -> Difference {
    let all: Vec<usize> = a.iter().chain(b).copied().collect();
    let distance = |histogram: &[[f64; 2]]| histogram.iter().map(|[a, b]| (a - b).abs()).sum::<f64>() / 2.0;
    by_permutation(&all, a.len(), classes, distance)
}

/// Compares the first `count` values with the others, by the shares that each value has on both sides.
fn by_permutation(values: &[usize], count: usize, kinds: usize, distance: impl Fn(&[[f64; 2]]) -> f64) -> Difference {
    let others = values.len() - count;
    if count == 0 || others == 0 {
        return Difference { distance: 0.0, p_value: 1.0 };
    }
    let apart = |values: &[usize]| {
        let mut histogram = vec![[0.0; 2]; kinds];
        values[..count].iter().for_each(|value| histogram[*value][0] += 1.0 / count as f64);
        values[count..].iter().for_each(|value| histogram[*value][1] += 1.0 / others as f64);
        distance(&histogram)
    };
    let found = apart(values);
    let mut rng: Stream = random::stream(0, "permutations");
    let mut shuffled = values.to_vec();
    let mut as_far = 0;
    for _ in 0..PERMUTATIONS {
        shuffled.shuffle(&mut rng);
        // What is equal but for the order of a sum is equal.
        as_far += usize::from(apart(&shuffled) >= found - 1e-12);
    }
    Difference { distance: found, p_value: (as_far + 1) as f64 / (PERMUTATIONS + 1) as f64 }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    /// Values of a count over all 6,435 divisions, in Python.
    #[test]
    fn numbers_are_as_far_apart_as_a_count_over_all_divisions_says() {
        let a = [0.1, 0.4, 0.5, 0.55, 0.6, 0.7, 0.9];
        let b = [0.45, 0.65, 0.72, 0.8, 0.85, 0.95, 0.97, 0.99];
        let Difference { distance, p_value } = of_numbers(&a, &b);
        assert!((distance - 0.607_142_857_142).abs() < 1e-9, "{distance}");
        assert!((p_value - 0.087_024_087_024).abs() < 0.03, "{p_value}");
        assert!(of_numbers(&a, &a).p_value > 0.99 && of_numbers(&a, &[]).p_value == 1.0);
    }

    #[test]
    fn chance_alone_is_seldom_taken_for_a_difference_and_a_difference_is_found() {
        let mut rng = random::stream(3, "classes");
        let mut draw =
            |count: usize, of: usize| -> Vec<usize> { (0..count).map(|_| rng.random_range(0..of)).collect() };
        let alarms = (0..200).filter(|_| of_classes(&draw(50, 5), &draw(200, 5), 5).p_value < 0.05).count();
        assert!((2..=20).contains(&alarms), "{alarms} of 200");
        // A fifth of the images are of one class now.
        let mut shifted = draw(160, 5);
        shifted.extend([0; 40]);
        let found = of_classes(&shifted, &draw(400, 5), 5);
        assert!(found.p_value < 0.01 && found.distance > 0.08, "{found:?}");
    }
}
