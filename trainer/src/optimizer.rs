//! What turns gradients into weights: Adam or momentum in TensorFlow's form, weight decay, and a schedule.

use std::f64::consts::PI;

use burn::tensor::Tensor;
use models::network::TensorRole;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{config::TrainConfig, net::NamedTensors};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// What turns gradients into weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam with decoupled weight decay: MixMatch, ReMixMatch.
    #[default]
    Adam,
    /// Gradient descent with Nesterov momentum, weight decay in the gradient: FixMatch.
    Sgd,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Not at all: the EMA model takes the place of a schedule.
    #[default]
    Constant,
    /// To a fifth, along `cos(7 pi step / (16 steps))`: FixMatch, section 2.4.
    Cosine,
}

impl Schedule {
    /// What the learning rate is multiplied by in the step after `done` of `steps`.
    pub(crate) fn factor(self, done: u64, steps: u64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine => (7.0 * PI * done as f64 / (16.0 * steps as f64)).cos(),
        }
    }
}

/// Moving averages of the gradients of every trained tensor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moments {
    /// Adam's first moments, or the momentum.
    pub(crate) mean: NamedTensors,
    /// Adam's second moments.
    pub(crate) square: NamedTensors,
}

impl Moments {
    /// Updates `weights` by `gradients` at a learning rate; `step` counts from 1. Decoupled weight decay comes later, by
    /// [`decay`].
    pub(crate) fn step(
        &mut self,
        config: &TrainConfig,
        weights: &mut NamedTensors,
        gradients: NamedTensors,
        rate: f64,
        step: u64,
    ) {
        for (name, gradient) in gradients {
            let Some(weight) = weights.get_mut(&name) else { continue };
            *weight = match config.optimizer {
                Optimizer::Adam => self.adam(name, weight.clone(), gradient, rate, step),
                Optimizer::Sgd => self.sgd(name, weight.clone(), gradient, rate, config),
            };
        }
    }

    /// The bias corrections go into the learning rate and leave epsilon alone, as in TensorFlow 1.
    ///
    /// # Reference
    /// Kingma and Ba (2015), the formulation just before section 2.1.
    fn adam(&mut self, name: String, weight: Tensor<1>, gradient: Tensor<1>, rate: f64, step: u64) -> Tensor<1> {
        let rate = rate * (1.0 - BETA2.powf(step as f64)).sqrt() / (1.0 - BETA1.powf(step as f64));
        let mean = moment(self.mean.remove(&name), gradient.clone(), BETA1);
        let square = moment(self.square.remove(&name), gradient.square(), BETA2);
        let weight = weight - mean.clone() * rate / (square.clone().sqrt() + EPSILON);
        self.mean.insert(name.clone(), mean);
        self.square.insert(name, square);
        weight
    }

    /// The momentum is a sum of gradients, kernels' weight decay included; Nesterov's step looks one ahead.
    ///
    /// # Reference
    /// Sutskever et al. (2013), as in TensorFlow 1's `MomentumOptimizer`.
    fn sgd(
        &mut self,
        name: String,
        weight: Tensor<1>,
        gradient: Tensor<1>,
        rate: f64,
        config: &TrainConfig,
    ) -> Tensor<1> {
        let gradient = match TensorRole::of(&name) {
            TensorRole::Kernel => gradient + weight.clone() * config.weight_decay,
            _ => gradient,
        };
        let momentum = match self.mean.remove(&name) {
            Some(old) => old * config.momentum + gradient.clone(),
            None => gradient.clone(),
        };
        self.mean.insert(name, momentum.clone());
        weight - (gradient + momentum * config.momentum) * rate
    }
}

/// Multiplies every kernel by `1 - rate * weight_decay`.
///
/// # Reference
/// Loshchilov and Hutter (2019), equation 12, as ReMixMatch applies it: after the step, to kernels alone.
pub(crate) fn decay(weights: &mut NamedTensors, rate: f64, weight_decay: f64) {
    for (name, weight) in weights {
        if TensorRole::of(name) == TensorRole::Kernel {
            *weight = weight.clone() * (1.0 - rate * weight_decay);
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
        config::Algorithm,
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
        let (config, mut moments) = (TrainConfig::default(), Moments::default());
        for (i, gradient) in case.input::<Vec<Vec<f32>>>("/grads").iter().enumerate() {
            moments.step(&config, &mut weights, named(gradient), lr, i as u64 + 1);
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

    /// Against the recursion written out in Python, with weight decay in the gradient.
    #[test]
    fn sgd_is_nesterovs_with_decay_in_the_gradient() {
        let config = TrainConfig::of(Algorithm::FixMatch);
        let mut weights = named(&[1.0, -2.0]);
        let mut moments = Moments::default();
        let expected = [
            [0.971_471_5, -1.994_243],
            [0.947_881_663_062_250_1, -2.008_831_864_074_5],
            [0.954_836_910_056_127_8, -2.016_681_512_313_924],
        ];
        for ((step, gradient), expected) in (1..).zip([[0.5, -0.1], [0.2, 0.3], [-0.4, 0.05]]).zip(expected) {
            moments.step(&config, &mut weights, named(&gradient), 0.03, step);
            assert_same(&values(&weights), &expected);
        }
    }

    /// Case 12.
    #[test]
    fn the_cosine_ends_at_a_fifth() {
        let case = vectors::case("12_lr");
        let steps: Vec<u64> = case.input("/iterations");
        let rates: Vec<f64> = steps.iter().map(|&step| 0.03 * Schedule::Cosine.factor(step, 1 << 20)).collect();
        assert_same(&rates, &case.expected::<Vec<f64>>("/usb"));
    }
}
