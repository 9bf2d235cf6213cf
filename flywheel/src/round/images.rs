//! Which of the project's own images a round was made of: it can be made again although others have come since.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use models::{Digest, LabelSet, durable};
use serde::{Deserialize, Serialize};
use trainer::data::folder::ImageFile;

use crate::project::{Project, ProjectData};

/// All images of a [`ProjectData`], in its order, as in `rounds/images/SHA256.json`: rounds of the same images have one list.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnImages {
    labels: LabelSet,
    labeled: Vec<(OwnImage, usize)>,
    unlabeled: Vec<OwnImage>,
    test: Vec<(OwnImage, usize)>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnImage {
    /// Where it was, for people: below the project's folder, if it was there.
    path: String,
    /// What counts of it: [`models::Pixels::digest`].
    pixels: Digest,
}

impl OwnImages {
    pub(super) fn of(project: &Project, data: &ProjectData) -> Self {
        let root = project.path(Path::new(""));
        let image = |file: &ImageFile| {
            let path = file.path.strip_prefix(&root).unwrap_or(&file.path);
            OwnImage { path: path.display().to_string(), pixels: file.pixels.digest() }
        };
        let labeled = |files: &[(ImageFile, usize)]| files.iter().map(|(file, class)| (image(file), *class)).collect();
        Self {
            labels: data.labels.clone(),
            labeled: labeled(&data.labeled),
            unlabeled: data.unlabeled.iter().map(image).collect(),
            test: labeled(&data.test),
        }
    }

    /// Writes the list. Its digest names it.
    pub(super) fn write(&self, project: &Project) -> Result<Digest> {
        let text = serde_json::to_vec(self)?;
        let digest = Digest::of(&text);
        durable::create_folders(&folder(project))?;
        durable::delete_temporary(&folder(project))?;
        durable::write(&file(project, digest), &text)?;
        Ok(digest)
    }

    pub(super) fn read(project: &Project, digest: Digest) -> Result<Self> {
        let path = file(project, digest);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(Digest::of(&text) == digest, "{} has been changed: its name is its sha256", path.display());
        serde_json::from_slice(&text).with_context(|| format!("{} is no list of images", path.display()))
    }

    /// These images with the labels of then, among those that there are now, wherever among them they lie.
    ///
    /// # Errors
    /// If one is gone or has changed; the error names it.
    pub(super) fn among(self, now: &ProjectData) -> Result<ProjectData> {
        let labeled = now.labeled.iter().chain(&now.test).map(|(file, _)| file);
        let here: HashMap<Digest, &ImageFile> =
            labeled.chain(&now.unlabeled).map(|file| (file.pixels.digest(), file)).collect();
        let find = |image: OwnImage| {
            let found = here.get(&image.pixels).copied().cloned();
            found.with_context(|| format!("{} is gone or another image", image.path))
        };
        let find_labeled = |images: Vec<(OwnImage, usize)>| {
            images.into_iter().map(|(image, class)| Ok((find(image)?, class))).collect::<Result<_>>()
        };
        Ok(ProjectData {
            labels: self.labels,
            labeled: find_labeled(self.labeled)?,
            unlabeled: self.unlabeled.into_iter().map(find).collect::<Result<_>>()?,
            test: find_labeled(self.test)?,
        })
    }
}

fn folder(project: &Project) -> PathBuf {
    project.rounds_folder().join("images")
}

fn file(project: &Project, digest: Digest) -> PathBuf {
    folder(project).join(format!("{digest}.json"))
}
