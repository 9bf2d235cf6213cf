//! Who may know whom, checked on cargo's own view of the workspace.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::TestResult;

/// Our own crates.
const OURS: [&str; 8] = ["models", "trainer", "exporter", "edge-runtime", "flywheel-capi", "hub", "flywheel", "tests"];

fn workspace() -> PathBuf {
    // Of this checkout: tests run in their package's folder.
    PathBuf::from("..")
}

fn cargo(arguments: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    let output = Command::new(env!("CARGO")).args(arguments).args(["--locked"]).current_dir(workspace()).output()?;
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Everything that a crate is built from, with all of its features.
fn dependencies(package: &str) -> Result<BTreeSet<String>, Box<dyn std::error::Error>> {
    let tree =
        cargo(&["tree", "-p", package, "-e", "normal,build", "--all-features", "--prefix", "none", "--format", "{p}"])?;
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    Ok(names.filter(|name| *name != package).map(str::to_owned).collect())
}

fn metadata() -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])?)?;
    Ok(metadata["packages"].as_array().cloned().unwrap_or_default())
}

#[test]
fn crates_depend_on_nothing_they_must_not_know() -> TestResult {
    let learning = ["burn", "cubecl", "trainer", "exporter"];
    let running = ["tract", "exporter", "edge-runtime", "hub"];
    let forbidden: [(&str, &[&str]); 5] = [
        ("models", &["burn", "cubecl", "tract", "prost", "tokio", "async", "hyper", "reqwest", "socket2"]),
        ("trainer", &running),
        ("exporter", &["burn", "cubecl", "tract", "trainer", "edge-runtime", "hub"]),
        ("edge-runtime", &learning),
        ("hub", &["burn", "cubecl", "tract", "trainer", "exporter", "edge-runtime"]),
    ];
    for (package, forbidden) in forbidden {
        let dependencies = dependencies(package)?;
        assert!(package == "models" || dependencies.contains("models"), "{package} does not even use models");
        for dependency in &dependencies {
            let is_forbidden = |name: &&&str| dependency == **name || dependency.starts_with(&format!("{name}-"));
            assert!(!forbidden.iter().any(|name| is_forbidden(&name)), "{package} depends on {dependency}");
        }
    }
    Ok(())
}

#[test]
fn siblings_do_not_even_test_with_each_other_and_models_has_no_features() -> TestResult {
    let packages = metadata()?;
    assert_eq!(packages.len(), OURS.len(), "a crate came or went: say here what it may know");
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        let declared = package["dependencies"].as_array().into_iter().flatten();
        let ours: Vec<_> = declared.filter_map(|d| d["name"].as_str()).filter(|d| OURS.contains(d)).collect();
        if ["models", "trainer", "exporter", "edge-runtime", "hub"].contains(&name.as_str()) {
            assert!(ours.iter().all(|dependency| *dependency == "models"), "{name} declares {ours:?}");
        }
        if name == "models" {
            assert!(ours.is_empty() && package["features"].as_object().is_some_and(serde_json::Map::is_empty));
        }
    }
    Ok(())
}

#[test]
fn frameworks_are_named_only_where_they_belong() -> TestResult {
    let homes: [(&str, &[&str]); 4] = [
        ("burn::", &["trainer/src"]),
        ("tract_onnx", &["edge-runtime/src/engine/tract.rs", "edge-runtime/src/engine/tract"]),
        ("use ort::", &["edge-runtime/src/engine/onnxruntime.rs"]),
        ("prost::", &["exporter/src/onnx_proto.rs", "exporter/src/model.rs", "trainer/src/metrics/tensorboard.rs"]),
    ];
    let mut files = Vec::new();
    for package in OURS.into_iter().filter(|name| *name != "tests") {
        let folder = if package == "flywheel-capi" { "edge-runtime/capi" } else { package };
        rust_files(&workspace().join(folder).join("src"), &mut files)?;
    }
    assert!(files.len() > 50);
    for (word, homes) in homes {
        let mut found = 0;
        for file in &files {
            if fs::read_to_string(file)?.contains(word) {
                assert!(
                    homes.iter().any(|home| file.starts_with(workspace().join(home))),
                    "{} names {word}",
                    file.display()
                );
                found += 1;
            }
        }
        assert!(found > 0, "nobody names {word}: this test looks for the wrong word");
    }
    Ok(())
}

/// Formats take times as arguments.
#[test]
fn models_has_no_clock() -> TestResult {
    let mut files = Vec::new();
    rust_files(&workspace().join("models/src"), &mut files)?;
    for file in files {
        let text = fs::read_to_string(&file)?;
        assert!(!text.contains("::now()"), "{} reads the clock", file.display());
    }
    Ok(())
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
