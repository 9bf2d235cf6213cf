//! The C example, compiled and run as its first lines say, under the address sanitizer where the compiler has one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use models::signing::PrivateKey;

use crate::{
    TestResult,
    parity::noise,
    takeover::{bundle, preprocessing},
};

/// The folder of the library, which cargo builds because this package names its crate.
fn library_folder() -> Result<PathBuf, Box<dyn std::error::Error>> {
    // Naming the crate is what makes cargo build it.
    let _ = flywheel_edge::flywheel_classes;
    let folder = env::current_exe()?.parent().ok_or("no folder")?.to_owned();
    let library = folder.join(format!("{}flywheel_edge{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX));
    if library.exists() { Ok(folder) } else { Err(format!("{} is not there", library.display()).into()) }
}

fn compile(example: &Path, to: &Path, sanitize: &[&str]) -> Result<Output, Box<dyn std::error::Error>> {
    let capi = example.parent().and_then(Path::parent).ok_or("no folder")?;
    let libraries = library_folder()?;
    let compiler = env::var_os("CC").unwrap_or("cc".into());
    let mut command = Command::new(compiler);
    command
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g"])
        .args(sanitize)
        .arg("-I")
        .arg(capi.join("include"))
        .arg(example)
        .arg("-o")
        .arg(to)
        .arg("-L")
        .arg(&libraries)
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .arg("-lflywheel_edge");
    Ok(command.output()?)
}

#[test]
fn the_c_example_classifies_and_says_what_is_wrong() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let example = Path::new("../edge-runtime/capi/examples/classify.c");
    let program = path("classify");
    let sanitized = compile(example, &program, &["-fsanitize=address,undefined"])?;
    if !sanitized.status.success() {
        let plain = compile(example, &program, &[])?;
        assert!(plain.status.success(), "{}", String::from_utf8_lossy(&plain.stderr));
    }

    let key = PrivateKey::from_secret([7; 32]).ok_or("no key")?;
    fs::write(path("trusted.pem"), key.public().to_pem())?;
    fs::write(path("other.pem"), PrivateKey::from_secret([8; 32]).ok_or("no key")?.public().to_pem())?;
    let bundle = bundle(folder.path(), 1, &key)?;
    let png = noise(&preprocessing(), 1)[0].to_png()?;
    fs::write(path("whole.png"), &png)?;
    fs::write(path("cut.png"), &png[..png.len() / 2])?;
    let run = |key: &str, image: &str| -> Result<(Option<i32>, String), Box<dyn std::error::Error>> {
        let output = Command::new(&program).arg(bundle.folder()).args([path(key), path(image)]).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    };

    let expected = edge_runtime::Classifier::open(bundle.folder())?.classify("whole.png", &png)?;
    let label = bundle.manifest().labels.name(expected.class);
    let line = format!("whole.png: {label} {:.1} %\n", 100.0 * expected.confidence);
    let (code, said) = run("trusted.pem", "whole.png")?;
    assert!(code == Some(0) && said.ends_with(&line), "{said:?} instead of {line:?}");
    for (key, image, why) in [
        ("trusted.pem", "cut.png", "not a readable image"),
        ("trusted.pem", "none.png", "cannot read"),
        ("other.pem", "whole.png", "no signature of a trusted key"),
    ] {
        let (code, said) = run(key, image)?;
        assert!(code == Some(1) && said.contains(why), "{said}");
    }
    Ok(())
}
