//! How fast a bundle runs on this machine, and how fast ONNX Runtime runs it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use models::{Pixels, tolerance::max_abs_diff};
use serde::Serialize;

use crate::{
    Classifier, Engine, Result,
    engine::{Accelerator, Backend},
};

/// Fewer runs make no percentiles.
const MIN_RUNS: usize = 20;
/// Turns in which every engine is measured once, so that a slow minute is one for all.
const TURNS: u32 = 10;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// About how long to measure with a peer: a fifth for images, and two for inference by each engine.
    pub time: Duration,
    /// Library of the ONNX Runtime to measure beside it.
    pub against: Option<PathBuf>,
    /// What it is to run on.
    pub accelerators: Vec<Accelerator>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Milliseconds to open the bundle: to verify its files, prepare the graph and compute its golden vectors.
    pub load_ms: f64,
    /// Milliseconds for an image on one thread: a PNG of the network's input size in memory is decoded, preprocessed and
    /// classified. Reading from disk is not in it.
    pub image_ms: Percentiles,
    /// Threads of the measurements on all cores.
    pub threads: usize,
    /// Inference alone, pixels in, logits out.
    pub inference: Inference,
    /// Largest memory that the process had resident so far, in mebibytes; none where the system does not say it.
    pub peak_memory_mib: Option<f64>,
    /// Size of the model's file in bytes.
    pub model_bytes: u64,
    /// Size of this program's file in bytes.
    pub binary_bytes: u64,
    /// ONNX Runtime on the same graph, in turn.
    pub against: Option<Comparison>,
}

/// Inference by one engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inference {
    /// Milliseconds on one thread, while nothing else runs.
    pub one_thread_ms: Percentiles,
    /// Milliseconds of each image while all cores run images of their own.
    pub all_cores_ms: Percentiles,
    /// Images a second over all cores.
    pub images_per_second: f64,
}

/// ONNX Runtime beside this engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Milliseconds to prepare the graph.
    pub load_ms: f64,
    /// Its inference.
    pub inference: Inference,
    /// Its median time on one thread over ours: above 1, ours is faster.
    pub one_thread_ratio: f64,
    /// Our images a second over all cores over its own.
    pub throughput_ratio: f64,
    /// Largest difference between the logits of both.
    pub max_abs_diff: f64,
}

/// Percentiles over the counted runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Counted runs.
    pub runs: usize,
}

/// Measures a bundle.
///
/// # Errors
/// As [`Classifier::open`] and [`Classifier::classify`]; [`crate::Error::Engine`] for an ONNX Runtime that cannot be used.
pub fn measure(plan: &Plan) -> Result<Report> {
    let start = Instant::now();
    let classifier = Classifier::open(&plan.bundle)?;
    let load_ms = milliseconds(start.elapsed());
    let image = test_image(classifier.engine().input().shape);

    let png = image.to_png()?;
    let mut image_times = Vec::new();
    latency(plan.time / 5, &mut image_times, || classifier.classify("the test image", &png).map(drop))?;
    let engine = classifier.engine();
    let peak_memory_mib = peak_memory();

    let model = classifier.bundle().model_path();
    let start = Instant::now();
    let peer = plan.against.as_deref().map(|library| {
        let accelerators = &plan.accelerators;
        Engine::load(&model, engine.input(), Backend::OnnxRuntime { library, accelerators })
    });
    let (peer, peer_load) = (peer.transpose()?, start.elapsed());
    let (mut ours, mut theirs) = (Gathered::default(), Gathered::default());
    for _ in 0..TURNS {
        ours.turn(engine, &image, plan.time / 5 / TURNS)?;
        peer.as_ref().map_or(Ok(()), |peer| theirs.turn(peer, &image, plan.time / 5 / TURNS))?;
    }
    let inference = ours.inference();
    let compare = |peer: Engine| {
        let theirs = theirs.inference();
        Ok::<_, crate::Error>(Comparison {
            load_ms: milliseconds(peer_load),
            one_thread_ratio: theirs.one_thread_ms.p50 / inference.one_thread_ms.p50,
            throughput_ratio: inference.images_per_second / theirs.images_per_second,
            inference: theirs,
            max_abs_diff: max_abs_diff(&engine.logits(&image)?, &peer.logits(&image)?),
        })
    };
    Ok(Report {
        against: peer.map(compare).transpose()?,
        load_ms,
        image_ms: Percentiles::of(image_times),
        threads: rayon::current_num_threads(),
        inference,
        peak_memory_mib,
        model_bytes: size(&model)?,
        binary_bytes: env::current_exe().map_or(Ok(0), |path| size(&path))?,
    })
}

/// Times of one engine over its turns.
#[derive(Default)]
struct Gathered {
    one_thread: Vec<Duration>,
    all_cores: Vec<Duration>,
    all_cores_for: Duration,
}

impl Gathered {
    /// Measures for `time` on one thread and for as long on all cores.
    fn turn(&mut self, engine: &Engine, image: &Pixels, time: Duration) -> Result<()> {
        let run = || engine.logits(image).map(drop);
        latency(time, &mut self.one_thread, run)?;
        let start = Instant::now();
        let on_each_core = rayon::broadcast(|_| {
            let mut times = Vec::new();
            latency(time, &mut times, run).map(|()| times)
        });
        self.all_cores_for += start.elapsed();
        for times in on_each_core {
            self.all_cores.extend(times?);
        }
        Ok(())
    }

    fn inference(self) -> Inference {
        let images_per_second = self.all_cores.len() as f64 / self.all_cores_for.as_secs_f64();
        let [one_thread_ms, all_cores_ms] = [self.one_thread, self.all_cores].map(Percentiles::of);
        Inference { one_thread_ms, all_cores_ms, images_per_second }
    }
}

/// An image that no decoder can shorten much: a fixed pattern without runs.
fn test_image([channels, height, width]: [usize; 3]) -> Pixels {
    let data = (0..(channels * height * width) as u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
    Pixels { height, width, channels, data }
}

/// Runs for `time`, and adds what each run took.
fn latency(time: Duration, times: &mut Vec<Duration>, run: impl Fn() -> Result<()>) -> Result<()> {
    run()?;
    let (start, first) = (Instant::now(), times.len());
    while times.len() < first + MIN_RUNS || start.elapsed() < time {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    Ok(())
}

impl Percentiles {
    /// By the nearest-rank rule: the smallest time that at least this share of the runs did not exceed.
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let rank = |percent: usize| milliseconds(times[(times.len() * percent).div_ceil(100).max(1) - 1]);
        Self { p50: rank(50), p95: rank(95), p99: rank(99), runs: times.len() }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(models::Error::io("read", path))?.len())
}

/// The largest resident memory so far, as Linux says it.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, TestResult};

    #[test]
    fn percentiles_are_ranks() {
        let found = Percentiles::of((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(found, Percentiles { p50: 100.0, p95: 190.0, p99: 198.0, runs: 200 });
    }

    #[test]
    fn measures_a_bundle() -> TestResult {
        let folder = tempfile::tempdir()?;
        fixture::bundle(&folder.path().join("b"), |_, _| {})?;
        let plan = Plan {
            bundle: folder.path().join("b"),
            time: Duration::from_millis(50),
            against: None,
            accelerators: Vec::new(),
        };
        let report = measure(&plan)?;
        let one = report.inference.one_thread_ms;
        assert!(one.p50 > 0.0 && one.p50 <= one.p99 && one.runs >= MIN_RUNS * TURNS as usize);
        assert!(report.inference.images_per_second > 0.0 && report.image_ms.runs >= MIN_RUNS);
        assert!(report.model_bytes == fixture::ONNX.len() as u64 && report.binary_bytes > 0);
        Ok(())
    }
}
