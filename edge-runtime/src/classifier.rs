//! Opens a bundle, proves it, classifies images.

use std::path::Path;

use models::{Bundle, Digest, Manifest, Pixels, Prediction, bundle::Golden};

use crate::{Engine, Error, Result, engine::Backend, update::trial::Answer};

/// A proven bundle that serves: an image file in, a calibrated prediction out. Shared between threads freely.
#[derive(Debug)]
pub struct Classifier {
    bundle: Bundle,
    engine: Engine,
}

impl Classifier {
    /// Opens the bundle in `folder`: verifies every byte of it, loads its graph, and proves that the graph computes
    /// here what the trainer computed there, by the golden vectors. Whose bundle it is, is not asked:
    /// [`Bundle::verify`] proves it.
    ///
    /// # Errors
    /// [`Error::Models`] for a folder that is no whole bundle, [`Error::Engine`] and [`Error::Shape`] for a graph
    /// that does not fit its manifest, [`Error::Golden`] for one that computes something else.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, Backend::Tract)
    }

    /// [`Classifier::open`] with a chosen engine.
    ///
    /// # Errors
    /// As [`Classifier::open`]; [`Error::Engine`] too if the engine is not there.
    pub fn open_with(folder: &Path, backend: Backend) -> Result<Self> {
        let bundle = Bundle::open(folder)?;
        let manifest = bundle.manifest();
        let engine = Engine::load(&bundle.model_path(), manifest.input_spec(), backend)?;
        if engine.classes() != manifest.labels.len() {
            return Err(Error::Shape {
                model: bundle.model_path().display().to_string(),
                expected: format!("{} logits, one for each label", manifest.labels.len()),
                found: engine.classes().to_string(),
            });
        }
        prove(&bundle, &engine, &bundle.golden()?)?;
        Ok(Self { bundle, engine })
    }

    /// Classifies the content of one JPEG or PNG file; `name` is only for errors.
    ///
    /// # Errors
    /// [`Error::Models`] for what is no whole, readable image, [`Error::NotFinite`] if the network has no answer to it.
    pub fn classify(&self, name: &str, image: &[u8]) -> Result<Prediction> {
        self.predict(name, &self.manifest().preprocessing.pixels(name, image)?)
    }

    /// Classifies an image that has been preprocessed; `name` is only for errors.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the network has no answer to it.
    pub fn predict(&self, name: &str, pixels: &Pixels) -> Result<Prediction> {
        let logits = self.engine.logits(pixels)?;
        if logits.iter().any(|z| !z.is_finite()) {
            return Err(Error::NotFinite { image: name.to_owned(), logits });
        }
        Ok(self.manifest().calibration.predict(&logits))
    }

    /// A prediction as it is compared with another bundle's.
    pub(crate) fn answer(&self, prediction: &Prediction, milliseconds: f64) -> Answer {
        Answer {
            label: self.manifest().labels.name(prediction.class).to_owned(),
            is_confident: self.manifest().calibration.is_confident(prediction),
            milliseconds,
        }
    }

    /// Whether an image, moved by a sixteenth of its size to the left, the right, up and down, is given the same class: by the
    /// first `views` of these.
    pub fn views_agree(&self, pixels: &Pixels, class: usize, views: usize) -> bool {
        let [right, down] = [pixels.width, pixels.height].map(|size| (size / 16).max(1) as isize);
        let moves = [(-right, 0), (right, 0), (0, -down), (0, down)];
        moves.iter().take(views).all(|&(right, down)| {
            self.predict("a view", &pixels.moved(right, down)).is_ok_and(|prediction| prediction.class == class)
        })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The bundle's name.
    pub fn digest(&self) -> Digest {
        self.bundle.digest()
    }

    /// The bundle's manifest, which holds the labels.
    pub fn manifest(&self) -> &Manifest {
        self.bundle.manifest()
    }

    /// The graph made ready to run.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

fn prove(bundle: &Bundle, engine: &Engine, golden: &Golden) -> Result<()> {
    let sizes = (engine.input().shape, engine.classes());
    if golden.sizes() != sizes {
        let text = |(shape, classes): ([usize; 3], usize)| format!("images of shape {shape:?} and {classes} logits");
        let model = bundle.folder().join(models::bundle::GOLDEN).display().to_string();
        return Err(Error::Shape { model, expected: text(sizes), found: text(golden.sizes()) });
    }
    let tolerance = bundle.manifest().arithmetic.tolerance();
    for (index, image) in golden.images.iter().enumerate() {
        let compared = golden.compare(index, &engine.logits(image)?, tolerance);
        compared.map_err(|disagreement| Error::Golden { bundle: bundle.folder().to_owned(), disagreement })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use models::{bundle::Disagreement, tolerance::CROSS_ENGINE};

    use super::*;
    use crate::fixture::{self, TestResult};

    #[test]
    fn answers_an_image_as_the_golden_logits_say() -> TestResult {
        let folder = tempfile::tempdir()?;
        fixture::bundle(&folder.path().join("b"), |_, _| {})?;
        let classifier = Classifier::open(&folder.path().join("b"))?;
        for case in fixture::cases() {
            let expected = classifier.manifest().calibration.predict(&case.logits);
            let found = classifier.classify("case.png", &case.png()?)?;
            assert_eq!(found.class, expected.class);
            assert!(CROSS_ENGINE.same(found.confidence, expected.confidence), "{found:?} instead of {expected:?}");
        }
        Ok(())
    }

    #[test]
    fn views_agree_if_a_shift_changes_nothing() -> TestResult {
        let folder = tempfile::tempdir()?;
        fixture::bundle(&folder.path().join("b"), |_, _| {})?;
        let classifier = Classifier::open(&folder.path().join("b"))?;
        let mut outcomes = [0; 2];
        for case in fixture::cases() {
            let pixels = case.pixels();
            let class = classifier.predict("case", &pixels)?.class;
            let moved = |right, down| classifier.predict("moved", &pixels.moved(right, down)).map(|p| p.class);
            let expected = [moved(-1, 0)?, moved(1, 0)?, moved(0, -1)?, moved(0, 1)?];
            for views in 0..=4 {
                let agree = classifier.views_agree(&pixels, class, views);
                assert_eq!(agree, expected.iter().take(views).all(|other| *other == class), "{expected:?}");
                outcomes[usize::from(agree)] += 1;
            }
        }
        assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
        Ok(())
    }

    #[test]
    fn a_bundle_that_computes_something_else_never_serves() -> TestResult {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("b");
        fixture::bundle(&path, |_, golden| golden.logits[3][1] += 0.01)?;
        assert!(matches!(
            Classifier::open(&path),
            Err(Error::Golden { disagreement: Disagreement { image: 3, .. }, .. })
        ));
        // One label more than logits.
        fixture::bundle(&path, |manifest, _| fixture::set_labels(manifest, &["a", "b", "c", "d"]))?;
        assert!(matches!(Classifier::open(&path), Err(Error::Shape { .. })));
        Ok(())
    }
}
