//! A device inside this process: the engine, the policy and the messages of the real one, without its disk and its camera.

use anyhow::Result;
use edge_runtime::{
    Classifier,
    journal::{Entry, History},
    policy::{self, Candidate, LocalLimits, Policy},
    sync::Remote,
};
use jiff::Timestamp;
use models::{
    Digest, PerceptualHash, Prediction, Reason, Sample, SampleRecord, segment,
    sync::{self, Demand},
};
use trainer::{
    data::LabeledImages,
    random::{self, Stream},
};

/// How sure a lying device says it is.
const SURE: f64 = 0.99;

/// A device.
pub(super) struct Device {
    pub(super) name: String,
    history: History,
    draws: Stream,
    /// Whether it sends wrong labels.
    lies: bool,
}

impl Device {
    pub(super) fn new(name: String, seed: u32, lies: bool) -> Self {
        let draws = random::stream(seed.into(), &name);
        Self { name, history: History::default(), draws, lies }
    }

    /// Looks at images, and returns the samples that it keeps.
    pub(super) fn see(
        &mut self,
        classifier: &Classifier,
        images: &LabeledImages,
        now: Timestamp,
    ) -> Result<Vec<Sample>> {
        let policy = Policy::of(classifier, LocalLimits::default());
        let (bundle, labels) = (classifier.digest(), &classifier.manifest().labels);
        let mut kept = Vec::new();
        for image in &images.images {
            let (png, look) = (image.to_png()?, PerceptualHash::of(image));
            let (digest, source) = (Digest::of(&png), format!("{:06}.png", self.history.entries()));
            let mut prediction = classifier.predict(&source, image)?;
            let candidate = Candidate {
                source: &source,
                image: digest,
                bytes: png.len() as u64,
                look,
                prediction: &prediction,
                classified: now,
            };
            let agree = |views| classifier.views_agree(image, prediction.class, views);
            let draw = policy::draw(&mut self.draws);
            let verdict = policy.judge(&candidate, draw, &self.history, &Demand::default(), agree);
            let dropped = verdict.as_ref().err().copied();
            let mut reasons = verdict.unwrap_or_default();
            self.history.add(&Entry {
                source: source.clone(),
                image: digest,
                classified: now,
                bundle,
                sequence: classifier.manifest().sequence,
                class: prediction.class,
                label: labels.name(prediction.class).to_owned(),
                confidence: prediction.confidence,
                kept: reasons.clone(),
                dropped,
                look: dropped.is_none().then_some(look),
                bytes: dropped.is_none().then_some(png.len() as u64),
                arrived: false,
            });
            if self.lies {
                prediction = wrong(&prediction);
                reasons.retain(|reason| matches!(reason, Reason::Audit { .. }));
                reasons.push(Reason::Confident { threshold: 0.0 });
            }
            if reasons.is_empty() {
                continue;
            }
            let record = SampleRecord {
                image: digest,
                extension: "png".into(),
                device: self.name.clone(),
                source,
                captured: now,
                bundle,
                prediction,
                reasons,
            };
            kept.push(Sample { record, image: png });
        }
        Ok(kept)
    }
}

/// The next class instead, with confidence.
fn wrong(prediction: &Prediction) -> Prediction {
    let classes = prediction.probs.len();
    let class = (prediction.class + 1) % classes;
    let probs = (0..classes).map(|c| if c == class { SURE } else { (1.0 - SURE) / (classes - 1) as f64 }).collect();
    Prediction { class, confidence: SURE, probs }
}

/// Puts samples into the remote as a segment of a device.
pub(crate) fn upload(remote: &Remote, device: &str, samples: &[Sample]) -> Result<Digest> {
    let mut bytes = Vec::new();
    segment::write(&mut bytes, samples)?;
    let digest = Digest::of(&bytes);
    remote.put(&sync::segment(device, digest), bytes)?;
    Ok(digest)
}
