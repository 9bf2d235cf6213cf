//! How fast data sets are read: images a second of the binary CIFAR files, packed and extracted.
//!
//! ```sh
//! cargo bench --workspace --bench loaders
//! ```

use std::{fs, path::Path, time::Instant};

use flate2::{Compression, write::GzEncoder};
use trainer::data::sets::Set;

/// Images in each of the six files.
const IMAGES: usize = 1000;
/// Readings, of which the median counts.
const SAMPLES: usize = 7;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let (plain, packed) = (folder.path().join("plain"), folder.path().join("packed"));
    write(&plain, &packed);
    for (name, folder) in [("extracted", &plain), ("packed", &packed)] {
        let sample = |_| {
            let start = Instant::now();
            let count = Set::Cifar10.read(folder).expect("a data set").train.len() * 6 / 5;
            count as f64 / start.elapsed().as_secs_f64()
        };
        let mut speeds: Vec<f64> = (0..SAMPLES).map(sample).collect();
        speeds.sort_by(f64::total_cmp);
        println!("CIFAR-10, binary, {name}: {:.0} images/s", speeds[SAMPLES / 2]);
    }
}

/// The official files, with gradients in place of pictures.
fn write(plain: &Path, packed: &Path) {
    let record = |i: usize| std::iter::once((i % 10) as u8).chain((0..3072).map(move |j| ((i + j) % 251) as u8));
    let batch: Vec<u8> = (0..IMAGES).flat_map(record).collect();
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n";
    let mut files: Vec<(String, &[u8])> = (1..=5).map(|i| (format!("data_batch_{i}.bin"), batch.as_slice())).collect();
    files.extend([("test_batch.bin".to_owned(), batch.as_slice()), ("batches.meta.txt".to_owned(), names.as_bytes())]);
    for folder in [plain, packed] {
        fs::create_dir_all(folder).expect("a folder");
    }
    let archive = fs::File::create(packed.join("cifar-10-binary.tar.gz")).expect("a file");
    let mut archive = tar::Builder::new(GzEncoder::new(archive, Compression::default()));
    for (name, bytes) in files {
        fs::write(plain.join(&name), bytes).expect("written");
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), bytes).expect("packed");
    }
    archive.into_inner().and_then(|encoder| encoder.finish()).expect("packed");
}
