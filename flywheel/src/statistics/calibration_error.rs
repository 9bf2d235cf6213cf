use models::bundle::ReliabilityBin;
use rand::RngExt;
use trainer::random;

/// Intervals of confidence in a reliability diagram.
const BINS: usize = 10;
/// Draws from which the error by chance is read.
const DRAWS: usize = 1000;

/// Images by confidence in intervals of equal width: how sure the model was of each, and whether it was right.
pub fn reliability(images: impl Iterator<Item = (f64, bool)>) -> Vec<ReliabilityBin> {
    let mut sums = [(0, 0.0, 0); BINS];
    for (confidence, right) in images {
        let (count, confidences, correct) = &mut sums[((confidence * BINS as f64) as usize).min(BINS - 1)];
        *count += 1;
        *confidences += confidence;
        *correct += usize::from(right);
    }
    let mean = |sum: f64, count: usize| if count == 0 { 0.0 } else { sum / count as f64 };
    let bin = |(count, confidence, correct): (usize, f64, usize)| ReliabilityBin {
        count,
        confidence: mean(confidence, count),
        accuracy: mean(correct as f64, count),
    };
    sums.map(bin).to_vec()
}

/// Mean distance of confidence and accuracy over the intervals, weighted by their images.
///
/// # Reference
/// Guo et al. (2017), equation 3.
pub fn expected_calibration_error(bins: &[ReliabilityBin]) -> f64 {
    let count: usize = bins.iter().map(|bin| bin.count).sum();
    let weighted = |bin: &ReliabilityBin| bin.count as f64 * (bin.confidence - bin.accuracy).abs();
    bins.iter().map(weighted).sum::<f64>() / count.max(1) as f64
}

/// The calibration error that a model with these confidences stays below in 95 of 100 test sets although each confidence is exactly
/// right: few images show a large error by chance alone.
///
/// # Reference
/// Consistency resampling: Bröcker and Smith, "Increasing the reliability of reliability diagrams" (2007).
pub fn error_by_chance(bins: &[ReliabilityBin]) -> f64 {
    let mut rng = random::stream(0, "calibration error by chance");
    let mut draw = || {
        let redrawn = bins.iter().map(|bin| {
            let right = (0..bin.count).filter(|_| rng.random::<f64>() < bin.confidence).count();
            ReliabilityBin { accuracy: right as f64 / bin.count.max(1) as f64, ..*bin }
        });
        expected_calibration_error(&redrawn.collect::<Vec<_>>())
    };
    let mut errors: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
    errors.sort_by(f64::total_cmp);
    errors[DRAWS * 95 / 100]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_images_show_a_large_error_by_chance_and_many_a_small_one() {
        let bins = |count: usize| reliability((0..count).map(|i| (0.8, i % 5 != 0)));
        assert!(expected_calibration_error(&bins(1000)) < 1e-9);
        // The mean of n draws is off by more than 1.96 standard deviations in 5 of 100: 1.96 * (0.8 * 0.2 / n) ** 0.5.
        for (count, expected) in [(25, 0.157), (2500, 0.0157)] {
            let error = error_by_chance(&bins(count));
            assert!((error / expected - 1.0).abs() < 0.3, "{count}: {error}");
        }
    }
}
