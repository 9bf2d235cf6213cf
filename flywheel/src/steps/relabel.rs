//! Gives every sample from the field the label that the current model gives it, and chooses what to train on.

use std::collections::BTreeSet;

use anyhow::Result;
use models::{Calibration, Digest, Pixels, Prediction, Preprocessing, Sample};
use serde::{Deserialize, Serialize};

use super::model::DeviceModel;

/// A sample with its image as an input and what the current model says of it.
#[derive(Clone, Debug)]
pub struct Relabeled {
    /// The sample as the device sent it.
    pub sample: Sample,
    /// Its image.
    pub pixels: Pixels,
    /// What the current model says of it.
    pub prediction: Prediction,
}

/// How many samples went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// To be trained on.
    pub chosen: usize,
    /// Kept apart because they were drawn for audit: what judges models must not have taught them.
    pub audit: usize,
    /// Left out because the image is in the test set.
    pub in_test_set: usize,
    /// Left out because the workstation has the image already.
    pub known: usize,
    /// Left out because the current model is not confident.
    pub unsure: usize,
    /// Left out because the current model contradicts the device's pseudo-label.
    pub contradicted: usize,
    /// Left out because the image cannot be read.
    pub unreadable: usize,
}

/// Predicts every sample anew. Images that cannot be read are counted and left out.
///
/// # Errors
/// Those of [`DeviceModel::logits`].
pub fn relabel(
    model: &DeviceModel,
    calibration: &Calibration,
    preprocessing: &Preprocessing,
    samples: Vec<Sample>,
) -> Result<(Vec<Relabeled>, usize)> {
    let count = samples.len();
    let decode = |sample: Sample| {
        let pixels = preprocessing.pixels(&sample.record.source, &sample.image).ok()?;
        Some((sample, pixels))
    };
    let (samples, images): (Vec<_>, Vec<_>) = samples.into_iter().filter_map(decode).unzip();
    let logits = model.logits(&images)?;
    let unreadable = count - images.len();
    let relabeled = samples
        .into_iter()
        .zip(images)
        .zip(logits)
        .map(|((sample, pixels), logits)| Relabeled { sample, pixels, prediction: calibration.predict(&logits) })
        .collect();
    Ok((relabeled, unreadable))
}

/// Chooses the samples to train on. The test set and what the workstation knows are given by [`Pixels::digest`], so that
/// another file of the same picture is the same.
pub fn choose<'a>(
    relabeled: &'a [Relabeled],
    calibration: &Calibration,
    test: &BTreeSet<Digest>,
    known: &BTreeSet<Digest>,
) -> (Vec<&'a Relabeled>, Choice) {
    let mut choice = Choice::default();
    let mut chosen = Vec::new();
    for candidate in relabeled {
        let record = &candidate.sample.record;
        let contradicts = |label: usize| label != candidate.prediction.class;
        let picture = candidate.pixels.digest();
        let counter = if test.contains(&picture) {
            &mut choice.in_test_set
        } else if record.audit_probability().is_some() {
            &mut choice.audit
        } else if known.contains(&picture) {
            &mut choice.known
        } else if record.pseudo_label().is_some_and(contradicts) {
            &mut choice.contradicted
        } else if !calibration.is_confident(&candidate.prediction) {
            &mut choice.unsure
        } else {
            chosen.push(candidate);
            &mut choice.chosen
        };
        *counter += 1;
    }
    (chosen, choice)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use models::{Reason, SampleRecord};

    use super::*;

    /// A picture of its own for every name.
    fn picture(name: &str) -> Pixels {
        Pixels { height: 1, width: name.len(), channels: 1, data: name.as_bytes().to_vec() }
    }

    fn candidate(image: &str, device_label: usize, reason: Reason, now: [f64; 2]) -> Relabeled {
        let predict = |probs: [f64; 2]| {
            let class = usize::from(probs[1] > probs[0]);
            Prediction { class, confidence: probs[class], probs: probs.to_vec() }
        };
        let device_probs = if device_label == 0 { [0.95, 0.05] } else { [0.05, 0.95] };
        let record = SampleRecord {
            image: Digest::of(image.as_bytes()),
            extension: "png".into(),
            device: "cam-1".into(),
            source: image.into(),
            captured: Timestamp::UNIX_EPOCH,
            bundle: Digest::of(b"bundle"),
            prediction: predict(device_probs),
            reasons: vec![reason],
        };
        let pixels = picture(image);
        Relabeled { sample: Sample { record, image: Vec::new() }, pixels, prediction: predict(now) }
    }

    #[test]
    fn only_agreed_confident_new_images_are_trained_on() {
        let confident = Reason::Confident { threshold: 0.9 };
        let audit = Reason::Audit { probability: 0.05 };
        let candidates = [
            candidate("good", 0, confident, [0.97, 0.03]),
            candidate("contradicted", 1, confident, [0.97, 0.03]),
            candidate("unsure", 0, confident, [0.6, 0.4]),
            candidate("audit", 0, audit, [0.97, 0.03]),
            candidate("test", 0, confident, [0.97, 0.03]),
            candidate("pool", 0, confident, [0.97, 0.03]),
        ];
        let calibration = Calibration { temperature: 1.0, thresholds: vec![0.9, 0.9] };
        let set = |image: &str| BTreeSet::from([picture(image).digest()]);
        let (chosen, choice) = choose(&candidates, &calibration, &set("test"), &set("pool"));
        let names: Vec<_> = chosen.iter().map(|c| c.sample.record.source.as_str()).collect();
        assert_eq!(names, ["good"]);
        let expected =
            Choice { chosen: 1, audit: 1, in_test_set: 1, known: 1, unsure: 1, contradicted: 1, unreadable: 0 };
        assert_eq!(choice, expected);
    }
}
