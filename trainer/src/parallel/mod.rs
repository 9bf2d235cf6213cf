//! Devices that share every step: each holds a replica of all tensors and takes an equal part of the images.
//!
//! After the backward pass the replicas agree on the mean of their gradients and of their running statistics, take the
//! same step, and so stay equal. Whatever looks at a batch as a whole, which is batch norm, mixup and distribution
//! alignment, looks at a replica's part alone; batch norm does so in the original code on several GPUs, too.

mod exchange;
mod replica;

use std::{
    iter,
    panic::resume_unwind,
    thread::{self, ScopedJoinHandle},
};

use burn::tensor::Device;
use models::NetworkSpec;
use rayon::{ThreadPool, ThreadPoolBuilder};

pub(crate) use self::replica::{Learned, Replica};
use self::{exchange::Exchange, replica::Step};
use crate::{
    Result,
    algorithm::Method,
    checkpoint::Groups,
    config::TrainConfig,
    data::loader::{Drawn, Recipe},
    device::is_cpu,
};

/// All replicas of a run.
pub(crate) struct Replicas {
    replicas: Vec<Replica>,
    /// A pool for each of several: the processor's cores divided, or one thread to feed a GPU.
    pools: Vec<ThreadPool>,
    config: TrainConfig,
    /// What each of them looks at in a step.
    part: Recipe,
}

impl Replicas {
    /// One on each configured device, with the tensors of a checkpoint or, where it has none, fresh ones.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if a device is not there.
    pub(crate) fn open(config: &TrainConfig, spec: &NetworkSpec, groups: &Groups) -> Result<Self> {
        let devices = config.open_devices()?;
        let count = devices.len();
        let threads = if is_cpu(&devices[0]) { (rayon::current_num_threads() / count).max(1) } else { 1 };
        let pool = |_: &Device| ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
        Ok(Self {
            pools: if count > 1 { devices.iter().map(pool).collect() } else { Vec::new() },
            replicas: devices.into_iter().map(|device| Replica::new(config, spec, groups, device)).collect(),
            part: Method::recipe(&TrainConfig { batch: config.batch / count, ..config.clone() }),
            config: config.clone(),
        })
    }

    /// The method of each replica at its first step. Their random streams differ.
    pub(crate) fn methods(config: &TrainConfig, classes: usize, prior: Option<&[f64]>) -> Vec<Method> {
        let seeds = (0..config.devices.len() as u64).map(|replica| config.seed.wrapping_add(replica));
        seeds.map(|seed| Method::new(&TrainConfig { seed, ..config.clone() }, classes, prior)).collect()
    }

    /// The one that is measured and saved: the others are equal to it.
    pub(crate) fn first(&self) -> &Replica {
        &self.replicas[0]
    }

    /// One optimiser step; `done` are the steps before it.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] and [`crate::Error::Device`].
    ///
    /// # Panics
    /// If a replica panics.
    pub(crate) fn step(
        &mut self,
        spec: &NetworkSpec,
        methods: &mut [Method],
        done: u64,
        drawn: Drawn,
    ) -> Result<Learned> {
        let step = &Step { config: &self.config, spec, recipe: &self.part, done };
        if let ([replica], [method]) = (self.replicas.as_mut_slice(), &mut *methods) {
            return replica.step(step, method, drawn, Exchange::Alone);
        }
        let devices: Vec<Device> = self.replicas.iter().map(|replica| replica.device.clone()).collect();
        let inputs = iter::zip(drawn.split(&self.part, devices.len()), Exchange::among(&devices));
        let replicas = iter::zip(&mut self.replicas, methods);
        thread::scope(|scope| {
            let running: Vec<ScopedJoinHandle<_>> = iter::zip(replicas.zip(inputs), &self.pools)
                .map(|(((replica, method), (part, exchange)), pool)| {
                    scope.spawn(move || pool.install(|| replica.step(step, method, part, exchange)))
                })
                .collect();
            let done = running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            Ok(Learned::merge(done.collect::<Result<_>>()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Algorithm, FixMatchConfig, NetworkConfig},
        data::{digits, loader::Sampler},
        net::{self, numbers},
    };

    /// The first step of gradient descent is linear in the gradient: the mean of two replicas' gradients ends in the
    /// middle between the weights that each of them ends at alone, with its part of the images. So do the statistics.
    #[test]
    fn two_replicas_take_the_mean_of_the_steps_that_each_would_take_alone() {
        let both = TrainConfig {
            batch: 8,
            devices: vec![0, 1],
            ema_decay: 0.5,
            fixmatch: FixMatchConfig { unlabeled_ratio: 2, threshold: 0.0, ..Default::default() },
            ..TrainConfig::of(Algorithm::FixMatch)
        };
        let alone = TrainConfig { batch: 4, devices: vec![0], ..both.clone() };
        let data = digits::split(1).training();
        let spec = NetworkConfig::wide_resnet(10, 1).spec(data.preprocessing.shape(), 10).expect("a network");
        let drawn = Sampler::new(Method::recipe(&both), &both, &data).draw(&data);
        let step = |config: &TrainConfig, drawn: Drawn| {
            let mut replicas = Replicas::open(config, &spec, &Groups::new()).expect("replicas");
            let learned = replicas.step(&spec, &mut Replicas::methods(config, 10, None), 0, drawn).expect("a step");
            (replicas, learned)
        };
        let values = |replica: &Replica| -> Vec<f64> {
            let tensors = [net::tensors(&replica.network), net::tensors(&replica.ema)];
            tensors.into_iter().flat_map(|tensors| tensors.into_values().flat_map(numbers)).collect()
        };

        let (replicas, learned) = step(&both, drawn.clone());
        let parts = drawn.split(&replicas.part, 2);
        let [(first, one), (second, other)] = [0, 1].map(|i| step(&alone, parts[i].clone()));
        assert!(values(&replicas.replicas[0]) == values(&replicas.replicas[1]), "replicas drift apart");
        assert_eq!(learned.probed.len(), 8);
        assert_eq!(learned.numbers.total, (one.numbers.total + other.numbers.total) / 2.0);
        let (first, second) = (values(first.first()), values(second.first()));
        assert!(first.iter().zip(&second).any(|(a, b)| (a - b).abs() > 1e-3), "both parts teach the same");
        for ((found, first), second) in values(replicas.first()).iter().zip(first).zip(second) {
            let expected = (first + second) / 2.0;
            assert!((found - expected).abs() < 1e-6 + 1e-5 * expected.abs(), "{found} is not {expected}");
        }
    }
}
