use models::durable;
use ureq::{Agent, http::Response};

use super::*;
use crate::{
    EdgeConfig,
    device::{Mode, run},
    event::Event,
    fixture::{self, TestResult},
    sync::Address,
};

/// Runs a device that answers over HTTP while `ask` is asking it, and then stops it.
fn with_device(
    folder: &std::path::Path,
    change: impl FnOnce(&mut EdgeConfig),
    ask: impl FnOnce(&str) -> TestResult,
) -> TestResult {
    let place = |name: &str| folder.join(name);
    for name in ["images", "remote"] {
        durable::create_folders(&place(name))?;
    }
    let address = Address::Folder(place("remote"));
    let mut config =
        EdgeConfig { poll_seconds: 0.05, ..EdgeConfig::new("cam-1", place("images"), place("state"), address) };
    config.listen = Some("127.0.0.1:0".parse()?);
    change(&mut config);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (sender, events) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let device = scope.spawn(|| {
            run(&config, Mode::Forever, &stop, &mut |event| {
                let _ = sender.send(event.clone());
            })
        });
        let asked = (|| loop {
            if let Event::Listening { address } = events.recv_timeout(Duration::from_secs(60))? {
                return ask(&format!("http://{address}"));
            }
        })();
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let ended = device.join().map_err(|_| "the device panicked")?;
        asked.and(ended.map(drop).map_err(Into::into))
    })
}

fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).build().new_agent()
}

fn json(answer: Response<ureq::Body>) -> Result<(u16, serde_json::Value), Box<dyn std::error::Error>> {
    let status = answer.status().as_u16();
    let text = answer.into_body().read_to_string()?;
    Ok((status, serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?))
}

#[test]
fn posted_images_are_answered_as_the_model_says_and_collected_if_that_is_wanted() -> TestResult {
    for is_collecting in [false, true] {
        let folder = tempfile::tempdir()?;
        let bundle = fixture::bundle(&folder.path().join("bundle"), |manifest, _| {
            manifest.collection.audit_probability = 1.0;
        })?;
        let change = |config: &mut EdgeConfig| {
            config.bundle = Some(folder.path().join("bundle"));
            config.collect_posted = is_collecting;
        };
        with_device(folder.path(), change, |url| {
            for case in fixture::cases() {
                let (status, found) = json(agent().post(format!("{url}/v1/classify")).send(&case.png()?)?)?;
                let manifest = bundle.manifest();
                let expected = manifest.calibration.predict(&case.logits);
                assert_eq!((status, &found["label"]), (200, &manifest.labels.name(expected.class).into()));
                let confidence = found["confidence"].as_f64().unwrap_or_default();
                assert!((confidence - expected.confidence).abs() < 1e-5, "{found}");
                let sum: f64 = found["probabilities"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|p| p["probability"].as_f64())
                    .sum();
                assert!((sum - 1.0).abs() < 1e-9, "{found}");
            }
            let (status, found) = json(agent().post(format!("{url}/v1/classify")).send(b"no image".as_slice())?)?;
            assert!(status == 415 && found["error"].as_str().is_some_and(|e| e.contains("JPEG")), "{status} {found}");
            let png = fixture::png(1)?;
            let (status, _) = json(agent().post(format!("{url}/v1/classify")).send(&png[..png.len() / 2])?)?;
            assert_eq!(status, 422);
            let foreign = agent().post(format!("{url}/v1/classify")).header("origin", "http://evil.example");
            assert_eq!(json(foreign.send(&png)?)?.0, 403);
            // A name of their own that leads here.
            let renamed = agent().post(format!("{url}/v1/classify")).header("host", "evil.example");
            assert_eq!(json(renamed.header("origin", "http://evil.example").send(&png)?)?.0, 403);
            Ok(())
        })?;
        let journal = std::fs::read_to_string(folder.path().join("state/predictions.jsonl"))?;
        let expected = if is_collecting { fixture::cases().len() } else { 0 };
        assert_eq!(journal.lines().count(), expected);
        let sent = std::fs::read_dir(folder.path().join("remote/segments/cam-1")).map_or(0, Iterator::count);
        assert_eq!(sent > 0, is_collecting, "what is collected is sent");
    }
    Ok(())
}

#[test]
fn a_device_says_how_it_is() -> TestResult {
    let folder = tempfile::tempdir()?;
    with_device(
        folder.path(),
        |_| {},
        |url| {
            assert_eq!(agent().get(format!("{url}/healthz")).call()?.status().as_u16(), 200);
            assert_eq!(json(agent().get(format!("{url}/readyz")).call()?)?.0, 503);
            assert_eq!(json(agent().post(format!("{url}/v1/classify")).send(&fixture::png(1)?)?)?.0, 503);
            assert_eq!(json(agent().get(format!("{url}/nothing")).call()?)?.0, 404);
            Ok(())
        },
    )?;
    fixture::bundle(&folder.path().join("bundle"), |_, _| {})?;
    std::fs::write(folder.path().join("images/a.png"), fixture::png(7)?)?;
    with_device(
        folder.path(),
        |config| config.bundle = Some(folder.path().join("bundle")),
        |url| {
            assert_eq!(agent().get(format!("{url}/readyz")).call()?.status().as_u16(), 200);
            let end = std::time::Instant::now() + Duration::from_secs(60);
            let status = loop {
                let (_, status) = json(agent().get(format!("{url}/v1/status")).call()?)?;
                if status["recent"][0]["source"] == "a.png" && !status["remote"]["last_contact"].is_null() {
                    break status;
                }
                assert!(std::time::Instant::now() < end, "{status}");
            };
            assert_eq!((&status["model"]["sequence"], &status["counters"]["classified"]), (&1.into(), &1.into()));
            let number = &status["recent"][0]["number"];
            let png = agent().get(format!("{url}/v1/recent/{number}.png")).call()?.into_body().read_to_vec()?;
            assert!(png.starts_with(b"\x89PNG"));
            let metrics = agent().get(format!("{url}/metrics")).call()?.into_body().read_to_string()?;
            for line in ["flywheel_images_total 1", "flywheel_bundle_sequence 1", "flywheel_answer_seconds_count 1"] {
                assert!(metrics.contains(line), "{line} is not in {metrics}");
            }
            Ok(())
        },
    )
}

#[test]
fn names_that_others_could_lead_here_are_not_ours() {
    let names = ["cam-1.example.com".to_owned()];
    for ours in [
        "127.0.0.1:8080",
        "[::1]:8080",
        "192.168.1.7",
        "localhost:8080",
        "cam-1",
        "CAM-1.local:80",
        "cam-1.example.com",
    ] {
        assert!(is_name_of_ours(ours, &names), "{ours}");
    }
    for other in
        ["evil.example:8080", "127.0.0.1.evil.example", "local.evil.example", "cam-1.example.com.evil", "a b", ""]
    {
        assert!(!is_name_of_ours(other, &names), "{other}");
    }
}
