//! What tract needs for one image, network by network, on one thread: how the networks for devices were chosen.
//!
//! `cargo bench --workspace --bench networks`

use std::{
    error::Error,
    time::{Duration, Instant},
};

use edge_runtime::Engine;
use models::{
    LabelSet, ModelSpec, NetworkSpec, Preprocessing, TrainingFacts, Weights,
    network::{TensorRole, TensorSpec},
    preprocess::Color,
};

const SIDE: usize = 32;
const CLASSES: usize = 10;
/// Rounds in which every network has its turn.
const ROUNDS: usize = 20;
/// Images a turn.
const IMAGES: u32 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let sizes =
        [(10, 1, 1), (10, 2, 1), (16, 2, 1), (28, 2, 1), (10, 2, 2), (16, 2, 2), (10, 3, 2), (10, 4, 2), (16, 4, 2)];
    let networks: Vec<(NetworkSpec, Engine)> = sizes
        .into_iter()
        .map(|(depth, width, stem_stride)| {
            let spec = NetworkSpec::wide_resnet(depth, width, [3, SIDE, SIDE], CLASSES)?;
            let spec = NetworkSpec { stem_stride, ..spec };
            let onnx = exporter::to_onnx(&weights(&spec)?)?;
            Ok((spec.clone(), Engine::from_bytes(&onnx, spec.input)?))
        })
        .collect::<Result<_, Box<dyn Error>>>()?;

    let input: Vec<f32> = (0..3 * SIDE * SIDE).map(|i| (i % 255) as f32 / 127.5 - 1.0).collect();
    let mut times = vec![Vec::new(); networks.len()];
    for _ in 0..ROUNDS {
        for ((_, engine), times) in networks.iter().zip(&mut times) {
            engine.logits(&input)?;
            let start = Instant::now();
            (0..IMAGES).try_for_each(|_| engine.logits(&input).map(drop))?;
            times.push(start.elapsed() / IMAGES);
        }
    }

    println!("| network | parameters | million multiplications | ms an image | billion multiplications a second |");
    println!("|---|---|---|---|---|");
    for ((spec, _), times) in networks.iter().zip(&mut times) {
        times.sort();
        let (time, multiplications) = (times[ROUNDS / 2], spec.multiplications() as f64);
        let parameters: usize = spec.tensors().iter().filter(|t| t.role.is_trained()).map(TensorSpec::len).sum();
        println!(
            "| {} | {parameters} | {:.1} | {:.2} | {:.1} |",
            spec.name(),
            multiplications / 1e6,
            1e3 * time.as_secs_f64(),
            multiplications / 1e9 / time.max(Duration::from_nanos(1)).as_secs_f64()
        );
    }
    Ok(())
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
