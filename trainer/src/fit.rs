//! The training loop: one fixed order of events, and a memory that survives any interruption.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, Scope},
    time::{Duration, Instant},
};

use models::{ModelSpec, TrainingFacts, Weights, durable};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    algorithm::{Method, StepNumbers},
    augment::StrongAugment,
    checkpoint::{self, Groups, Identity, State},
    config::{NetworkConfig, TrainConfig},
    data::{
        LabeledImages, TrainingData,
        loader::{Loader, Sampler},
    },
    device,
    evaluate::{self, Evaluation},
    metrics::{EvaluationRecord, Log, Record, TrainRecord},
    net,
    parallel::{Learned, Replica, Replicas},
    ssl::losses::Losses,
};

/// Name of the settings in a run's folder.
pub const CONFIG_FILE: &str = "config.toml";
/// Name of the checkpoint in a run's folder.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
/// Name of the finished EMA model in a run's folder.
pub const MODEL_FILE: &str = "model.safetensors";

/// What happens during a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// A checkpoint was found, and the run goes on from this step.
    Resumed(u64),
    /// So many steps are done.
    Step(u64),
    /// A line was logged.
    Logged(Record),
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All steps are done. The EMA model, as written to [`MODEL_FILE`].
    Finished(Weights),
    /// It was asked to stop after this step; the same call goes on from there.
    Stopped(u64),
}

/// Trains in `folder`, going on from its checkpoint if there is one.
///
/// Stopping it by `stop`, or killing it, and calling it again gives the same weights as leaving it alone.
///
/// # Errors
/// [`Error::Config`], [`Error::Data`] before the first step; [`Error::OtherRun`] if the folder belongs to another run,
/// [`Error::Checkpoint`] if its checkpoint is damaged; [`Error::Diverged`]; [`Error::OutOfMemory`] and [`Error::Device`] if
/// the device fails, [`models::Error::Io`] if the disk does.
pub fn fit(
    config: &TrainConfig,
    network: &NetworkConfig,
    data: &TrainingData,
    folder: &Path,
    stop: &AtomicBool,
    observer: &mut dyn FnMut(Event),
) -> Result<Outcome> {
    let config = config.clone().validate()?;
    // A device that is not there is said before all images are looked through.
    config.open_devices()?;
    data.validate()?;
    let spec = model_spec(&config, network, data)?;
    durable::create_folders(folder)?;
    let identity = Identity { train: config, network: *network, data: data.digest() };
    thread::scope(|scope| Run::open(identity, spec, data, folder, scope, observer)?.train(folder, stop, observer))
}

fn model_spec(config: &TrainConfig, network: &NetworkConfig, data: &TrainingData) -> Result<ModelSpec> {
    config.validate_input(&data.preprocessing)?;
    if !Method::recipe(config).unlabeled.is_empty() && data.unlabeled.is_empty() {
        return Err(Error::Data {
            what: "unlabeled images".into(),
            expected: format!("at least one for {}", config.algorithm.name()),
            found: "none".into(),
        });
    }
    let network = network.spec(data.preprocessing.shape(), data.labels.len())?;
    Ok(ModelSpec { network, labels: data.labels.clone(), preprocessing: data.preprocessing.clone() }.validate()?)
}

/// Everything that changes from step to step.
struct Run<'a> {
    spec: ModelSpec,
    data: &'a TrainingData,
    replicas: Replicas,
    loader: Loader,
    state: State,
}

impl<'a> Run<'a> {
    fn open<'scope>(
        identity: Identity,
        spec: ModelSpec,
        data: &'a TrainingData,
        folder: &Path,
        scope: &'scope Scope<'scope, '_>,
        observer: &mut dyn FnMut(Event),
    ) -> Result<Self>
    where
        'a: 'scope,
    {
        let config = identity.train.clone();
        let path = folder.join(CHECKPOINT_FILE);
        let (state, groups) = if path.exists() {
            let (state, groups) = checkpoint::read(&path)?;
            if let Some(difference) = state.identity.difference(&identity)? {
                return Err(Error::OtherRun { folder: folder.to_owned(), difference });
            }
            checkpoint::check(&path, &state, &groups, &spec)?;
            observer(Event::Resumed(state.step));
            (State { identity, ..state }, groups)
        } else {
            let state = State {
                step: 0,
                methods: Replicas::methods(&config, data.labels.len(), data.prior.as_deref()),
                strong: StrongAugment::new(&config),
                sampler: Sampler::new(Method::recipe(&config), &config, data),
                running: RunningMeans::default(),
                identity,
            };
            (state, Groups::new())
        };
        state.identity.write_config(&folder.join(CONFIG_FILE))?;
        Ok(Self {
            replicas: Replicas::open(&config, &spec.network, &groups)?,
            loader: Loader::start(scope, data, state.sampler.clone()),
            spec,
            data,
            state,
        })
    }

    fn train(mut self, folder: &Path, stop: &AtomicBool, observer: &mut dyn FnMut(Event)) -> Result<Outcome> {
        let mut log = Log::open(folder, self.state.step)?;
        let config = self.state.identity.train.clone();
        while self.state.step < config.steps {
            if stop.load(Ordering::Relaxed) {
                log.sync()?;
                self.save(folder)?;
                return Ok(Outcome::Stopped(self.state.step));
            }
            let step = self.step()?;
            observer(Event::Step(step));
            if step.is_multiple_of(config.log_every) || step == config.steps {
                let record = Record::Train(self.state.running.take(step));
                log.write(&record)?;
                observer(Event::Logged(record));
            }
            if step.is_multiple_of(config.evaluate_every) || step == config.steps {
                let record = Record::Evaluation(self.evaluate()?);
                log.write(&record)?;
                observer(Event::Logged(record));
            }
            if step.is_multiple_of(config.checkpoint_every) || step == config.steps {
                log.sync()?;
                self.save(folder)?;
            }
        }
        let training = TrainingFacts {
            labeled: self.data.labeled.len(),
            unlabeled: self.data.unlabeled.len(),
            steps: config.steps,
            seed: config.seed,
        };
        let weights = evaluate::weights(&self.replicas.first().ema, &self.spec, training);
        weights.write(&folder.join(MODEL_FILE))?;
        Ok(Outcome::Finished(weights))
    }

    /// Returns the number of steps done.
    fn step(&mut self) -> Result<u64> {
        let started = Instant::now();
        let State { identity, step, methods, strong, running, .. } = &mut self.state;
        let config = &identity.train;
        let drawn = self.loader.next(strong);
        let waited = started.elapsed();
        let Learned { numbers, probed } = self.replicas.step(&self.spec.network, methods, *step, drawn)?;
        for (policy, match_) in probed {
            strong.update(&policy, match_);
        }
        running.add(&numbers, config.images_per_step(), waited, started.elapsed());
        *step += 1;
        let loss = numbers.total;
        if !loss.is_finite() {
            let learning_rate = config.learning_rate_after(*step - 1);
            return Err(Error::Diverged { step: *step, loss, learning_rate });
        }
        Ok(*step)
    }

    fn evaluate(&self) -> Result<EvaluationRecord> {
        let Replica { ema, device, .. } = self.replicas.first();
        let evaluate = |set: &LabeledImages| {
            let logits = evaluate::logits(ema, &set.images, device);
            let logits = logits.map_err(|error| device::failure(&error, &self.state.identity.train))?;
            Ok::<_, Error>(Evaluation::of(&logits, &set.labels))
        };
        Ok(EvaluationRecord {
            step: self.state.step,
            test: (!self.data.test.is_empty()).then(|| evaluate(&self.data.test)).transpose()?,
            labeled: evaluate(&self.data.labeled)?,
        })
    }

    fn save(&self, folder: &Path) -> Result<()> {
        let Replica { network, ema, moments, .. } = self.replicas.first();
        let groups = Groups::from([
            (checkpoint::NETWORK, net::tensors(network)),
            (checkpoint::EMA, net::tensors(ema)),
            (checkpoint::MEAN, moments.mean.clone()),
            (checkpoint::SQUARE, moments.square.clone()),
        ]);
        let state = State { sampler: self.loader.sampler().clone(), ..self.state.clone() };
        checkpoint::write(&folder.join(CHECKPOINT_FILE), &state, &groups)
    }
}

/// Sums since the last log line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RunningMeans {
    steps: u64,
    seconds: f64,
    waited: f64,
    images: usize,
    total: f64,
    parts: Option<Losses<f64>>,
    confident: Option<f64>,
}

impl RunningMeans {
    /// Adds a step that `took` so long, and for a part of it `waited` for its images.
    fn add(&mut self, numbers: &StepNumbers, images: usize, waited: Duration, took: Duration) {
        self.steps += 1;
        self.seconds += took.as_secs_f64();
        self.waited += waited.as_secs_f64();
        self.images += images;
        self.total += numbers.total;
        self.parts = Some(match self.parts.take() {
            Some(sum) => sum.add(numbers.parts.clone()),
            None => numbers.parts.clone(),
        });
        self.confident = numbers.confident.map(|part| part + self.confident.unwrap_or(0.0));
    }

    /// The means, and a new beginning.
    fn take(&mut self, step: u64) -> TrainRecord {
        let Self { steps, seconds, waited, images, total, parts, confident } = std::mem::take(self);
        let mean = |sum: f64| sum / steps.max(1) as f64;
        let Losses { labeled, unlabeled, pre_mixup, rotation } = parts.unwrap_or_default().map(mean);
        TrainRecord {
            step,
            total: mean(total),
            labeled,
            unlabeled,
            pre_mixup,
            rotation,
            confident: confident.map(mean),
            images_per_second: images as f64 / seconds.max(f64::MIN_POSITIVE),
            waiting: waited / seconds.max(f64::MIN_POSITIVE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Algorithm, FixMatchConfig, MixMatchConfig, ReMixMatchConfig},
        data::digits,
        metrics::{self, METRICS_FILE},
    };

    const NETWORK: NetworkConfig = NetworkConfig::wide_resnet(10, 1);

    fn config(algorithm: Algorithm) -> TrainConfig {
        TrainConfig {
            algorithm,
            steps: 7,
            batch: 8,
            evaluate_every: 4,
            log_every: 3,
            checkpoint_every: 2,
            mixmatch: MixMatchConfig { ramp_steps: 4, ..Default::default() },
            remixmatch: ReMixMatchConfig { strong_views: 2, ramp_steps: 4, ..Default::default() },
            fixmatch: FixMatchConfig { unlabeled_ratio: 2, threshold: 0.1, ..Default::default() },
            ..TrainConfig::of(algorithm)
        }
    }

    /// Everything a run leaves but how long it took.
    fn left(folder: &Path) -> (Weights, Vec<Record>) {
        let mut records = metrics::read(&folder.join(METRICS_FILE)).expect("a log");
        for record in &mut records {
            if let Record::Train(record) = record {
                (record.images_per_second, record.waiting) = (0.0, 0.0);
            }
        }
        (Weights::read(&folder.join(MODEL_FILE)).expect("a model"), records)
    }

    fn run(config: &TrainConfig, folder: &Path, stop_after: u64) -> Result<Outcome> {
        let stop = AtomicBool::new(false);
        fit(config, &NETWORK, &digits::split(1).training(), folder, &stop, &mut |event| {
            if matches!(event, Event::Step(step) if step == stop_after) {
                stop.store(true, Ordering::Relaxed);
            }
        })
    }

    #[test]
    fn stopped_or_killed_and_resumed_equals_uninterrupted() {
        let shared = TrainConfig { devices: vec![0, 1], ..config(Algorithm::ReMixMatch) };
        for config in Algorithm::ALL.map(config).into_iter().chain([shared]) {
            let (algorithm, replicas) = (config.algorithm, config.devices.len());
            let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a folder")).collect();
            let [whole, stopped, killed] = [0, 1, 2].map(|i| folders[i].path());
            assert!(matches!(run(&config, whole, u64::MAX), Ok(Outcome::Finished(_))));

            // Stopped after step 3, which is no multiple of the checkpoint interval.
            assert!(matches!(run(&config, stopped, 3), Ok(Outcome::Stopped(3))));
            assert!(matches!(run(&config, stopped, u64::MAX), Ok(Outcome::Finished(_))));
            assert!(left(stopped) == left(whole), "{algorithm:?}, {replicas}: a stopped run ended elsewhere");

            // Killed between two checkpoints: the log is ahead of the checkpoint, and its last line is torn.
            assert!(matches!(run(&config, killed, 4), Ok(Outcome::Stopped(4))));
            let checkpoint = std::fs::read(killed.join(CHECKPOINT_FILE)).expect("a checkpoint");
            assert!(matches!(run(&config, killed, 6), Ok(Outcome::Stopped(6))));
            std::fs::write(killed.join(CHECKPOINT_FILE), checkpoint).expect("written");
            let log = std::fs::read_to_string(killed.join(METRICS_FILE)).expect("a log");
            std::fs::write(killed.join(METRICS_FILE), log + "{\"kind\":\"tra").expect("written");
            assert!(matches!(run(&config, killed, u64::MAX), Ok(Outcome::Finished(_))));
            assert!(left(killed) == left(whole), "{algorithm:?}, {replicas}: a killed run ended elsewhere");
        }
    }

    #[test]
    fn a_folder_of_another_run_or_a_damaged_checkpoint_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(Algorithm::Supervised);
        assert!(run(&config, folder.path(), 2).is_ok());
        let other = TrainConfig { learning_rate: 0.1, ..config.clone() };
        assert!(
            matches!(run(&other, folder.path(), 2), Err(Error::OtherRun { difference, .. }) if difference.contains("train.learning_rate"))
        );
        let path = folder.path().join(CHECKPOINT_FILE);
        let bytes = std::fs::read(&path).expect("a checkpoint");
        for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).expect("written");
            let error = run(&config, folder.path(), 2).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(CHECKPOINT_FILE), "cut at {length}: {error:?}");
        }
    }

    #[test]
    fn what_cannot_be_trained_is_said_before_the_first_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let fit = |change: &dyn Fn(&mut TrainConfig, &mut TrainingData)| {
            let (mut config, mut data) = (config(Algorithm::ReMixMatch), digits::split(1).training());
            change(&mut config, &mut data);
            let result = fit(&config, &NETWORK, &data, folder.path(), &AtomicBool::new(true), &mut |_| {});
            result.err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert!(fit(&|_, data| data.unlabeled.clear()).contains("unlabeled images: expected at least one"));
        assert!(fit(&|_, data| data.labeled = data.labeled.select(&[0])).contains("at least one of class"));
        assert!(fit(&|_, data| data.unlabeled[3].width = 7).contains("8x7"));
        assert!(fit(&|config, _| (config.batch, config.devices) = (12, vec![0, 1])).contains("a multiple of 8"));
        assert!(fit(&|config, _| config.devices = vec![1, 1]).contains("none twice"));
        assert!(fit(&|config, _| config.batch = 6).contains("train.batch = 6: expected a multiple of 4"));
        let wide = |_: &mut TrainConfig, data: &mut TrainingData| {
            data.preprocessing.width = 16;
            for image in data.labeled.images.iter_mut().chain(&mut data.unlabeled).chain(&mut data.test.images) {
                image.width = 16;
                image.data = image.data.repeat(2);
            }
        };
        assert!(fit(&wide).contains("rotation loss"));
    }
}
