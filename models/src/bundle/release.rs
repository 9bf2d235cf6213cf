use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::OLDEST_RUNTIME;
use crate::{Error, Result};

/// Where and when a bundle may be taken over. Bundles that serve go on after they expired: an old model is better than none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The channel whose devices it is for.
    pub channel: String,
    /// Kinds of devices that it is for, as their configuration's `target` names them; none: all.
    pub targets: Vec<String>,
    /// Not to be taken over before.
    pub not_before: Option<Timestamp>,
    /// Not to be taken over from then on.
    pub expires: Option<Timestamp>,
    /// Oldest version of the device's program that runs it.
    pub minimum_runtime: Version,
}

/// A device that may take a bundle over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its channel.
    pub channel: String,
    /// Its kind.
    pub target: Option<String>,
    /// The version of its program.
    pub runtime: Version,
    /// Its time.
    pub now: Timestamp,
}

impl Release {
    /// For every device of a channel at any time, and every version of its program that reads such bundles.
    pub fn to_channel(channel: &str) -> Self {
        Self {
            channel: channel.to_owned(),
            targets: Vec::new(),
            not_before: None,
            expires: None,
            minimum_runtime: OLDEST_RUNTIME,
        }
    }

    /// Whether a device may take the bundle over.
    ///
    /// # Errors
    /// [`Error::NotForHost`] with the condition that it does not meet; [`Error::TooEarly`], which passes.
    pub fn admits(&self, host: &Host) -> Result<()> {
        let refuse = |key, expected: String, found: String| Err(Error::NotForHost { key, expected, found });
        if self.channel != host.channel {
            return refuse("channel", self.channel.clone(), host.channel.clone());
        }
        if !self.targets.is_empty() && !host.target.as_ref().is_some_and(|target| self.targets.contains(target)) {
            return refuse("target", self.targets.join(" or "), host.target.clone().unwrap_or("none".into()));
        }
        if self.minimum_runtime > host.runtime {
            return refuse("runtime", format!("{} or newer", self.minimum_runtime), host.runtime.to_string());
        }
        match (self.not_before, self.expires) {
            (Some(not_before), _) if host.now < not_before => Err(Error::TooEarly { not_before, now: host.now }),
            (_, Some(end)) if host.now >= end => refuse("time", format!("before {end}"), host.now.to_string()),
            _ => Ok(()),
        }
    }
}
