//! How fast a bundle runs on this machine.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use models::Pixels;
use rayon::prelude::*;
use serde::Serialize;

use crate::{Classifier, Result};

/// Runs that are not counted, so that caches and clocks settle.
const WARM_UP: usize = 10;
/// Fewer runs make no percentiles.
const MIN_RUNS: usize = 20;

/// What was measured. An image is a PNG of the network's input size in memory, and its time is that of decoding,
/// preprocessing and inference together; reading from disk is not in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Milliseconds to open the bundle: to verify its files, prepare the graph and compute its golden vectors.
    pub load_ms: f64,
    /// Milliseconds for an image on one thread.
    pub image_ms: Percentiles,
    /// Milliseconds of that for inference alone.
    pub inference_ms: Percentiles,
    /// Threads used for the throughput.
    pub threads: usize,
    /// Images a second on all threads.
    pub images_per_second: f64,
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

/// Measures the bundle in `folder` for about `time`, a third of it for each of the three measurements.
///
/// # Errors
/// As [`Classifier::open`] and [`Classifier::classify`].
pub fn measure(folder: &Path, time: Duration) -> Result<Report> {
    let start = Instant::now();
    let classifier = Classifier::open(folder)?;
    let load_ms = milliseconds(start.elapsed());

    let pixels = test_image(&classifier);
    let (input, png) = (pixels.to_input(), pixels.to_png()?);
    let third = time / 3;
    let inference_ms = latency(third, || classifier.engine().logits(&input).map(drop))?;
    let image_ms = latency(third, || classifier.classify("the test image", &png).map(drop))?;

    let threads = rayon::current_num_threads();
    let mut images = 0;
    let start = Instant::now();
    while images == 0 || start.elapsed() < third {
        (0..threads * 16).into_par_iter().try_for_each(|_| classifier.classify("the test image", &png).map(drop))?;
        images += threads * 16;
    }
    let images_per_second = images as f64 / start.elapsed().as_secs_f64();
    Ok(Report { load_ms, image_ms, inference_ms, threads, images_per_second })
}

/// An image that no decoder can shorten much: a fixed pattern without runs.
fn test_image(classifier: &Classifier) -> Pixels {
    let [channels, height, width] = classifier.manifest().preprocessing.shape();
    let data = (0..(channels * height * width) as u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
    Pixels { height, width, channels, data }
}

fn latency(time: Duration, mut run: impl FnMut() -> Result<()>) -> Result<Percentiles> {
    for _ in 0..WARM_UP {
        run()?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < MIN_RUNS || start.elapsed() < time {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    Ok(Percentiles::of(times))
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
        let report = measure(&folder.path().join("b"), Duration::from_millis(30))?;
        assert!(report.inference_ms.p50 > 0.0 && report.inference_ms.p50 <= report.inference_ms.p99);
        assert!(report.images_per_second > 0.0 && report.image_ms.runs >= MIN_RUNS);
        Ok(())
    }
}
