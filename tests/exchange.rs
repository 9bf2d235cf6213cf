//! What other tools make of exported samples, and what comes back from them.
//!
//! This needs a Python with the packages of `tests/interop/requirements.txt`, named by `FLYWHEEL_PYTHON`; `.ci/run` installs it and runs it.

use flywheel::{
    exchange::{self, Known, Queued},
    steps::relabel::Relabeled,
};
use jiff::Timestamp;
use models::{Digest, LabelSet, Pixels, Prediction, Reason, Review, Reviews, Said, Sample, SampleRecord, board::Why};

use crate::{TestResult, interop::python};

const CLASSES: [&str; 3] = ["a", "b", "c"];
/// The sample whose label is wrong.
const WRONG: usize = 7;

/// A sample of class `i % 3`, of which the model is sure.
fn relabeled(i: usize) -> Result<Relabeled, models::Error> {
    let pixels = Pixels { height: 8, width: 8, channels: 1, data: (0..64).map(|p| (4 * i + p) as u8).collect() };
    let image = pixels.to_png()?;
    let probs: Vec<f64> = (0..3).map(|class| if class == i % 3 { 0.9 } else { 0.05 }).collect();
    let prediction = Prediction { class: i % 3, confidence: 0.9, probs };
    let record = SampleRecord {
        image: Digest::of(&image),
        extension: "png".into(),
        device: "cam-1".into(),
        source: format!("a, \"quoted\" name {i}.png"),
        captured: Timestamp::UNIX_EPOCH,
        bundle: Digest::of(b"bundle"),
        prediction: prediction.clone(),
        reasons: vec![Reason::Audit { probability: 0.1 }],
    };
    Ok(Relabeled { sample: Sample { record, image }, pixels, prediction })
}

#[test]
#[ignore = "needs FLYWHEEL_PYTHON; .ci/run runs it"]
fn interop_other_tools_open_exported_samples_and_their_labels_come_back() -> TestResult {
    let folder = tempfile::tempdir()?;
    let labels = LabelSet::new(CLASSES)?;
    let samples = (0..60).map(relabeled).collect::<Result<Vec<_>, _>>()?;
    let queue: Vec<Queued<'_>> = samples
        .iter()
        .enumerate()
        .map(|(i, relabeled)| Queued { relabeled, why: if i % 2 == 0 { Why::Audit } else { Why::Unsure } })
        .collect();
    let review = |(i, relabeled): (usize, &Relabeled)| {
        let class = if i == WRONG { (i + 1) % 3 } else { i % 3 };
        let image = relabeled.sample.record.image;
        Review { at: Timestamp::UNIX_EPOCH, image, by: "ann".into(), said: Said::Label(CLASSES[class].into()) }
    };
    let reviews = Reviews::new(samples.iter().enumerate().map(review));
    let [out, tar, changed] = ["samples", "samples.tar", "changed.csv"].map(|name| folder.path().join(name));
    let embedding = |(i, relabeled): (usize, &Relabeled)| (relabeled.sample.record.image, vec![i as f32, 0.5]);
    let embeddings = samples.iter().enumerate().map(embedding).collect();
    let known = Known { labels: &labels, reviews: &reviews, embeddings: &embeddings, label_studio: true };
    for path in [&out, &tar] {
        exchange::export(path, &queue, known)?;
    }
    let paths = [&out, &tar, &changed].map(|path| path.display().to_string());
    let output = python(&["interop/open_export.py", &paths[0], &paths[1], &paths[2]])?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let at = Timestamp::constant(1, 0);
    let (said, imported) = exchange::import(&changed, &labels, &reviews, "cleanlab", at)?;
    assert_eq!((imported.new, imported.known), (1, 59));
    let image = samples[WRONG].sample.record.image;
    assert_eq!(said, [Review { at, image, by: "cleanlab".into(), said: Said::Label(CLASSES[WRONG % 3].into()) }]);
    Ok(())
}
