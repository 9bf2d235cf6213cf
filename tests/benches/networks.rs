//! What a device needs for one image, network by network, beside ONNX Runtime: also how the networks for devices were chosen.
//!
//! ```sh
//! cargo bench --workspace --bench networks                          # a table; with ORT_DYLIB_PATH, ONNX Runtime in turn
//! cargo bench --workspace --bench networks -- --write FILE.md       # into FILE, between its two <!-- networks --> lines
//! cargo bench --workspace --bench networks -- --onnx A.onnx B.onnx  # these models instead
//! ```

use std::{
    env,
    error::Error,
    fs, iter,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use edge_runtime::{Engine, engine::Backend};
use exporter::{Observations, OnnxOptions, RangeMethod, Ranges};
use models::{
    LabelSet, ModelSpec, NetworkSpec, Pixels, Preprocessing, TrainingFacts, Weights,
    network::{TensorRole, TensorSpec},
    preprocess::{Color, InputLayout, InputSpec},
    weights::{Arithmetic, Storage},
};

const CLASSES: usize = 10;
/// Rounds in which every network has its turn.
const ROUNDS: usize = 20;
/// Images a turn.
const IMAGES: usize = 20;
/// What a table is written between.
const MARK: &str = "<!-- networks -->";

/// A graph to measure.
struct Subject {
    name: String,
    side: usize,
    bits: String,
    onnx: Vec<u8>,
    /// Of one image; none if they are not known.
    multiplications: Option<usize>,
}

/// An engine's times: on one thread an image, and over all cores an image of each core.
struct Measured {
    engine: Engine,
    load: Duration,
    one_thread: Vec<Duration>,
    all_cores: Vec<Duration>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (write, subjects) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (None, networks()?),
        ["--write", file] => (Some(from_root(file)), networks()?),
        ["--onnx", ref files @ ..] => (None, files.iter().map(|file| model(file)).collect::<Result<_, _>>()?),
        _ => return Err("expected --write FILE, --onnx FILES or nothing".into()),
    };
    let library = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let table = measure(&subjects, library.as_deref())?;
    match write {
        None => print!("{table}"),
        Some(file) => {
            let text = fs::read_to_string(&file)?;
            let parts: Vec<&str> = text.split(MARK).collect();
            let [before, _, after] = parts[..] else { return Err(format!("expected {MARK} twice in {file:?}").into()) };
            fs::write(&file, format!("{before}{MARK}\n\n{table}\n{MARK}{after}"))?;
        }
    }
    Ok(())
}

/// The networks, sizes and precisions of the table.
fn networks() -> Result<Vec<Subject>, Box<dyn Error>> {
    let at_32 =
        [(10, 1, 1), (10, 2, 1), (16, 2, 1), (28, 2, 1), (10, 2, 2), (16, 2, 2), (10, 3, 2), (10, 4, 2), (16, 4, 2)];
    let larger = [64, 96].into_iter().flat_map(|side| [(10, 2, 2, side), (10, 4, 2, side)]);
    let sizes = at_32.into_iter().map(|(depth, width, stem_stride)| (depth, width, stem_stride, 32)).chain(larger);
    let wrn_28_2 = (28, 2, 1, 32);
    let in_fewer_bits = [(10, 2, 2, 32), (10, 4, 2, 32), wrn_28_2].map(|size| (size, Storage::Int8, Arithmetic::Int8));
    let precisions = sizes
        .map(|size| (size, Storage::F32, Arithmetic::F32))
        .chain([Storage::F16, Storage::Int8].map(|storage| (wrn_28_2, storage, Arithmetic::F32)))
        .chain(in_fewer_bits);
    let subject = |((depth, width, stem_stride, side), storage, arithmetic): (_, Storage, _)| {
        let spec = NetworkSpec { stem_stride, ..NetworkSpec::wide_resnet(depth, width, [3, side, side], CLASSES)? };
        let weights = weights(&spec)?;
        let ranges = match arithmetic {
            Arithmetic::F32 => None,
            Arithmetic::Int8 => Some(ranges(&weights, &image(side))?),
        };
        let bits = match (storage, arithmetic) {
            (Storage::F32, _) => "f32".to_owned(),
            (_, Arithmetic::Int8) => "int8".to_owned(),
            (storage, Arithmetic::F32) => format!("{} kernels", storage.name()),
        };
        let options = OnnxOptions { weights: storage, ranges, ..OnnxOptions::default() };
        let onnx = exporter::to_onnx(&weights, &options)?;
        Ok(Subject { name: spec.name(), side, bits, onnx, multiplications: Some(spec.multiplications()) })
    };
    precisions.map(subject).collect()
}

/// Ranges of an 8-bit model, good enough to time it.
fn ranges(weights: &Weights, image: &Pixels) -> exporter::Result<Ranges> {
    let observations = Observations::of(weights, InputLayout::F32, std::slice::from_ref(image), |onnx| {
        let input = InputSpec { layout: InputLayout::F32, shape: weights.spec.network.input };
        let engine = Engine::from_bytes(onnx, input, Backend::Tract)?;
        Ok::<_, edge_runtime::Error>(move |image: &Pixels| engine.logits(image))
    });
    Ok(observations?.ranges(RangeMethod::MinMax))
}

/// A path from the workspace's root: cargo starts benchmarks in their package's folder.
fn from_root(path: &str) -> PathBuf {
    Path::new("..").join(path)
}

/// A model from a file, for colour images of 32x32 pixels.
fn model(file: &str) -> Result<Subject, Box<dyn Error>> {
    let name = Path::new(file).file_name().map_or(file.into(), |name| name.to_string_lossy());
    Ok(Subject {
        name: name.into_owned(),
        side: 32,
        bits: String::new(),
        onnx: fs::read(from_root(file))?,
        multiplications: None,
    })
}

fn measure(subjects: &[Subject], library: Option<&Path>) -> Result<String, Box<dyn Error>> {
    let backends: Vec<Backend> = iter::once(Backend::Tract).chain(library.map(Backend::onnxruntime)).collect();
    let load = |subject: &Subject| {
        let input = InputSpec { layout: InputLayout::F32, shape: [3, subject.side, subject.side] };
        let engines = backends.iter().map(|backend| {
            let start = Instant::now();
            let engine = Engine::from_bytes(&subject.onnx, input, *backend)?;
            Ok(Measured { engine, load: start.elapsed(), one_thread: Vec::new(), all_cores: Vec::new() })
        });
        engines.collect::<edge_runtime::Result<Vec<_>>>()
    };
    let mut measured = subjects.iter().map(load).collect::<edge_runtime::Result<Vec<_>>>()?;
    for _ in 0..ROUNDS {
        for (subject, engines) in subjects.iter().zip(&mut measured) {
            let image = image(subject.side);
            for Measured { engine, one_thread, all_cores, .. } in engines {
                one_thread.push(turn(engine, &image)?);
                let start = Instant::now();
                rayon::broadcast(|_| turn(engine, &image)).into_iter().try_for_each(|turn| turn.map(drop))?;
                all_cores.push(start.elapsed() / IMAGES as u32);
            }
        }
    }

    let mut columns =
        vec!["network", "side", "bits", "MB", "load, ms", "million multiplications", "ms an image", "billion a second"];
    if library.is_some() {
        columns.extend(["ONNX Runtime, ms", "ratio", "images/s, all cores", "ONNX Runtime, images/s", "ratio"]);
    }
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut table = row(columns.iter().map(|column| (*column).to_owned()).collect());
    table += &format!("{}|\n", "|---".repeat(columns.len()));
    for (subject, engines) in subjects.iter().zip(&mut measured) {
        let load = engines[0].load.as_secs_f64();
        let mut medians =
            engines.iter_mut().map(|Measured { one_thread, all_cores, .. }| (median(one_thread), median(all_cores)));
        let (one, all) = medians.next().unwrap_or_default();
        let known =
            |text: &dyn Fn(f64) -> String| subject.multiplications.map_or(String::new(), |count| text(count as f64));
        let mut cells = vec![
            subject.name.clone(),
            subject.side.to_string(),
            subject.bits.clone(),
            format!("{:.2}", subject.onnx.len() as f64 / 1e6),
            format!("{:.0}", 1e3 * load),
            known(&|count| format!("{:.1}", count / 1e6)),
            format!("{:.2}", 1e3 * one),
            known(&|count| format!("{:.0}", count / 1e9 / one)),
        ];
        if let Some((peer_one, peer_all)) = medians.next() {
            let [images, peer_images] = [all, peer_all].map(|time| rayon::current_num_threads() as f64 / time);
            cells.extend([
                format!("{:.2}", 1e3 * peer_one),
                format!("{:.2}", peer_one / one),
                format!("{images:.0}"),
                format!("{peer_images:.0}"),
                format!("{:.2}", images / peer_images),
            ]);
        }
        table += &row(cells);
    }
    Ok(table)
}

/// A fixed pattern without runs.
fn image(side: usize) -> Pixels {
    let data = (0..3 * side * side).map(|i| (i * 7919 % 251) as u8).collect();
    Pixels { height: side, width: side, channels: 3, data }
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
            preprocessing: Preprocessing {
                color: Color::Rgb,
                height: network.input[1] as u32,
                width: network.input[2] as u32,
            },
        },
        training: TrainingFacts { labeled: 0, unlabeled: 0, steps: 0, seed: 0 },
    })
}
