use super::Z_TWO_SIDED;

/// Wilson's 95 % interval of a fraction.
///
/// # Reference
/// Wilson (1927); Brown, Cai and DasGupta (2001) recommend it for small samples.
pub fn wilson(correct: usize, count: usize) -> [f64; 2] {
    let fraction = if count == 0 { 0.0 } else { correct as f64 / count as f64 };
    of_fraction(fraction, count as f64)
}

/// The same of a fraction that is known as well as from `n` images.
pub(super) fn of_fraction(p: f64, n: f64) -> [f64; 2] {
    if n <= 0.0 {
        return [0.0, 1.0];
    }
    let z2 = Z_TWO_SIDED * Z_TWO_SIDED;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_TWO_SIDED / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use models::tolerance::SAME_MATH;

    use super::*;

    /// Values of scipy's `binomtest(..).proportion_ci(0.95, "wilson")`.
    #[test]
    fn wilson_is_what_scipy_says() {
        for (correct, count, low, high) in [
            (440, 457, 0.941_239_119_5, 0.976_647_047_0),
            (10, 10, 0.722_467_200_1, 1.0),
            (0, 10, 0.0, 0.277_532_799_9),
        ] {
            let [found_low, found_high] = wilson(correct, count);
            assert!(SAME_MATH.same(found_low, low) && SAME_MATH.same(found_high, high), "{found_low} {found_high}");
        }
    }
}
