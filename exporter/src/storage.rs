//! Kernels in fewer bits: what a file stores, and the numbers that it stands for.

use half::f16;
use models::{Weights, network::TensorRole, weights::Storage};

/// A kernel as a file stores it.
#[derive(Debug, PartialEq)]
pub(crate) enum Stored {
    F32(Vec<f32>),
    F16(Vec<f16>),
    /// Whole numbers from -127 to 127, and what they are multiplied by: one scale for each output channel.
    Int8(Vec<i8>, Vec<f32>),
}

impl Stored {
    /// A kernel `[output, ...]` of so many outputs, to the nearest numbers that there are.
    pub(crate) fn new(values: &[f32], outputs: usize, storage: Storage) -> Self {
        match storage {
            Storage::F32 => Self::F32(values.to_vec()),
            Storage::F16 => Self::F16(values.iter().map(|v| f16::from_f32(*v)).collect()),
            Storage::Int8 => Self::int8(values, &vec![0.0; outputs]),
        }
    }

    /// In 8 bits, with a scale for each output that is at least as large as here.
    pub(crate) fn int8(values: &[f32], least_scales: &[f32]) -> Self {
        let (mut numbers, mut scales) = (Vec::new(), Vec::new());
        for (channel, least) in values.chunks_exact(values.len() / least_scales.len()).zip(least_scales) {
            let largest = channel.iter().fold(0.0, |largest: f32, v| largest.max(v.abs()));
            let scale = (largest / 127.0).max(*least);
            // Nothing but zeros.
            let scale = if scale.is_normal() { scale } else { 1.0 };
            numbers.extend(channel.iter().map(|v| (v / scale).round_ties_even().clamp(-127.0, 127.0) as i8));
            scales.push(scale);
        }
        Self::Int8(numbers, scales)
    }

    /// The numbers that an engine computes with.
    fn values(&self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.clone(),
            Self::F16(values) => values.iter().map(|v| v.to_f32()).collect(),
            Self::Int8(numbers, scales) => {
                let length = (numbers.len() / scales.len()).max(1);
                let channels = numbers.chunks_exact(length).zip(scales);
                channels.flat_map(|(channel, scale)| channel.iter().map(move |n| f32::from(*n) * scale)).collect()
            }
        }
    }
}

/// The network that a model with kernels in fewer bits is: what has to be measured, calibrated and compared with.
pub fn rounded(weights: &Weights, storage: Storage) -> Weights {
    let mut rounded = weights.clone();
    for spec in weights.spec.network.tensors().iter().filter(|spec| spec.role == TensorRole::Kernel) {
        if let Some(values) = rounded.tensors.get_mut(&spec.name).filter(|values| values.len() == spec.len()) {
            *values = Stored::new(values, spec.shape[0], storage).values();
        }
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn numbers_move_by_at_most_half_a_step() -> models::Result<()> {
        let weights = testing::weights(10, 1, [1, 8, 8], 2)?;
        assert_eq!(rounded(&weights, Storage::F32), weights);
        for (storage, step) in [(Storage::F16, 2f32.powi(-11)), (Storage::Int8, 1.0 / 254.0)] {
            let found = rounded(&weights, storage);
            for spec in weights.spec.network.tensors() {
                let (before, after) = (&weights.tensors[&spec.name], &found.tensors[&spec.name]);
                if spec.role != TensorRole::Kernel {
                    assert_eq!(before, after, "{}", spec.name);
                    continue;
                }
                assert_ne!(before, after, "{}", spec.name);
                for (before, after) in
                    before.chunks(before.len() / spec.shape[0]).zip(after.chunks(after.len() / spec.shape[0]))
                {
                    let largest = before.iter().fold(0.0, |largest: f32, v| largest.max(v.abs()));
                    // With a little room for the rounding of the scale itself.
                    let bound = step * largest * 1.0001;
                    assert!(before.iter().zip(after).all(|(a, b)| (a - b).abs() <= bound), "{storage:?} {}", spec.name);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_channel_of_zeros_stays_one_and_the_largest_number_is_kept() {
        let stored = Stored::new(&[0.0, 0.0, -2.54, 0.01], 2, Storage::Int8);
        assert_eq!(stored, Stored::Int8(vec![0, 0, -127, 0], vec![1.0, 2.54 / 127.0]));
        assert_eq!(stored.values()[..2], [0.0, 0.0]);
        let stored = Stored::int8(&[0.0, 0.0, -2.54, 0.01], &[0.5, 0.1]);
        assert_eq!(stored, Stored::Int8(vec![0, 0, -25, 0], vec![0.5, 0.1]));
    }
}
