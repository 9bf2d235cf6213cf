//! What other programs make of our files: ONNX's checker and ONNX Runtime of our models, OpenSSF Model Signing of our
//! signatures, and the other way round; an RFC 9421 by others of our signed requests; schemathesis of what a device and
//! a hub answer.
//!
//! These need a Python with the packages of `tests/interop/requirements.txt`, named by `FLYWHEEL_PYTHON`; `.ci/run` installs
//! it and runs them.

use std::{
    env, fs,
    num::NonZeroU32,
    path::Path,
    process::{Command, Output},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use edge_runtime::{
    EdgeConfig, Engine,
    device::{self, Mode},
    engine::Backend,
    event::Event,
};
use exporter::{Batch, OnnxOptions, RangeMethod};
use hub::limits::Limits;
use jiff::Timestamp;
use models::{
    Bundle, Digest, Preprocessing, Weights,
    bundle::Golden,
    hub::Role,
    preprocess::{Color, InputLayout, InputSpec},
    signing::{
        PrivateKey, TrustedKeys,
        request::{CONTENT_DIGEST, REQUEST_SIGNATURE, Request, SIGNATURE_INPUT},
    },
    weights::{Arithmetic, Storage},
};
use serde_json::json;
use trainer::{Classifier, config::NetworkConfig, device::DeviceId};

use crate::{
    TestResult,
    hub::Server,
    parity::{noise, observations, trained},
    takeover,
};

pub(crate) fn python(arguments: &[&str]) -> Result<Output, Box<dyn std::error::Error>> {
    Ok(python_in(Path::new("."))?.args(arguments).output()?)
}

fn python_in(folder: &Path) -> Result<Command, Box<dyn std::error::Error>> {
    let python = env::var("FLYWHEEL_PYTHON").map_err(|_| "expected FLYWHEEL_PYTHON, a Python with the packages")?;
    let mut command = Command::new(python);
    command.current_dir(folder);
    Ok(command)
}

/// Has schemathesis ask what an OpenAPI document allows, and what it does not; each operation so often. It leaves its cache in the
/// folder.
fn schemathesis(folder: &Path, document: &str, examples: u32) -> Result<Command, Box<dyn std::error::Error>> {
    let mut command = python_in(folder)?;
    command.args(["-m", "schemathesis.cli", "run", document, "--checks", "all", "--no-color"]);
    command.args(["--max-examples", &examples.to_string()]);
    // The same questions every time, whatever the machine's speed.
    command.args(["--seed", "1", "--request-timeout", "60", "--suppress-health-check", "too_slow,filter_too_much"]);
    Ok(command)
}

fn succeed(output: Output) -> TestResult {
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(()) } else { Err(said.into()) }
}

#[test]
#[ignore = "needs FLYWHEEL_PYTHON"]
fn onnx_accepts_our_models_and_onnx_runtime_computes_the_trainers_logits() -> TestResult {
    let folder = tempfile::tempdir()?;
    let temperature = 1.7;
    for (name, network, color, side, batch) in [
        ("wrn-28-2", NetworkConfig::wide_resnet(28, 2), Color::Rgb, 32, Batch::Fixed(1)),
        ("device", NetworkConfig::DEVICE, Color::Rgb, 32, Batch::Fixed(3)),
        ("device-small", NetworkConfig::DEVICE_SMALL, Color::Gray, 21, Batch::Symbolic),
    ] {
        let preprocessing = Preprocessing { color, height: side, width: side };
        let weights = trained(network, preprocessing.clone(), 1)?;
        let int8 = observations(&weights, InputLayout::F32, &noise(&preprocessing, 6))?;
        for (input, storage, ranges, probs, embedding) in [
            (InputLayout::F32, Storage::F32, None, None, false),
            (InputLayout::F32, Storage::Int8, None, None, false),
            (InputLayout::Rgb8, Storage::F16, None, Some(temperature), true),
            (InputLayout::F32, Storage::Int8, Some(int8.ranges(RangeMethod::MinMax)), Some(temperature), false),
        ] {
            let arithmetic = if ranges.is_some() { Arithmetic::Int8 } else { Arithmetic::F32 };
            let name = format!("{name}-{input:?}-{}-{arithmetic:?}.onnx", storage.name());
            let options = OnnxOptions {
                batch,
                input,
                weights: storage,
                ranges,
                probs,
                embedding,
                licence: Some("CC0-1.0".into()),
            };
            let images = noise(&preprocessing, 6);
            let golden = match arithmetic {
                Arithmetic::F32 => {
                    let rounded = exporter::rounded(&weights, storage);
                    Classifier::new(&rounded, DeviceId::CPU)?.golden(&images, 6)?
                }
                Arithmetic::Int8 => {
                    let options = OnnxOptions { batch: Batch::Fixed(1), ..options.clone() };
                    let input = InputSpec { layout: input, shape: weights.spec.network.input };
                    let engine = Engine::from_bytes(&exporter::to_onnx(&weights, &options)?, input, Backend::Tract)?;
                    let logits = images.iter().map(|image| engine.logits(image)).collect::<Result<_, _>>()?;
                    Golden { images, logits }
                }
            };
            let path = folder.path().join(name);
            fs::write(&path, exporter::to_onnx(&weights, &options)?)?;
            let batch = match batch {
                Batch::Fixed(size) => json!(size),
                Batch::Symbolic => json!("batch"),
            };
            let case = json!({
                "images": golden.images.iter().map(|image| &image.data).collect::<Vec<_>>(),
                "shape": [golden.images.len(), side, side, color.channels()],
                "logits": golden.logits,
                "temperature": temperature,
                "batch": batch,
                "tolerance": arithmetic.tolerance().bound,
                "integer_convolutions": if arithmetic == Arithmetic::Int8 { convolutions(&weights) - 1 } else { 0 },
            });
            fs::write(path.with_extension("json"), case.to_string())?;
        }
    }
    succeed(python(&["interop/check_onnx.py", &folder.path().to_string_lossy()])?)
}

fn convolutions(weights: &Weights) -> usize {
    weights.spec.network.tensors().iter().filter(|tensor| tensor.shape.len() == 4).count()
}

#[test]
#[ignore = "needs FLYWHEEL_PYTHON"]
fn model_signing_verifies_our_signatures_and_we_verify_its_own() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let key = PrivateKey::from_secret([7; 32]).ok_or("no key")?;
    fs::write(path("signing.pem"), key.to_pem())?;
    fs::write(path("trusted.pem"), key.public().to_pem())?;
    let bundle = takeover::bundle(folder.path(), 1, &key)?;
    let bundle_folder = bundle.folder().to_string_lossy().into_owned();
    let signature = Path::new(&bundle_folder).join("model.sig").to_string_lossy().into_owned();
    let verify = || {
        let arguments = ["-m", "model_signing", "verify", "key", &bundle_folder, "--signature", &signature];
        python(&[&arguments[..], &["--public_key", &path("trusted.pem")]].concat())
    };
    succeed(verify()?)?;
    let model = bundle.model_path();
    let whole = fs::read(&model)?;
    fs::write(&model, [&whole[..], b"more"].concat())?;
    assert!(!verify()?.status.success(), "it accepts a changed file: this test shows nothing");
    fs::write(&model, whole)?;

    fs::remove_file(&signature)?;
    let arguments = ["-m", "model_signing", "sign", "key", &bundle_folder, "--signature", &signature];
    succeed(python(&[&arguments[..], &["--private_key", &path("signing.pem")]].concat())?)?;
    let trusted = TrustedKeys::new(vec![key.public()])?;
    assert_eq!(Bundle::open(bundle.folder())?.verify(&trusted)?, key.public().id());
    Ok(())
}

#[test]
#[ignore = "needs FLYWHEEL_PYTHON"]
fn others_verify_our_signed_requests() -> TestResult {
    let folder = tempfile::tempdir()?;
    let key = PrivateKey::from_secret([7; 32]).ok_or("no key")?;
    let public = folder.path().join("public.pem");
    fs::write(&public, key.public().to_pem())?;
    let body = "content";
    let request =
        Request { method: "PUT", path: "/v1/objects/x", query: "prefix=y", content: Digest::of(body.as_bytes()) };
    let signed = request.sign(Timestamp::now(), &key);
    let headers = [
        format!("{CONTENT_DIGEST}={}", signed.content_digest),
        format!("{SIGNATURE_INPUT}={}", signed.signature_input),
        format!("{REQUEST_SIGNATURE}={}", signed.signature),
    ];
    let verify = |method: &str, url: &str, body: &str| {
        let public = public.to_string_lossy();
        let fixed = ["interop/verify_request.py", &public, method, url, body];
        python(&fixed.into_iter().chain(headers.iter().map(String::as_str)).collect::<Vec<_>>())
    };
    let url = "https://hub.local:8443/v1/objects/x?prefix=y";
    succeed(verify("PUT", url, body)?)?;
    for (method, url, body) in [("GET", url, body), ("PUT", &url.replace('y', "z"), body), ("PUT", url, "other")] {
        assert!(!verify(method, url, body)?.status.success(), "{method} {url} {body}: this test shows nothing");
    }
    Ok(())
}

/// Thousands of requests that the OpenAPI document allows, and that it does not.
#[test]
#[ignore = "needs FLYWHEEL_PYTHON"]
fn a_device_answers_as_its_openapi_document_says() -> TestResult {
    let folder = tempfile::tempdir()?;
    let key = PrivateKey::from_secret([7; 32]).ok_or("no key")?;
    fs::write(folder.path().join("trusted.pem"), key.public().to_pem())?;
    for name in ["remote", "source"] {
        fs::create_dir(folder.path().join(name))?;
    }
    let config = EdgeConfig {
        bundle: Some(takeover::bundle(folder.path(), 1, &key)?.folder().to_owned()),
        listen: Some("127.0.0.1:0".parse()?),
        collect_posted: true,
        ..takeover::device_config(folder.path())
    };
    fs::write(folder.path().join("source/1.png"), noise(&takeover::preprocessing(), 1)[0].to_png()?)?;
    let (stop, (sender, address)) = (AtomicBool::new(false), mpsc::channel());
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            device::run(&config, Mode::Forever, &stop, &mut |event| {
                if let Event::Listening { address } = event {
                    let _ = sender.send(*address);
                }
            })
        });
        let asked = (|| {
            let document = format!("http://{}/openapi.json", address.recv_timeout(Duration::from_secs(60))?);
            let output = schemathesis(folder.path(), &document, 1000)?.output()?;
            println!("{}", String::from_utf8_lossy(&output.stdout));
            succeed(output)
        })();
        stop.store(true, Ordering::SeqCst);
        let ended = running.join().map_err(|_| "the device panicked")?;
        asked.and(ended.map(drop).map_err(Into::into))
    })
}

/// The same of a hub, signed by the key of an admin, and of a device, who may do little.
#[test]
#[ignore = "needs FLYWHEEL_PYTHON"]
fn a_hub_answers_as_its_openapi_document_says() -> TestResult {
    let folder = tempfile::tempdir()?;
    let many = NonZeroU32::MAX;
    let limits = Limits { requests_per_second: many, strangers_per_minute: many, ..Limits::default() };
    let server = Server::start(folder.path(), false, limits)?;
    let document = format!("{}/openapi.json", server.url);
    for (name, role) in [("chief", Role::Admin), ("cam-1", Role::Device)] {
        let key = server.enrol(folder.path(), name, role)?.join("key.pem");
        let hooks = fs::canonicalize("interop/sign_requests.py")?;
        let signed = [("SCHEMATHESIS_HOOKS", hooks.as_path()), ("FLYWHEEL_KEY", &key)];
        let mut command = schemathesis(folder.path(), &document, 50)?;
        // A name is a text, whatever it looks like; what an order means, and whether a key is one, no schema says; and there is one
        // route for all objects.
        command.args(["--exclude-checks", "negative_data_rejection,positive_data_acceptance,allow_header_conformance"]);
        let output = command.envs(signed).output()?;
        println!("{}", String::from_utf8_lossy(&output.stdout));
        succeed(output)?;
    }
    Ok(())
}
