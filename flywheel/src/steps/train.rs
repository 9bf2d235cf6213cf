//! Training with a progress bar, stopped by Ctrl-C.

use std::path::Path;

use anyhow::{Result, bail};
use models::Weights;
use trainer::{
    Outcome,
    config::{NetworkConfig, TrainConfig},
    data::TrainingData,
};

use crate::{interrupt, progress::Progress};

/// Trains in `folder`, or goes on there.
///
/// # Errors
/// Those of [`trainer::fit()`]; after Ctrl-C, one that says where it stopped.
pub fn train(
    name: &str,
    config: &TrainConfig,
    network: &NetworkConfig,
    data: &TrainingData,
    folder: &Path,
    progress: &Progress,
) -> Result<Weights> {
    let mut bar = progress.training(name, config.steps);
    match trainer::fit(config, network, data, folder, interrupt::flag(), &mut |event| bar.update(&event))? {
        Outcome::Finished(weights) => Ok(weights),
        Outcome::Stopped(step) => {
            bail!("stopped {name} at step {step} of {}", config.steps)
        }
    }
}
