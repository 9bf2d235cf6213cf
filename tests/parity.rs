//! What the trainer computes, tract computes, and ONNX Runtime if `ORT_DYLIB_PATH` names one: for every shape of network, on
//! the very bytes that devices get.

use std::sync::atomic::AtomicBool;

use edge_runtime::{Engine, engine::Backend};
use exporter::{Observations, OnnxOptions, RangeMethod};
use models::{
    LabelSet, Pixels, Preprocessing, Weights,
    preprocess::{Color, InputLayout, InputSpec},
    tolerance::{CROSS_ENGINE, max_abs_diff},
    weights::{Arithmetic, Storage},
};
use trainer::{
    Classifier, Outcome,
    config::{Algorithm, NetworkConfig, TrainConfig},
    data::{LabeledImages, TrainingData},
    device::DeviceId,
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
        prior: None,
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
            let golden = Classifier::new(&golden, DeviceId::CPU)?.golden(&noise(&preprocessing, 4), 4)?;
            let input = InputSpec { layout, shape: weights.spec.network.input };
            // Not the trivial agreement of constants.
            assert!(golden.logits[0] != golden.logits[1]);
            for backend in [Some(Backend::Tract), library.as_deref().map(Backend::onnxruntime)].into_iter().flatten() {
                let engine = Engine::from_bytes(&onnx, input, backend)?;
                let parity = exporter::parity(&golden, CROSS_ENGINE, |image| engine.logits(image)).map_err(|e| {
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

/// What tract shows of a network's feature maps.
pub(crate) fn observations(
    weights: &Weights,
    layout: InputLayout,
    images: &[Pixels],
) -> exporter::Result<Observations> {
    Observations::of(weights, layout, images, |onnx| {
        let input = InputSpec { layout, shape: weights.spec.network.input };
        let engine = Engine::from_bytes(onnx, input, Backend::Tract)?;
        Ok::<_, edge_runtime::Error>(move |image: &Pixels| engine.logits(image))
    })
}

/// Nobody but engines computes in 8 bits: they have to agree with each other, and nearly with the model in 32 bits.
#[test]
fn engines_agree_on_8_bits_and_stay_close_to_32() -> TestResult {
    let library = std::env::var_os("ORT_DYLIB_PATH").map(std::path::PathBuf::from);
    for (network, color, side) in [
        (NetworkConfig::wide_resnet(10, 1), Color::Gray, 8),
        (NetworkConfig::wide_resnet(16, 2), Color::Rgb, 21),
        (NetworkConfig::DEVICE_SMALL, Color::Rgb, 32),
    ] {
        let preprocessing = Preprocessing { color, height: side, width: side };
        let weights = trained(network, preprocessing.clone(), 1)?;
        let images = noise(&preprocessing, 8);
        let input = InputSpec { layout: InputLayout::Rgb8, shape: weights.spec.network.input };
        let observations = observations(&weights, input.layout, &images)?;
        let trained = Classifier::new(&weights, DeviceId::CPU)?.logits(&images)?;
        for method in RangeMethod::ALL {
            let ranges = Some(observations.ranges(method));
            let options = OnnxOptions { input: input.layout, ranges, ..OnnxOptions::default() };
            let onnx = exporter::to_onnx(&weights, &options)?;
            let plain = exporter::to_onnx(&weights, &OnnxOptions { ranges: None, ..options })?;
            assert!(onnx.len() < plain.len() * 2 / 5, "{} of {} bytes", onnx.len(), plain.len());
            let logits = |backend| -> Result<Vec<_>, Box<dyn std::error::Error>> {
                let engine = Engine::from_bytes(&onnx, input, backend)?;
                Ok(images.iter().map(|image| engine.logits(image)).collect::<Result<Vec<_>, _>>()?)
            };
            let ours = logits(Backend::Tract)?;
            let spread = trained.concat().iter().fold(0.0, |spread: f32, value| spread.max(value.abs()));
            let off = max_abs_diff(&ours.concat(), &trained.concat());
            assert!(off > 0.0 && off < 0.1 * f64::from(spread), "{network:?}, {method:?}: {off} of {spread}");
            if let Some(library) = &library {
                let theirs = logits(Backend::onnxruntime(library))?;
                let off = max_abs_diff(&ours.concat(), &theirs.concat());
                assert!(off <= Arithmetic::Int8.tolerance().bound, "{network:?}, {method:?}: {off}");
            }
        }
    }
    Ok(())
}
