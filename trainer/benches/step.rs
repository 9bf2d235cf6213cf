//! How many images a second each method trains on, and how many PyTorch does on the same machine.
//!
//! ```sh
//! cargo bench --workspace --bench step                # this trainer alone
//! cargo bench --workspace --bench step -- --python /path/to/venv/bin/python3  # beside PyTorch, in turn, with ratios
//! ```
//!
//! A line is the median over the steps after the first two, of whole runs through [`trainer::fit()`]: drawing,
//! augmentation, forward, backward, Adam, EMA. PyTorch (`benches/torch_step.py`) computes the same without
//! augmentation, in its fastest memory layout and way to normalise.

use std::{error::Error, path::Path, process::Command, sync::atomic::AtomicBool};

use models::{LabelSet, Pixels, Preprocessing, preprocess::Color};
use rand::Rng;
use trainer::{
    config::{Algorithm, NetworkConfig, ReMixMatchConfig, TrainConfig},
    data::{LabeledImages, TrainingData},
    fit::Event,
    metrics::Record,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Steps before the measured ones, and those.
const WARM_UP: usize = 2;
const STEPS: usize = 5;

fn main() -> Result<()> {
    // As the program does; PyTorch inherits it, and gains by it too.
    trainer::memory::keep();
    let args: Vec<String> = std::env::args().collect();
    let python = args.iter().position(|arg| arg == "--python").and_then(|i| args.get(i + 1));
    let data = data()?;
    println!("| network | method | batch | images/s | PyTorch | ratio |\n|---|---|---|---|---|---|");
    for (depth, width) in [(10, 1), (28, 2)] {
        for (algorithm, batch) in [
            (Algorithm::Supervised, 256),
            (Algorithm::MixMatch, 32),
            (Algorithm::FixMatch, 16),
            (Algorithm::ReMixMatch, 32),
        ] {
            let network = NetworkConfig::wide_resnet(depth, width);
            let ours = images_per_second(algorithm, batch, &network, &data)?;
            let peer = match (python, algorithm) {
                (Some(python), Algorithm::Supervised | Algorithm::ReMixMatch) => {
                    Some(pytorch(python, algorithm, batch, &network)?)
                }
                _ => None,
            };
            let (peer, ratio) = match peer {
                Some(peer) => (format!("{peer:.0}"), format!("{:.2}", ours / peer)),
                None => Default::default(),
            };
            println!("| WRN-{depth}-{width} | {} | {batch} | {ours:.0} | {peer} | {ratio} |", algorithm.name());
        }
    }
    Ok(())
}

/// Noise in the size of CIFAR-10.
fn data() -> Result<TrainingData> {
    let mut random = trainer::random::stream(1, "bench");
    let mut images = |count: usize| -> Vec<Pixels> {
        let mut image = || {
            let mut data = vec![0; 3 * 32 * 32];
            random.fill_bytes(&mut data);
            Pixels { height: 32, width: 32, channels: 3, data }
        };
        (0..count).map(|_| image()).collect()
    };
    Ok(TrainingData {
        labels: LabelSet::new((0..10).map(|class| class.to_string()))?,
        preprocessing: Preprocessing { color: Color::Rgb, height: 32, width: 32 },
        labeled: LabeledImages { images: images(250), labels: (0..250).map(|i| i % 10).collect() },
        unlabeled: images(1000),
        prior: None,
        test: LabeledImages::default(),
    })
}

fn images_per_second(algorithm: Algorithm, batch: usize, network: &NetworkConfig, data: &TrainingData) -> Result<f64> {
    let steps = (WARM_UP + STEPS) as u64;
    let config = TrainConfig {
        steps,
        batch,
        log_every: 1,
        evaluate_every: steps + 1,
        checkpoint_every: steps + 1,
        remixmatch: ReMixMatchConfig { strong_views: 4, ..ReMixMatchConfig::default() },
        ..TrainConfig::of(algorithm)
    };
    let folder = tempfile::tempdir()?;
    let mut speeds = Vec::new();
    trainer::fit(&config, network, data, folder.path(), &AtomicBool::new(false), &mut |event| {
        if let Event::Logged(Record::Train(record)) = event {
            speeds.push(record.images_per_second);
        }
    })?;
    Ok(median(speeds.split_off(WARM_UP)))
}

/// The fastest of PyTorch's two layouts and of two ways to normalise groups apart.
fn pytorch(python: &str, algorithm: Algorithm, batch: usize, network: &NetworkConfig) -> Result<f64> {
    let script = Path::new("../benches/torch_step.py");
    let mut best = 0.0_f64;
    let is_grouped = algorithm == Algorithm::ReMixMatch;
    let ways = [&[][..], &["--channels-last"], &["--one-pass"], &["--one-pass", "--channels-last"]];
    for way in ways.into_iter().take(if is_grouped { 4 } else { 2 }) {
        let output = Command::new(python)
            .arg(script)
            .args(["--method", algorithm.name(), "--views", "4", "--batch", &batch.to_string()])
            .args(["--network", &format!("{}-{}", network.depth, network.width)])
            .args(["--warm-up", &WARM_UP.to_string(), "--steps", &STEPS.to_string()])
            .args(way)
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let result: serde_json::Value = serde_json::from_str(&text)
            .map_err(|_| format!("{python} {}: {}", script.display(), String::from_utf8_lossy(&output.stderr)))?;
        best = best.max(result["images_per_second"].as_f64().unwrap_or(0.0));
    }
    Ok(best)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
