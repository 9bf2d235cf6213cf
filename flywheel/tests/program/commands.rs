use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ::flywheel::steps::model::DeviceModel;
use models::durable;
use serde_json::Value;
use trainer::device::DeviceId;

use crate::{TestResult, fail, flywheel, images, succeed};

/// A project with a run of a few seconds.
fn project(folder: &Path) -> TestResult {
    images(folder)?;
    succeed(folder, &["init", "images", "--size", "8"])?;
    let config = fs::read_to_string(folder.join("flywheel.toml"))?;
    let changes = [
        ("color = \"rgb\"", "color = \"gray\""),
        ("steps = 1500", "steps = 150"),
        ("batch = 32", "batch = 8"),
        ("strong_views = 4", "strong_views = 2"),
        ("log_every = 20", "log_every = 5"),
        ("checkpoint_every = 100", "checkpoint_every = 5"),
        ("shift = 4", "shift = 1"),
        ("flip = true", "flip = false"),
        // Six test images could never show that a model is not worse.
        ("margin = 0.02", "margin = 1.0"),
    ];
    let config = changes.into_iter().fold(config, |config, (from, to)| {
        assert!(config.contains(from), "init no longer writes {from:?}");
        config.replace(from, to)
    });
    Ok(durable::write(&folder.join("flywheel.toml"), config.as_bytes())?)
}

/// Starts a command and kills it (SIGKILL) once its training run has written a checkpoint.
fn kill_in_training(folder: &Path, arguments: &[&str], run: &str) -> TestResult {
    let mut process = flywheel(folder, arguments).spawn()?;
    let run = folder.join("flywheel/runs").join(run);
    let end = Instant::now() + Duration::from_secs(60);
    while !run.join("checkpoint.safetensors").exists() && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        let environment = fs::read(format!("/proc/{}/environ", process.id()))?;
        let environment = String::from_utf8_lossy(&environment);
        assert!(environment.contains("GLIBC_TUNABLES="), "it gives its memory back at every step: {environment}");
    }
    process.kill()?;
    process.wait()?;
    assert!(!run.join("model.safetensors").exists(), "it was killed too late to show anything");
    Ok(())
}

#[test]
fn ones_own_images_become_a_bundle_that_classifies_and_a_killed_training_resumes() -> TestResult {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    project(folder)?;
    succeed(folder, &["train", "--run", "whole"])?;
    let page = fs::read_to_string(folder.join("flywheel/runs/whole/report.html"))?;
    assert!(page.contains("Learning curves") && !page.contains("http-equiv=\"refresh\""), "{page}");
    let events = fs::read_dir(folder.join("flywheel/runs/whole"))?.flatten().map(|entry| entry.path());
    let events: Vec<_> = events.filter(|path| path.to_string_lossy().contains(".tfevents.")).collect();
    let [events] = &events[..] else { panic!("{events:?}") };
    assert!(String::from_utf8_lossy(&fs::read(events)?).contains("accuracy/test"));

    // Before any image is looked for.
    let config = fs::read_to_string(folder.join("flywheel.toml"))?;
    let wide = config.replace("labeled = \"images\"", "labeled = \"nowhere\"").replace("width = 8", "width = 16");
    fs::write(folder.join("wide.toml"), wide)?;
    let error = fail(folder, &["train", "--config", "wide.toml"])?;
    assert!(error.contains("preprocessing = 8x16: expected a square"), "{error}");

    // Killed once a checkpoint is there, and started again.
    kill_in_training(folder, &["train", "--run", "killed"], "killed")?;
    let page = fs::read_to_string(folder.join("flywheel/runs/killed/report.html"))?;
    assert!(page.contains("http-equiv=\"refresh\""), "it does not grow before the first evaluation: {page}");
    succeed(folder, &["train", "--run", "killed"])?;
    let model = |run: &str| fs::read(folder.join(format!("flywheel/runs/{run}/model.safetensors")));
    assert!(model("whole")? == model("killed")?, "the killed run ended elsewhere");

    let card: Value = serde_json::from_str(&succeed(
        folder,
        &["eval", "--model", "flywheel/runs/whole/model.safetensors", "--json"],
    )?)?;
    assert!(card["accuracy"].as_f64() > Some(0.7), "{card}");
    let exported: Value = serde_json::from_str(&succeed(
        folder,
        &["export", "--model", "flywheel/runs/whole/model.safetensors", "--out", "bundle", "--json"],
    )?)?;
    assert!(exported["parity_max_abs_diff"].as_f64() < Some(1e-4), "{exported}");
    let line = succeed(folder, &["edge", "classify", "--bundle", "bundle", "--json", "images/left/00.png"])?;
    assert!(line.contains("left"), "{line}");

    // Devices that trust the project's key take it; those that trust another do not.
    succeed(folder, &["verify", "bundle"])?;
    let inspect = ["inspect", "bundle", "--trusted-key", "keys/trusted.pem", "--html", "bundle.html"];
    assert!(succeed(folder, &inspect)?.contains("by trusted key"));
    let page = fs::read_to_string(folder.join("bundle.html"))?;
    assert!(page.contains("Confusion matrix") && page.contains("data:image/png;base64,"), "{page}");
    succeed(folder, &["keygen", "--out", "other"])?;
    assert!(fail(folder, &["keygen", "--out", "other"])?.contains("exists already"));
    succeed(folder, &["sign", "bundle", "--key", "other/signing.pem"])?;
    assert!(fail(folder, &["verify", "bundle"])?.contains("no signature of a trusted key"));

    // A byte of the model changed: refused, and the file is named.
    let path = folder.join("bundle/model.onnx");
    let mut bytes = fs::read(&path)?;
    bytes[1000] ^= 1;
    fs::write(&path, bytes)?;
    let error = fail(folder, &["edge", "classify", "--bundle", "bundle", "images/left/00.png"])?;
    assert!(error.contains("model.onnx") && error.contains("sha256"), "{error}");
    Ok(())
}

/// Rounds and a device on one's own images, with a round that is killed on the way.
#[test]
fn rounds_go_on_after_a_kill_and_a_device_lives_from_them() -> TestResult {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    project(folder)?;
    let first: Value = serde_json::from_str(&succeed(folder, &["round", "--json"])?)?;
    assert_eq!((&first["round"], &first["published"]), (&1.into(), &true.into()), "{first}");

    let device = ["edge", "run", "--device", "cam-1", "--source", "images/unlabeled", "--state", "state"];
    let device = [&device[..], &["--remote", "remote", "--once", "--audit-seed", "1"]].concat();
    let device = [&device[..], &["--trusted-key", "keys/trusted.pem"]].concat();
    succeed(folder, &device)?;
    let journal = fs::read_to_string(folder.join("state/predictions.jsonl"))?;
    assert_eq!(journal.lines().count(), 28);
    assert!(journal.lines().all(|line| line.contains(first["bundle"].as_str().unwrap_or("?"))));

    kill_in_training(folder, &["round"], "round-2")?;
    let inputs: Value = serde_json::from_str(&fs::read_to_string(folder.join("flywheel/rounds/round-2.inputs.json"))?)?;
    let second: Value = serde_json::from_str(&succeed(folder, &["round", "--json"])?)?;
    assert_eq!((&second["round"], &second["parent"]), (&2.into(), &first["bundle"]), "{second}");
    assert_eq!(second["inputs"], inputs, "the round went on with other inputs");
    // The device saw only images that the workstation has already: none is trained on twice.
    assert_eq!(second["inputs"]["choice"]["chosen"], 0, "{second}");
    // All that came in was receipted: the device keeps nothing any more.
    succeed(folder, &device)?;
    assert_eq!(fs::read_dir(folder.join("state/store/sealed"))?.count(), 0);

    // The device runs the second bundle, and goes back to the first by order alone.
    let current = || fs::read_to_string(folder.join("state/current.json"));
    assert!(current()?.contains(second["bundle"].as_str().unwrap_or("?")), "{second}");
    assert!(fail(folder, &["rollback", "--to", "2"])?.contains("expected an older round"));
    succeed(folder, &["rollback", "--to", "1"])?;
    succeed(folder, &device)?;
    assert!(current()?.contains(first["bundle"].as_str().unwrap_or("?")), "{}", current()?);
    Ok(())
}

/// A model for other programs, and what kernels in fewer bits cost.
#[test]
fn a_model_is_exported_in_fewer_bits_unless_that_costs_too_much() -> TestResult {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    project(folder)?;
    succeed(folder, &["train"])?;
    let config = fs::read_to_string(folder.join("flywheel.toml"))?;
    let write = |setting: &str| {
        let text = config.replace("input = \"f32\"", &format!("input = \"f32\"\n{setting}\nmax_loss = 1.0"));
        durable::write(&folder.join("flywheel.toml"), text.as_bytes())
    };
    let export = |storage: &str| -> Result<Value, Box<dyn std::error::Error>> {
        write(&format!("weights = \"{storage}\""))?;
        let options = ["--batch", "any", "--input", "rgb8", "--outputs", "logits,probs,embedding", "--check", "tract"];
        let command = [&["export", "--onnx", "model.onnx", "--json"], &options[..]].concat();
        Ok(serde_json::from_str(&succeed(folder, &command)?)?)
    };
    let bytes = |exported: &Value| exported["bytes"].as_f64().unwrap_or(f64::NAN);
    let whole = export("f32")?;
    for (storage, part) in [("f16", 0.51), ("int8", 0.27)] {
        let exported = export(storage)?;
        assert!(bytes(&exported) < part * bytes(&whole), "{exported} beside {whole}");
        assert_eq!(exported["rounding"]["storage"], storage);
        assert!(exported["rounding"]["agreement"].as_f64() > Some(0.5), "{exported}");
        assert!(exported["checks"][0]["max_abs_diff"].as_f64() < Some(1e-4), "{exported}");
    }
    assert!(fail(folder, &["export", "--batch", "4"])?.contains("--onnx"));

    // In 8 bits throughout, as a bundle that a device runs.
    write("arithmetic = \"int8\"")?;
    let exported: Value =
        serde_json::from_str(&succeed(folder, &["export", "--out", "bundle-8", "--check", "tract", "--json"])?)?;
    let rounding = &exported["rounding"];
    assert_eq!((&rounding["storage"], &rounding["arithmetic"]), (&"int8".into(), &"int8".into()));
    let chosen = |choice: &&Value| choice["chosen"] == true;
    let choices = rounding["ranges"].as_array().ok_or("no ranges")?;
    assert_eq!((choices.len(), choices.iter().filter(chosen).count()), (3, 1), "{rounding}");
    assert!(rounding["bytes"].as_f64() < rounding["bytes_before"].as_f64().map(|bytes| 0.4 * bytes), "{rounding}");
    assert!(exported["parity_max_abs_diff"].is_null(), "no trainer computes in 8 bits: {exported}");
    let line = succeed(folder, &["edge", "classify", "--bundle", "bundle-8", "--json", "images/left/00.png"])?;
    assert_eq!(serde_json::from_str::<Value>(&line)?["label"], "left", "{line}");

    // What a round compares and relabels with is what devices run.
    let path = folder.join("flywheel/runs/train/model.safetensors");
    let mut weights = models::Weights::read(&path)?;
    let bundle = models::Bundle::open(&folder.join("bundle-8"))?;
    let golden = bundle.golden()?;
    let model = DeviceModel::of(&bundle, &weights, DeviceId::CPU)?;
    assert_eq!(model.logits(&golden.images)?, golden.logits);

    // Kernels of a million: nothing changes in 32 bits, since batch norm takes the million away again, and 16 bits hold none.
    let factors =
        [("conv1.weight", 1e6), ("conv1.bias", 1e6), ("norm2.running_mean", 1e6), ("norm2.running_var", 1e12)];
    for (name, factor) in factors {
        let tensor = weights.tensors.get_mut(&format!("groups.0.blocks.0.{name}")).ok_or("no tensor")?;
        tensor.iter_mut().for_each(|value| *value *= factor);
    }
    weights.write(&folder.join("large.safetensors"))?;
    let text = config.replace("input = \"f32\"", "input = \"f32\"\nweights = \"f16\"");
    durable::write(&folder.join("flywheel.toml"), text.as_bytes())?;
    let refused = fail(folder, &["export", "--model", "large.safetensors", "--out", "bundle-16"])?;
    assert!(refused.contains("export.max_loss") && !folder.join("bundle-16").exists(), "{refused}");
    Ok(())
}

#[test]
fn a_loop_whose_first_model_is_refused_says_what_to_do_and_ends() -> TestResult {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    project(folder)?;
    let config = folder.join("flywheel.toml");
    let text = fs::read_to_string(&config)?.replace("steps = 150", "steps = 1");
    fs::write(&config, text)?;
    // Started again, it trains again: labels may have come.
    for round in 1..=2 {
        let error = fail(folder, &["loop", "--poll", "1s"])?;
        assert!(error.contains("to test on: right in") && error.contains("no model is out yet"), "{error}");
        let record = fs::read_to_string(folder.join(format!("flywheel/rounds/round-{round}.json")))?;
        assert!(record.contains("not surely better than guessing"), "{record}");
    }
    assert!(!folder.join("flywheel/rounds/round-3.inputs.json").exists());
    Ok(())
}

#[test]
fn bad_input_is_an_error_that_names_the_file_and_what_was_expected() -> TestResult {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    assert!(fail(folder, &["train"])?.contains("flywheel.toml"));
    project(folder)?;
    assert!(fail(folder, &["init", "images"])?.contains("exists already"));

    let broken = folder.join("images/left/00.png");
    let whole = fs::read(&broken)?;
    fs::write(&broken, &whole[..whole.len() / 2])?;
    let error = fail(folder, &["train"])?;
    assert!(error.contains("images/left/00.png") && error.contains("expected a whole JPEG or PNG"), "{error}");
    fs::write(&broken, whole)?;

    fs::create_dir(folder.join("images/empty"))?;
    let error = fail(folder, &["train"])?;
    assert!(error.contains("\"empty\" has no image") && error.contains("images/empty"), "{error}");
    fs::remove_dir(folder.join("images/empty"))?;

    let config = folder.join("flywheel.toml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text.replace("steps = 150", "step = 150"))?;
    let error = fail(folder, &["train"])?;
    assert!(error.contains("flywheel.toml") && error.contains("step"), "{error}");
    fs::write(&config, text)?;

    // The folder for results is a file: nothing can be written there.
    fs::write(folder.join("flywheel"), "in the way")?;
    let error = fail(folder, &["train"])?;
    assert!(error.contains("flywheel/runs/train"), "{error}");

    // Nor is a folder that is no bundle replaced by one.
    fs::remove_file(folder.join("flywheel"))?;
    let error = fail(folder, &["export", "--out", "images"])?;
    assert!(error.contains("images exists and is no bundle") && folder.join("images/left").exists(), "{error}");
    // A folder that is not the demo's is never replaced.
    let error = fail(folder, &["demo", "--out", "images"])?;
    assert!(error.contains("images is not empty") && folder.join("images/left").exists(), "{error}");
    Ok(())
}
