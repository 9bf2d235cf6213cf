//! A bundle of a few hundred bytes for tests; `fixtures/make_tiny.py` made its graph and its golden logits.

use std::path::Path;

use jiff::Timestamp;
use models::{
    Bundle, Calibration, CollectionPolicy, LabelSet, Manifest, NetworkSpec, Pixels, Preprocessing, ReportCard,
    bundle::{FORMAT, Golden, Release},
    preprocess::{Color, InputLayout},
    weights::{Arithmetic, Storage},
};
use serde::Deserialize;

pub(crate) type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

pub(crate) const ONNX: &[u8] = include_bytes!("../fixtures/tiny.onnx");

/// An image and the logits that NumPy computes for it.
#[derive(Deserialize)]
pub(crate) struct Case {
    image: Vec<u8>,
    pub(crate) logits: Vec<f32>,
}

impl Case {
    pub(crate) fn pixels(&self) -> Pixels {
        Pixels { height: 4, width: 4, channels: 1, data: self.image.clone() }
    }

    pub(crate) fn png(&self) -> models::Result<Vec<u8>> {
        self.pixels().to_png()
    }
}

#[expect(clippy::expect_used, reason = "a fixture that cannot be parsed fails every test")]
pub(crate) fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../fixtures/tiny.json")).expect("fixtures/tiny.json holds cases")
}

/// A PNG of 4x4 pixels that differs for every `number`.
pub(crate) fn png(number: u32) -> models::Result<Vec<u8>> {
    let data = (0..16).map(|i| (number.wrapping_mul(0x9e37_79b1).rotate_left(2 * i) >> 7) as u8).collect();
    Pixels { height: 4, width: 4, channels: 1, data }.to_png()
}

pub(crate) fn set_labels(manifest: &mut Manifest, names: &[&str]) {
    if let Ok(labels) = LabelSet::new(names.iter().copied()) {
        manifest.network.classes = labels.len();
        manifest.calibration.thresholds = vec![0.6; labels.len()];
        manifest.labels = labels;
    }
}

/// Writes a bundle of sequence 1 that keeps what reaches a probability of 0.6, changed by `change`.
pub(crate) fn bundle(folder: &Path, change: impl FnOnce(&mut Manifest, &mut Golden)) -> models::Result<Bundle> {
    let mut manifest = Manifest {
        format: FORMAT,
        sequence: 1,
        parent: None,
        created: Timestamp::UNIX_EPOCH,
        release: Release::to_channel("stable"),
        network: NetworkSpec::wide_resnet(10, 1, [1, 4, 4], 3)?,
        labels: LabelSet::new(["bolt", "nut", "washer"])?,
        preprocessing: Preprocessing { color: Color::Gray, height: 4, width: 4 },
        input: InputLayout::F32,
        weights: Storage::F32,
        arithmetic: Arithmetic::F32,
        calibration: Calibration { temperature: 1.0, thresholds: vec![0.6; 3] },
        collection: CollectionPolicy { audit_probability: 0.0, ..CollectionPolicy::default() },
        files: Default::default(),
    };
    let mut golden = Golden {
        images: cases().iter().map(Case::pixels).collect(),
        logits: cases().into_iter().map(|case| case.logits).collect(),
    };
    change(&mut manifest, &mut golden);
    let card = ReportCard {
        test_images: 1,
        accuracy: 1.0,
        accuracy_interval: [0.0, 1.0],
        per_class_accuracy: vec![1.0; 3],
        confusion: vec![vec![0; 3]; 3],
        ece_before: 0.0,
        ece_after: 0.0,
        reliability_before: Vec::new(),
        reliability_after: Vec::new(),
        parity_max_abs_diff: Some(0.0),
        training: models::TrainingFacts { labeled: 1, unlabeled: 1, steps: 1, seed: 0 },
    };
    Bundle::write(folder, manifest, ONNX, &golden, &card, None)
}
