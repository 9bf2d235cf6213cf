//! How numbers are distributed, and which part of them 8 bits should cover.

/// Intervals of equal width.
const BINS: usize = 2048;
/// What 8 bits can tell apart.
const LEVELS: usize = 256;
/// Fraction of the numbers left out at either end by [`Histogram::percentile`].
const TAIL: f64 = 0.000_05;
/// Ranges tried by [`Histogram::entropy`].
const CANDIDATES: usize = 128;

/// Counts of numbers between two extremes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    extremes: [f32; 2],
    counts: Vec<u64>,
}

impl Histogram {
    /// Of numbers from the first to the second; zero is always among what is covered.
    pub(super) fn new([least, greatest]: [f32; 2]) -> Self {
        Self { extremes: [least.min(0.0), greatest.max(0.0)], counts: vec![0; BINS] }
    }

    pub(super) fn add(&mut self, values: &[f32]) {
        let [least, greatest] = self.extremes;
        let scale = BINS as f32 / (greatest - least).max(f32::MIN_POSITIVE);
        for value in values {
            self.counts[(((value - least) * scale) as usize).min(BINS - 1)] += 1;
        }
    }

    pub(super) fn extremes(&self) -> [f32; 2] {
        self.extremes
    }

    /// All but [`TAIL`] at either end.
    pub(super) fn percentile(&self) -> [f32; 2] {
        let most = (self.counts.iter().sum::<u64>() as f64 * TAIL) as u64;
        let outside = |counts: &mut dyn Iterator<Item = &u64>| {
            let sums = counts.scan(0, |sum, count| {
                *sum += count;
                Some(*sum)
            });
            sums.take_while(|sum| *sum <= most).count()
        };
        let (below, above) = (outside(&mut self.counts.iter()), outside(&mut self.counts.iter().rev()));
        self.part(below, BINS - above)
    }

    /// The part, cut at the same distance from zero on either side, whose 256 levels tell the most about the whole: with the least
    /// Kullback-Leibler divergence from the numbers, those outside counted at its ends.
    ///
    /// # Reference
    /// Migacz, "8-bit Inference with TensorRT" (2017); here for ranges with two different ends.
    pub(super) fn entropy(&self) -> [f32; 2] {
        let [least, greatest] = self.extremes;
        let zero = (-least / (greatest - least).max(f32::MIN_POSITIVE) * BINS as f32) as usize;
        let farthest = zero.max(BINS - zero);
        let candidates = (CANDIDATES / 8..=CANDIDATES).map(|i| {
            let distance = (farthest * i).div_ceil(CANDIDATES);
            (zero.saturating_sub(distance), (zero + distance).min(BINS))
        });
        let best = candidates
            .filter(|(from, to)| to - from >= LEVELS)
            .map(|(from, to)| (self.divergence(from, to), from, to))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(self.extremes, |(_, from, to)| self.part(from, to))
    }

    /// Of the part in [`LEVELS`] from the whole.
    fn divergence(&self, from: usize, to: usize) -> f64 {
        let part = &self.counts[from..to];
        let sum = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
        let (total, inside) = (sum(&self.counts), sum(part));
        if inside == 0.0 {
            return f64::INFINITY;
        }
        let width = part.len();
        let mut divergence = 0.0;
        for level in 0..LEVELS {
            let (first, end) = (level * width / LEVELS, (level + 1) * width / LEVELS);
            let bins = &part[first..end];
            let filled = bins.iter().filter(|count| **count > 0).count().max(1) as f64;
            let mean = sum(bins) / filled / inside;
            for (bin, count) in bins.iter().enumerate() {
                let mut numbers = *count as f64;
                numbers += if first + bin == 0 { sum(&self.counts[..from]) } else { 0.0 };
                numbers += if first + bin == width - 1 { sum(&self.counts[to..]) } else { 0.0 };
                if numbers > 0.0 {
                    // A place where only numbers from outside are counted has none of its own to be told by.
                    let told = if *count > 0 { mean } else { 1e-9 };
                    divergence += numbers / total * (numbers / total / told).ln();
                }
            }
        }
        divergence
    }

    fn part(&self, from: usize, to: usize) -> [f32; 2] {
        let [least, greatest] = self.extremes;
        let width = (greatest - least) / BINS as f32;
        let end = if to == BINS { greatest } else { least + width * to as f32 };
        [(least + width * from as f32).min(0.0), end.max(0.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(extremes: [f32; 2], values: impl IntoIterator<Item = f32>) -> Histogram {
        let mut histogram = Histogram::new(extremes);
        histogram.add(&values.into_iter().collect::<Vec<_>>());
        histogram
    }

    #[test]
    fn percentiles_leave_out_a_few_and_no_more() {
        // One number in 20,000 may go: the single outlier, and none of the ten.
        let many = (0..40_000).map(|i| (i % 1000) as f32 / 1000.0);
        let few = histogram([-8.0, 100.0], many.clone().chain([100.0, -8.0]));
        let [least, greatest] = few.percentile();
        assert!((-0.06..=0.0).contains(&least) && (0.999..1.06).contains(&greatest), "{least} {greatest}");
        let more = histogram([0.0, 100.0], many.chain([100.0; 10]));
        assert_eq!(more.percentile(), [0.0, 100.0]);
    }

    #[test]
    fn entropy_cuts_a_thin_tail_and_keeps_what_is_evenly_filled() {
        let even = histogram([-1.0, 1.0], (0..100_000).map(|i| i as f32 / 50_000.0 - 1.0));
        assert_eq!(even.entropy(), [-1.0, 1.0]);
        let dense = (0..100_000).map(|i| ((i % 2000) as f32 / 1000.0 - 1.0).powi(3));
        let tailed = histogram([-1.0, 40.0], dense.chain((0..10).map(|i| 30.0 + i as f32)));
        let [least, greatest] = tailed.entropy();
        assert!(least <= -0.98 && greatest < 10.0, "{least} {greatest}");
    }

    #[test]
    fn a_feature_map_of_one_number_has_a_range() {
        let zero = histogram([0.0, 0.0], [0.0; 9]);
        assert_eq!([zero.percentile(), zero.entropy(), zero.extremes()], [[0.0, 0.0]; 3]);
        let one = histogram([3.0, 3.0], [3.0; 9]);
        for range in [one.percentile(), one.entropy(), one.extremes()] {
            assert_eq!(range, [0.0, 3.0]);
        }
    }
}
