//! The Rust example, run.

#[allow(dead_code, reason = "its `main` is called by whoever runs the example")]
#[path = "../edge-runtime/examples/classify.rs"]
mod example;

use models::{Bundle, durable, signing::PrivateKey};

use crate::{
    TestResult,
    parity::noise,
    takeover::{bundle, preprocessing},
};

#[test]
fn the_rust_example_classifies_and_says_what_is_wrong() -> TestResult {
    let folder = tempfile::tempdir()?;
    let bundle: Bundle = bundle(folder.path(), 1, &PrivateKey::from_secret([7; 32]).ok_or("no key")?)?;
    let image = folder.path().join("image.png");
    let golden = bundle.golden()?;
    durable::write(&image, &golden.images[0].to_png()?)?;
    // The golden vectors say what comes out, without the code that the example calls.
    let expected = bundle.manifest().calibration.predict(&golden.logits[0]);
    let label = bundle.manifest().labels.name(expected.class);
    let found = example::classify(bundle.folder(), &image)?;
    assert_eq!(found, format!("{label} {:.1} %", 100.0 * expected.confidence));

    let png = noise(&preprocessing(), 1)[0].to_png()?;
    durable::write(&image, &png[..png.len() / 2])?;
    let said = example::classify(bundle.folder(), &image).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(said.contains("image.png") && said.contains("not a readable image"), "{said}");
    Ok(())
}
