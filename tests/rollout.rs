//! A bundle that goes out by a hub to some devices first, and back from them.

use std::{fs, path::Path, sync::atomic::AtomicBool};

use edge_runtime::{
    EdgeConfig, Error,
    device::{self, Mode},
    event::Event,
    sync::{Address, Remote, pointer, rollout},
    update::trial::TrialConfig,
};
use flywheel::steps::publish::publish;
use hub::{
    channels::Channels,
    limits::Limits,
    rollout::{Plan, Verdict},
};
use jiff::Timestamp;
use models::{
    hub::Role,
    signing::PrivateKey,
    sync::{self, ChannelReport, DeviceStatus, RolloutState, Stage, Tally, UpdateStatus},
};

use crate::{
    TestResult,
    hub::{Result, Server},
    parity::noise,
    takeover::{bundle, preprocessing},
};

const DEVICES: [&str; 5] = ["cam-0", "cam-1", "cam-2", "cam-3", "cam-4"];

/// A device with a few images of its own, which takes over at once what it is offered.
fn device(root: &Path, name: &str, hub: &str) -> EdgeConfig {
    let folder = root.join(name);
    let trial = TrialConfig { shadow_images: 0, probation_images: 0, ..TrialConfig::default() };
    EdgeConfig {
        trusted_keys: vec![root.join("trusted.pem")],
        trial,
        ..EdgeConfig::new(name, folder.join("images"), folder.join("state"), Address::Hub(hub.to_owned()))
    }
}

/// The sequence number of the bundle that it runs after a start.
fn run(config: &EdgeConfig) -> Result<u64> {
    let mut serving = 0;
    device::run(config, Mode::Once, &AtomicBool::new(false), &mut |event| {
        if let Event::Serving { sequence, .. } = event {
            serving = *sequence;
        }
    })?;
    Ok(serving)
}

#[test]
fn a_hub_takes_back_what_devices_refuse() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (root, key) = (folder.path(), PrivateKey::from_secret([7; 32]).ok_or("no key")?);
    fs::write(root.join("trusted.pem"), key.public().to_pem())?;
    let server = Server::start(root, false, Limits::default())?;
    let workstation = server.connect(&server.enrol(root, "workstation", Role::Publisher)?)?;
    let hub = server.runtime.block_on(server.data.intake())?;
    let channels = Channels { database: hub.database, objects: hub.objects };
    let plan = Plan { stages: vec![50, 100], minutes: 0, ..Plan::default() };
    server.runtime.block_on(channels.plan("stable", plan, "operator", Timestamp::now()))?;

    // The first bundle is for all, at once.
    let bundles = [bundle(root, 1, &key)?, bundle(root, 2, &key)?];
    publish(&bundles[0], &workstation, "stable", Some(&key))?;
    let mut devices = Vec::new();
    for (name, image) in DEVICES.into_iter().zip(noise(&preprocessing(), 5)) {
        let config = device(root, name, &server.url);
        server.enrol_in(&config.credentials(), name, Role::Device)?;
        fs::create_dir(root.join(name).join("images"))?;
        fs::write(root.join(name).join("images/1.png"), image.to_png()?)?;
        assert_eq!(run(&config)?, 1);
        devices.push((server.connect(&config.credentials())?, config));
    }

    // The second one goes to three of five, and nobody else is told of it.
    assert_eq!(workstation.list("devices")?.len(), 5);
    publish(&bundles[1], &workstation, "stable", Some(&key))?;
    let second = bundles[1].digest();
    let offered = |remote: &Remote| Ok::<_, Error>(pointer(remote, "stable")?.is_some_and(|to| to.bundle == second));
    let mut first = Vec::new();
    for (remote, config) in &devices {
        if offered(remote)? {
            first.push((remote, config));
        }
    }
    assert_eq!((first.len(), offered(&workstation)?), (3, false));
    assert_eq!(run(first[0].1)?, 2);
    let report = || -> Result<ChannelReport> { Ok(rollout(&workstation, "stable")?.ok_or("no report")?) };
    let running = report()?.rollout.ok_or("no rollout")?;
    assert_eq!(
        (running.state, running.devices),
        (RolloutState::Running, Tally { waiting: 2, good: 1, ..Tally::default() })
    );

    // Another one refuses it: more than one of ten.
    let name = sync::device_status(&first[1].1.device);
    let status = workstation.get(&name, 1 << 20)?.ok_or("no status")?;
    let mut status: DeviceStatus = serde_json::from_slice(&status)?;
    status.update = Some(UpdateStatus { bundle: second, stage: Stage::Refused, detail: "too slow".into() });
    status.reported = Timestamp::now();
    first[1].0.put(&name, serde_json::to_vec(&status)?)?;
    workstation.list("devices")?;
    server.runtime.block_on(channels.advance(Timestamp::now()))?;
    let found = report()?;
    assert_eq!(found.rollout.map(|rollout| rollout.state), Some(RolloutState::Back));
    let why: Vec<_> = found.went_back.iter().map(|back| back.why.as_str()).collect();
    assert_eq!(why, ["1 of 3 devices refused it; at most 10 % may"]);

    // Everybody runs the first one again, by the order that came with the second.
    for (remote, config) in &devices {
        assert!(!offered(remote)?);
        assert_eq!(run(config)?, 1, "{}", config.device);
    }
    let late =
        server.runtime.block_on(channels.decide("stable", (second, 1), &Verdict::Next, "operator", Timestamp::now()));
    assert!(late.is_err_and(|e| e.to_string().contains("no bundle is on its way")));
    let again = publish(&bundles[1], &workstation, "stable", Some(&key));
    assert!(again.is_err_and(|e| format!("{e:#}").contains("went back")), "and never out again");
    Ok(())
}
