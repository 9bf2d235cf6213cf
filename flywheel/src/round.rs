//! A whole round: ingest, relabel, train, export, gate, publish.
//!
//! Every step can be cut off and repeated. What a round trains on is written down before it starts, so that a round that
//! goes on after an interruption trains on the same images although more came in since.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use edge_runtime::sync::{Address, Remote, rollout};
use jiff::Timestamp;
use models::{
    Bundle, Digest, LabelSet, Sample, Weights, durable,
    signing::{Message, RollbackOrder, TrustedKeys},
    sync::{self, ChannelPointer, WentBack},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use trainer::{data::LabeledImages, fit::MODEL_FILE};

use crate::{
    interrupt,
    progress::Progress,
    project::{Project, ProjectData, round_name},
    steps::{
        choose::{Choice, choose},
        demand,
        export::{Exported, Place, export, measure},
        gate::{self, Verdict},
        ingest::{self, Ingested},
        model::DeviceModel,
        publish::{point, publish, upload},
        relabel::{Relabeled, relabel},
        train::train,
    },
};

/// What a round was and did, as in `rounds/round-N.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundRecord {
    /// Number of the round, from 1. Also the sequence number of its bundle.
    pub round: u32,
    /// When it was done.
    pub finished: Timestamp,
    /// The bundle that devices ran when it started.
    pub parent: Option<Digest>,
    /// What it trained on.
    pub inputs: Inputs,
    /// Root seed of its training.
    pub seed: u64,
    /// The bundle it made.
    pub bundle: Digest,
    /// Accuracy of that bundle on the frozen test set.
    pub test_accuracy: f64,
    /// What the gate said.
    pub verdict: Verdict,
    /// Whether devices were given the bundle.
    pub published: bool,
    /// When devices were ordered to go back to an older bundle, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Timestamp>,
}

impl RoundRecord {
    /// Whether devices may be running the bundle.
    fn is_out(&self) -> bool {
        self.published && self.withdrawn.is_none()
    }
}

/// What a round trains on besides the project's own images, as in `rounds/round-N.inputs.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// When the round began; also when its bundle was made, so that an interrupted round makes the same one.
    pub began: Timestamp,
    /// How many samples went which way.
    pub choice: Choice,
    /// The chosen samples.
    pub samples: BTreeSet<Digest>,
}

/// The model that devices run.
struct Current {
    weights: Weights,
    bundle: Bundle,
}

impl Current {
    /// The network as devices compute it.
    fn model(&self, project: &Project) -> Result<DeviceModel> {
        DeviceModel::of(&self.bundle, &self.weights, project.config().train.device)
    }
}

/// Runs the next round, or goes on with one that was interrupted.
///
/// # Errors
/// If a file, the remote or training fails; after Ctrl-C, one that says where it stopped. A model that the gate refuses is no
/// error.
pub fn run(project: &Project, progress: &Progress) -> Result<RoundRecord> {
    let config = project.config();
    durable::create_folders(&project.rounds_folder())?;
    let _lock = lock(project)?;
    let round = records(project)?.len() as u32 + 1;
    let name = round_name(round);
    let remote = open_remote(project)?;
    tell_back(&heed_rollouts(project, &remote, Timestamp::now())?, &name, progress);
    let data = ProjectData::load(project)?;
    let mut current = load_current(project, &data)?;

    let spinner = progress.spinner(format!("{name}: taking segments in"));
    report(&ingest::ingest(project, &remote, Timestamp::now())?, &name, progress);

    spinner.text(format!("{name}: relabeling"));
    let samples = ingest::samples(project)?;
    demand::tell_held(project, &remote, &data.labels, &samples)?;
    let (inputs, field) = choose_inputs(project, round, current.as_ref(), &data, samples)?;
    drop(spinner);
    if current.is_some() {
        progress.line(format!("{name}: {}", inputs.choice));
        if inputs.choice.like_test > 0 {
            let count = inputs.choice.like_test;
            progress.line(format!(
                "{name}: {count} samples look like images of the test set: is it of the same scenes as the devices see?"
            ));
        }
    }

    interrupt::check()?;
    let pixels = field.iter().map(|sample| sample.pixels.clone()).collect();
    let training = data.training(project, pixels);
    let seed = config.train.seed + u64::from(round) - 1;
    let train_config = trainer::config::TrainConfig { seed, ..config.train.clone() };
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
    let news = heed_rollouts(project, &remote, Timestamp::now())?;
    if !news.is_empty() {
        tell_back(&news, &name, progress);
        current = load_current(project, &data)?;
    }
    let spinner = progress.spinner(format!("{name}: exporting, checking, judging"));
    let parent = current.as_ref().map(|current| current.bundle.digest());
    let place = Place { sequence: u64::from(round), parent, created: inputs.began };
    let measured = measure(project, &weights, &training)?;
    let affordable = measured.within(config.export.max_loss);
    let Exported { bundle, test_logits, .. } =
        export(project, &weights, &training, measured, place, &project.bundle_folder(round), &[])?;
    let verdict = match affordable {
        Ok(()) => judge(project, current.as_ref(), &test_logits, &training.test, &data.labels)?,
        Err(e) => Verdict::refused(e.to_string()),
    };
    // A round that was cut off after it had published goes on here, and its bundle may have gone back by now.
    let went_back = went_back(project, &remote)?.iter().any(|back| back.to.bundle == bundle.digest());
    if verdict.passed && !went_back {
        publish(&bundle, &remote, &config.store.channel, project.signing_key()?.as_ref())?;
    }
    drop(spinner);

    let record = RoundRecord {
        round,
        finished: Timestamp::now(),
        parent,
        inputs,
        seed,
        bundle: bundle.digest(),
        test_accuracy: bundle.report_card()?.accuracy,
        published: verdict.passed,
        withdrawn: went_back.then(Timestamp::now),
        verdict,
    };
    write_record(project, &record)?;
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
    Ok(record)
}

/// Orders the devices to go back to the bundle of an older round, and returns the order.
///
/// The order is in the remote before the pointer that needs it, and the records are written last: cut off anywhere, the
/// same command goes on.
///
/// # Errors
/// If there is no key to sign with, no such published round, or none after it to leave; if the remote fails.
pub fn rollback(project: &Project, to: u32) -> Result<RollbackOrder> {
    let key = project.signing_key()?.context("expected export.signing_key: devices follow only a signed order")?;
    durable::create_folders(&project.rounds_folder())?;
    let _lock = lock(project)?;
    let records = records(project)?;
    let left = records.iter().rfind(|record| record.is_out()).context("no bundle was published yet")?.round;
    let target = records.iter().find(|record| record.round == to && record.is_out());
    let target = target.with_context(|| format!("round {to} was not published, or was withdrawn"))?;
    ensure!(to < left, "devices run round {left}: expected an older round, found {to}");
    let channel = project.config().store.channel.clone();
    let bundle = Bundle::open(&project.bundle_folder(to))?;
    let (release, now) = (&bundle.manifest().release, Timestamp::now());
    ensure!(bundle.digest() == target.bundle, "{} is not the bundle of round {to}", bundle.folder().display());
    ensure!(
        release.channel == channel,
        "round {to} was for channel {:?}: no device of {channel:?} takes it",
        release.channel
    );
    ensure!(release.expires.is_none_or(|end| now < end), "the bundle of round {to} has expired: no device takes it");
    // Its key may have been replaced since.
    if bundle.verify(&TrustedKeys::new(vec![key.public()])?).is_err() {
        bundle.sign(&key)?;
    }
    // Devices may still be on a bundle that an earlier order withdrew.
    let newest = records.iter().filter(|record| record.published).map(|record| record.round).max().unwrap_or(left);
    let to = ChannelPointer { bundle: target.bundle, sequence: u64::from(to) };
    let order = RollbackOrder { channel, from: u64::from(newest), to };
    let remote = open_remote(project)?;
    upload(&bundle, &remote)?;
    remote.put(&sync::rollback(&order.channel), order.seal(Some(&key))?)?;
    point(&remote, &order.channel, &to)?;
    let is_left = |record: &RoundRecord| u64::from(record.round) > order.to.sequence;
    withdraw(project, records, is_left, now)?;
    Ok(order)
}

/// Takes note that devices run these bundles no more.
fn withdraw(
    project: &Project,
    records: Vec<RoundRecord>,
    is_left: impl Fn(&RoundRecord) -> bool,
    now: Timestamp,
) -> Result<()> {
    for mut record in records.into_iter().filter(|record| record.is_out() && is_left(record)) {
        record.withdrawn = Some(now);
        write_record(project, &record)?;
    }
    Ok(())
}

/// Takes note of the bundles that a hub took back from the devices, since too many refused them: a round is judged against what they
/// run, and not against what they would not.
fn heed_rollouts(project: &Project, remote: &Remote, now: Timestamp) -> Result<Vec<WentBack>> {
    let mut news = went_back(project, remote)?;
    let records = records(project)?;
    news.retain(|back| records.iter().any(|record| record.is_out() && record.bundle == back.to.bundle));
    let is_left = |record: &RoundRecord| news.iter().any(|back| record.bundle == back.to.bundle);
    withdraw(project, records, is_left, now)?;
    Ok(news)
}

fn went_back(project: &Project, remote: &Remote) -> Result<Vec<WentBack>> {
    Ok(rollout(remote, &project.config().store.channel)?.map_or(Vec::new(), |report| report.went_back))
}

fn tell_back(news: &[WentBack], name: &str, progress: &Progress) {
    for WentBack { to, why, .. } in news {
        let round = to.sequence;
        progress.line(format!("{name}: the hub took the bundle of round {round} back from the devices: {why}"));
    }
}

fn write_record(project: &Project, record: &RoundRecord) -> Result<()> {
    let path = project.rounds_folder().join(format!("{}.json", round_name(record.round)));
    Ok(durable::write_json(&path, record)?)
}

/// The records of all finished rounds, in order.
///
/// # Errors
/// If a record cannot be read.
pub fn records(project: &Project) -> Result<Vec<RoundRecord>> {
    let folder = project.rounds_folder();
    let mut records = Vec::new();
    loop {
        let path = folder.join(format!("{}.json", round_name(records.len() as u32 + 1)));
        if !path.exists() {
            return Ok(records);
        }
        records.push(read_json(&path)?);
    }
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

/// What the round trains on: chosen now and written down, or what was written down when it began.
fn choose_inputs(
    project: &Project,
    round: u32,
    current: Option<&Current>,
    data: &ProjectData,
    samples: Vec<Sample>,
) -> Result<(Inputs, Vec<Relabeled>)> {
    let relabeled = current.map(|current| relabel_samples(project, current, samples)).transpose()?;
    let inputs = if let Some(inputs) = inputs(project, round)? {
        inputs
    } else {
        let mut inputs = Inputs { began: Timestamp::now(), choice: Choice::default(), samples: BTreeSet::new() };
        if let (Some(current), Some((relabeled, unreadable))) = (current, &relabeled) {
            let calibration = &current.bundle.manifest().calibration;
            let config = project.config();
            let near = config.collection.near_duplicates;
            let (chosen, choice) = choose(relabeled, calibration, &data.pictures(), &config.choice, near);
            inputs.choice = Choice { unreadable: *unreadable, ..choice };
            inputs.samples = chosen.into_iter().map(|candidate| candidate.sample.record.image).collect();
        }
        durable::write_json(&inputs_file(project, round), &inputs)?;
        inputs
    };
    let (mut field, _) = relabeled.unwrap_or_default();
    field.retain(|candidate| inputs.samples.contains(&candidate.sample.record.image));
    Ok((inputs, field))
}

/// File of what a round is trained on.
pub(crate) fn inputs_file(project: &Project, round: u32) -> PathBuf {
    project.rounds_folder().join(format!("{}.inputs.json", round_name(round)))
}

/// What a round is trained on, if it has begun.
pub(crate) fn inputs(project: &Project, round: u32) -> Result<Option<Inputs>> {
    let path = inputs_file(project, round);
    if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
}

fn relabel_samples(project: &Project, current: &Current, samples: Vec<Sample>) -> Result<(Vec<Relabeled>, usize)> {
    let model = current.model(project)?;
    let calibration = &current.bundle.manifest().calibration;
    relabel(&model, calibration, &project.config().preprocessing, samples)
}

fn judge(
    project: &Project,
    current: Option<&Current>,
    new: &[Vec<f32>],
    test: &LabeledImages,
    labels: &LabelSet,
) -> Result<Verdict> {
    let Some(current) = current else { return Ok(gate::first(new, &test.labels, labels.len())) };
    let current = current.model(project)?.logits(&test.images)?;
    Ok(gate::against(&current, new, &test.labels, labels, &project.config().gate))
}

fn report(ingested: &Ingested, name: &str, progress: &Progress) {
    if ingested.segments > 0 {
        progress.line(format!("{name}: {} segments with {} samples came in", ingested.segments, ingested.samples));
    }
    if ingested.unreceipted > 0 {
        let count = ingested.unreceipted;
        progress.line(format!("{name}: {count} segments are left: the hub has no receipt for them yet"));
    }
    for refused in &ingested.refused {
        progress.line(format!("{name}: refused a segment: {refused}"));
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not a round's record", path.display()))
}

#[cfg(test)]
mod tests {
    use models::sync::ChannelReport;

    use super::*;

    fn record(round: u32) -> RoundRecord {
        RoundRecord {
            round,
            finished: Timestamp::UNIX_EPOCH,
            parent: None,
            inputs: Inputs { began: Timestamp::UNIX_EPOCH, choice: Choice::default(), samples: BTreeSet::new() },
            seed: 0,
            bundle: Digest::of(&[round as u8]),
            test_accuracy: 0.9,
            verdict: Verdict::uncompared(true, String::new()),
            published: true,
            withdrawn: None,
        }
    }

    #[test]
    fn what_a_hub_took_back_is_not_what_devices_run() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("flywheel.toml");
        fs::write(&path, "[data]\nlabeled = 'x'\n[preprocessing]\ncolor = 'gray'\nheight = 8\nwidth = 8\n")?;
        let (project, remote_folder) = (Project::open(&path)?, folder.path().join("remote"));
        for needed in [&project.rounds_folder(), &remote_folder] {
            durable::create_folders(needed)?;
        }
        for round in [1, 2] {
            write_record(&project, &record(round))?;
        }
        let (remote, now) = (Remote::folder(&remote_folder)?, Timestamp::UNIX_EPOCH);
        let back = |round: u32| WentBack {
            to: ChannelPointer { bundle: record(round).bundle, sequence: u64::from(round) },
            why: "3 of 20 devices refused it".into(),
            at: now,
        };
        let out = || Ok::<_, anyhow::Error>(records(&project)?.into_iter().filter(RoundRecord::is_out).count());
        for (went_back, news, left) in [
            (vec![], vec![], 2),
            // Of another project, or of before.
            (vec![back(3)], vec![], 2),
            (vec![back(3), back(2)], vec![back(2)], 1),
            // It is said once.
            (vec![back(3), back(2)], vec![], 1),
        ] {
            let report = ChannelReport { went_back, ..ChannelReport::default() };
            remote.put(&sync::rollout("stable"), serde_json::to_vec(&report)?)?;
            assert_eq!((heed_rollouts(&project, &remote, now)?, out()?), (news, left));
        }
        assert_eq!(records(&project)?[1].withdrawn, Some(now));
        Ok(())
    }
}
