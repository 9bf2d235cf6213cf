//! The way back: an order of whoever runs the loop, or a hub's own, after too many devices refused a bundle.

use anyhow::{Context, Result, ensure};
use edge_runtime::sync::{Remote, rollout};
use jiff::Timestamp;
use models::{
    Bundle, durable,
    signing::{Message, RollbackOrder, TrustedKeys},
    sync::{self, ChannelPointer, WentBack},
};

use super::{
    lock, open_remote,
    record::{self, RoundRecord, records},
};
use crate::{
    progress::Progress,
    project::Project,
    steps::publish::{point, upload},
};

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
        record::write(project, &record)?;
    }
    Ok(())
}

/// Takes note of the bundles that a hub took back from the devices, since too many refused them: a round is judged against what they
/// run, and not against what they would not.
pub(super) fn heed_rollouts(project: &Project, remote: &Remote, now: Timestamp) -> Result<Vec<WentBack>> {
    let mut news = went_back(project, remote)?;
    let records = records(project)?;
    news.retain(|back| records.iter().any(|record| record.is_out() && record.bundle == back.to.bundle));
    let is_left = |record: &RoundRecord| news.iter().any(|back| record.bundle == back.to.bundle);
    withdraw(project, records, is_left, now)?;
    Ok(news)
}

pub(super) fn went_back(project: &Project, remote: &Remote) -> Result<Vec<WentBack>> {
    Ok(rollout(remote, &project.config().store.channel)?.map_or(Vec::new(), |report| report.went_back))
}

pub(super) fn tell_back(news: &[WentBack], name: &str, progress: &Progress) {
    for WentBack { to, why, .. } in news {
        let round = to.sequence;
        progress.line(format!("{name}: the hub took the bundle of round {round} back from the devices: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use models::sync::ChannelReport;

    use super::*;
    use crate::{round::testing::recorded, steps::testing};

    #[test]
    fn what_a_hub_took_back_is_not_what_devices_run() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (project, remote_folder) = (testing::project(folder.path())?, folder.path().join("remote"));
        for needed in [&project.rounds_folder(), &remote_folder] {
            durable::create_folders(needed)?;
        }
        for round in [1, 2] {
            record::write(&project, &recorded(round))?;
        }
        let (remote, now) = (Remote::folder(&remote_folder)?, Timestamp::UNIX_EPOCH);
        let back = |round: u32| WentBack {
            to: ChannelPointer { bundle: recorded(round).bundle, sequence: u64::from(round) },
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
