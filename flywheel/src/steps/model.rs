//! A model as devices compute it, on the workstation.

use std::fs;

use anyhow::{Context, Result};
use edge_runtime::{Engine, engine::Backend};
use models::{
    Bundle, Pixels, Weights,
    weights::{Arithmetic, Storage},
};
use rayon::prelude::*;
use trainer::{Classifier, device::DeviceId};

/// What computes its logits.
#[derive(Debug)]
pub enum DeviceModel {
    /// The trainer, with kernels as they are stored.
    Trainer(Box<Classifier>),
    /// The engine of devices: the trainer knows no 8-bit arithmetic.
    Engine(Engine),
}

impl DeviceModel {
    /// A model in 32 bits, with its kernels as they are stored.
    ///
    /// # Errors
    /// If the device that computes is not there.
    pub fn stored(weights: &Weights, storage: Storage, device: DeviceId) -> Result<Self> {
        let classifier = Classifier::new(&exporter::rounded(weights, storage), device)?;
        Ok(Self::Trainer(Box::new(classifier)))
    }

    /// The model in a bundle, which was made from `weights`.
    ///
    /// # Errors
    /// If the device that computes is not there, or the engine refuses the bundle's model.
    pub fn of(bundle: &Bundle, weights: &Weights, device: DeviceId) -> Result<Self> {
        let manifest = bundle.manifest();
        if manifest.arithmetic == Arithmetic::F32 {
            return Self::stored(weights, manifest.weights, device);
        }
        let path = bundle.model_path();
        let onnx = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::Engine(Engine::from_bytes(&onnx, manifest.input_spec(), Backend::Tract)?))
    }

    /// The logits of each image.
    ///
    /// # Errors
    /// If the engine fails on one.
    pub fn logits(&self, images: &[Pixels]) -> Result<Vec<Vec<f32>>> {
        match self {
            Self::Trainer(classifier) => Ok(classifier.logits(images)?),
            Self::Engine(engine) => {
                Ok(images.par_iter().map(|image| engine.logits(image)).collect::<Result<_, _>>()?)
            }
        }
    }
}
