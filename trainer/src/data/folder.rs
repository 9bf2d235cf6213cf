//! Images in folders: JPEG and PNG files below `FOLDER/CLASS` with labels, anywhere below `FOLDER` without.

use std::{
    fs,
    path::{Path, PathBuf},
};

use models::{Digest, LabelSet, Pixels, Preprocessing, segment::IMAGE_EXTENSIONS};
use rayon::prelude::*;
use walkdir::{DirEntry, WalkDir};

use crate::{Error, Result};

/// The classes of a folder: its sub-folders' names in alphabetical order, but for those in `except`.
///
/// # Errors
/// [`models::Error::Io`], or [`models::Error::Labels`] for fewer than two sub-folders.
pub fn classes(folder: &Path, except: &[&str]) -> Result<LabelSet> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(models::Error::io("list", folder))? {
        let entry = entry.map_err(models::Error::io("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') && !except.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort();
    let found = names.len();
    LabelSet::new(names).map_err(|e| match found {
        0 | 1 => models::Error::Labels(format!(
            "expected at least two sub-folders in {}, one a class, found {found}",
            folder.display()
        ))
        .into(),
        _ => e.into(),
    })
}

/// An image of a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFile {
    /// Where it is.
    pub path: PathBuf,
    /// Digest of the file: the same image under another name has the same.
    pub digest: Digest,
    /// The image, brought to size.
    pub pixels: Pixels,
}

/// The images of every class's sub-folder, each with its class.
///
/// # Errors
/// [`Error::EmptyClass`], [`models::Error::Io`], or [`models::Error::Image`] for a file that is no image.
pub fn labeled(folder: &Path, labels: &LabelSet, preprocessing: &Preprocessing) -> Result<Vec<(ImageFile, usize)>> {
    let mut all = Vec::new();
    for (class, name) in labels.names().iter().enumerate() {
        let folder = folder.join(name);
        let files = image_files(&folder)?;
        if files.is_empty() {
            return Err(Error::EmptyClass { class: name.clone(), folder });
        }
        all.extend(read(&files, preprocessing)?.into_iter().map(|file| (file, class)));
    }
    Ok(all)
}

/// All images below a folder.
///
/// # Errors
/// [`models::Error::Io`], or [`models::Error::Image`] for a file that is no image.
pub fn unlabeled(folder: &Path, preprocessing: &Preprocessing) -> Result<Vec<ImageFile>> {
    read(&image_files(folder)?, preprocessing)
}

/// Paths of the JPEG and PNG files below a folder, sorted; hidden files and folders are none.
fn image_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let is_hidden = |entry: &DirEntry| entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.');
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(|e| !is_hidden(e))
    {
        let entry = entry.map_err(|e| models::Error::io("list", folder)(e.into()))?;
        let extension = entry.path().extension().and_then(|e| e.to_str()).map(str::to_lowercase);
        if entry.file_type().is_file() && extension.is_some_and(|e| IMAGE_EXTENSIONS.contains(&e.as_str())) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

fn read(files: &[PathBuf], preprocessing: &Preprocessing) -> Result<Vec<ImageFile>> {
    let read_one = |path: &PathBuf| {
        let bytes = fs::read(path).map_err(models::Error::io("read", path))?;
        let pixels = preprocessing.pixels(&path.display().to_string(), &bytes)?;
        Ok(ImageFile { path: path.clone(), digest: Digest::of(&bytes), pixels })
    };
    files.par_iter().map(read_one).collect()
}

#[cfg(test)]
mod tests {
    use models::preprocess::Color;

    use super::*;

    fn fixture() -> Result<tempfile::TempDir> {
        let folder = tempfile::tempdir().map_err(models::Error::io("create", Path::new("a folder")))?;
        for (class, value) in [("cat", 10), ("dog", 200)] {
            let sub = folder.path().join(class);
            models::durable::create_folders(&sub)?;
            let image = Pixels { height: 6, width: 4, channels: 3, data: vec![value; 72] };
            models::durable::write(&sub.join("1.PNG"), &image.to_png()?)?;
            models::durable::write(&sub.join("notes.txt"), b"no image")?;
        }
        Ok(folder)
    }

    #[test]
    fn sub_folders_are_classes_and_images_are_brought_to_size() -> Result<()> {
        let folder = fixture()?;
        let preprocessing = Preprocessing { color: Color::Gray, height: 4, width: 4 };
        let thumbnails = folder.path().join("cat/.thumbnails");
        models::durable::create_folders(&thumbnails)?;
        fs::copy(folder.path().join("dog/1.PNG"), thumbnails.join("1.PNG")).expect("a copy");
        let labels = classes(folder.path(), &[])?;
        assert_eq!(labels.names(), ["cat", "dog"]);
        let images = labeled(folder.path(), &labels, &preprocessing)?;
        let found: Vec<_> = images.iter().map(|(file, class)| (*class, file.pixels.data[0])).collect();
        assert_eq!(found, [(0, 10), (1, 200)]);
        assert_eq!(unlabeled(folder.path(), &preprocessing)?.len(), 2);
        Ok(())
    }

    #[test]
    fn errors_name_the_class_or_the_file() -> Result<()> {
        let folder = fixture()?;
        let preprocessing = Preprocessing { color: Color::Rgb, height: 4, width: 4 };
        let labels = LabelSet::new(["cat", "dog"])?;
        let message =
            || labeled(folder.path(), &labels, &preprocessing).err().map(|e| e.to_string()).unwrap_or_default();

        let broken = folder.path().join("cat/2.jpg");
        models::durable::write(&broken, b"\xff\xd8\xff cut off")?;
        assert!(message().contains("cat/2.jpg"), "{}", message());
        models::durable::remove(&broken)?;
        models::durable::remove(&folder.path().join("dog/1.PNG"))?;
        assert!(message().contains("\"dog\" has no image"), "{}", message());
        assert!(classes(&folder.path().join("cat"), &[]).is_err_and(|e| e.to_string().contains("two sub-folders")));
        Ok(())
    }
}
