use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use models::{Digest, LabelSet, ModelSpec, PerceptualHash, Pixels};
use rayon::prelude::*;
use trainer::data::{
    LabeledImages, TrainingData,
    archive::{self, ArchivedImage},
    folder::{self, ImageFile},
    sets::Set,
    split,
};

use super::{DataConfig, Project};

/// All images of a project.
#[derive(Clone, Debug)]
pub struct ProjectData {
    /// The classes: the sub-folders of the labeled images, in alphabetical order.
    pub labels: LabelSet,
    /// Labeled images to learn from.
    pub labeled: Vec<(ImageFile, usize)>,
    /// Images without labels. Those whose picture is in the test set stay out, but in the papers' sets: published figures count them.
    pub unlabeled: Vec<ImageFile>,
    /// The frozen test set.
    pub test: Vec<(ImageFile, usize)>,
}

/// Pictures that count when samples are chosen: by [`Pixels::digest`], so that another file of the same picture is the same,
/// and by what they look like.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    /// The test set's.
    pub test: BTreeSet<Digest>,
    /// What they look like.
    pub test_looks: Vec<PerceptualHash>,
    /// What is trained on already.
    pub known: BTreeSet<Digest>,
}

/// What a round trains on from the field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Field {
    /// Images that people have labeled.
    pub labeled: LabeledImages,
    /// Images without labels.
    pub unlabeled: Vec<Pixels>,
    /// Share of each class among all unlabeled images, if it was estimated.
    pub prior: Option<Vec<f64>>,
}

impl ProjectData {
    /// Reads every image.
    ///
    /// # Errors
    /// If a class has no image or a file is no image; the error names it.
    pub fn load(project: &Project) -> Result<Self> {
        let all = match (project.config().data.set, &project.config().data.labeled) {
            (Some(set), _) => Self::of_set(project, set)?,
            (None, Some(labeled)) => Self::of_folders(project, &project.path(labeled))?,
            (None, None) => bail!("data: expected either `labeled` or `set`"),
        };
        all.check(&project.config().data).with_context(|| "the images do not make a training set")?;
        Ok(all)
    }

    fn of_set(project: &Project, set: Set) -> Result<Self> {
        let data = &project.config().data;
        let folder = project.path(&data.set_folder);
        ensure!(
            set.files().is_empty() || folder.is_dir(),
            "{} is not a folder; `flywheel data fetch {} --folder {0}` makes it",
            folder.display(),
            set.name()
        );
        let read = set.read(&folder)?;
        if let Some(count) = data.labels {
            check_labels(count, read.labels.len(), read.train.len())?;
        }
        let chosen = read.choose(data.labels.unwrap_or(read.train.len()), data.split_seed)?;
        let images = |part: &str, images: Vec<Pixels>| -> Vec<ImageFile> {
            let name = |i| PathBuf::from(format!("{}/{part}/{i}", set.name()));
            let image = |(i, pixels): (usize, Pixels)| ImageFile { path: name(i), digest: pixels.digest(), pixels };
            images.into_par_iter().enumerate().map(image).collect()
        };
        let mut train: Vec<Option<ImageFile>> = images("train", read.train.images).into_iter().map(Some).collect();
        let keep = |index: usize| Some((train[index].take()?, read.train.labels[index]));
        let labeled = chosen.into_iter().filter_map(keep).collect();
        let unlabeled = train.into_iter().flatten().chain(images("unlabeled", read.unlabeled)).collect();
        let test = images("test", read.test.images).into_iter().zip(read.test.labels).collect();
        Ok(Self { labels: read.labels, labeled, unlabeled, test })
    }

    fn of_folders(project: &Project, labeled_folder: &Path) -> Result<Self> {
        let data = &project.config().data;
        let preprocessing = &project.config().preprocessing;
        let (labels, labeled) = if labeled_folder.is_file() {
            let images = archive::read(labeled_folder, preprocessing)?;
            let labels = archive::classes(&images)?;
            let labeled = with_classes(images, &labels)?;
            (labels, labeled)
        } else {
            let others: Vec<PathBuf> =
                [&data.unlabeled, &data.test].into_iter().flatten().map(|p| project.path(p)).collect();
            let others = names_inside(labeled_folder, &others);
            let labels = folder::classes(labeled_folder, &others.iter().map(String::as_str).collect::<Vec<_>>())?;
            let labeled = folder::labeled(labeled_folder, &labels, preprocessing)?;
            (labels, labeled)
        };
        let unlabeled = match data.unlabeled.as_ref().map(|path| project.path(path)) {
            Some(path) if path.is_file() => {
                archive::read(&path, preprocessing)?.into_iter().map(|image| image.file).collect()
            }
            Some(path) => folder::unlabeled(&path, preprocessing)?,
            None => Vec::new(),
        };
        let (labeled, test) = match data.test.as_ref().map(|path| project.path(path)) {
            Some(path) if path.is_file() => (labeled, with_classes(archive::read(&path, preprocessing)?, &labels)?),
            Some(path) => (labeled, folder::labeled(&path, &labels, preprocessing)?),
            None => set_aside(labeled, labels.len(), data.split_seed, data.test_fraction),
        };
        let (labeled, unlabeled) = match data.labels {
            Some(count) => keep_labels(labeled, unlabeled, labels.len(), count, data.split_seed)?,
            None => (labeled, unlabeled),
        };
        let mut all = Self { labels, labeled, unlabeled, test };
        let test = all.test_pictures();
        all.unlabeled.retain(|file| !test.contains(&file.pixels.digest()));
        Ok(all)
    }

    fn check(&self, data: &DataConfig) -> Result<()> {
        for (class, name) in self.labels.names().iter().enumerate() {
            let has = |set: &[(ImageFile, usize)]| set.iter().any(|(_, label)| *label == class);
            ensure!(
                data.set.is_some() || data.test.is_some() || has(&self.test),
                "class {name:?} has one image: expected at least two, one to learn from and one to test on, or a \
                 data.test folder"
            );
            if let (Some(count), false) = (data.labels, has(&self.labeled)) {
                bail!("data.labels = {count}: none of them is of class {name:?}; expected enough for every class");
            }
            ensure!(has(&self.labeled), "class {name:?} has no labeled image: expected at least one");
            ensure!(has(&self.test), "class {name:?} has no image in the test set: expected at least one");
        }
        // The papers' sets may have a picture on both sides.
        let test = if data.set.is_some() { BTreeSet::new() } else { self.test_pictures() };
        if let Some((file, _)) = self.labeled.iter().find(|(file, _)| test.contains(&file.pixels.digest())) {
            bail!("{} is in the test set too: expected images that are in one of them", file.path.display());
        }
        Ok(())
    }

    /// Checks that a model is one for these labels and this preprocessing; `path` names it.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_fits(&self, project: &Project, model: &ModelSpec, path: &Path) -> Result<()> {
        let preprocessing = &project.config().preprocessing;
        ensure!(
            self.labels == model.labels && *preprocessing == model.preprocessing,
            "{} was made for the labels {:?} and {:?}, this project has {:?} and {preprocessing:?}: expected the same; \
             another set of classes or another size is another project, with a store.folder of its own",
            path.display(),
            model.labels.names(),
            model.preprocessing,
            self.labels.names()
        );
        Ok(())
    }

    /// The pictures of the test set, which must never be trained on, by [`Pixels::digest`].
    fn test_pictures(&self) -> BTreeSet<Digest> {
        self.test.iter().map(|(file, _)| file.pixels.digest()).collect()
    }

    /// The pictures that are trained on already, likewise.
    pub fn known_pictures(&self) -> BTreeSet<Digest> {
        let labeled = self.labeled.iter().map(|(file, _)| file);
        labeled.chain(&self.unlabeled).map(|file| file.pixels.digest()).collect()
    }

    /// What counts when samples are chosen.
    pub fn pictures(&self) -> Pictures {
        let test_looks = self.test.iter().map(|(file, _)| PerceptualHash::of(&file.pixels)).collect();
        Pictures { test: self.test_pictures(), test_looks, known: self.known_pictures() }
    }

    /// The test images with their classes.
    pub fn test_images(&self) -> LabeledImages {
        labeled_images(&self.test)
    }

    /// The images to learn from that are not from the field, those with labels first.
    pub fn own_images(&self) -> impl Iterator<Item = &Pixels> {
        let labeled = self.labeled.iter().map(|(file, _)| file);
        labeled.chain(&self.unlabeled).map(|file| &file.pixels)
    }

    /// What a run trains on: the labeled images, and all images without labels, with those that came in from the field.
    pub fn training(&self, project: &Project, field: Field) -> TrainingData {
        let mut labeled = labeled_images(&self.labeled);
        let unlabeled = self.own_images().cloned().chain(field.labeled.images.iter().cloned()).chain(field.unlabeled);
        let unlabeled = unlabeled.collect();
        labeled.extend(field.labeled);
        TrainingData {
            labels: self.labels.clone(),
            preprocessing: project.config().preprocessing.clone(),
            labeled,
            unlabeled,
            prior: field.prior,
            test: self.test_images(),
        }
    }
}

fn labeled_images(files: &[(ImageFile, usize)]) -> LabeledImages {
    let (images, labels) = files.iter().map(|(file, label)| (file.pixels.clone(), *label)).unzip();
    LabeledImages { images, labels }
}

/// Names of the sub-folders of `parent` that hold any of `folders`: they are no classes.
fn names_inside(parent: &Path, folders: &[PathBuf]) -> Vec<String> {
    let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let parent = absolute(parent);
    let name = |folder: &PathBuf| {
        let folder = absolute(folder);
        let inside = folder.strip_prefix(&parent).ok()?;
        Some(inside.components().next()?.as_os_str().to_string_lossy().into_owned())
    };
    folders.iter().filter_map(name).collect()
}

type Labeled = Vec<(ImageFile, usize)>;

/// Divides labeled images into those to learn from and the test set.
///
/// An image's own digest decides, so that it stays on its side when others are added. Only where that leaves a class of
/// two images or more without any on one side, the nearest one changes sides.
fn set_aside(images: Labeled, classes: usize, seed: u32, fraction: f64) -> (Labeled, Labeled) {
    let (mut labeled, mut test) = (Vec::new(), Vec::new());
    let mut by_class = vec![Vec::new(); classes];
    images.into_iter().for_each(|(file, class)| by_class[class].push((file, class)));
    for mut images in by_class {
        images.sort_by(|(a, _), (b, _)| draw(a.digest, seed).total_cmp(&draw(b.digest, seed)));
        let drawn = images.iter().filter(|(file, _)| draw(file.digest, seed) < fraction).count();
        let count = if images.len() < 2 { 0 } else { drawn.clamp(1, images.len() - 1) };
        labeled.extend(images.split_off(count));
        test.extend(images);
    }
    (labeled, test)
}

/// Images of an archive, each of which has to be of a known class.
fn with_classes(images: Vec<ArchivedImage>, labels: &LabelSet) -> Result<Labeled> {
    let with_class = |ArchivedImage { file, class }: ArchivedImage| {
        let known = class.as_ref().and_then(|class| labels.names().iter().position(|name| name == class));
        match known {
            Some(class) => Ok((file, class)),
            None => bail!("{}: expected one of the classes {:?}, found {class:?}", file.path.display(), labels.names()),
        }
    };
    images.into_iter().map(with_class).collect()
}

fn check_labels(count: usize, classes: usize, found: usize) -> Result<()> {
    ensure!(
        (classes..=found).contains(&count),
        "data.labels = {count}: expected {classes} to {found}, at least one of each class and no more than there are"
    );
    Ok(())
}

/// Keeps `count` labels and takes the other images for unlabeled.
fn keep_labels(
    labeled: Labeled,
    mut unlabeled: Vec<ImageFile>,
    classes: usize,
    count: usize,
    seed: u32,
) -> Result<(Labeled, Vec<ImageFile>)> {
    let found = labeled.len();
    check_labels(count, classes, found)?;
    let classes_of: Vec<usize> = labeled.iter().map(|(_, class)| *class).collect();
    let mut rank = vec![None; found];
    split::labeled(&classes_of, classes, count, seed)
        .into_iter()
        .enumerate()
        .for_each(|(i, index)| rank[index] = Some(i));
    let mut kept = Vec::with_capacity(count);
    for ((file, class), rank) in labeled.into_iter().zip(rank) {
        match rank {
            Some(rank) => kept.push((rank, (file, class))),
            None => unlabeled.push(file),
        }
    }
    kept.sort_by_key(|(rank, _)| *rank);
    Ok((kept.into_iter().map(|(_, image)| image).collect(), unlabeled))
}

/// A number from 0 to 1 that depends on the image and the seed alone.
fn draw(image: Digest, seed: u32) -> f64 {
    let [a, b, c, d, ..] = Digest::of(format!("{seed}/{image}").as_bytes()).into_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::{super::ProjectConfig, *};

    fn images(count: u32, class: usize) -> Labeled {
        let image = |i: u32| {
            let pixels = Pixels { height: 1, width: 4, channels: 1, data: i.to_le_bytes().to_vec() };
            (ImageFile { path: PathBuf::new(), digest: Digest::of(&i.to_le_bytes()), pixels }, class)
        };
        (0..count).map(image).collect()
    }

    #[test]
    fn an_image_stays_on_its_side_and_about_the_fraction_is_set_aside() {
        let (labeled, test) = set_aside(images(2000, 0), 1, 1, 0.2);
        assert_eq!(labeled.len() + test.len(), 2000);
        assert!((340..460).contains(&test.len()), "{} of 2000", test.len());
        let (_, more) = set_aside(images(3000, 0), 1, 1, 0.2);
        assert!(test.iter().all(|image| more.contains(image)), "an image changed sides when others came");
        assert!(set_aside(images(2000, 0), 1, 2, 0.2).1 != test, "the seed changes nothing");
    }

    #[test]
    fn labels_are_kept_in_proportion_and_no_image_is_lost() -> Result<()> {
        let all: Labeled = [images(30, 0), images(10, 1)].concat();
        let (labeled, unlabeled) = keep_labels(all.clone(), Vec::new(), 2, 8, 1)?;
        assert_eq!(labeled.iter().filter(|(_, class)| *class == 0).count(), 6);
        assert_eq!((labeled.len(), unlabeled.len()), (8, 32));
        assert!(keep_labels(all.clone(), Vec::new(), 2, 8, 2)?.0 != labeled, "the seed changes nothing");
        for count in [1, 41] {
            let refused = keep_labels(all.clone(), Vec::new(), 2, count, 1);
            assert!(refused.is_err_and(|e| e.to_string().contains("expected 2 to 40")), "{count} labels");
        }
        Ok(())
    }

    #[test]
    fn a_class_without_images_is_said_with_what_to_change() -> Result<()> {
        let labels = LabelSet::new(["a", "b"].map(str::to_owned))?;
        let config = |text: &str| -> Result<DataConfig> { Ok(toml::from_str(text)?) };
        let check = |labeled: &Labeled, test: &Labeled, data: DataConfig| {
            let (labels, labeled, test) = (labels.clone(), labeled.clone(), test.clone());
            let all = ProjectData { labels, labeled, unlabeled: Vec::new(), test };
            all.check(&data).err().map(|e| e.to_string()).unwrap_or_default()
        };
        let one = images(2, 0);
        let both = [images(2, 0), images(2, 1)].concat();
        let few = check(&one, &both, config("set = 'cifar10'\nlabels = 7")?);
        assert!(few.contains("data.labels = 7") && few.contains("\"b\""), "{few}");
        let untested = check(&both, &one, config("labeled = 'l'\ntest = 't'")?);
        assert!(untested.contains("no image in the test set"), "{untested}");
        let single = check(&both, &one, config("labeled = 'l'")?);
        assert!(single.contains("expected at least two"), "{single}");
        Ok(())
    }

    /// A tar of images of one grey value each.
    fn tar(path: &Path, images: &[(&str, u8)]) -> Result<()> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, value) in images {
            let png = Pixels { height: 4, width: 4, channels: 1, data: vec![*value; 16] }.to_png()?;
            let mut header = tar::Header::new_gnu();
            header.set_size(png.len() as u64);
            tar.append_data(&mut header, name, &png[..])?;
        }
        Ok(models::durable::write(path, &tar.into_inner()?)?)
    }

    #[test]
    fn tars_take_the_place_of_folders() -> Result<()> {
        let root = tempfile::tempdir()?;
        let project = Project {
            config: ProjectConfig::parse(
                "[data]\nlabeled = 'l.tar'\ntest = 't.tar'\nunlabeled = 'u.tar'\n\
                 [preprocessing]\ncolor = 'gray'\nheight = 4\nwidth = 4",
            )?,
            root: root.path().to_owned(),
        };
        tar(&root.path().join("l.tar"), &[("images/cat/1.png", 10), ("images/dog/1.png", 20)])?;
        tar(&root.path().join("t.tar"), &[("dog/1.png", 30), ("cat/1.png", 40)])?;
        // One is in the test set.
        tar(&root.path().join("u.tar"), &[("1.png", 30), ("2.png", 50)])?;
        let data = ProjectData::load(&project)?;
        let found = |files: &Labeled| -> Vec<(u8, usize)> {
            files.iter().map(|(file, class)| (file.pixels.data[0], *class)).collect()
        };
        assert_eq!(data.labels.names(), ["cat", "dog"]);
        assert_eq!((found(&data.labeled), found(&data.test)), (vec![(10, 0), (20, 1)], vec![(40, 0), (30, 1)]));
        assert_eq!(data.unlabeled.iter().map(|file| file.pixels.data[0]).collect::<Vec<_>>(), [50]);

        tar(&root.path().join("t.tar"), &[("dog/1.png", 30), ("fox/1.png", 40)])?;
        let error = ProjectData::load(&project).err().map(|e| format!("{e:#}")).unwrap_or_default();
        assert!(error.contains("t.tar/fox/1.png: expected one of the classes"), "{error}");
        Ok(())
    }

    /// Files of the official format, by numpy: `trainer/fixtures/make_datasets.py`.
    #[test]
    fn a_set_of_the_papers_brings_its_own_unlabeled_images_and_test_set() -> Result<()> {
        let folder = Path::new("../trainer/fixtures/datasets/stl10").canonicalize()?;
        let text = format!("preset = 'stl10-1000'\n[data]\nset_folder = {folder:?}");
        let read = |text: &str| -> Result<ProjectData> {
            let project = Project { config: ProjectConfig::parse(text)?, root: PathBuf::new() };
            ProjectData::of_set(&project, Set::Stl10)
        };
        // The preset wants 1,000 labels; the two images of the fixture are too few, even for one of each class.
        assert!(read(&text).is_err_and(|e| e.to_string().contains("data.labels = 1000: expected 10 to 2")));
        let text = text.replace("preset = 'stl10-1000'\n[data]", "[data]\nset = 'stl10'");
        let data = read(&text)?;
        assert_eq!((data.labeled.len(), data.unlabeled.len(), data.test.len()), (2, 1, 1));
        let chosen: Vec<_> = data.labeled.iter().map(|(file, class)| (file.path.as_path(), *class)).collect();
        assert_eq!(chosen, [(Path::new("stl10/train/1"), 0), (Path::new("stl10/train/0"), 9)], "a class at a time");
        assert_eq!(data.unlabeled[0].pixels.shape(), [3, 96, 96]);
        Ok(())
    }

    #[test]
    fn every_class_has_images_on_both_sides() {
        for (count, fraction) in [(2, 0.0), (2, 1.0), (5, 0.0), (5, 1.0)] {
            let (labeled, test) = set_aside(images(count, 0), 1, 1, fraction);
            assert!(!labeled.is_empty() && !test.is_empty(), "{count} images, fraction {fraction}");
        }
    }
}
