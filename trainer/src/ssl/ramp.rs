//! The ramp of the unlabeled losses.

/// Weight after `step` optimiser steps: linear from 0 to 1 over `ramp_steps`, then 1. No ramp at all for 0 steps.
pub(crate) fn ramp(step: u64, ramp_steps: u64) -> f64 {
    if ramp_steps == 0 { 1.0 } else { (step as f64 / ramp_steps as f64).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{self, assert_same};

    /// Case 06: 1024 and 8192 kimg are 16,384 and 131,072 steps of 64 images.
    #[test]
    fn is_linear_and_ends_at_one() {
        let case = vectors::case("06_ramp");
        let steps: Vec<u64> = case.input("/iterations");
        for (ramp_steps, expected) in [(16_384, "/default_1024"), (131_072, "/cifar40_8192")] {
            let found: Vec<f64> = steps.iter().map(|&step| ramp(step, ramp_steps)).collect();
            assert_same(&found, &case.expected::<Vec<f64>>(expected));
        }
    }
}
