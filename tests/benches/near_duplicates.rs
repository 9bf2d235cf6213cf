//! How well perceptual hashes tell copies of an image from other images, on a folder of images:
//! `cargo bench --bench near_duplicates -- FOLDER [SIZE]`. Images are brought to SIZE x SIZE pixels in colour (default 32), as a
//! network would see them; at most 5000 are looked at.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use models::{Digest, PerceptualHash, Pixels, Preprocessing, preprocess::Color};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const IMAGES: usize = 5000;
/// Each image is compared with so many before it, as a device does.
const WINDOW: usize = 500;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(folder) = arguments.next() else {
        println!("near_duplicates: give it a folder of images");
        return Ok(());
    };
    let size = arguments.next().map_or(Ok(32), |size| size.parse())?;
    let preprocessing = Preprocessing { color: Color::Rgb, height: size, width: size };
    let mut files = Vec::new();
    list(Path::new(&folder), &mut files)?;
    // In an order that has nothing to do with what is on them.
    files.sort_by_key(|file| Digest::of(file.to_string_lossy().as_bytes()));
    files.truncate(IMAGES);
    let images: Vec<Pixels> = files
        .iter()
        .filter_map(|file| preprocessing.pixels(&file.to_string_lossy(), &fs::read(file).ok()?).ok())
        .collect();

    let hashes: Vec<PerceptualHash> = images.iter().map(PerceptualHash::of).collect();
    let nearest = (1..hashes.len()).map(|i| {
        let before = &hashes[i.saturating_sub(WINDOW)..i];
        before.iter().map(|other| other.distance(hashes[i])).min().unwrap_or(64)
    });
    let mut rng = SmallRng::seed_from_u64(1);
    let copies =
        images.iter().zip(&hashes).map(|(image, hash)| hash.distance(PerceptualHash::of(&copy(image, &mut rng))));
    let (nearest, copies): (Vec<u32>, Vec<u32>) = (nearest.collect(), copies.collect());

    println!("{} images, of {} files\n", images.len(), files.len());
    println!("| bits | darker, noisier copies told | other images taken for the same |\n|---|---|---|");
    for bits in [0, 2, 4, 6, 8, 10] {
        let within = |distances: &[u32]| {
            100.0 * distances.iter().filter(|d| **d <= bits).count() as f64 / distances.len().max(1) as f64
        };
        println!("| {bits} | {:.1} % | {:.2} % |", within(&copies), within(&nearest));
    }
    Ok(())
}

/// A tenth darker, with noise of up to ten grey levels.
fn copy(image: &Pixels, rng: &mut SmallRng) -> Pixels {
    let noisy = |value: &u8| (0.9 * f64::from(*value) + rng.random_range(-10.0..=10.0)).clamp(0.0, 255.0) as u8;
    Pixels { data: image.data.iter().map(noisy).collect(), ..*image }
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
