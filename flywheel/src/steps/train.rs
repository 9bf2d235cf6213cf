//! Training with a progress bar and a page that grows, stopped by Ctrl-C.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use models::{Weights, durable};
use trainer::{
    Outcome,
    config::{NetworkConfig, TrainConfig},
    data::TrainingData,
    fit::Event,
    metrics::{self, METRICS_FILE, Record},
};

use crate::{
    interrupt,
    progress::Progress,
    report::{self, training_page},
};

/// Name of the page in a run's folder.
pub const PAGE_FILE: &str = "report.html";

/// How often the page is written at most.
const PAGE_EVERY: Duration = Duration::from_secs(5);

/// Trains in `folder`, or goes on there.
///
/// # Errors
/// Those of [`trainer::fit()`]; after Ctrl-C, one that says where it stopped; [`models::Error::Io`] if the page cannot be
/// written.
pub fn train(
    name: &str,
    config: &TrainConfig,
    network: &NetworkConfig,
    data: &TrainingData,
    folder: &Path,
    progress: &Progress,
) -> Result<Weights> {
    let mut bar = progress.training(name, config.steps);
    let mut page =
        RunPage { name, config, data, path: folder.join(PAGE_FILE), records: Vec::new(), next: Instant::now() };
    let mut page_result = Ok(());
    let outcome = trainer::fit(config, network, data, folder, interrupt::flag(), &mut |event| {
        bar.update(&event);
        if page_result.is_ok() {
            page_result = page.update(event);
        }
    })?;
    page_result?;
    match outcome {
        Outcome::Finished(weights) => Ok(weights),
        Outcome::Stopped(step) => {
            bail!("stopped {name} at step {step} of {}", config.steps)
        }
    }
}

/// The page of a run that goes on.
struct RunPage<'a> {
    name: &'a str,
    config: &'a TrainConfig,
    data: &'a TrainingData,
    path: PathBuf,
    records: Vec<Record>,
    /// When it may be written again.
    next: Instant,
}

impl RunPage<'_> {
    /// Takes in what happened, and writes the page: early with losses alone, as the first evaluation can be hours away.
    fn update(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Resumed(step) => {
                self.records = metrics::read(&self.path.with_file_name(METRICS_FILE))?;
                self.records.retain(|record| record.step() <= step);
                Ok(())
            }
            Event::Step(_) => Ok(()),
            Event::Logged(record) => {
                let last = matches!(record, Record::Evaluation(_)) && record.step() == self.config.steps;
                self.records.push(record);
                if last || Instant::now() >= self.next {
                    self.next = Instant::now() + PAGE_EVERY;
                    let page = training_page(self.name, self.config, self.data, &self.records);
                    durable::write(&self.path, report::html(&page).as_bytes())?;
                }
                Ok(())
            }
        }
    }
}
