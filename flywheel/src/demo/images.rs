//! The digits as image folders, and the field stream as devices see it: part by part, as files that appear.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use models::{Pixels, durable};
use trainer::data::{LabeledImages, digits::DigitsSplit};

/// Folder of labeled images, below the demo's.
pub(super) const LABELED: &str = "images/labeled";
/// Folder of unlabeled images.
pub(super) const UNLABELED: &str = "images/unlabeled";
/// Folder of the frozen test set.
pub(super) const TEST: &str = "images/test";

/// The field stream: what each device will see, and the truth about it.
#[derive(Clone, Debug)]
pub(super) struct Field {
    devices: BTreeMap<String, Stream>,
    waves: u32,
}

#[derive(Clone, Debug)]
struct Stream {
    folder: PathBuf,
    images: LabeledImages,
}

/// Writes every image but those of the field stream.
pub(super) fn write(folder: &Path, split: &DigitsSplit, devices: &[&str], waves: u32) -> Result<Field> {
    for (sub_folder, set) in [(LABELED, &split.labeled), (TEST, &split.test)] {
        for (i, (image, label)) in set.images.iter().zip(&set.labels).enumerate() {
            write_image(&folder.join(sub_folder).join(label.to_string()).join(file_name(i)), image)?;
        }
    }
    for (i, image) in split.pool.images.iter().enumerate() {
        write_image(&folder.join(UNLABELED).join(file_name(i)), image)?;
    }
    let stream = |(i, device): (usize, &&str)| {
        let share: Vec<usize> = (i..split.field.len()).step_by(devices.len()).collect();
        let folder = folder.join("field").join(device);
        ((*device).to_owned(), Stream { folder, images: split.field.select(&share) })
    };
    let field = Field { devices: devices.iter().enumerate().map(stream).collect(), waves };
    for stream in field.devices.values() {
        durable::create_folders(&stream.folder)?;
    }
    Ok(field)
}

impl Field {
    /// Lets the images of one wave, from 1, appear in the devices' folders; a damaged file comes with the first.
    pub(super) fn deliver(&self, wave: u32) -> Result<()> {
        for stream in self.devices.values() {
            if wave == 1 {
                let png = stream.images.images[0].to_png()?;
                durable::write(&stream.folder.join("damaged.png"), &png[..png.len() / 2])?;
            }
            for i in self.wave(stream, wave) {
                write_image(&stream.folder.join(file_name(i)), &stream.images.images[i])?;
            }
        }
        Ok(())
    }

    /// How many readable images a device has been given after a wave.
    pub(super) fn delivered(&self, device: &str, wave: u32) -> usize {
        self.devices.get(device).map_or(0, |stream| self.wave(stream, wave).end)
    }

    /// What an image of a device shows; nothing for a name that was never delivered.
    pub(super) fn truth(&self, device: &str, source: &str) -> Option<usize> {
        let index: usize = source.strip_suffix(".png")?.parse().ok()?;
        self.devices.get(device)?.images.labels.get(index).copied()
    }

    /// The devices' names.
    pub(super) fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// The folder that a device watches.
    pub(super) fn folder(&self, device: &str) -> Option<&Path> {
        self.devices.get(device).map(|stream| stream.folder.as_path())
    }

    fn wave(&self, stream: &Stream, wave: u32) -> std::ops::Range<usize> {
        let end = |wave: u32| stream.images.len() * wave as usize / self.waves as usize;
        end(wave - 1)..end(wave)
    }
}

fn file_name(index: usize) -> String {
    format!("{index:04}.png")
}

fn write_image(path: &Path, image: &Pixels) -> Result<()> {
    durable::create_folders(path.parent().unwrap_or(Path::new("")))?;
    Ok(durable::write(path, &image.to_png()?)?)
}
