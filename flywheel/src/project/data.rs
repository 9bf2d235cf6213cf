use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use models::{Digest, LabelSet, Pixels};
use trainer::data::{
    LabeledImages, TrainingData,
    folder::{self, ImageFile},
};

use super::Project;

/// All images of a project.
#[derive(Clone, Debug)]
pub struct ProjectData {
    /// The classes: the sub-folders of the labeled images, in alphabetical order.
    pub labels: LabelSet,
    /// Labeled images to learn from.
    pub labeled: Vec<(ImageFile, usize)>,
    /// Images without labels.
    pub unlabeled: Vec<ImageFile>,
    /// The frozen test set.
    pub test: Vec<(ImageFile, usize)>,
}

impl ProjectData {
    /// Reads every image.
    ///
    /// # Errors
    /// If a class has no image or a file is no image; the error names it.
    pub fn load(project: &Project) -> Result<Self> {
        let data = &project.config().data;
        let preprocessing = &project.config().preprocessing;
        let labeled_folder = project.path(&data.labeled);
        let others: Vec<PathBuf> =
            [&data.unlabeled, &data.test].into_iter().flatten().map(|p| project.path(p)).collect();
        let labels = folder::classes(&labeled_folder, &names_inside(&labeled_folder, &others))?;
        let labeled = folder::labeled(&labeled_folder, &labels, preprocessing)?;
        let unlabeled = match &data.unlabeled {
            Some(path) => folder::unlabeled(&project.path(path), preprocessing)?,
            None => Vec::new(),
        };
        let (labeled, test) = match &data.test {
            Some(path) => (labeled, folder::labeled(&project.path(path), &labels, preprocessing)?),
            None => {
                let is_test =
                    |(file, _): &(ImageFile, usize)| is_set_aside(file.digest, data.split_seed, data.test_fraction);
                let (test, labeled) = labeled.into_iter().partition(is_test);
                (labeled, test)
            }
        };
        let all = Self { labels, labeled, unlabeled, test };
        all.check(&labeled_folder).with_context(|| "the images do not make a training set")?;
        Ok(all)
    }

    fn check(&self, folder: &Path) -> Result<()> {
        for (class, name) in self.labels.names().iter().enumerate() {
            ensure!(
                self.labeled.iter().any(|(_, label)| *label == class),
                "every image of class {name:?} in {} was set aside as test set: add images, lower data.test_fraction, or \
                 give a data.test folder",
                folder.display()
            );
        }
        ensure!(!self.test.is_empty(), "the test set is empty: raise data.test_fraction or give a data.test folder");
        let test = self.test_digests();
        if let Some((file, _)) = self.labeled.iter().find(|(file, _)| test.contains(&file.digest)) {
            anyhow::bail!("{} is in the test set too: expected images that are in one of them", file.path.display());
        }
        Ok(())
    }

    /// Digests of the test images: what must never be trained on.
    pub fn test_digests(&self) -> BTreeSet<Digest> {
        self.test.iter().map(|(file, _)| file.digest).collect()
    }

    /// The test images with their classes.
    pub fn test_images(&self) -> LabeledImages {
        labeled_images(&self.test)
    }

    /// What a run trains on: the labeled images; all images, without labels; and those that came in from the field.
    pub fn training(&self, project: &Project, field: Vec<Pixels>) -> TrainingData {
        let test = self.test_digests();
        let labeled = self.labeled.iter().map(|(file, _)| file);
        let unlabeled = labeled.chain(&self.unlabeled).filter(|file| !test.contains(&file.digest));
        TrainingData {
            labels: self.labels.clone(),
            preprocessing: project.config().preprocessing.clone(),
            labeled: labeled_images(&self.labeled),
            unlabeled: unlabeled.map(|file| file.pixels.clone()).chain(field).collect(),
            test: self.test_images(),
        }
    }
}

fn labeled_images(files: &[(ImageFile, usize)]) -> LabeledImages {
    let (images, labels) = files.iter().map(|(file, label)| (file.pixels.clone(), *label)).unzip();
    LabeledImages { images, labels }
}

/// Names of those of `folders` that lie directly inside `parent`: they are no classes.
fn names_inside<'a>(parent: &Path, folders: &'a [PathBuf]) -> Vec<&'a str> {
    folders.iter().filter(|f| f.parent() == Some(parent)).filter_map(|f| f.file_name()?.to_str()).collect()
}

/// Whether an image belongs to the test set: the same answer whatever other images there are.
fn is_set_aside(image: Digest, seed: u64, fraction: f64) -> bool {
    let digits = Digest::of(format!("{seed}/{image}").as_bytes()).to_string();
    let drawn = u32::from_str_radix(&digits[..8], 16).unwrap_or(u32::MAX);
    f64::from(drawn) < fraction * f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_stays_on_its_side_and_about_the_fraction_is_set_aside() {
        let images: Vec<Digest> = (0..2000_u32).map(|i| Digest::of(&i.to_le_bytes())).collect();
        let aside = images.iter().filter(|image| is_set_aside(**image, 1, 0.2)).count();
        assert!((340..460).contains(&aside), "{aside} of 2000");
        assert!(!images.iter().any(|image| is_set_aside(*image, 1, 0.0)));
        // Another seed sets others aside.
        assert!(images.iter().any(|image| is_set_aside(*image, 1, 0.2) != is_set_aside(*image, 2, 0.2)));
    }
}
