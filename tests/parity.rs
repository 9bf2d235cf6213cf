//! What the trainer computes, tract computes, and ONNX Runtime if `ORT_DYLIB_PATH` names one: for every shape of network, on
//! the very bytes that devices get.

use std::sync::atomic::AtomicBool;

use edge_runtime::{Engine, engine::Backend};
use exporter::OnnxOptions;
use models::{
    LabelSet, Pixels, Preprocessing, Weights,
    preprocess::{Color, InputLayout, InputSpec},
    tolerance::CROSS_ENGINE,
    weights::Storage,
};
use trainer::{
    Classifier, Outcome,
    config::{Algorithm, NetworkConfig, TrainConfig},
    data::{LabeledImages, TrainingData},
    device::DeviceKind,
};

use crate::TestResult;

/// Images of noise from a small generator, the same on every machine.
pub(crate) fn noise(preprocessing: &Preprocessing, count: usize) -> Vec<Pixels> {
    let [channels, height, width] = preprocessing.shape();
    let mut state = 1_u32;
    let mut value = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let image = |_| Pixels { height, width, channels, data: (0..channels * height * width).map(|_| value()).collect() };
    (0..count).map(image).collect()
}

/// A network after a few steps of training, so that no tensor has its initial value.
pub(crate) fn trained(
    network: NetworkConfig,
    preprocessing: Preprocessing,
    seed: u64,
) -> Result<Weights, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let images = noise(&preprocessing, 8);
    let labels: Vec<usize> = (0..8).map(|i| i % 3).collect();
    let config = TrainConfig {
        algorithm: Algorithm::Supervised,
        steps: 3,
        batch: 8,
        seed,
        ema_decay: 0.5,
        norm_rate: 0.5,
        ..TrainConfig::default()
    };
    let data = TrainingData {
        labels: LabelSet::new(["a", "b", "c"])?,
        preprocessing,
        labeled: LabeledImages { images, labels },
        unlabeled: Vec::new(),
        test: LabeledImages::default(),
    };
    match trainer::fit(&config, &network, &data, folder.path(), &AtomicBool::new(false), &mut |_| {})? {
        Outcome::Finished(weights) => Ok(weights),
        Outcome::Stopped(step) => Err(format!("stopped at {step}").into()),
    }
}

#[test]
fn engines_compute_the_trainers_logits_for_every_shape_of_network() -> TestResult {
    let library = std::env::var_os("ORT_DYLIB_PATH").map(std::path::PathBuf::from);
    let network = |depth, width, scales| NetworkConfig { scales, ..NetworkConfig::wide_resnet(depth, width) };
    let input = |color, height, width| Preprocessing { color, height, width };
    for (network, preprocessing) in [
        (network(10, 1, 3), input(Color::Gray, 8, 8)),
        (network(28, 2, 3), input(Color::Rgb, 32, 32)),
        (network(16, 2, 3), input(Color::Rgb, 33, 20)),
        (network(13, 1, 4), input(Color::Rgb, 24, 24)),
        (network(6, 3, 1), input(Color::Gray, 5, 7)),
        (NetworkConfig::DEVICE, input(Color::Rgb, 32, 32)),
        (NetworkConfig::DEVICE_SMALL, input(Color::Gray, 21, 28)),
    ] {
        let weights = trained(network, preprocessing.clone(), 1)?;
        for (layout, storage) in
            [(InputLayout::F32, Storage::F32), (InputLayout::Rgb8, Storage::F16), (InputLayout::F32, Storage::Int8)]
        {
            let onnx = exporter::to_onnx(
                &weights,
                &OnnxOptions { input: layout, weights: storage, ..OnnxOptions::default() },
            )?;
            let golden = exporter::rounded(&weights, storage);
            let golden = Classifier::new(&golden, DeviceKind::Cpu)?.golden(&noise(&preprocessing, 4), 4);
            let input = InputSpec { layout, shape: weights.spec.network.input };
            // Not the trivial agreement of constants.
            assert!(golden.logits[0] != golden.logits[1]);
            for backend in [Some(Backend::Tract), library.as_deref().map(Backend::OnnxRuntime)].into_iter().flatten() {
                let engine = Engine::from_bytes(&onnx, input, backend)?;
                let parity = exporter::parity(&golden, |image| engine.logits(image)).map_err(|e| {
                    format!("{network:?} on {preprocessing:?}, {layout:?}, {storage:?}, {backend:?}: {e}")
                })?;
                assert!(
                    parity.max_abs_diff <= CROSS_ENGINE.bound,
                    "{network:?}, {layout:?}, {storage:?}, {backend:?}: {parity:?}"
                );
            }
        }
    }
    Ok(())
}
