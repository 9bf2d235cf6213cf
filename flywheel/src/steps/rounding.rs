//! A model in fewer bits: how it is made, and what that costs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use edge_runtime::{Engine, engine::Backend};
use exporter::{Observations, OnnxOptions, RangeMethod, Ranges};
use models::{
    Pixels, Weights,
    bundle::Golden,
    calibration::argmax,
    preprocess::InputSpec,
    tolerance::max_abs_diff,
    weights::{Arithmetic, Storage},
};
use serde::Serialize;
use trainer::{Classifier, device::DeviceId};

use super::model::DeviceModel;
use crate::project::ExportConfig;

/// Images of the pool that ranges are observed on.
const OBSERVED: usize = 256;
/// Images of the pool, others than those, that ranges are compared on.
const COMPARED: usize = 1024;
/// Runs of a model that are timed.
const RUNS: usize = 100;

/// A model as devices will run it.
pub(super) struct Candidate {
    /// What makes it a model in 8 bits.
    pub(super) ranges: Option<Ranges>,
    /// How its ranges were chosen.
    choice: Vec<RangeChoice>,
    model: DeviceModel,
}

/// One way to choose the ranges of a model in 8 bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RangeChoice {
    /// Its name.
    pub method: &'static str,
    /// Fraction of the images of the pool that it gives the answer of the model in 32 bits.
    pub accuracy: f64,
    /// Mean over them of the largest difference between logits.
    pub difference: f64,
    /// Whether the model is made so.
    pub chosen: bool,
}

impl Candidate {
    /// The model that `config` asks for.
    ///
    /// In 8 bits, images of the pool show the ranges, and the accuracy on others of them chooses between the methods. What the
    /// model in 32 bits says of these counts as true, so that the test set has no part in the choice.
    pub(super) fn new(weights: &Weights, pool: &[Pixels], config: &ExportConfig, device: DeviceId) -> Result<Self> {
        if config.arithmetic == Arithmetic::F32 {
            let model = DeviceModel::stored(weights, config.weights, device)?;
            return Ok(Self { ranges: None, choice: Vec::new(), model });
        }
        ensure!(pool.len() > 1, "the pool holds {} images: expected 2 or more to choose 8-bit ranges by", pool.len());
        let [observed, compared] = [(0, OBSERVED), (1, COMPARED)].map(|(first, count)| spread(pool, first, count));
        let observations = Observations::of(weights, config.input, &observed, |onnx| {
            let engine = engine(onnx, weights, config)?;
            Ok::<_, edge_runtime::Error>(move |image: &Pixels| engine.logits(image))
        })?;
        let expected = Classifier::new(weights, device)?.logits(&compared)?;
        let candidates = RangeMethod::ALL.map(|method| -> Result<Self> {
            let ranges = observations.ranges(method);
            let options = OnnxOptions { ranges: Some(ranges.clone()), ..options(config) };
            let model = DeviceModel::Engine(engine(&exporter::to_onnx(weights, &options)?, weights, config)?);
            let found = model.logits(&compared)?;
            let differences = expected.iter().zip(&found).map(|(expected, found)| max_abs_diff(expected, found));
            let choice = RangeChoice {
                method: method.name(),
                accuracy: agreement(&expected, &found),
                difference: differences.sum::<f64>() / compared.len() as f64,
                chosen: false,
            };
            Ok(Self { ranges: Some(ranges), choice: vec![choice], model })
        });
        let mut candidates = candidates.into_iter().collect::<Result<Vec<_>>>()?;
        let rank = |a: &RangeChoice, b: &RangeChoice| {
            a.accuracy.total_cmp(&b.accuracy).then(b.difference.total_cmp(&a.difference))
        };
        let best = (0..candidates.len()).max_by(|a, b| rank(&candidates[*a].choice[0], &candidates[*b].choice[0]));
        let best = best.expect("there is a method");
        candidates[best].choice[0].chosen = true;
        let choice = candidates.iter().flat_map(|candidate| candidate.choice.clone()).collect();
        Ok(Self { choice, ..candidates.swap_remove(best) })
    }

    /// The logits of each image.
    pub(super) fn logits(&self, images: &[Pixels]) -> Result<Vec<Vec<f32>>> {
        self.model.logits(images)
    }
}

/// What it costs to store or to compute a model in fewer bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rounding {
    /// How kernels are stored.
    pub storage: Storage,
    /// How the model computes.
    pub arithmetic: Arithmetic,
    /// Accuracy on the test set as trained.
    pub accuracy_before: f64,
    /// Accuracy in fewer bits.
    pub accuracy: f64,
    /// Fraction of the test images with the same answer.
    pub agreement: f64,
    /// Size of the ONNX file as trained, in bytes.
    pub bytes_before: usize,
    /// Its size in fewer bits.
    pub bytes: usize,
    /// Median time of an image as trained, on one thread of this machine in tract, in milliseconds.
    pub latency_ms_before: f64,
    /// That in fewer bits.
    pub latency_ms: f64,
    /// The ways to choose the ranges of 8-bit arithmetic.
    pub ranges: Vec<RangeChoice>,
}

impl Rounding {
    /// Of a model whose logits of labeled test images are `before` as trained and `after` in fewer bits.
    pub(super) fn of(
        weights: &Weights,
        candidate: &Candidate,
        config: &ExportConfig,
        test: (&[Pixels], &[usize]),
        [before, after]: [&[Vec<f32>]; 2],
    ) -> Result<Self> {
        let (images, labels) = test;
        let right = |logits: &[Vec<f32>]| logits.iter().zip(labels).filter(|(logits, l)| argmax(logits) == **l).count();
        let accuracy = |logits| right(logits) as f64 / labels.len().max(1) as f64;
        let as_trained = OnnxOptions { weights: Storage::F32, ..options(config) };
        let rounded = OnnxOptions { ranges: candidate.ranges.clone(), ..options(config) };
        let [as_trained, rounded] = [exporter::to_onnx(weights, &as_trained)?, exporter::to_onnx(weights, &rounded)?];
        let engines = [engine(&as_trained, weights, config)?, engine(&rounded, weights, config)?];
        let [latency_ms_before, latency_ms] = match images.first() {
            Some(image) => latencies(&engines, image)?,
            None => [0.0; 2],
        };
        Ok(Self {
            storage: if candidate.ranges.is_some() { Storage::Int8 } else { config.weights },
            arithmetic: config.arithmetic,
            accuracy_before: accuracy(before),
            accuracy: accuracy(after),
            agreement: agreement(before, after),
            bytes_before: as_trained.len(),
            bytes: rounded.len(),
            latency_ms_before,
            latency_ms,
            ranges: candidate.choice.clone(),
        })
    }

    /// Proves that it costs at most this fraction of the test set.
    ///
    /// # Errors
    /// Otherwise, with what it costs.
    pub fn within(&self, max_loss: f64) -> Result<()> {
        let Self { accuracy_before, accuracy, .. } = *self;
        ensure!(
            accuracy_before - accuracy <= max_loss,
            "{} cost {:.2} points of accuracy ({:.2} to {:.2} %): expected at most export.max_loss, {:.2} points",
            self.what(),
            100.0 * (accuracy_before - accuracy),
            100.0 * accuracy_before,
            100.0 * accuracy,
            100.0 * max_loss
        );
        Ok(())
    }

    /// What is in fewer bits.
    pub fn what(&self) -> String {
        match self.arithmetic {
            Arithmetic::F32 => format!("kernels in {}", self.storage.name()),
            Arithmetic::Int8 => "kernels and feature maps in int8".to_owned(),
        }
    }

    /// Whether anything is in fewer bits.
    pub(super) fn is_asked_for(config: &ExportConfig) -> bool {
        config.weights != Storage::F32 || config.arithmetic != Arithmetic::F32
    }
}

/// What a bundle's graph is like.
fn options(config: &ExportConfig) -> OnnxOptions {
    OnnxOptions { input: config.input, weights: config.weights, ..OnnxOptions::default() }
}

fn engine(onnx: &[u8], weights: &Weights, config: &ExportConfig) -> edge_runtime::Result<Engine> {
    let input = InputSpec { layout: config.input, shape: weights.spec.network.input };
    Engine::from_bytes(onnx, input, Backend::Tract)
}

/// The median times of two engines in turn, in milliseconds.
fn latencies(engines: &[Engine; 2], image: &Pixels) -> Result<[f64; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (engine, times) in engines.iter().zip(&mut times) {
            let start = Instant::now();
            engine.logits(image)?;
            times.push(start.elapsed());
        }
    }
    Ok(times.map(|mut times: Vec<Duration>| {
        times.sort_unstable();
        1e3 * times[times.len() / 2].as_secs_f64()
    }))
}

/// Fraction of images with the same answer.
fn agreement(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| argmax(a) == argmax(b)).count() as f64 / a.len().max(1) as f64
}

/// At most `count` of every second image from `first` on, spread evenly.
fn spread(images: &[Pixels], first: usize, count: usize) -> Vec<Pixels> {
    let half: Vec<&Pixels> = images.iter().skip(first).step_by(2).collect();
    Golden::choose(&half, count).into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_lost_too_much_is_refused_with_what_it_lost() {
        let rounding = Rounding {
            storage: Storage::Int8,
            arithmetic: Arithmetic::Int8,
            accuracy_before: 0.9,
            accuracy: 0.889,
            agreement: 0.95,
            bytes_before: 4,
            bytes: 1,
            latency_ms_before: 1.0,
            latency_ms: 1.0,
            ranges: Vec::new(),
        };
        assert!(rounding.within(0.012).is_ok());
        let said = rounding.within(0.01).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains("1.10 points") && said.contains("90.00 to 88.90 %"), "{said}");
    }

    #[test]
    fn ranges_are_observed_and_compared_on_different_images() {
        let images: Vec<_> = (0..=9).map(|i| Pixels { height: 1, width: 1, channels: 1, data: vec![i] }).collect();
        let picked = |first, count| spread(&images, first, count).iter().map(|image| image.data[0]).collect::<Vec<_>>();
        assert_eq!(picked(0, 2), [0, 4]);
        assert_eq!(picked(1, 100), [1, 3, 5, 7, 9]);
    }
}
