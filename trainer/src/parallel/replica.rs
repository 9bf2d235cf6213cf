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

        let probed = match batch.probes() {
            Some(probes) => {
                let logits = self.ema.logits(probes.images.clone(), &mut Mode::Evaluate);
                probes.judge(softmax(logits, 1))
            }
            None => Vec::new(),
        };
        // The device is done only once its numbers are here.
        let numbers = losses.read().map_err(|error| device::failure(&error, config))?;
        Ok(Learned { numbers, probed })
    }
}

impl Learned {
    /// What several replicas have shown, with the means of their numbers.
    pub(super) fn merge(replicas: Vec<Self>) -> Self {
        let (numbers, probed): (Vec<_>, Vec<_>) = replicas.into_iter().map(|l| (l.numbers, l.probed)).unzip();
        Self { numbers: StepNumbers::mean(&numbers), probed: probed.concat() }
    }
}
