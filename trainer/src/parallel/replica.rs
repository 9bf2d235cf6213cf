use burn::{
    module::Module,
    tensor::{Device, activation::softmax},
};
use models::NetworkSpec;

use super::exchange::Exchange;
use crate::{
    Result,
    algorithm::{Batch, Method, StepNumbers},
    augment::ct_augment::Policy,
    checkpoint::{self, Groups},
    config::{Optimizer, TrainConfig},
    data::loader::{Drawn, Recipe},
    device, ema,
    net::{self, Mode, NamedTensors, WideResNet},
    optimizer::{self, Moments},
    random,
};

/// What one device holds.
pub(crate) struct Replica {
    pub(crate) network: WideResNet,
    pub(crate) ema: WideResNet,
    pub(crate) moments: Moments,
    pub(crate) device: Device,
}

/// What all replicas know of a step.
pub(super) struct Step<'a> {
    pub(super) config: &'a TrainConfig,
    pub(super) spec: &'a NetworkSpec,
    pub(super) recipe: &'a Recipe,
    /// Steps before this one.
    pub(super) done: u64,
}

/// What a step has shown.
pub(crate) struct Learned {
    pub(crate) numbers: StepNumbers,
    /// Probed policies, and the probability that the new EMA model gives their images' labels.
    pub(crate) probed: Vec<(Policy, f64)>,
}

impl Replica {
    pub(super) fn new(config: &TrainConfig, spec: &NetworkSpec, groups: &Groups, device: Device) -> Self {
        let group = |name| -> NamedTensors {
            let tensors = groups.get(name).into_iter().flatten();
            tensors.map(|(name, tensor)| (name.clone(), tensor.clone().to_device(&device))).collect()
        };
        let fresh = WideResNet::new(spec, &mut random::stream(config.seed, "weights"), &device);
        // The EMA model stays in 32 bits: what is measured is what devices compute.
        let network = fresh.clone().computing_in(config.precision.cast(config.device)).train();
        Self {
            network: net::load(network, group(checkpoint::NETWORK)),
            ema: net::load(fresh, group(checkpoint::EMA)),
            moments: Moments { mean: group(checkpoint::MEAN), square: group(checkpoint::SQUARE) },
            device,
        }
    }

    /// One optimiser step, in the order of the specification.
    pub(super) fn step(
        &mut self,
        step: &Step,
        method: &mut Method,
        drawn: Drawn,
        exchange: Exchange,
    ) -> Result<Learned> {
        let Step { config, spec, recipe, done } = *step;
        let batch = Batch::new(drawn, recipe, spec, &self.device);

        let losses = method.losses(&self.network, &batch, done);
        let mut gradients = net::gradients(&self.network, &losses.total.backward());
        let network = self.network.clone().follow(losses.statistics.clone(), config.norm_rate);
        let mut weights = net::tensors(&network);
        exchange.average(&mut gradients, &mut weights);

        let rate = config.learning_rate_after(done);
        self.moments.step(config, &mut weights, gradients, rate, done + 1);
        let mut average = net::tensors(&self.ema);
        ema::follow(&mut average, &weights, config.ema_decay);
        if config.optimizer == Optimizer::Adam {
            optimizer::decay(&mut weights, rate, config.weight_decay);
        }
        self.network = net::load(network, weights);
        self.ema = net::load(self.ema.clone(), average);

        let probes = batch.probes();
        let probe_logits = probes.map(|probes| self.ema.logits(probes.images.clone(), &mut Mode::Evaluate));
        let probe_probs = probe_logits.map(|logits| softmax(logits, 1));
        let read = losses.read(probe_probs).map_err(|error| device::failure(&error, config))?;
        method.remember(read.mean_probs, batch.labels());
        let probed = probes.zip(read.probe_probs).map(|(probes, probs)| probes.judge(&probs));
        Ok(Learned { numbers: read.numbers, probed: probed.unwrap_or_default() })
    }
}

impl Learned {
    /// What several replicas have shown, with the means of their numbers.
    pub(super) fn merge(replicas: Vec<Self>) -> Self {
        let (numbers, probed): (Vec<_>, Vec<_>) = replicas.into_iter().map(|l| (l.numbers, l.probed)).unzip();
        Self { numbers: StepNumbers::mean(&numbers), probed: probed.concat() }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use models::network::TensorRole;

    use super::*;
    use crate::{
        config::{Algorithm, NetworkConfig},
        data::{digits, loader::Sampler},
        net::numbers,
        vectors::assert_same,
    };

    /// The average takes in what Adam made of the weights; kernels decay behind its back. It has the network's own running
    /// statistics, and it judges the probes. The method remembers what the step has shown.
    #[test]
    fn a_step_ends_in_the_order_of_the_specification() {
        let config = TrainConfig {
            batch: 4,
            learning_rate: 0.01,
            weight_decay: 10.0,
            ema_decay: 0.5,
            ..TrainConfig::of(Algorithm::ReMixMatch)
        };
        let data = digits::split(1).training();
        let spec = NetworkConfig::wide_resnet(10, 1).spec(data.preprocessing.shape(), 10).expect("a network");
        let recipe = Method::recipe(&config);
        let drawn = Sampler::new(recipe.clone(), &config, &data).draw(&data);
        let device = Device::flex();
        let batch = Batch::new(drawn.clone(), &recipe, &spec, &device);

        let mut replica = Replica::new(&config, &spec, &Groups::new(), device);
        let before = net::tensors(&replica.network);
        let mut method = Method::new(&config, 10, None);
        let mut by_hand = method.clone();
        let losses = by_hand.losses(&replica.network, &batch, 0);
        by_hand.remember(losses.read(None).expect("numbers").mean_probs, batch.labels());
        let step = Step { config: &config, spec: &spec, recipe: &recipe, done: 0 };
        let learned = replica.step(&step, &mut method, drawn, Exchange::Alone).expect("a step");

        let (after, average) = (net::tensors(&replica.network), net::tensors(&replica.ema));
        for ((name, before), (after, average)) in before.into_iter().zip(after.into_values().zip(average.into_values()))
        {
            let expected = match TensorRole::of(&name) {
                TensorRole::Statistic => after,
                TensorRole::Kernel => (before + after / (1.0 - 0.01 * 10.0)) / 2.0,
                TensorRole::Offset => (before + after) / 2.0,
            };
            assert_same(&numbers(average), &numbers(expected));
        }
        let state = |method: &Method| serde_json::to_value(method).expect("JSON");
        assert!(state(&by_hand) != state(&Method::new(&config, 10, None)), "nothing is remembered");
        assert_eq!(state(&method), state(&by_hand));
        let probes = batch.probes().expect("probes");
        let probs = softmax(replica.ema.logits(probes.images.clone(), &mut Mode::Evaluate), 1);
        assert_eq!(learned.probed, probes.judge(&numbers(probs)));
    }
}
