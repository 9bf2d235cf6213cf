//! What a device is told.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use models::{collection::Budget, sync::is_device_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    engine::Accelerator,
    source::Origin,
    sync::{Address, SyncConfig},
    update::trial::TrialConfig,
};

/// The configuration of a device, in TOML. Relative paths start at the folder in which the program runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    /// Name of the device, its own among the fleet: 1 to 64 of `a-z`, `A-Z`, `0-9`, `-`, `_`.
    pub device: String,
    /// Where images come from. A folder in which they appear, as `.png`, `.jpg` or `.jpeg`, also in folders below it; the device
    /// only reads it. Or a camera's MJPEG stream, as `http://camera.local:8080/stream` (`http://USER:PASSWORD@...`). Or a camera
    /// of this machine that delivers JPEG, as `v4l2:/dev/video0`, with a program built with the feature "v4l2".
    pub source: Origin,
    /// Frames of a camera that are classified in a second, at most.
    #[serde(default = "frames_per_second")]
    pub frames_per_second: f64,
    /// Folder of the device's own: its bundle, its journal, its samples. Created if it is missing.
    pub state: PathBuf,
    /// Folder shared with the workstation, as on a network drive, or the address of a hub, as `https://hub.local:8443`, where the
    /// device was enrolled. It may be away for a while.
    pub remote: Address,
    /// Channel whose bundle the device runs.
    #[serde(default = "channel")]
    pub channel: String,
    /// Files of the public keys of which one must have signed a bundle or a receipt: one, or two while keys are changed. None:
    /// both are taken unsigned, from whoever can write to the remote.
    #[serde(default)]
    pub trusted_keys: Vec<PathBuf>,
    /// Kind of the device, for bundles that are only for some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Library of an ONNX Runtime to run bundles with, as `libonnxruntime.so`; none: the engine inside the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnxruntime: Option<PathBuf>,
    /// What that ONNX Runtime is to run bundles on, the first that can: "acl", "coreml", "cuda", "nnapi", "openvino",
    /// "qnn", "rknpu", "tensorrt" or "xnnpack", if its library was built for it. None: the processor.
    #[serde(default)]
    pub accelerators: Vec<Accelerator>,
    /// Seconds between two looks at the source, and at a remote that is a folder, while nothing is new.
    #[serde(default = "poll_seconds")]
    pub poll_seconds: f64,
    /// Kept samples after which a segment is sealed, if there is somebody to send it to.
    #[serde(default = "seal_after_samples")]
    pub seal_after_samples: usize,
    /// Size of the kept samples in mebibytes after which a segment is sealed.
    #[serde(default = "seal_after_mebibytes")]
    pub seal_after_mebibytes: u64,
    /// Seconds after which a segment is sealed, however few samples there are.
    #[serde(default = "seal_after_seconds")]
    pub seal_after_seconds: f64,
    /// Mebibytes that kept samples and segments take on disk, at most. When they are spent, the least useful samples make room
    /// for more useful ones; audit samples never do. A part as large as a segment stays free.
    #[serde(default = "store_mebibytes")]
    pub store_mebibytes: u64,
    /// Mebibytes after which a new journal of predictions begins. The one before is kept.
    #[serde(default = "journal_mebibytes")]
    pub journal_mebibytes: u64,
    /// Mebibytes of samples written to disk in 24 hours, for the sake of flash memory: each is written as it is kept, and into
    /// its segment. Audit samples are kept all the same. None: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_mebibytes_per_day: Option<u32>,
    /// Samples kept in a time, beyond what the bundle's own budget allows: the smaller one counts.
    #[serde(default)]
    pub budget: Budget,
    /// When the remote is contacted, and how much is sent.
    #[serde(default)]
    pub sync: SyncConfig,
    /// Address and port at which the device classifies over HTTP, says how it is, and shows a page, as `127.0.0.1:8080`. It asks
    /// nobody who they are. None: it does not listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
    /// Names by which that may be asked, beside addresses, names without a dot and those that end in `.local`. Any other could be
    /// one by which a page of another site, open in a browser on this network, reaches the device.
    #[serde(default)]
    pub listen_names: Vec<String>,
    /// Whether images that are posted there are journaled and kept like those of the source. Whoever can post then has a say in
    /// what the next model learns.
    #[serde(default)]
    pub collect_posted: bool,
    /// What a new bundle has to show before it stays.
    #[serde(default)]
    pub trial: TrialConfig,
    /// Seed of the draws that choose audit samples; taken from the system's entropy at every start if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_seed: Option<u64>,
    /// Folder of a bundle to start with. Without one, the device waits for its channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<PathBuf>,
}

fn channel() -> String {
    "stable".into()
}

fn frames_per_second() -> f64 {
    1.0
}

fn poll_seconds() -> f64 {
    2.0
}

fn seal_after_samples() -> usize {
    500
}

fn seal_after_mebibytes() -> u64 {
    64
}

fn seal_after_seconds() -> f64 {
    60.0
}

fn journal_mebibytes() -> u64 {
    64
}

fn store_mebibytes() -> u64 {
    2048
}

impl EdgeConfig {
    /// A device with these places, and the defaults for everything else.
    pub fn new(device: &str, source: impl Into<Origin>, state: PathBuf, remote: Address) -> Self {
        Self {
            device: device.to_owned(),
            source: source.into(),
            frames_per_second: frames_per_second(),
            state,
            remote,
            channel: channel(),
            trusted_keys: Vec::new(),
            target: None,
            onnxruntime: None,
            accelerators: Vec::new(),
            poll_seconds: poll_seconds(),
            seal_after_samples: seal_after_samples(),
            seal_after_mebibytes: seal_after_mebibytes(),
            seal_after_seconds: seal_after_seconds(),
            store_mebibytes: store_mebibytes(),
            journal_mebibytes: journal_mebibytes(),
            write_mebibytes_per_day: None,
            budget: Budget::default(),
            sync: SyncConfig::default(),
            listen: None,
            listen_names: Vec::new(),
            collect_posted: false,
            trial: TrialConfig::default(),
            audit_seed: None,
            bundle: None,
        }
    }

    /// Folder of what enrolment at a hub has left.
    pub fn credentials(&self) -> PathBuf {
        self.state.join("hub")
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`Error::Models`] if it cannot be read; [`Error::Config`] with the setting that is missing, unknown or wrong.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_table(&path.display().to_string(), read_table(path)?)
    }

    /// The configuration in a table; `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::Config`], as [`EdgeConfig::load`].
    pub fn from_table(what: &str, table: toml::Table) -> Result<Self> {
        let config: Self = table.try_into().map_err(|e| wrong(what, e.to_string().trim_end()))?;
        for (name, value) in [("device", &config.device), ("channel", &config.channel)] {
            if !is_device_name(value) {
                let expected = "expected 1 to 64 of a-z, A-Z, 0-9, - and _";
                return Err(wrong(what, format!("{name} is {value:?}; {expected}")));
            }
        }
        if !(0.01..=86_400.0).contains(&config.poll_seconds) {
            let found = config.poll_seconds;
            return Err(wrong(what, format!("poll_seconds is {found}; expected 0.01 to 86400 seconds")));
        }
        if config.seal_after_samples == 0 || !(1..=1024).contains(&config.seal_after_mebibytes) {
            let (samples, size) = (config.seal_after_samples, config.seal_after_mebibytes);
            let expected = "expected at least 1 and 1 to 1024";
            return Err(wrong(
                what,
                format!("seal_after_samples is {samples}, seal_after_mebibytes {size}; {expected}"),
            ));
        }
        if !(1..=4096).contains(&config.journal_mebibytes) {
            let found = config.journal_mebibytes;
            return Err(wrong(what, format!("journal_mebibytes is {found}; expected 1 to 4096 mebibytes")));
        }
        if !(4..=1 << 24).contains(&config.store_mebibytes) {
            let found = config.store_mebibytes;
            return Err(wrong(what, format!("store_mebibytes is {found}; expected 4 to {} mebibytes", 1 << 24)));
        }
        if !(0.001..=60.0).contains(&config.frames_per_second) {
            let found = config.frames_per_second;
            return Err(wrong(what, format!("frames_per_second is {found}; expected 0.001 to 60")));
        }
        if let Some(fault) = config.sync.fault().or_else(|| config.trial.fault()) {
            return Err(wrong(what, fault));
        }
        if !(0.0..=86_400.0).contains(&config.seal_after_seconds) {
            let found = config.seal_after_seconds;
            return Err(wrong(what, format!("seal_after_seconds is {found}; expected 0 to 86400 seconds")));
        }
        Ok(config)
    }
}

/// A TOML file as it was written.
///
/// # Errors
/// As [`EdgeConfig::load`].
pub fn read_table(path: &Path) -> Result<toml::Table> {
    let text = fs::read_to_string(path).map_err(models::Error::io("read", path))?;
    text.parse().map_err(|e: toml::de::Error| wrong(path.display(), e.to_string().trim_end()))
}

fn wrong(what: impl ToString, reason: impl ToString) -> Error {
    Error::Config { what: what.to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_unknown_or_wrong_is_named() {
        let whole = "device = 'cam-1'\nsource = 'in'\nstate = 'state'\nremote = 'remote'\n";
        let parse = |text: &str| {
            let table = text.parse().map_err(|e: toml::de::Error| wrong("edge.toml", e))?;
            EdgeConfig::from_table("edge.toml", table)
        };
        assert!(parse(whole).is_ok_and(|c| c.channel == "stable" && c.audit_seed.is_none()));
        for (text, said) in [
            (whole.replace("state = 'state'\n", ""), "state"),
            (format!("{whole}shannel = 'beta'"), "shannel"),
            (whole.replace("cam-1", "../cam"), "device is \"../cam\""),
            (format!("{whole}poll_seconds = 0.0"), "poll_seconds"),
            (format!("{whole}seal_after_samples = 0"), "seal_after_samples"),
            (format!("{whole}store_mebibytes = 1"), "store_mebibytes"),
            (format!("{whole}journal_mebibytes = 0"), "journal_mebibytes"),
            (format!("{whole}frames_per_second = 0.0"), "frames_per_second"),
            (format!("{whole}[trial]\nslowdown = 0.5"), "trial.slowdown"),
            (format!("{whole}[sync]\nhours = [9, 9]"), "sync.hours"),
            (format!("{whole}[budget]\nper_moment = 1"), "per_moment"),
        ] {
            let error = parse(&text).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains("edge.toml") && error.contains(said), "{error:?} does not say {said:?}");
        }
    }
}
