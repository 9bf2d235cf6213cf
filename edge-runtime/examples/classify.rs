//! Classifies an image with a bundle.
//!
//! ```sh
//! cargo run --release -p edge-runtime --example classify -- BUNDLE IMAGE
//! ```

use std::{env, fs, path::Path};

use edge_runtime::Classifier;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [bundle, image] = arguments.as_slice() else { return Err("expected a bundle's folder and an image".into()) };
    println!("{}", classify(bundle.as_ref(), image.as_ref())?);
    Ok(())
}

/// The label, and how sure the model is of it.
pub(crate) fn classify(bundle: &Path, image: &Path) -> Result<String> {
    let classifier = Classifier::open(bundle)?;
    let prediction = classifier.classify(&image.display().to_string(), &fs::read(image)?)?;
    let label = classifier.manifest().labels.name(prediction.class);
    Ok(format!("{label} {:.1} %", 100.0 * prediction.confidence))
}
