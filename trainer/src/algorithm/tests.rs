//! Whole steps against the same steps in PyTorch: `fixtures/make_steps.py`.

use std::collections::BTreeMap;

use burn::{module::Module, tensor::Device};
use models::{NetworkSpec, network::TensorSpec, tolerance::CROSS_ENGINE};
use serde::Deserialize;

use super::*;
use crate::{
    config::{FixMatchConfig, MixMatchConfig, NetworkConfig, ReMixMatchConfig, UnlabeledLoss},
    data::loader::Drawn,
    net::{self, NamedTensors, numbers},
    random,
    ssl::losses::LossWeights,
    vectors,
};

const BATCH: usize = 8;
const CLASSES: usize = 3;
const INPUT: [usize; 3] = [3, 8, 8];
const FIRST_STEP: u64 = 5;
const RAMP_STEPS: u64 = 16;

/// What a step gives. Of a tensor: its norm, and its product with noise.
#[derive(Debug, Deserialize)]
struct Expected {
    /// Seed of the images.
    images: u64,
    total: f64,
    #[serde(flatten)]
    parts: Losses<f64>,
    confident: Option<f64>,
    statistics: Vec<[f64; 2]>,
    gradients: BTreeMap<String, [f64; 2]>,
}

#[test]
fn three_steps_of_each_method_are_those_of_the_reference() {
    let config = |algorithm| TrainConfig { batch: BATCH, ..TrainConfig::of(algorithm) };
    let mixmatch = MixMatchConfig { ramp_steps: RAMP_STEPS, ..Default::default() };
    let remixmatch = ReMixMatchConfig {
        strong_views: 2,
        alignment_window: 2,
        label_decay: 0.5,
        ramp_steps: RAMP_STEPS,
        ..Default::default()
    };
    let ablated = ReMixMatchConfig {
        distribution_alignment: false,
        unlabeled_loss: UnlabeledLoss::SquaredError,
        weights: LossWeights { unlabeled: 75.0, pre_mixup: 0.0, rotation: 0.0 },
        ..remixmatch
    };
    let fixmatch = FixMatchConfig { unlabeled_ratio: 2, threshold: 0.5, ..Default::default() };
    let small = NetworkConfig::wide_resnet(10, 1);
    for (name, network, config) in [
        ("supervised", small, config(Algorithm::Supervised)),
        ("supervised_wrn_16_2", NetworkConfig::wide_resnet(16, 2), config(Algorithm::Supervised)),
        (
            "supervised_wrn_21_2",
            NetworkConfig { scales: 4, ..NetworkConfig::wide_resnet(21, 2) },
            config(Algorithm::Supervised),
        ),
        ("mixmatch", small, TrainConfig { mixmatch, ..config(Algorithm::MixMatch) }),
        ("remixmatch", small, TrainConfig { remixmatch, ..config(Algorithm::ReMixMatch) }),
        ("remixmatch_ablated", small, TrainConfig { remixmatch: ablated, ..config(Algorithm::ReMixMatch) }),
        ("fixmatch", small, TrainConfig { fixmatch, ..config(Algorithm::FixMatch) }),
    ] {
        let mut method = Method::new(&config, CLASSES, None);
        for (index, expected) in (0..).zip(vectors::steps::<Vec<Expected>>(&format!("/steps/{name}"))) {
            check(&format!("{name}, step {index}"), &network, &config, &mut method, index, &expected);
        }
    }
}

fn check(
    name: &str,
    network: &NetworkConfig,
    config: &TrainConfig,
    method: &mut Method,
    index: u64,
    expected: &Expected,
) {
    let spec = network.spec(INPUT, CLASSES).expect("a network");
    let network = network_of_noise(&spec);
    let batch = batch(config, &spec, index, expected.images);
    let losses = method.losses(&network, &batch, FIRST_STEP + index);
    let Readings { numbers: found, mean_probs, .. } = losses.read(None).expect("numbers");
    method.remember(mean_probs, batch.labels());
    let gradients = net::gradients(&network, &losses.total.backward());

    let list = |total: f64, parts: &Losses<f64>, confident: Option<f64>| {
        vec![Some(total), Some(parts.labeled), parts.unlabeled, parts.pre_mixup, parts.rotation, confident]
    };
    let expected_losses = list(expected.total, &expected.parts, expected.confident);
    for (found, expected) in list(found.total, &found.parts, found.confident).iter().zip(&expected_losses) {
        let same = found.is_some() == expected.is_some()
            && CROSS_ENGINE.same(found.unwrap_or_default(), expected.unwrap_or_default());
        assert!(same, "{name}: a loss of {found:?} where the reference has {expected:?}");
    }

    let same = |what: &str, found: Vec<f64>, expected: &[f64; 2]| {
        let found = fingerprint(&found);
        let same = found.iter().zip(expected).all(|(found, expected)| CROSS_ENGINE.same(*found, *expected));
        assert!(same, "{name}: {what} is {found:?} where the reference has {expected:?}");
    };
    let statistics: Vec<_> = losses.statistics.into_iter().flat_map(|layer| [layer.mean, layer.variance]).collect();
    assert_eq!(statistics.len(), expected.statistics.len(), "{name}: statistics");
    statistics
        .into_iter()
        .map(numbers)
        .zip(&expected.statistics)
        .for_each(|(found, expected)| same("a statistic", found, expected));
    assert!(gradients.keys().eq(expected.gradients.keys()), "{name}: other tensors have a gradient");
    for ((tensor, found), expected) in gradients.into_iter().zip(expected.gradients.values()) {
        same(&format!("the gradient of {tensor}"), numbers(found), expected);
    }
}

fn network_of_noise(spec: &NetworkSpec) -> WideResNet {
    let device = Device::flex();
    let mut trained: Vec<_> =
        spec.tensors().into_iter().chain(spec.rotation_head()).filter(|tensor| tensor.role.is_trained()).collect();
    trained.sort_by(|a, b| a.name.cmp(&b.name));
    let values = |seed: u64, tensor: &TensorSpec| -> Vec<f32> {
        let noise = noise(seed, tensor.len()).into_iter();
        match (tensor.name.ends_with("bias"), tensor.shape.len()) {
            (true, _) => noise.map(|v| v / 8.0).collect(),
            (false, 1) => noise.map(|v| 1.0 + v / 4.0).collect(),
            _ => noise.map(|v| v / 4.0).collect(),
        }
    };
    let tensors: NamedTensors = (0..)
        .zip(&trained)
        .map(|(seed, tensor)| (tensor.name.clone(), Tensor::from_floats(values(seed, tensor).as_slice(), &device)))
        .collect();
    net::load(WideResNet::new(spec, &mut random::stream(0, "overwritten"), &device).train(), tensors)
}

fn batch(config: &TrainConfig, spec: &NetworkSpec, index: u64, seed: u64) -> Batch {
    let recipe = Method::recipe(config);
    let images = recipe.batch + recipe.unlabeled.len() * recipe.unlabeled_batch;
    let drawn = Drawn {
        images: noise(seed, images * INPUT.iter().product::<usize>()),
        labels: (0..BATCH).map(|row| (2 * row + index as usize) % CLASSES).collect(),
        probes: Vec::new(),
        policies: Vec::new(),
    };
    Batch::new(drawn, &recipe, spec, &Device::flex())
}

fn fingerprint(values: &[f64]) -> [f64; 2] {
    let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    [norm, values.iter().zip(noise(7, values.len())).map(|(v, noise)| v * f64::from(noise)).sum()]
}

/// From -1 to 1, the same numbers as in `make_steps.py`.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let number = |index: u64| {
        let mut x = (index * 2_654_435_761 + seed * 40_503 + 12_345) as u32;
        x ^= x >> 15;
        x = x.wrapping_mul(2_246_822_519);
        x ^= x >> 13;
        (f64::from(x) / f64::from(1_u32 << 31) - 1.0) as f32
    };
    (0..count as u64).map(number).collect()
}
