//! The images of a simulation, and the truth about them.

use std::path::Path;

use anyhow::{Result, ensure};
use models::{Digest, LabelSet, Pixels, Preprocessing, durable};
use rand::{RngExt, seq::SliceRandom};
use trainer::{
    data::{LabeledImages, digits, folder},
    random::{self, Stream},
};

use super::scenario::{Scenario, draw_class};

/// Parts that the other images are divided into: unlabeled ones of the workstation, the test set, what devices see, and what the truth
/// is measured on.
const PARTS: usize = 4;

/// Images of known classes, whose labels are held back.
#[derive(Clone, Debug)]
pub struct Source {
    /// All classes.
    pub labels: LabelSet,
    /// How they became what they are.
    pub preprocessing: Preprocessing,
    /// All images.
    pub images: LabeledImages,
}

impl Source {
    /// The embedded digits.
    pub fn digits() -> Self {
        let digits::DigitsSplit { mut labeled, pool, field, test } = digits::split(0);
        [pool, field, test].into_iter().for_each(|part| labeled.extend(part));
        Self { labels: digits::labels(), preprocessing: digits::preprocessing(), images: labeled }
    }

    /// Digest of all images and classes.
    pub(super) fn digest(&self) -> Digest {
        let images = self.images.images.iter().zip(&self.images.labels);
        let each = images.flat_map(|(image, class)| [image.digest(), Digest::of(&class.to_le_bytes())]);
        Digest::of_parts(each.map(Digest::into_bytes))
    }

    /// A folder with a sub-folder of images for each class.
    ///
    /// # Errors
    /// As [`folder::labeled`].
    pub fn folder(path: &Path, preprocessing: Preprocessing) -> Result<Self> {
        let labels = folder::classes(path, &[])?;
        let files = folder::labeled(path, &labels, &preprocessing)?;
        let (images, classes) = files.into_iter().map(|(file, class)| (file.pixels, class)).unzip();
        Ok(Self { labels, preprocessing, images: LabeledImages { images, labels: classes } })
    }
}

/// The images of one run. Classes from `labels.len()` on have no label.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) labels: LabelSet,
    pub(super) preprocessing: Preprocessing,
    pub(super) labeled: LabeledImages,
    pub(super) pool: LabeledImages,
    pub(super) test: LabeledImages,
    field: LabeledImages,
    truth: LabeledImages,
    scenario: Scenario,
    rounds: u32,
    /// All classes.
    classes: usize,
}

impl World {
    /// Divides the images by a seed; of each class so many have a label.
    pub(super) fn new(source: &Source, scenario: Scenario, per_class: usize, rounds: u32, seed: u32) -> Result<Self> {
        let classes = source.labels.len();
        let known = scenario.known_classes(classes);
        let mut rng = random::stream(seed.into(), "simulated world");
        let mut parts = vec![Vec::new(); PARTS];
        let mut labeled = Vec::new();
        for class in 0..classes {
            let mut of_class: Vec<usize> =
                (0..source.images.len()).filter(|i| source.images.labels[*i] == class).collect();
            let least = per_class + 2 * PARTS;
            let name = source.labels.name(class);
            ensure!(
                of_class.len() >= least,
                "class {name:?}: expected {least} images or more, found {}",
                of_class.len()
            );
            of_class.shuffle(&mut rng);
            labeled.extend(of_class.drain(..per_class));
            of_class.into_iter().enumerate().for_each(|(i, index)| parts[i % PARTS].push(index));
        }
        parts.iter_mut().for_each(|part| part.shuffle(&mut rng));
        let of_known = |indices: &[usize]| {
            let known: Vec<usize> = indices.iter().copied().filter(|i| source.images.labels[*i] < known).collect();
            source.images.select(&known)
        };
        Ok(Self {
            labels: LabelSet::new(source.labels.names()[..known].iter().cloned())?,
            preprocessing: source.preprocessing.clone(),
            labeled: of_known(&labeled),
            pool: of_known(&parts[0]),
            test: of_known(&parts[1]),
            field: source.images.select(&parts[2]),
            truth: source.images.select(&parts[3]),
            scenario,
            rounds,
            classes,
        })
    }

    /// What a device sees in a round.
    pub(super) fn seen(&self, round: u32, count: usize, rng: &mut Stream) -> LabeledImages {
        self.draw(self.scenario, &self.field, round, count, rng)
    }

    /// Images such as devices see in a round, which no device has seen.
    pub(super) fn truth(&self, round: u32, count: usize) -> LabeledImages {
        self.draw(self.scenario, &self.truth, round, count, &mut random::stream(round.into(), "truth"))
    }

    /// Images such as the labeled ones.
    pub(super) fn truth_of_labels(&self, count: usize) -> LabeledImages {
        let known: Vec<usize> = (0..self.truth.len()).filter(|i| self.truth.labels[*i] < self.labels.len()).collect();
        let known = self.truth.select(&known);
        self.draw(Scenario::Stationary, &known, 1, count, &mut random::stream(0, "truth of labels"))
    }

    fn draw(
        &self,
        scenario: Scenario,
        from: &LabeledImages,
        round: u32,
        count: usize,
        rng: &mut Stream,
    ) -> LabeledImages {
        let mut by_class = vec![Vec::new(); self.classes];
        from.labels.iter().enumerate().for_each(|(i, class)| by_class[*class].push(i));
        let share = |class: usize| match by_class[class].is_empty() {
            true => 0.0,
            false => scenario.share(class, &self.labels, round),
        };
        let shares: Vec<f64> = (0..self.classes).map(share).collect();
        let mut drawn = LabeledImages::default();
        for _ in 0..count {
            let class = draw_class(&shares, rng);
            let index = by_class[class][rng.random_range(0..by_class[class].len())];
            drawn.images.push(scenario.seen(&from.images[index], (round, self.rounds), rng));
            drawn.labels.push(class);
        }
        drawn
    }

    /// Writes the workstation's images as a project has them.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        for (part, set) in [("labeled", &self.labeled), ("test", &self.test)] {
            for (i, (image, class)) in set.images.iter().zip(&set.labels).enumerate() {
                write_image(&folder.join(part).join(self.labels.name(*class)), i, image)?;
            }
        }
        self.pool.images.iter().enumerate().try_for_each(|(i, image)| write_image(&folder.join("unlabeled"), i, image))
    }
}

fn write_image(folder: &Path, number: usize, image: &Pixels) -> Result<()> {
    durable::create_folders(folder)?;
    Ok(durable::write(&folder.join(format!("{number:05}.png")), &image.to_png()?)?)
}
