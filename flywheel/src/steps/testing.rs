//! A project, and samples as devices send them, for tests.

use std::{fs, path::Path};

use anyhow::Result;
use jiff::Timestamp;
use models::{Digest, Prediction, Reason, Sample, SampleRecord};

use crate::project::Project;

/// A project of gray images of 8x8 pixels in a folder.
pub(crate) fn project(folder: &Path) -> Result<Project> {
    let config = folder.join("flywheel.toml");
    fs::write(&config, "[data]\nlabeled = 'x'\n[preprocessing]\ncolor = 'gray'\nheight = 8\nwidth = 8\n")?;
    Project::open(&config)
}

/// An image that a device is almost sure is of class 0.
pub(crate) fn sample(device: &str, image: &[u8], reason: Reason) -> Sample {
    let record = SampleRecord {
        image: Digest::of(image),
        extension: "png".into(),
        device: device.into(),
        source: "1.png".into(),
        captured: Timestamp::UNIX_EPOCH,
        bundle: Digest::of(b"bundle"),
        prediction: Prediction { class: 0, confidence: 0.99, probs: vec![0.99, 0.01] },
        reasons: vec![reason],
    };
    Sample { record, image: image.to_vec() }
}
