//! A camera on the network, played by ffmpeg: `.ci/camera` starts it.

use std::{
    env, fs,
    sync::atomic::{AtomicBool, Ordering},
};

use edge_runtime::{
    EdgeConfig,
    device::{self, Mode},
    event::Event,
    source::Origin,
    sync::Address,
};
use models::{durable, segment, signing::PrivateKey};

use crate::{TestResult, takeover::bundle};

#[test]
#[ignore = "needs a camera: .ci/camera"]
fn a_camera_is_watched_and_found_again_when_it_was_away() -> TestResult {
    let camera = env::var("FLYWHEEL_CAMERA").map_err(|_| "FLYWHEEL_CAMERA is not set; run this by .ci/camera")?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let key = PrivateKey::from_secret([7; 32]).ok_or("no key")?;
    durable::write(&path("trusted.pem"), key.public().to_pem().as_bytes())?;
    durable::create_folders(&path("remote"))?;
    let bundle = bundle(folder.path(), 1, &key)?;
    let config = EdgeConfig {
        trusted_keys: vec![path("trusted.pem")],
        bundle: Some(bundle.folder().to_owned()),
        frames_per_second: 10.0,
        poll_seconds: 0.1,
        seal_after_samples: 5,
        ..EdgeConfig::new("cam-1", Origin::from(camera), path("state"), Address::Folder(path("remote")))
    };
    let stop = AtomicBool::new(false);
    let (mut before, mut absences, mut after) = (0, 0, 0);
    let summary = device::run(&config, Mode::Forever, &stop, &mut |event| match event {
        Event::Classified { .. } if absences == 0 => before += 1,
        Event::Classified { .. } => {
            after += 1;
            if after == 10 {
                stop.store(true, Ordering::SeqCst);
            }
        }
        // Before its first frame it may not have been switched on yet.
        Event::Trouble { why } if before > 0 && why.contains("cannot read http://127.") => absences += 1,
        Event::Unreadable { why, .. } => panic!("{why}"),
        _ => {}
    })?;
    // Of three seconds of 25 frames each, ten a second were wanted.
    assert!((1..=35).contains(&before), "{before} frames before it was away");
    assert!(absences > 0 && after >= 10, "{after} frames after {absences} absences");
    assert!(summary.counters.samples > 0 && summary.counters.unreadable == 0, "{summary:?}");
    let sent: Vec<_> = fs::read_dir(path("remote/segments/cam-1"))?.collect::<Result<_, _>>()?;
    let digest = sent[0].path().file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().parse()?;
    let samples = segment::read(&sent[0].path(), digest)?;
    assert!(samples.iter().all(|sample| sample.image.starts_with(b"\xff\xd8") && sample.record.extension == "jpg"));
    Ok(())
}
