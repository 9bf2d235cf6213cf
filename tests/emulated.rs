//! `flywheel-edge` as another processor runs it, by emulation: `FLYWHEEL_EDGE` is the command; `.ci/arm` builds it and runs this.

use std::{env, fs, process::Command};

use models::{signing::PrivateKey, tolerance::CROSS_ENGINE};
use serde_json::Value;

use crate::{
    TestResult,
    parity::noise,
    takeover::{bundle, preprocessing},
};

#[test]
#[ignore = "needs FLYWHEEL_EDGE"]
fn another_processor_computes_the_same() -> TestResult {
    let command = env::var("FLYWHEEL_EDGE").map_err(|_| "expected FLYWHEEL_EDGE, a command")?;
    let mut words = command.split(' ');
    let mut edge = Command::new(words.next().ok_or("an empty command")?);
    let folder = tempfile::tempdir()?;
    let bundle = bundle(folder.path(), 1, &PrivateKey::from_secret([7; 32]).ok_or("no key")?)?;
    let image = folder.path().join("image.png");
    let png = noise(&preprocessing(), 1)[0].to_png()?;
    fs::write(&image, &png)?;
    // Opening the bundle proves its golden vectors there.
    let output = edge.args(words).args(["classify", "--json", "--bundle"]).arg(bundle.folder()).arg(&image).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let expected = edge_runtime::Classifier::open(bundle.folder())?.classify("image", &png)?;
    assert_eq!(said["class"], expected.class);
    let confidence = said["confidence"].as_f64().unwrap_or(f64::NAN);
    assert!(CROSS_ENGINE.same(confidence, expected.confidence), "{said} instead of {expected:?}");
    Ok(())
}
