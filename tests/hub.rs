//! A real hub with real clients: what goes through it, and what does not.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use axum_server::Handle;
use edge_runtime::{
    EdgeConfig, Error,
    device::{self, Mode},
    event::Event,
    sync::{Address, Credentials, Remote},
};
use flywheel::{
    project::Project,
    round::open_remote,
    steps::ingest::{ingest, samples},
};
use hub::{
    limits::Limits,
    server::{DataFolder, serve, stop},
};
use jiff::{SignedDuration, Timestamp};
use models::{
    Digest, Prediction, Reason, Sample, SampleRecord,
    hub::{Enrol, OBJECTS, Refusal, RefusalCode, Role},
    segment,
    signing::{
        Message, PrivateKey, TrustedKeys,
        request::{CONTENT_DIGEST, REQUEST_SIGNATURE, Request, SIGNATURE_INPUT},
    },
    sync::{self, Counters, DeviceStatus, Receipt},
};
use tokio::runtime::Runtime;

use crate::{
    TestResult,
    parity::noise,
    takeover::{bundle, preprocessing, publish},
};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A hub in a folder, served while this lives.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) data: DataFolder,
    handle: Handle<SocketAddr>,
    pub(crate) runtime: Runtime,
}

impl Server {
    pub(crate) fn start(folder: &Path, tls: bool, limits: Limits) -> Result<Self> {
        let data = DataFolder { path: folder.join("hub"), database: None, bucket: None };
        Self::start_at(data, TcpListener::bind("127.0.0.1:0")?, tls, limits)
    }

    pub(crate) fn start_at(data: DataFolder, listener: TcpListener, tls: bool, limits: Limits) -> Result<Self> {
        let runtime = Runtime::new()?;
        listener.set_nonblocking(true)?;
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        let intake = runtime.block_on(data.intake())?;
        let identity = tls.then(|| data.identity(&["127.0.0.1".to_owned()])).transpose()?;
        let handle = Handle::new();
        let stopping = handle.clone();
        runtime.spawn(async move { serve(intake, limits, listener, None, identity.as_ref(), stopping).await });
        runtime.block_on(handle.listening()).ok_or("the hub does not listen")?;
        Ok(Self { url, data, handle, runtime })
    }

    pub(crate) fn token(&self, name: &str, role: Role) -> Result<String> {
        let token = format!("token of {name}");
        self.runtime.block_on(async {
            let expires = Timestamp::now() + SignedDuration::from_mins(5);
            self.data.database().await?.add_token(&token, name, role, expires).await
        })?;
        Ok(token)
    }

    /// Enrols somebody, who keeps what is needed for that in `folder/NAME`.
    pub(crate) fn enrol(&self, folder: &Path, name: &str, role: Role) -> Result<PathBuf> {
        let place = folder.join(name);
        self.enrol_in(&place, name, role)?;
        Ok(place)
    }

    pub(crate) fn enrol_in(&self, place: &Path, name: &str, role: Role) -> TestResult {
        self.enrol_by(place, name, role, &self.token(name, role)?)
    }

    pub(crate) fn enrol_by(&self, place: &Path, name: &str, role: Role, token: &str) -> TestResult {
        let certificate = Some(self.certificate()).filter(|path| path.exists());
        let enrolled = Credentials::enrol(place, &self.url, token, certificate.as_deref())?;
        assert_eq!((enrolled.enrolled().name.as_str(), enrolled.enrolled().role), (name, role));
        Ok(())
    }

    pub(crate) fn connect(&self, credentials: &Path) -> Result<Remote> {
        Ok(Remote::open(&Address::Hub(self.url.clone()), credentials)?)
    }

    fn certificate(&self) -> PathBuf {
        self.data.path.join("tls/certificate.pem")
    }

    /// Every file among the hub's objects.
    fn objects(&self) -> Result<BTreeSet<String>> {
        fn list(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) -> std::io::Result<()> {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let (name, path) = (format!("{prefix}{}", entry.file_name().to_string_lossy()), entry.path());
                if path.is_dir() {
                    list(&path, &format!("{name}/"), found)?;
                } else {
                    found.insert(name);
                }
            }
            Ok(())
        }
        let mut found = BTreeSet::new();
        list(&self.data.path.join("objects"), "", &mut found)?;
        Ok(found)
    }

    /// A request of one's own making: its status, and what a refusal says.
    pub(crate) fn request(
        &self,
        method: &str,
        name: &str,
        body: &[u8],
        headers: &[(&str, String)],
    ) -> Result<(u16, String)> {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{name}", self.url));
        for (header, value) in headers {
            request = request.header(*header, value);
        }
        let mut answer = agent.run(request.body(body)?)?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }

    fn code(&self, method: &str, name: &str, body: &[u8], headers: &[(&str, String)]) -> Result<RefusalCode> {
        let (status, text) = self.request(method, name, body, headers)?;
        let refusal = serde_json::from_str::<Refusal>(&text).map_err(|e| format!("{status} {text:?}: {e}"))?;
        Ok(refusal.code)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&self.handle);
    }
}

pub(crate) fn signature(request: &Request<'_>, created: Timestamp, key: &PrivateKey) -> [(&'static str, String); 3] {
    let signed = request.sign(created, key);
    [
        (CONTENT_DIGEST, signed.content_digest),
        (SIGNATURE_INPUT, signed.signature_input),
        (REQUEST_SIGNATURE, signed.signature),
    ]
}

pub(crate) fn sample(device: &str, image: &[u8]) -> Sample {
    let record = SampleRecord {
        image: Digest::of(image),
        extension: "png".into(),
        device: device.into(),
        source: "1.png".into(),
        captured: Timestamp::UNIX_EPOCH,
        bundle: Digest::of(b"bundle"),
        prediction: Prediction { class: 0, confidence: 0.9, probs: vec![0.9, 0.1] },
        reasons: vec![Reason::Audit { probability: 0.1 }],
    };
    Sample { record, image: image.to_vec() }
}

pub(crate) fn sealed(samples: &[Sample]) -> Result<(Digest, Vec<u8>)> {
    let mut bytes = Vec::new();
    segment::write(&mut bytes, samples)?;
    Ok((Digest::of(&bytes), bytes))
}

pub(crate) fn refused(result: edge_runtime::Result<impl std::fmt::Debug>) -> Result<RefusalCode> {
    match result {
        Err(Error::Refused { refusal, .. }) => Ok(refusal.code),
        other => Err(format!("{other:?} was not refused").into()),
    }
}

#[test]
fn a_device_and_a_workstation_meet_at_a_hub() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("images"))?;
    for (i, image) in noise(&preprocessing(), 6).iter().enumerate() {
        fs::write(path("images").join(format!("{i}.png")), image.to_png()?)?;
    }
    let server = Server::start(folder.path(), true, Limits::default())?;
    // The workstation publishes a bundle.
    let config = format!(
        "[data]\nlabeled = 'x'\n[preprocessing]\ncolor = 'gray'\nheight = 8\nwidth = 8\n[store]\nremote = '{}'\n",
        server.url
    );
    fs::write(path("flywheel.toml"), config)?;
    let project = Project::open(&path("flywheel.toml"))?;
    let said = open_remote(&project).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(said.contains("not enrolled") && said.contains(&server.url), "{said}");
    let token = server.token("workstation", Role::Publisher)?;
    Credentials::enrol(&project.credentials(), &server.url, &token, Some(&server.certificate()))?;
    let workstation = open_remote(&project)?;
    let key = PrivateKey::from_secret([7; 32]).ok_or("no key")?;
    publish(&workstation, &bundle(folder.path(), 1, &key)?, false)?;

    // A device that was enrolled as another one says so, and goes on when its name is right.
    fs::write(path("trusted.pem"), key.public().to_pem())?;
    server.enrol(&path("state"), "hub", Role::Reviewer)?;
    let config = EdgeConfig {
        trusted_keys: vec![path("trusted.pem")],
        poll_seconds: 0.01,
        seal_after_samples: 4,
        ..EdgeConfig::new("cam-1", path("images"), path("state"), Address::Hub(server.url.clone()))
    };
    let run = || {
        let mut events = Vec::new();
        device::run(&config, Mode::Once, &AtomicBool::new(false), &mut |event| events.push(event.clone()))
            .map(|summary| (summary, events))
    };
    let said = run().err().map(|e| e.to_string()).unwrap_or_default();
    assert!(said.contains("cam-1") && said.contains("\"hub\""), "{said}");
    fs::remove_dir_all(path("state"))?;
    let token = server.token("cam-1", Role::Device)?;
    Credentials::enrol(&config.credentials(), &server.url, &token, Some(&server.certificate()))?;
    let (summary, events) = run()?;
    // The hub receipts at once: nothing is left on the device.
    assert_eq!((summary.counters.samples, summary.backlog), (6, 0));
    let receipted = events.iter().filter(|event| matches!(event, Event::Receipted { .. })).count();
    assert_eq!(receipted, 2);
    let hub_key = TrustedKeys::new(vec![PrivateKey::read(&path("hub/keys/hub.pem"))?.public()])?;
    for name in server.objects()?.iter().filter(|name| name.starts_with("receipts/")) {
        let bytes = fs::read(path("hub/objects").join(name))?;
        Receipt::open(name, &bytes, &hub_key)?;
    }

    // The workstation takes them in, and sees how the device is.
    let ingested = ingest(&project, &workstation, Timestamp::UNIX_EPOCH)?;
    assert_eq!((ingested.segments, ingested.samples, ingested.refused.len()), (2, 6, 0), "{ingested:?}");
    assert_eq!(ingest(&project, &workstation, Timestamp::UNIX_EPOCH)?.segments, 0);
    assert_eq!(samples(&project)?.len(), 6);
    assert_eq!(workstation.list("devices")?, [sync::device_status("cam-1")]);
    let status = workstation.get(&sync::device_status("cam-1"), 1 << 20)?.ok_or("no status")?;
    let status: DeviceStatus = serde_json::from_slice(&status)?;
    assert_eq!(status.counters, summary.counters);

    Ok(())
}

#[test]
fn with_one_devices_key_nothing_of_another_can_be_reached() -> TestResult {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path(), false, Limits::default())?;
    let [victim, attacker] = ["cam-1", "cam-10"].map(|name| server.enrol(folder.path(), name, Role::Device));
    let (victim, attacker) = (victim?, attacker?);
    let (theirs, ours) = (server.connect(&victim)?, server.connect(&attacker)?);
    let (digest, bytes) = sealed(&[sample("cam-1", b"image")])?;
    theirs.put(&sync::segment("cam-1", digest), bytes.clone())?;
    let status = DeviceStatus {
        device: "cam-1".into(),
        channel: "stable".into(),
        bundle: digest,
        sequence: 1,
        counters: Counters::default(),
        unsealed: 0,
        backlog: 0,
        update: None,
        reported: Timestamp::now(),
    };
    let status = serde_json::to_vec(&status)?;
    theirs.put(&sync::device_status("cam-1"), status.clone())?;
    assert_eq!(theirs.size(&sync::segment("cam-1", digest))?, Some(bytes.len() as u64));
    assert!(theirs.get(&sync::receipt("cam-1", digest), 1 << 20)?.is_some());
    let before = server.objects()?;

    // Read, look up, list, write: all of it is refused by role.
    for name in [sync::segment("cam-1", digest), sync::receipt("cam-1", digest), sync::device_status("cam-1")] {
        assert_eq!(refused(ours.get(&name, 1 << 20))?, RefusalCode::Role, "{name}");
        assert_eq!(refused(ours.size(&name))?, RefusalCode::Role, "{name}");
        assert_eq!(refused(ours.put(&name, bytes.clone()))?, RefusalCode::Role, "{name}");
    }
    for prefix in ["", "segments", "segments/cam-1", "receipts", "receipts/cam-1/", "devices"] {
        assert_eq!(refused(ours.list(prefix))?, RefusalCode::Role, "{prefix}");
    }
    for name in ["channels/stable.json".to_owned(), sync::bundle_file(digest, "model.onnx"), "keys/hub.pem".to_owned()]
    {
        assert_eq!(refused(ours.put(&name, bytes.clone()))?, RefusalCode::Role, "{name}");
    }
    // Samples and statuses in another's name, among one's own.
    assert_eq!(refused(ours.put(&sync::segment("cam-10", digest), bytes.clone()))?, RefusalCode::Content);
    assert_eq!(refused(ours.put(&sync::device_status("cam-10"), status))?, RefusalCode::Content);
    // Another's name with one's own key, and another's signature for something else.
    let name = format!("{OBJECTS}/{}", sync::segment("cam-1", digest));
    let get = Request { method: "GET", path: &name, query: "", content: Digest::of(b"") };
    let [ours_key, theirs_key] = [&attacker, &victim].map(|place| PrivateKey::read(&place.join("key.pem")));
    let (ours_key, theirs_key) = (ours_key?, theirs_key?);
    let now = Timestamp::now();
    let mut forged = signature(&get, now, &ours_key);
    forged[1].1 = forged[1].1.replace(&ours_key.public().id().to_string(), &theirs_key.public().id().to_string());
    assert_eq!(server.code("GET", &name, b"", &forged)?, RefusalCode::Key);
    let overheard = signature(&get, now, &theirs_key);
    assert_eq!(server.request("GET", &name, b"", &overheard)?.0, 200, "this is what would be overheard");
    assert_eq!(server.code("PUT", &name, &bytes, &overheard)?, RefusalCode::Key);
    assert_eq!(server.code("GET", &name, b"", &[])?, RefusalCode::Key);
    // Ways out of the store, for somebody who may read everything in it.
    let reader = PrivateKey::read(&server.enrol(folder.path(), "reader", Role::Reviewer)?.join("key.pem"))?;
    for path in
        ["/v1/objects/../hub.db", "/v1/objects/channels/%2e%2e/%2e%2e/hub.db", "/v1/objects/channels/..%2f..%2fhub.db"]
    {
        let request = Request { method: "GET", path, query: "", content: Digest::of(b"") };
        let (status, text) = server.request("GET", path, b"", &signature(&request, now, &reader))?;
        // Where the client makes another path of it, it is not the one that was signed.
        assert!(matches!(status, 401 | 404) && !text.contains("SQLite"), "{path}: {status} {text}");
    }
    assert_eq!(server.objects()?, before);
    Ok(())
}

#[test]
fn a_key_is_good_from_its_token_until_it_is_revoked_and_a_request_for_minutes() -> TestResult {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path(), false, Limits::default())?;
    let place = server.enrol(folder.path(), "cam-1", Role::Device)?;
    // The token is used up, but for the very key that used it.
    Credentials::enrol(&place, &server.url, "token of cam-1", None)?;
    let again = Credentials::enrol(&folder.path().join("thief"), &server.url, "token of cam-1", None);
    assert_eq!(refused(again.map(|_| ()))?, RefusalCode::Token);

    let name = format!("{OBJECTS}/channels/stable.json");
    let request = Request { method: "GET", path: &name, query: "", content: Digest::of(b"") };
    let key = PrivateKey::read(&place.join("key.pem"))?;
    let code = |created: Timestamp| server.code("GET", &name, b"", &signature(&request, created, &key));
    let now = Timestamp::now();
    assert_eq!(code(now)?, RefusalCode::NotFound);
    assert_eq!(code(now - SignedDuration::from_mins(4))?, RefusalCode::NotFound);
    for wrong in [now - SignedDuration::from_mins(6), now + SignedDuration::from_mins(6)] {
        assert_eq!(code(wrong)?, RefusalCode::Clock);
    }
    let remote = server.connect(&place)?;
    assert!(remote.get("channels/stable.json", 1)?.is_none());
    server.runtime.block_on(async { server.data.database().await?.revoke("cam-1", now).await })?;
    assert_eq!(code(now)?, RefusalCode::Key);
    assert_eq!(refused(remote.get("channels/stable.json", 1))?, RefusalCode::Key);
    // With a new token it makes itself a new key, under the same name.
    server.runtime.block_on(async {
        let expires = now + SignedDuration::from_mins(5);
        server.data.database().await?.add_token("another", "cam-1", Role::Device, expires).await
    })?;
    Credentials::enrol(&place, &server.url, "another", None)?;
    assert_ne!(PrivateKey::read(&place.join("key.pem"))?.public(), key.public());
    assert!(server.connect(&place)?.get("channels/stable.json", 1)?.is_none());
    Ok(())
}

#[test]
fn a_segment_that_is_not_what_it_says_leaves_nothing() -> TestResult {
    let folder = tempfile::tempdir()?;
    let limits = Limits { segment_bytes: 1 << 20, device_bytes_per_day: 5 << 20, ..Limits::default() };
    let server = Server::start(folder.path(), false, limits)?;
    let remote = server.connect(&server.enrol(folder.path(), "cam-1", Role::Device)?)?;
    let (digest, whole) = sealed(&[sample("cam-1", b"one"), sample("cam-1", &[7; 900_000])])?;
    let put = |bytes: &[u8]| remote.put(&sync::segment("cam-1", Digest::of(bytes)), bytes.to_vec());
    let mut other_image = whole.clone();
    other_image[512] ^= 1;
    let mut no_tar = whole.clone();
    no_tar[..600].fill(b'x');
    for (what, bytes) in
        [("cut off", &whole[..70_000]), ("another image than its name", &other_image), ("no tar", &no_tar)]
    {
        assert_eq!(refused(put(bytes)).map_err(|e| format!("{what}: {e}"))?, RefusalCode::Content, "{what}");
    }
    assert_eq!(refused(put(&vec![0; (1 << 20) + 1]))?, RefusalCode::TooLarge);
    let named = remote.put(&sync::segment("cam-1", Digest::of(b"promised")), whole.clone());
    assert_eq!(refused(named)?, RefusalCode::Content);
    assert_eq!(server.objects()?, BTreeSet::new(), "something stayed");

    // The whole one comes in, as often as it is sent, and counts once.
    put(&whole)?;
    put(&whole)?;
    let names = [sync::segment("cam-1", digest), sync::receipt("cam-1", digest)];
    assert_eq!(server.objects()?, BTreeSet::from(names.clone()));
    // More than a device may send in a day waits for another one.
    for seed in 1..=5_u8 {
        let image: Vec<u8> = (0..1_040_000_u32).map(|i| (i % 251) as u8 ^ seed).collect();
        let (_, bytes) = sealed(&[sample("cam-1", &image)])?;
        let sent = put(&bytes);
        assert_eq!(sent.is_ok(), seed < 5, "{sent:?}");
        if seed == 5 {
            assert_eq!(refused(sent)?, RefusalCode::TooMuch);
        }
    }

    // As after a power cut between segment and receipt: the device asks again, and the workstation waits for that.
    let receipt = server.data.path.join("objects").join(&names[1]);
    fs::remove_file(&receipt)?;
    put(&whole)?;
    let key = TrustedKeys::new(vec![PrivateKey::read(&server.data.path.join("keys/hub.pem"))?.public()])?;
    let receipt = Receipt::open("receipt", &fs::read(receipt)?, &key)?;
    assert_eq!((receipt.segment, receipt.samples, receipt.seal.is_some()), (digest, Some(2), true));
    Ok(())
}

#[test]
fn a_backup_made_while_the_hub_serves_is_a_hub_again() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let server = Server::start(folder.path(), true, Limits::default())?;
    let place = server.enrol(folder.path(), "cam-1", Role::Device)?;
    let (digest, bytes) = sealed(&[sample("cam-1", b"shown")])?;
    server.connect(&place)?.put(&sync::segment("cam-1", digest), bytes)?;
    // What people have said, a board, and a picture on it.
    let said = b"[]";
    for (name, content) in [
        (sync::reviews(Digest::of(said)), said.as_slice()),
        (sync::BOARD.to_owned(), b"{}"),
        (sync::picture(Digest::of(b"x")), b"png"),
    ] {
        let file = path("hub/objects").join(name);
        fs::create_dir_all(file.parent().ok_or("no folder")?)?;
        fs::write(file, content)?;
    }
    let files = server.runtime.block_on(hub::backup::backup(&server.data, &path("backup.tar")))?;
    let before = server.objects()?;
    // Its database, its key, its certificate with a key, the segment and its receipt, and those.
    assert_eq!((files, before.len()), (9, 5));
    drop(server);

    assert!(hub::backup::restore(&path("backup.tar"), &path("hub")).is_err(), "over a hub that is there");
    fs::rename(path("hub"), path("lost"))?;
    assert_eq!(hub::backup::restore(&path("backup.tar"), &path("hub"))?, files);
    let server = Server::start(folder.path(), true, Limits::default())?;
    assert_eq!(server.objects()?, before);
    // The device's key is known, and it still knows the hub, which has another port now.
    let enrolled = fs::read_to_string(place.join("enrolled.json"))?;
    let port = |url: &str| url.rsplit_once(':').map(|(_, port)| port.to_owned());
    let old = serde_json::from_str::<serde_json::Value>(&enrolled)?["hub"].as_str().and_then(port).ok_or("no hub")?;
    fs::write(place.join("enrolled.json"), enrolled.replace(&old, &port(&server.url).ok_or("no port")?))?;
    assert!(server.connect(&place)?.get(&sync::receipt("cam-1", digest), 1 << 20)?.is_some());
    drop(server);

    // A damaged segment is found, and nothing is left of the attempt.
    let mut damaged = fs::read(path("backup.tar"))?;
    let at = damaged.windows(5).rposition(|bytes| bytes == b"shown").ok_or("no image")?;
    damaged[at] ^= 1;
    fs::write(path("damaged.tar"), damaged)?;
    let said =
        hub::backup::restore(&path("damaged.tar"), &path("other")).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(said.contains(&digest.to_string()) && !path("other").exists(), "{said}");
    fs::write(path("damaged.tar"), b"hello")?;
    assert!(hub::backup::restore(&path("damaged.tar"), &path("other")).is_err());
    assert!(!path("other").exists());
    Ok(())
}

#[test]
fn who_asks_too_often_has_to_wait() -> TestResult {
    let folder = tempfile::tempdir()?;
    let one = NonZeroU32::MIN;
    let server = Server::start(folder.path(), false, Limits { requests_per_second: one, ..Limits::default() })?;
    let remote = server.connect(&server.enrol(folder.path(), "cam-1", Role::Device)?)?;
    // A client waits for the second that it is asked to.
    let began = std::time::Instant::now();
    for _ in 0..7 {
        assert!(remote.size("channels/stable.json")?.is_none());
    }
    assert!(began.elapsed().as_secs() >= 1, "five at once, and then one a second");
    // Guessing tokens is slow, too.
    let enrol = Enrol {
        token: "guess".into(),
        public_key: PrivateKey::from_secret([1; 32]).ok_or("no key")?.public().to_pem(),
    };
    let body = serde_json::to_vec(&enrol)?;
    let mut codes = BTreeSet::new();
    for _ in 0..40 {
        codes.insert(format!("{:?}", server.code("POST", "/v1/enrol", &body, &[])?));
    }
    assert_eq!(codes, BTreeSet::from(["Token".to_owned(), "TooMuch".to_owned()]));
    Ok(())
}
