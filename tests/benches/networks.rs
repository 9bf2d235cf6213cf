//! What a device needs for one image, network by network, beside ONNX Runtime: also how the networks for devices were chosen.
//!
//! `cargo bench --workspace --bench networks`; with `ORT_DYLIB_PATH=.../libonnxruntime.so` it runs in turn on the same graphs.

use std::{
    env,
    error::Error,
    path::PathBuf,
    time::{Duration, Instant},
};

use edge_runtime::{Engine, engine::Backend};
use exporter::OnnxOptions;
use models::{
    LabelSet, ModelSpec, NetworkSpec, Pixels, Preprocessing, TrainingFacts, Weights,
    network::{TensorRole, TensorSpec},
    preprocess::{Color, InputLayout, InputSpec},
};

const SIDE: usize = 32;
const CLASSES: usize = 10;
/// Rounds in which every network has its turn.
const ROUNDS: usize = 20;
/// Images a turn.
const IMAGES: usize = 20;

/// One engine's times: on one thread an image, and over all cores an image of each core.
#[derive(Default)]
struct Times {
    one_thread: Vec<Duration>,
    all_cores: Vec<Duration>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let library = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let backends: Vec<Backend> =
        [Some(Backend::Tract), library.as_deref().map(Backend::OnnxRuntime)].into_iter().flatten().collect();
    let sizes =
        [(10, 1, 1), (10, 2, 1), (16, 2, 1), (28, 2, 1), (10, 2, 2), (16, 2, 2), (10, 3, 2), (10, 4, 2), (16, 4, 2)];
    let mut networks = Vec::new();
    for (depth, width, stem_stride) in sizes {
        let spec = NetworkSpec { stem_stride, ..NetworkSpec::wide_resnet(depth, width, [3, SIDE, SIDE], CLASSES)? };
        let onnx = exporter::to_onnx(&weights(&spec)?, &OnnxOptions::default())?;
        let input = InputSpec { layout: InputLayout::F32, shape: spec.input };
        let engines = backends.iter().map(|backend| Engine::from_bytes(&onnx, input, *backend));
        let engines =
            engines.map(|engine| Ok((engine?, Times::default()))).collect::<edge_runtime::Result<Vec<_>>>()?;
        networks.push((spec, engines));
    }

    let data = (0..3 * SIDE * SIDE).map(|i| (i * 7919 % 251) as u8).collect();
    let image = Pixels { height: SIDE, width: SIDE, channels: 3, data };
    for _ in 0..ROUNDS {
        for (engine, times) in networks.iter_mut().flat_map(|(_, engines)| engines) {
            times.one_thread.push(turn(engine, &image)?);
            let start = Instant::now();
            rayon::broadcast(|_| turn(engine, &image)).into_iter().try_for_each(|turn| turn.map(drop))?;
            times.all_cores.push(start.elapsed() / IMAGES as u32);
        }
    }

    let peer =
        if library.is_some() { " ONNX Runtime | ratio | all cores, images/s | ONNX Runtime | ratio |" } else { "" };
    println!("| network | parameters | million multiplications | ms an image | billion a second |{peer}");
    println!("|---|---|---|---|---|{}", "---|".repeat(peer.matches('|').count()));
    for (spec, engines) in &mut networks {
        let mut medians =
            engines.iter_mut().map(|(_, times)| (median(&mut times.one_thread), median(&mut times.all_cores)));
        let (one, all) = medians.next().unwrap_or_default();
        let parameters: usize = spec.tensors().iter().filter(|t| t.role.is_trained()).map(TensorSpec::len).sum();
        let multiplications = spec.multiplications() as f64;
        let (name, millions, speed) = (spec.name(), multiplications / 1e6, multiplications / 1e9 / one);
        print!("| {name} | {parameters} | {millions:.1} | {:.2} | {speed:.1} |", 1e3 * one);
        if let Some((peer_one, peer_all)) = medians.next() {
            let [images, peer_images] = [all, peer_all].map(|time| rayon::current_num_threads() as f64 / time);
            print!(
                " {:.2} | {:.2} | {images:.0} | {peer_images:.0} | {:.2} |",
                1e3 * peer_one,
                peer_one / one,
                images / peer_images
            );
        }
        println!();
    }
    Ok(())
}

/// What an image takes, on this thread.
fn turn(engine: &Engine, image: &Pixels) -> edge_runtime::Result<Duration> {
    engine.logits(image)?;
    let start = Instant::now();
    (0..IMAGES).try_for_each(|_| engine.logits(image).map(drop))?;
    Ok(start.elapsed() / IMAGES as u32)
}

/// In seconds.
fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// Weights of the size that fresh ones have: what they are does not matter, as long as nothing overflows or vanishes.
fn weights(network: &NetworkSpec) -> models::Result<Weights> {
    let values = |spec: &TensorSpec| -> Vec<f32> {
        let scale = match spec.role {
            TensorRole::Kernel => (2.0_f32 / spec.shape[1..].iter().product::<usize>() as f32).sqrt(),
            TensorRole::Offset | TensorRole::Statistic => 0.0,
        };
        let base = if spec.role == TensorRole::Kernel { 0.0 } else { 1.0 };
        (0..spec.len()).map(|i| base + scale * ((i * 7919 % 2003) as f32 / 1001.0 - 1.0)).collect()
    };
    Ok(Weights {
        tensors: network.tensors().iter().map(|spec| (spec.name.clone(), values(spec))).collect(),
        spec: ModelSpec {
            network: network.clone(),
            labels: LabelSet::new((0..network.classes).map(|class| class.to_string()))?,
            preprocessing: Preprocessing { color: Color::Rgb, height: SIDE as u32, width: SIDE as u32 },
        },
        training: TrainingFacts { labeled: 0, unlabeled: 0, steps: 0, seed: 0 },
    })
}
