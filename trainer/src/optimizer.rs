//! Adam in TensorFlow's form, then decoupled weight decay on kernels.

use burn::tensor::Tensor;
use models::network::TensorRole;

use crate::net::NamedTensors;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Adam's moments of every trained tensor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adam {
    pub(crate) mean: NamedTensors,
    pub(crate) square: NamedTensors,
}

impl Adam {
    /// Updates `weights` by `gradients`; `step` counts from 1.
    ///
    /// The bias corrections go into the learning rate and leave epsilon alone, as in TensorFlow 1.
    ///
    /// # Reference
    /// Kingma and Ba (2015), the formulation just before section 2.1.
    pub(crate) fn step(&mut self, weights: &mut NamedTensors, gradients: NamedTensors, learning_rate: f64, step: u64) {
        let step = step as f64;
        let rate = learning_rate * (1.0 - BETA2.powf(step)).sqrt() / (1.0 - BETA1.powf(step));
        for (name, gradient) in gradients {
            let mean = moment(self.mean.remove(&name), gradient.clone(), BETA1);
            let square = moment(self.square.remove(&name), gradient.square(), BETA2);
            if let Some(weight) = weights.get_mut(&name) {
                *weight = weight.clone() - mean.clone() * rate / (square.clone().sqrt() + EPSILON);
            }
            self.mean.insert(name.clone(), mean);
            self.square.insert(name, square);
        }
    }
}

/// Multiplies every kernel by `1 - learning_rate * weight_decay`.
///
/// # Reference
/// Loshchilov and Hutter (2019), equation 12, as ReMixMatch applies it: after the step, to kernels alone.
pub(crate) fn decay(weights: &mut NamedTensors, learning_rate: f64, weight_decay: f64) {
    for (name, weight) in weights {
        if TensorRole::of(name) == TensorRole::Kernel {
            *weight = weight.clone() * (1.0 - learning_rate * weight_decay);
        }
    }
}

fn moment(old: Option<Tensor<1>>, new: Tensor<1>, beta: f64) -> Tensor<1> {
    match old {
        Some(old) => old * beta + new * (1.0 - beta),
        None => new * (1.0 - beta),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{
        ema, net,
        vectors::{self, assert_same},
    };

    fn named(values: &[f32]) -> NamedTensors {
        [("classifier.weight".to_owned(), Tensor::from_floats(values, &Device::flex()))].into()
    }

    fn values(named: &NamedTensors) -> Vec<f64> {
        net::numbers(named["classifier.weight"].clone())
    }

    /// Cases 11, 11b and 12.
    #[test]
    fn adam_decay_and_average_as_in_the_original() {
        let case = vectors::case("11_adam_decay_ema");
        let [lr, wd, keep] = ["/lr", "/wd", "/ema"].map(|p| case.input::<f64>(p));
        assert_eq!(lr, vectors::case("12_lr").expected::<f64>("/official/0"));
        let mut weights = named(&case.input::<Vec<f32>>("/w0"));
        let mut average = weights.clone();
        let mut adam = Adam::default();
        for (i, gradient) in case.input::<Vec<Vec<f32>>>("/grads").iter().enumerate() {
            adam.step(&mut weights, named(gradient), lr, i as u64 + 1);
            assert_same(&values(&weights), &case.expected::<Vec<f64>>(&format!("/{i}/after_adam")));
            ema::follow(&mut average, &weights, keep);
            assert_same(&values(&average), &case.expected::<Vec<f64>>(&format!("/{i}/ema")));
            decay(&mut weights, lr, wd);
            assert_same(&values(&weights), &case.expected::<Vec<f64>>(&format!("/{i}/after_decay")));
        }
        let case = vectors::case("11b_weight_decay_only");
        let mut weights = named(&[1.0]);
        decay(&mut weights, case.input("/lr"), case.input("/wd"));
        assert_same(&values(&weights), &[case.expected("/one")]);
    }
}
