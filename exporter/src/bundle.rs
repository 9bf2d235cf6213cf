use std::path::Path;

use jiff::Timestamp;
use models::{
    Bundle, Calibration, CollectionPolicy, Digest, Manifest, Pixels, ReportCard, Weights,
    bundle::{FORMAT, Golden, Release},
    preprocess::InputLayout,
    signing::PrivateKey,
    weights::{Arithmetic, Storage},
};

use crate::{BoxError, Error, OnnxOptions, Ranges, Result, check::parity, to_onnx};

/// What a bundle is made of.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// The trained network.
    pub weights: &'a Weights,
    /// How the graph stores kernels, if it computes in 32 bits.
    pub storage: Storage,
    /// The ranges of a model that computes in 8 bits; none for one that computes in 32.
    pub ranges: Option<&'a Ranges>,
    /// Images and their logits: those that the trainer computed for them with the weights as they are
    /// [`rounded`](crate::rounded), or, in 8 bits, those of the engine that was measured.
    pub golden: &'a Golden,
    /// From logits to probabilities and pseudo-labels.
    pub calibration: Calibration,
    /// Which samples a device keeps.
    pub collection: CollectionPolicy,
    /// What was measured; its `parity_max_abs_diff` and its `training` are filled in.
    pub report_card: ReportCard,
    /// Number of the bundle in its project; higher than its parent's.
    pub sequence: u64,
    /// The bundle that this one replaces.
    pub parent: Option<Digest>,
    /// When it is made.
    pub created: Timestamp,
    /// For which devices, when, and which programs.
    pub release: Release,
    /// How the graph takes images.
    pub input: InputLayout,
    /// Under which terms the model may be used.
    pub licence: Option<String>,
    /// Signs the bundle; none: it is not signed.
    pub key: Option<&'a PrivateKey>,
}

/// Writes a bundle to `folder`, once its ONNX model has reproduced every golden vector.
///
/// `load` makes an engine from the bytes of the ONNX model, the very bytes that are then written: a function from
/// one image to its logits, as [`parity`] takes it. Until the engine has agreed, `folder` is not touched; a bundle
/// already there is then replaced.
///
/// # Errors
/// [`Error::Load`] and those of [`to_onnx`] and [`parity`]; [`Error::Golden`] if the golden vectors are of another
/// shape than the network; [`Error::Models`] if a part is invalid or the folder cannot be written.
pub fn bundle<R, E>(folder: &Path, parts: Parts<'_>, load: impl FnOnce(&[u8]) -> Result<R, E>) -> Result<Bundle>
where
    R: FnMut(&Pixels) -> Result<Vec<f32>, E>,
    E: Into<BoxError>,
{
    let Parts { weights, golden, calibration, collection, mut report_card, sequence, parent, created, .. } = parts;
    let spec = weights.spec.clone().validate()?;
    let calibration = calibration.validate(spec.labels.len())?;
    let found = golden.sizes();
    if found != (spec.network.input, spec.network.classes) {
        let text = |(shape, classes): ([usize; 3], usize)| format!("images of {shape:?} and {classes} logits each");
        return Err(Error::Golden { expected: text((spec.network.input, spec.network.classes)), found: text(found) });
    }
    let (arithmetic, storage) = match parts.ranges {
        Some(_) => (Arithmetic::Int8, Storage::Int8),
        None => (Arithmetic::F32, parts.storage),
    };
    let options = OnnxOptions {
        input: parts.input,
        weights: storage,
        ranges: parts.ranges.cloned(),
        licence: parts.licence,
        ..OnnxOptions::default()
    };
    let onnx = to_onnx(weights, &options)?;
    let engine = load(&onnx).map_err(|e| Error::Load { source: e.into() })?;
    report_card.training = weights.training;
    let parity = parity(golden, arithmetic.tolerance(), engine)?;
    // In 8 bits there is no trainer's word to compare with.
    report_card.parity_max_abs_diff = (arithmetic == Arithmetic::F32).then_some(parity.max_abs_diff);
    let manifest = Manifest {
        format: FORMAT,
        sequence,
        parent,
        created,
        release: parts.release,
        network: spec.network,
        labels: spec.labels,
        preprocessing: spec.preprocessing,
        input: parts.input,
        weights: storage,
        arithmetic,
        calibration,
        collection,
        files: Default::default(),
    };
    Ok(Bundle::write(folder, manifest, &onnx, golden, &report_card, parts.key)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use models::bundle::Disagreement;

    use super::*;
    use crate::testing;

    fn report_card() -> ReportCard {
        ReportCard {
            test_images: 10,
            accuracy: 0.9,
            accuracy_interval: [0.6, 0.98],
            per_class_accuracy: vec![0.8, 1.0],
            confusion: vec![vec![4, 1], vec![0, 5]],
            ece_before: 0.1,
            ece_after: 0.05,
            reliability_before: vec![],
            reliability_after: vec![],
            parity_max_abs_diff: None,
            training: models::TrainingFacts { labeled: 4, unlabeled: 100, steps: 1000, seed: 1 },
        }
    }

    #[test]
    fn writes_the_bytes_that_were_checked_and_nothing_before() -> Result<(), Box<dyn std::error::Error>> {
        let temporary = tempfile::tempdir()?;
        let folder = temporary.path().join("bundle");
        let weights = testing::weights(10, 1, [1, 8, 8], 2)?;
        let image = |height, width| Pixels { height, width, channels: 1, data: vec![9; height * width] };
        let golden = Golden { images: vec![image(8, 8)], logits: vec![vec![1.0, 2.0]] };
        let parts = Parts {
            weights: &weights,
            storage: Storage::F32,
            ranges: None,
            golden: &golden,
            calibration: Calibration { temperature: 1.0, thresholds: vec![0.9, 0.9] },
            collection: CollectionPolicy::default(),
            report_card: report_card(),
            sequence: 7,
            parent: None,
            created: Timestamp::UNIX_EPOCH,
            release: Release::to_channel("stable"),
            input: InputLayout::Rgb8,
            licence: None,
            key: None,
        };
        let mut loaded = Vec::new();
        let mut export = |parts: Parts<'_>, logits: [f32; 2]| {
            bundle(&folder, parts, |onnx| {
                loaded = onnx.to_vec();
                Ok::<_, BoxError>(move |_: &Pixels| Ok(logits.to_vec()))
            })
        };

        let refused = export(parts.clone(), [1.0, 2.5]);
        assert!(matches!(refused, Err(Error::Differs(Disagreement { image: 0, .. }))), "{refused:?}");
        assert!(!folder.exists());

        // 2^-15 is exact in f32 on top of 2.
        let difference = 2f32.powi(-15);
        let bundle = export(parts.clone(), [1.0, 2.0 + difference])?;
        assert_eq!(bundle.report_card()?.parity_max_abs_diff, Some(f64::from(difference)));
        assert_eq!(bundle.manifest().model_spec(), weights.spec);
        assert_eq!((bundle.manifest().sequence, bundle.golden()?), (7, golden.clone()));

        // A failed export leaves the bundle that is there.
        let short = Calibration { temperature: 1.0, thresholds: vec![0.9] };
        assert!(export(Parts { calibration: short, ..parts.clone() }, [1.0, 2.0]).is_err());
        let other = Golden { images: vec![image(4, 16)], ..golden.clone() };
        assert!(export(Parts { golden: &other, ..parts }, [1.0, 2.0]).is_err());
        assert_eq!(Bundle::open(&folder)?.digest(), bundle.digest());
        assert_eq!(fs::read(bundle.model_path())?, loaded);
        Ok(())
    }
}
