//! The program as a person uses it: its own processes, its own files.

mod commands;
mod demo;
mod hub;
mod methods;
mod reviews;
mod simulate;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use models::{Pixels, durable};

/// What a test returns.
type TestResult = Result<(), Box<dyn std::error::Error>>;

/// The program, in a folder.
fn flywheel(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flywheel"));
    command.current_dir(folder).args(arguments);
    command
}

/// Runs a command that must succeed; returns its standard output.
fn succeed(folder: &Path, arguments: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    let output = flywheel(folder, arguments).output()?;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a command that must fail; returns its standard error.
fn fail(folder: &Path, arguments: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    let Output { status, stderr, .. } = flywheel(folder, arguments).output()?;
    assert!(!status.success(), "{arguments:?} did not fail");
    Ok(String::from_utf8(stderr)?)
}

/// A folder of two classes: bright shapes on the left, on the right; the last ones without labels.
fn images(folder: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let images = folder.join("images");
    for i in 0..60_usize {
        let class = ["left", "right"][i % 2];
        let target = if i < 32 { images.join(class) } else { images.join("unlabeled") };
        durable::create_folders(&target)?;
        let bright = |x: usize| (x < 4) == (class == "left");
        let value =
            |pixel: usize| if bright(pixel % 8) { 150 + (i * 7 + pixel * 13) % 100 } else { (i * 11 + pixel * 5) % 60 };
        let data = (0..64).map(|pixel| value(pixel) as u8).collect();
        durable::write(
            &target.join(format!("{i:02}.png")),
            &Pixels { height: 8, width: 8, channels: 1, data }.to_png()?,
        )?;
    }
    Ok(images)
}
