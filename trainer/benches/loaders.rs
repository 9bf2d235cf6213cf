//! How fast data sets are read, by this crate and by Python's usual tools, in turn: images a second of each format.
//!
//! ```sh
//! cargo bench --workspace --bench loaders -- --python /path/to/venv/bin/python3
//! ```
//!
//! `benches/datasets.py` writes the files and is the peer; it needs numpy, scipy and Pillow.

use std::{error::Error, path::Path, process::Command, time::Instant};

use models::{Preprocessing, preprocess::Color};
use trainer::data::{archive, folder, sets::Set};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Reads everything at a path; returns how many images that were.
type Reader<'a> = &'a dyn Fn(&Path) -> Result<usize>;

/// Readings, of which the median counts.
const SAMPLES: usize = 5;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let python = args.iter().position(|arg| arg == "--python").and_then(|i| args.get(i + 1));
    let Some(python) = python else {
        println!("loaders: give it `-- --python PATH`, with numpy, scipy and Pillow, which writes the files");
        return Ok(());
    };
    let files = tempfile::tempdir()?;
    call(python, "write", files.path())?;
    let preprocessing = Preprocessing { color: Color::Rgb, height: 32, width: 32 };
    let readers: [(&str, Reader<'_>); 6] = [
        ("cifar10-binary", &|path| set(Set::Cifar10, path)),
        ("cifar10-python", &|path| set(Set::Cifar10, path)),
        ("svhn", &|path| set(Set::Svhn, path)),
        ("stl10", &|path| set(Set::Stl10, path)),
        ("folder", &|path| Ok(folder::unlabeled(path, &preprocessing)?.len())),
        ("images.tar", &|path| Ok(archive::read(path, &preprocessing)?.len())),
    ];
    println!("| files | images/s | Python | ratio |\n|---|---|---|---|");
    for (name, read) in readers {
        let path = files.path().join(name);
        let (ours, peer) = (images_per_second(read, &path)?, call(python, "read", &path)?.trim().parse::<f64>()?);
        println!("| {name} | {ours:.0} | {peer:.0} | {:.1} |", ours / peer);
    }
    Ok(())
}

fn set(set: Set, path: &Path) -> Result<usize> {
    let data = set.read(path)?;
    Ok(data.train.len() + data.unlabeled.len() + data.test.len())
}

fn images_per_second(read: impl Fn(&Path) -> Result<usize>, path: &Path) -> Result<f64> {
    let sample = |_| {
        let start = Instant::now();
        Ok(read(path)? as f64 / start.elapsed().as_secs_f64())
    };
    let mut speeds = (0..SAMPLES).map(sample).collect::<Result<Vec<f64>>>()?;
    speeds.sort_by(f64::total_cmp);
    Ok(speeds[SAMPLES / 2])
}

/// What `benches/datasets.py` prints.
fn call(python: &str, command: &str, path: &Path) -> Result<String> {
    let script = Path::new("../benches/datasets.py");
    let output = Command::new(python).arg(script).arg(command).arg(path).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(format!("{python} {}: {}", script.display(), String::from_utf8_lossy(&output.stderr)).into()),
    }
}
