//! The EMA model: an exponential moving average of the trained tensors, which takes the place of a learning-rate
//! schedule.

use models::network::TensorRole;

use crate::net::NamedTensors;

/// Moves every trained tensor of `average` a fraction `1 - keep` towards `weights`; running statistics are taken
/// over as they are.
pub(crate) fn follow(average: &mut NamedTensors, weights: &NamedTensors, keep: f64) {
    for (name, average) in average {
        let weight = weights[name].clone();
        *average = if TensorRole::of(name) == TensorRole::Statistic {
            weight
        } else {
            average.clone() * keep + weight * (1.0 - keep)
        };
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::vectors::{self, assert_same};

    /// Case 11c, and a running mean beside it.
    #[test]
    fn averages_weights_and_takes_statistics_over() {
        let case = vectors::case("11c_ema_only");
        let named = |value: f32| -> NamedTensors {
            let tensor = || Tensor::from_floats([value], &Device::flex());
            [("stem.bias".to_owned(), tensor()), ("norm.running_mean".to_owned(), tensor())].into()
        };
        let value = |named: &NamedTensors, name: &str| f64::from(named[name].clone().into_scalar::<f32>());
        let mut average = named(case.input("/shadow0"));
        let weights = case.input::<Vec<f32>>("/w");
        for (weight, expected) in weights.iter().zip(case.expected::<Vec<f64>>("")) {
            follow(&mut average, &named(*weight), 0.999);
            assert_same(&[value(&average, "stem.bias")], &[expected]);
            assert_same(&[value(&average, "norm.running_mean")], &[f64::from(*weight)]);
        }
    }
}
