//! The devices: processes of their own, started from this very program.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use edge_runtime::{
    EdgeConfig,
    journal::Entry,
    sync::{Address, Remote, status},
    update::trial::TrialConfig,
};
use models::{
    durable,
    sync::{self, DeviceStatus},
};
use rustix::process::{Pid, Signal, kill_process};

use super::images::Field;
use crate::{interrupt, project::Project, round};

/// Longest wait for a device to do anything.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// Running devices; they stop when this is dropped.
pub(super) struct Fleet {
    devices: Vec<Device>,
    remote: Remote,
}

struct Device {
    name: String,
    folder: PathBuf,
    process: Child,
}

impl Fleet {
    /// Starts a device for each stream of the field, with its files in `folder/devices/NAME`.
    pub(super) fn start(
        project: &Project,
        program: &Path,
        field: &Field,
        folder: &Path,
        trusted_key: &Path,
    ) -> Result<Self> {
        let mut fleet = Self { devices: Vec::new(), remote: round::open_remote(project)? };
        for name in field.devices() {
            let folder = folder.join("devices").join(name);
            durable::create_folders(&folder)?;
            let source = std::path::absolute(field.folder(name).context("every device has a folder")?)?;
            let state = std::path::absolute(folder.join("state"))?;
            let remote = match project.remote() {
                Address::Folder(folder) => Address::Folder(std::path::absolute(folder)?),
                hub => hub,
            };
            let config = EdgeConfig {
                channel: project.config().store.channel.clone(),
                trusted_keys: vec![std::path::absolute(trusted_key)?],
                poll_seconds: 0.2,
                // Between the waves there is nothing to see.
                trial: TrialConfig { shadow_seconds: 1.0, ..TrialConfig::default() },
                seal_after_seconds: 0.0,
                audit_seed: Some(project.config().train.seed),
                ..EdgeConfig::new(name, source, state, remote)
            };
            let config_file = folder.join("edge.toml");
            durable::write(&config_file, toml::to_string_pretty(&config)?.as_bytes())?;
            let log = File::create(folder.join("log.jsonl"))
                .with_context(|| format!("cannot log to {}", folder.display()))?;
            let process = Command::new(program)
                .args(["edge", "run", "--json", "--stop-on-eof", "--config"])
                .arg(&config_file)
                // A device does not train.
                .env_remove(trainer::memory::VARIABLE)
                // Held open by this process: if it is killed, the devices stop too.
                .stdin(Stdio::piped())
                .stderr(log.try_clone()?)
                .stdout(log)
                .spawn()
                .with_context(|| format!("cannot start {}", program.display()))?;
            fleet.devices.push(Device { name: name.to_owned(), folder, process });
        }
        Ok(fleet)
    }

    /// Waits until every device serves the bundle of this sequence number.
    pub(super) fn wait_for_bundle(&mut self, sequence: u64) -> Result<()> {
        self.wait(|_, status| Ok(status.sequence == sequence))
    }

    /// Waits until every device has dealt with all images of a wave and uploaded all segments.
    pub(super) fn wait_until_synced(&mut self, field: &Field, wave: u32) -> Result<()> {
        self.wait(|remote, status| {
            let counters = &status.counters;
            // The damaged file came with the first wave.
            let dealt_with =
                counters.classified as usize >= field.delivered(&status.device, wave) && counters.unreadable == 1;
            Ok(dealt_with && status.unsealed == 0 && status.backlog == without_receipt(remote, &status.device)?)
        })
    }

    /// Every prediction of every device so far.
    pub(super) fn predictions(&self) -> Result<Vec<(String, Entry)>> {
        let mut predictions = Vec::new();
        for device in &self.devices {
            let path = device.folder.join("state/predictions.jsonl");
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            for line in text.lines() {
                let entry = serde_json::from_str(line).with_context(|| format!("in {}", path.display()))?;
                predictions.push((device.name.clone(), entry));
            }
        }
        Ok(predictions)
    }

    /// Stops the devices and returns what they said last.
    pub(super) fn stop(mut self) -> Result<Vec<DeviceStatus>> {
        for device in &mut self.devices {
            device.terminate();
            let status = device.process.wait()?;
            ensure!(status.success(), "device {} ended badly ({status}): {}", device.name, device.last_words());
        }
        self.devices.iter().map(|device| status(&self.remote, &device.name)?.context("a device has a status")).collect()
    }

    fn wait(&mut self, mut is_done: impl FnMut(&Remote, &DeviceStatus) -> Result<bool>) -> Result<()> {
        for device in &mut self.devices {
            let (mut known, mut since) = (None, Instant::now());
            loop {
                let status = status(&self.remote, &device.name)?;
                let counters = status.as_ref().map(|status| status.counters.clone());
                if counters != known {
                    (known, since) = (counters, Instant::now());
                }
                if let Some(status) = &status
                    && is_done(&self.remote, status)?
                {
                    break;
                }
                interrupt::check()?;
                if let Some(ended) = device.process.try_wait()? {
                    bail!("device {} ended ({ended}): {}", device.name, device.last_words());
                }
                let (name, words) = (&device.name, device.last_words());
                ensure!(since.elapsed() < PATIENCE, "device {name} is stuck at {status:?}: {words}");
                thread::sleep(POLL);
            }
        }
        Ok(())
    }
}

impl Device {
    fn terminate(&self) {
        if let Ok(id) = i32::try_from(self.process.id())
            && let Some(id) = Pid::from_raw(id)
        {
            // A device that is gone already needs no signal.
            let _ = kill_process(id, Signal::TERM);
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log.jsonl")).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for device in &mut self.devices {
            if matches!(device.process.try_wait(), Ok(None)) {
                device.terminate();
                // Whatever became of it, there is nobody left to tell.
                let _ = device.process.wait();
            }
        }
    }
}

fn without_receipt(remote: &Remote, device: &str) -> Result<usize> {
    let mut count = 0;
    for name in remote.list(&format!("{}/{device}", sync::SEGMENTS))? {
        let (device, segment) = sync::parse_segment(&name)?;
        count += usize::from(remote.size(&sync::receipt(&device, segment))?.is_none());
    }
    Ok(count)
}
