//! Hubs that share a database and a bucket, behind something that sends each connection to another one.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::AtomicBool,
    thread,
};

use edge_runtime::{
    EdgeConfig,
    device::{self, Mode},
    sync::{Address, Remote},
};
use flywheel::{
    project::Project,
    round::open_remote,
    steps::{ingest::ingest, publish::publish},
};
use hub::{limits::Limits, server::DataFolder};
use jiff::Timestamp;
use models::{
    Digest, durable,
    hub::{OBJECTS, RefusalCode, Role},
    signing::{PrivateKey, request::Request},
    sync,
};
use tokio::runtime::Runtime;

use crate::{
    TestResult,
    hub::{Result, Server, refused, sample, sealed, signature},
    parity::noise,
    s3_server::S3Server,
    takeover::{bundle, preprocessing},
};

/// Sends each connection to the next of these addresses. Its own.
fn balance(hubs: Vec<SocketAddr>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for (client, hub) in listener.incoming().flatten().zip(hubs.iter().cycle()) {
            let Ok(hub) = TcpStream::connect(hub) else { continue };
            for (from, to) in [(client.try_clone(), hub.try_clone()), (Ok(hub), Ok(client))] {
                let (Ok(mut from), Ok(mut to)) = (from, to) else { continue };
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    Ok(address)
}

#[test]
fn any_number_of_hubs_are_one() -> TestResult {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("shared.db");
    hubs_are_one(&format!("sqlite:{}?mode=rwc", database.display()))
}

#[test]
#[ignore = "needs a PostgreSQL, by FLYWHEEL_POSTGRES_HUBS"]
fn any_number_of_hubs_are_one_on_postgresql() -> TestResult {
    hubs_are_one(&std::env::var("FLYWHEEL_POSTGRES_HUBS")?)
}

fn hubs_are_one(database: &str) -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let runtime = Runtime::new()?;
    let store = S3Server::start(&runtime)?;
    let data = |name: &str| DataFolder {
        path: path(name),
        database: Some(database.to_owned()),
        bucket: Some(store.bucket("s3://fleet/north")),
    };
    let limits = Limits { device_bytes_per_day: 150_000, ..Limits::default() };
    let start = |name: &str| Server::start_at(data(name), TcpListener::bind("127.0.0.1:0")?, false, limits);
    let mut first = start("hub-1")?;
    let second = start("hub-2")?;
    let address = |server: &Server| server.url.trim_start_matches("http://").parse::<SocketAddr>();
    let balanced = format!("http://{}", balance(vec![address(&first)?, address(&second)?])?);
    first.url.clone_from(&balanced);

    // A bundle goes in, and samples come out, past the hubs.
    let config = format!(
        "[data]\nlabeled = 'x'\n[preprocessing]\ncolor = 'gray'\nheight = 8\nwidth = 8\n[store]\nremote = '{balanced}'\n"
    );
    fs::write(path("flywheel.toml"), config)?;
    let project = Project::open(&path("flywheel.toml"))?;
    first.enrol_in(&project.credentials(), "workstation", Role::Publisher)?;
    let workstation = open_remote(&project)?;
    let key = PrivateKey::from_secret([7; 32]).ok_or("no key")?;
    publish(&bundle(folder.path(), 1, &key)?, &workstation, "stable", Some(&key))?;
    fs::write(path("trusted.pem"), key.public().to_pem())?;
    durable::create_folders(&path("images"))?;
    for (i, image) in noise(&preprocessing(), 6).iter().enumerate() {
        fs::write(path("images").join(format!("{i}.png")), image.to_png()?)?;
    }
    let config = EdgeConfig {
        trusted_keys: vec![path("trusted.pem")],
        seal_after_samples: 4,
        ..EdgeConfig::new("cam-1", path("images"), path("state"), Address::Hub(balanced.clone()))
    };
    first.enrol_in(&config.credentials(), "cam-1", Role::Device)?;
    let summary = device::run(&config, Mode::Once, &AtomicBool::new(false), &mut |_| {})?;
    assert_eq!((summary.counters.samples, summary.backlog), (6, 0), "receipted by whichever hub it was");
    let ingested = ingest(&project, &workstation, Timestamp::UNIX_EPOCH)?;
    assert_eq!((ingested.segments, ingested.samples, ingested.refused.len()), (2, 6, 0), "{ingested:?}");
    // What somebody else puts into the bucket is nobody's.
    let (planted, bytes) = sealed(&[sample("cam-1", b"planted")])?;
    fs::write(store.file(&format!("north/{}", sync::segment("cam-1", planted))), bytes)?;
    let ingested = ingest(&project, &workstation, Timestamp::UNIX_EPOCH)?;
    assert_eq!((ingested.segments, ingested.unreceipted), (0, 1), "{ingested:?}");
    for name in ["hub-1", "hub-2"] {
        assert!(!path(name).join("objects").exists() && !path(name).join("keys").exists(), "{name} keeps nothing");
    }

    // What a device was let in with counts, whether it brings it or not; again is not more.
    let device = Remote::open(&Address::Hub(balanced), &config.credentials())?;
    let large: Vec<u8> = (0..90_000_u32).map(|i| (i % 251) as u8).collect();
    let (digest, bytes) = sealed(&[sample("cam-1", &large)])?;
    let segment = sync::segment("cam-1", digest);
    for _ in 0..2 {
        device.put(&segment, bytes.clone())?;
    }
    assert_eq!(device.get(&segment, 1 << 20)?.as_ref(), Some(&bytes));
    let (other, more) = sealed(&[sample("cam-1", &large[1..])])?;
    assert_eq!(refused(device.put(&sync::segment("cam-1", other), more.clone()))?, RefusalCode::TooMuch);
    // Nor can it first speak of a small one, and then of a large one with the same digest.
    let key = PrivateKey::read(&config.credentials().join("key.pem"))?;
    let name = format!("{OBJECTS}/{}", sync::segment("cam-1", other));
    let upload = Request { method: "PUT", path: &name, query: "", content: other };
    let said =
        |length: usize| first.request("PUT", &name, &more[..length], &signature(&upload, Timestamp::now(), &key));
    assert_eq!(said(1)?.0, 307);
    assert_eq!(said(more.len())?.0, 429);
    // What the store does not vouch for has no receipt, and is sent again.
    fs::write(store.file(&format!("north/{segment}")), b"damaged")?;
    device.put(&segment, bytes.clone())?;
    assert_eq!(device.get(&segment, 1 << 20)?.map(|bytes| Digest::of(&bytes)), Some(digest));

    // Who is revoked at one hub is unknown at all of them.
    second.runtime.block_on(async { second.data.database().await?.revoke("cam-1", Timestamp::now()).await })?;
    for _ in 0..2 {
        let device = Remote::open(&config.remote, &config.credentials())?;
        assert_eq!(refused(device.size(&segment))?, RefusalCode::Key);
    }
    Ok(())
}
