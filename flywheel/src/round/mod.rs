//! A whole round: ingest, relabel, train, export, gate, publish.
//!
//! Every step can be cut off and repeated. What a round trains on is written down before it starts, so that a round that
//! goes on after an interruption trains on the same images although more came in since.
//!
//! | module | what it holds |
//! |---|---|
//! | `record` | what a round was made of and what came of it, on disk |
//! | `inputs` | what it trains on |
//! | `images` | the project's own images of then |
//! | `judge` | what its model is judged by |
//! | `recall` | the way back to an older bundle |
//! | `rebuild` | the same bundle again, from the record |

mod images;
mod inputs;
mod judge;
mod rebuild;
mod recall;
mod record;
#[cfg(test)]
pub(crate) mod testing;

use std::{collections::BTreeMap, fs::File, path::Path};

use anyhow::{Context, Result};
use edge_runtime::sync::{Address, Remote};
use jiff::Timestamp;
use models::{Bundle, Digest, Sample, Weights, durable};
use trainer::{Classifier, config::TrainConfig, data::TrainingData, fit::MODEL_FILE};

pub use rebuild::{Rebuilt, rebuild};
pub use recall::rollback;
pub use record::{Inputs, Lineage, RoundRecord, records};
pub(crate) use record::{inputs, inputs_file};

use self::{
    images::OwnImages,
    judge::{FieldImages, Judged, New, judge},
    recall::{heed_rollouts, tell_back, went_back},
    record::Decided,
};
use crate::{
    interrupt,
    progress::Progress,
    project::{Project, ProjectData, round_name},
    steps::{
        audit::{AuditSample, Rules, audit},
        collected::Collected,
        demand,
        export::{Exported, Place, export, measure},
        gate,
        ingest::{self, Ingested},
        model::DeviceModel,
        publish::publish,
        relabel::Labeler,
        train::train,
    },
};

/// The model that devices run.
struct Current {
    weights: Weights,
    bundle: Bundle,
}

impl Current {
    /// The network as devices compute it.
    fn model(&self, project: &Project) -> Result<DeviceModel> {
        DeviceModel::of(&self.bundle, &self.weights, project.config().train.first_device())
    }

    /// What it says of samples.
    fn labeler(&self, project: &Project) -> Result<Labeler> {
        let calibration = self.bundle.manifest().calibration.clone();
        Ok(Labeler { model: self.model(project)?, calibration, teacher: None })
    }
}

/// Runs the next round, or goes on with one that was interrupted.
///
/// # Errors
/// If a file, the remote or training fails; after Ctrl-C, one that says where it stopped. A model that the gate refuses is no
/// error.
pub fn run(project: &Project, progress: &Progress) -> Result<RoundRecord> {
    run_by(&Timestamp::now, project, progress)
}

/// The same by another clock.
///
/// # Errors
/// As [`run`].
pub fn run_by(clock: &dyn Fn() -> Timestamp, project: &Project, progress: &Progress) -> Result<RoundRecord> {
    let config = project.config();
    durable::create_folders(&project.rounds_folder())?;
    let _lock = lock(project)?;
    let round = records(project)?.len() as u32 + 1;
    let name = round_name(round);
    let remote = open_remote(project)?;
    tell_back(&heed_rollouts(project, &remote, clock())?, &name, progress);
    project.config().train.validate_input(&project.config().preprocessing)?;
    let data = ProjectData::load(project)?;
    let mut current = load_current(project, &data)?;

    let spinner = progress.spinner(format!("{name}: taking segments in"));
    report(&ingest::ingest(project, &remote, clock())?, &name, progress);
    let collected = Collected::load(project, clock())?;

    spinner.text(format!("{name}: relabeling"));
    demand::tell_held(project, &remote, &data.labels, &collected.samples)?;
    let (inputs, field) = inputs::choose(project, round, current.as_ref(), &data, &collected, clock())?;
    drop(spinner);
    if current.is_some() {
        inputs::tell(&inputs, &data, &name, progress);
    } else {
        let (images, classes) = (data.test.len(), data.labels.len());
        let needs = gate::first_needs(images, classes)?;
        let learned = data.labeled.len();
        progress.line(format!(
            "{name}: {learned} labeled images to learn from, and {images} to test on: right in {needs} of them, the model goes out"
        ));
    }

    interrupt::check()?;
    let text = toml::to_string_pretty(config)?;
    durable::write(&record::file(project, round, "toml"), text.as_bytes())?;
    let own_images = OwnImages::of(project, &data).write(project)?;
    let training = data.training(project, field);
    let seed = config.train.seed + u64::from(round) - 1;
    let train_config = TrainConfig { seed, ..config.train.clone() };
    let run_folder = project.run_folder(&name);
    let weights = train(&name, &train_config, &config.network, &training, &run_folder, progress).map_err(|e| {
        let Some(trainer::Error::OtherRun { difference, .. }) = e.downcast_ref() else { return e };
        let difference = difference.clone();
        e.context(format!(
            "{name} began with other images or settings ({difference}): bring them back, or delete {} to begin it anew",
            run_folder.display()
        ))
    })?;

    // Training takes long: what it began with may have gone back meanwhile.
    let news = heed_rollouts(project, &remote, clock())?;
    if !news.is_empty() {
        tell_back(&news, &name, progress);
        current = load_current(project, &data)?;
    }
    let spinner = progress.spinner(format!("{name}: exporting, checking, judging"));
    let parent = current.as_ref().map(|current| current.bundle.digest());
    let (bundle, test_logits, affordable) = bundle(
        project,
        &project.bundle_folder(round),
        round,
        &weights,
        &training,
        inputs.labels.len(),
        (parent, inputs.began),
    )?;
    let decided = if let Some(decided) = record::decided(project, round, bundle.digest(), parent)? {
        decided
    } else {
        let new = New { weights: &weights, bundle: &bundle, test_logits: &test_logits };
        let audit = audit_samples(project, &data, &collected, clock())?;
        let trained_on = &training.unlabeled[training.unlabeled.len() - inputs.samples.len()..];
        let since = records(project)?.last().map(|record| record.inputs.began);
        let field = FieldImages { audit: &audit, trained_on, since };
        let judged = judge(project, current.as_ref(), &new, affordable, &data, &field)?;
        judged.write_page(project, round, &bundle)?;
        let Judged { verdict, watched, .. } = judged;
        let decided = Decided { bundle: bundle.digest(), parent, verdict, watched };
        durable::write_json(&record::file(project, round, "verdict.json"), &decided)?;
        decided
    };
    let Decided { verdict, watched, .. } = decided;
    for told in watched.iter().flat_map(|watched| watched.told(config.calibration.precision)) {
        progress.line(format!("{name}: {told}"));
    }
    // A round that was cut off after it had published goes on here, and its bundle may have gone back by now.
    let went_back = went_back(project, &remote)?.iter().any(|back| back.to.bundle == bundle.digest());
    if verdict.passed && !went_back {
        publish(&bundle, &remote, &config.store.channel, project.signing_key()?.as_ref())?;
    }
    drop(spinner);

    let record = RoundRecord {
        round,
        finished: clock(),
        parent,
        inputs,
        seed,
        lineage: Some(Lineage {
            program: Lineage::this_program(),
            config: Digest::of(text.as_bytes()),
            images: Some(own_images),
            data: training.digest(),
            weights: Digest::of_file(&run_folder.join(MODEL_FILE))?,
        }),
        bundle: bundle.digest(),
        test_accuracy: bundle.report_card()?.accuracy,
        watched,
        published: verdict.passed,
        withdrawn: went_back.then(clock),
        verdict,
    };
    record::write(project, &record)?;
    let gone = match (record.published, record.withdrawn) {
        (true, None) => "published",
        (true, Some(_)) => "published, and taken back since",
        (false, _) => "refused",
    };
    progress.line(format!(
        "{name}: test accuracy {:.1} %, {gone} ({})",
        100.0 * record.test_accuracy,
        record.verdict.reason
    ));
    if !record.published {
        progress.line(format!("{name}: what it gets wrong is in {}", record::file(project, round, "html").display()));
    }
    Ok(record)
}

/// The audit samples that may judge: none that a model was ever trained on.
fn audit_samples(
    project: &Project,
    data: &ProjectData,
    collected: &Collected,
    now: Timestamp,
) -> Result<Vec<AuditSample>> {
    let records = records(project)?;
    let trained_on = |image: Digest| records.iter().any(|record| record.inputs.uses(image));
    let samples: Vec<&Sample> = collected.samples.iter().filter(|sample| !trained_on(sample.record.image)).collect();
    let mut probabilities = BTreeMap::new();
    for record in &records {
        let manifest = Bundle::open(&project.bundle_folder(record.round))?;
        probabilities.insert(record.bundle, manifest.manifest().collection.audit_probability);
    }
    let known = data.known_pictures();
    let rules = Rules {
        labels: &data.labels,
        preprocessing: &project.config().preprocessing,
        probabilities: &probabilities,
        now,
        days: project.config().gate.audit_days,
    };
    let mut audit = audit(&collected.cohorts, &samples, &collected.reviews, &rules);
    audit.retain(|sample| !known.contains(&sample.pixels.digest()));
    Ok(audit)
}

/// Exports a round's model. With its logits on the test set, and whether what fewer bits cost can be afforded.
fn bundle(
    project: &Project,
    folder: &Path,
    round: u32,
    weights: &Weights,
    training: &TrainingData,
    from_field: usize,
    (parent, created): (Option<Digest>, Timestamp),
) -> Result<(Bundle, Vec<Vec<f32>>, Result<()>)> {
    let place = Place { sequence: u64::from(round), parent, created };
    // What people have labeled of one device's images is not for the others to see.
    let own = &training.labeled.images[..training.labeled.len() - from_field];
    let measured = measure(project, weights, training, own)?;
    let affordable = measured.within(project.config().export.max_loss);
    let Exported { bundle, test_logits, .. } = export(project, weights, training, measured, place, folder, &[])?;
    Ok((bundle, test_logits, affordable))
}

/// The remote; a folder is created if it is missing.
///
/// # Errors
/// If it cannot be created or opened; if it is a hub where the workstation is not enrolled.
pub fn open_remote(project: &Project) -> Result<Remote> {
    let address = project.remote();
    if let Address::Folder(folder) = &address {
        durable::create_folders(folder)?;
    }
    Ok(Remote::open(&address, &project.credentials())?)
}

/// Takes in what devices and people have sent, while no round runs: with what was locked for that, and the remote.
pub(crate) fn take_in(project: &Project) -> Result<(File, Remote, Ingested)> {
    let (lock, remote) = hold(project)?;
    let ingested = ingest::ingest(project, &remote, Timestamp::now())?;
    Ok((lock, remote, ingested))
}

/// Keeps rounds from running: with what was locked for that, and the remote.
pub(crate) fn hold(project: &Project) -> Result<(File, Remote)> {
    durable::create_folders(&project.rounds_folder())?;
    Ok((lock(project)?, open_remote(project)?))
}

/// Held while a round runs, so that no second one uses the project.
pub(crate) fn lock(project: &Project) -> Result<File> {
    let path = project.rounds_folder().join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.try_lock().with_context(|| format!("another round holds {}", path.display()))?;
    Ok(file)
}

/// The bundle that devices were given last, with the weights it was made from.
fn load_current(project: &Project, data: &ProjectData) -> Result<Option<Current>> {
    let Some(record) = records(project)?.into_iter().rfind(RoundRecord::is_out) else { return Ok(None) };
    let path = project.run_folder(&round_name(record.round)).join(MODEL_FILE);
    let weights = Weights::read(&path)?;
    data.check_fits(project, &weights.spec, &path)?;
    Ok(Some(Current { weights, bundle: Bundle::open(&project.bundle_folder(record.round))? }))
}

/// What the model that devices run says of samples; none if there is none.
///
/// # Errors
/// If it cannot be read, or is for other images or classes.
pub fn current_labeler(project: &Project, data: &ProjectData) -> Result<Option<Labeler>> {
    load_current(project, data)?.map(|current| current.labeler(project)).transpose()
}

/// The network of the model that devices run, as it was trained; none if there is none.
///
/// # Errors
/// As [`current_labeler`].
pub fn current_network(project: &Project, data: &ProjectData) -> Result<Option<Classifier>> {
    let network = |current: Current| Classifier::new(&current.weights, project.config().train.first_device());
    Ok(load_current(project, data)?.map(network).transpose()?)
}

fn report(ingested: &Ingested, name: &str, progress: &Progress) {
    if ingested.segments > 0 {
        progress.line(format!("{name}: {} segments with {} samples came in", ingested.segments, ingested.samples));
    }
    if ingested.unreceipted > 0 {
        let count = ingested.unreceipted;
        progress.line(format!("{name}: {count} segments are left: the hub has no receipt for them yet"));
    }
    if ingested.reviews > 0 {
        progress.line(format!("{name}: {} labels came in from the hub", ingested.reviews));
    }
    for refused in &ingested.refused {
        progress.line(format!("{name}: refused {refused}"));
    }
}
