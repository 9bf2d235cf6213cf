//! Nothing is lost when the power goes: devices and the workstation's intake are stopped at every change that they make on disk.
//!
//! Both run as processes of their own on a disk that remembers what was synced (`disk.rs`). At one change (a write, a sync, a
//! new name, a rename, a deletion) the process is killed, and the disk keeps everything, nothing, or a part of what was not
//! synced. Then the same step runs again, and the rest of the story: capture, seal, upload, receipt, delete, a new
//! bundle. At its end every sample must be with the workstation exactly once, and the new bundle must serve.
//!
//! The story is told twice: once with a shared folder between device and workstation, once with a hub, which runs in the processes of
//! both and is stopped with them. Its objects are on the same disk; its database, which SQLite keeps whole, is not.
//!
//! These need Linux and the right to mount a FUSE file system. `FLYWHEEL_POWER_CUTS=1` stops at every change in every way, and
//! takes some minutes; otherwise every 13th of these stops is tried.

mod disk;
mod mount;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use edge_runtime::{
    EdgeConfig, device,
    sync::{Address, Remote},
};
use flywheel::{
    project::Project,
    round::open_remote,
    steps::ingest::{ingest, samples},
};
use fuser::BackgroundSession;
use hub::{limits::Limits, server::DataFolder};
use jiff::Timestamp;
use models::{Digest, durable, hub::Role, segment, signing::PrivateKey};
use rand::{SeedableRng, rngs::SmallRng};
use rustix::{io::Errno, mount::UnmountFlags};
use serde_json::Value;

use self::{
    disk::{Disk, End},
    mount::{Machine, Shared},
};
use crate::{
    TestResult,
    hub::Server,
    parity::noise,
    takeover::{bundle, device_config, preprocessing, publish},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Images in the source before the new bundle is published, and after it.
const IMAGES: [usize; 2] = [6, 4];
const HUB_KEY: [u8; 32] = [9; 32];
/// Every hub has this one, each on an address of its own.
const PORT: u16 = 18_443;
/// Tells a process what it is and where its disk is.
const PROCESS: &str = "FLYWHEEL_POWER_CUT_PROCESS";
/// Tells it which address its hub has and where its database is, if there is a hub.
const HUB: &str = "FLYWHEEL_POWER_CUT_HUB";

/// What stands between device and workstation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Folder,
    Hub,
}

impl Between {
    /// Where the shared objects are.
    fn objects(self) -> &'static str {
        match self {
            Self::Folder => "remote",
            Self::Hub => "hub/objects",
        }
    }
}

/// What happens, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The device runs until it has nothing left to do.
    Device,
    /// The workstation takes in what devices have sent.
    Intake,
    /// More images appear, and a new bundle.
    Publish,
}

const STORY: [Step; 7] =
    [Step::Device, Step::Intake, Step::Publish, Step::Device, Step::Intake, Step::Device, Step::Device];

/// The disk before the story, and what is put on it when the new bundle is published.
struct Setting {
    between: Between,
    /// The database of the hub before the story, with the keys of both.
    database: PathBuf,
    before: Disk,
    /// This program, as it is now.
    program: PathBuf,
    published: PathBuf,
    new_bundle: Digest,
    _folder: tempfile::TempDir,
}

impl Setting {
    fn new(between: Between) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        for place in ["source", between.objects(), "state", "workstation"] {
            durable::create_folders(&first.join(place))?;
        }
        for place in ["source", between.objects()] {
            durable::create_folders(&second.join(place))?;
        }
        let key = PrivateKey::from_secret([7; 32]).ok_or("no key")?;
        fs::write(first.join("trusted.pem"), key.public().to_pem())?;
        fs::write(first.join("workstation/signing.pem"), key.to_pem())?;
        fs::write(first.join("workstation/flywheel.toml"), project_config("../remote"))?;
        for (i, image) in noise(&preprocessing(), IMAGES[0] + IMAGES[1]).iter().enumerate() {
            let place = if i < IMAGES[0] { &first } else { &second };
            fs::write(place.join(format!("source/{i}.png")), image.to_png()?)?;
        }
        let bundles = [bundle(folder.path(), 1, &key)?, bundle(folder.path(), 2, &key)?];
        for (place, bundle) in [&first, &second].into_iter().zip(&bundles) {
            publish(&Remote::folder(&place.join(between.objects()))?, bundle, false)?;
        }
        let database = folder.path().join("hub.db");
        if between == Between::Hub {
            let data = DataFolder { path: first.join("hub"), database: None, bucket: None };
            durable::create_folders(&first.join("hub/keys"))?;
            let hub_key = PrivateKey::from_secret(HUB_KEY).ok_or("no key")?;
            fs::write(first.join("hub/keys/hub.pem"), hub_key.to_pem())?;
            let server = Server::start_at(data, TcpListener::bind("127.0.0.1:0")?, false, Limits::default())?;
            server.enrol_in(&first.join("state/hub"), "cam-1", Role::Device)?;
            server.enrol_in(&first.join("workstation/flywheel/hub"), "workstation", Role::Publisher)?;
            server.runtime.block_on(async { server.data.database().await?.copy_to(&database).await })?;
            drop(server);
            for name in ["hub.db", "hub.db-wal", "hub.db-shm"].map(|name| first.join("hub").join(name)) {
                if name.exists() {
                    fs::remove_file(name)?;
                }
            }
        }
        let mut before = Disk::new();
        before.import(&first)?;
        let program = folder.path().join("program");
        fs::copy(env::current_exe()?, &program)?;
        Ok(Self {
            between,
            database,
            before,
            program,
            published: second,
            new_bundle: bundles[1].digest(),
            _folder: folder,
        })
    }
}

fn project_config(remote: &str) -> String {
    format!(
        "[data]\nlabeled = 'x'\n[preprocessing]\ncolor = 'gray'\nheight = 8\nwidth = 8\n[store]\nremote = '{remote}'\n[export]\nsigning_key = 'signing.pem'\n"
    )
}

/// A hub of one story, which both sides know by its address.
struct Place {
    address: SocketAddr,
    database: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new(setting: &Setting, disk: &mut Disk) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // One of its own: a port that is free now may be the other end of somebody's connection when the hub starts.
        static STORIES: AtomicU32 = AtomicU32::new(0);
        let [_, _, third, fourth] = STORIES.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        let address = SocketAddr::from(([127, 1, third, fourth], PORT));
        let (database, over) = (folder.path().join("hub.db"), folder.path().join("over"));
        fs::copy(&setting.database, &database)?;
        let url = url(address);
        for (place, name, role) in
            [("state/hub", "cam-1", Role::Device), ("workstation/flywheel/hub", "workstation", Role::Publisher)]
        {
            let hub_key = PrivateKey::from_secret(HUB_KEY).ok_or("no key")?.public().to_pem();
            let enrolled = serde_json::json!({ "hub": url, "name": name, "role": role, "hub_key": hub_key });
            durable::create_folders(&over.join(place))?;
            durable::write_json(&over.join(place).join("enrolled.json"), &enrolled)?;
        }
        fs::write(over.join("workstation/flywheel.toml"), project_config(&url))?;
        disk.import(&over)?;
        Ok(Self { address, database, _folder: folder })
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// What one way through the story came to.
#[derive(Debug, Default)]
struct Outcome {
    changes: u64,
    /// Whether the change at which to stop was reached.
    was_stopped: bool,
}

/// Goes through the story, stopped once at a change, and looks at what is there at its end.
fn live_through(setting: &Setting, stop_at: Option<u64>, end: End, seed: u64) -> Result<Outcome> {
    let mountpoint = tempfile::tempdir()?;
    let root = mountpoint.path();
    let mut disk = setting.before.clone();
    let place = (setting.between == Between::Hub).then(|| Place::new(setting, &mut disk)).transpose()?;
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut outcome = Outcome::default();
    let mut acknowledged = BTreeSet::new();
    let mut last = Vec::new();
    for step in STORY {
        if step == Step::Publish {
            disk.import(&setting.published)?;
            continue;
        }
        loop {
            let stop_at = stop_at.filter(|_| !outcome.was_stopped).map(|at| at.saturating_sub(outcome.changes));
            let shared = Shared::new(Machine { disk, changes: 0, stop_at, is_stopped: false });
            let session = shared.mount(root)?;
            let (events, status) = run(&setting.program, step, root, place.as_ref(), &shared)?;
            unmount(root, session)?;
            let machine = shared.lock();
            disk = machine.disk.clone();
            outcome.changes += machine.changes;
            acknowledged.extend(events.iter().filter_map(acknowledges));
            last = events;
            if !machine.is_stopped {
                if !status {
                    return Err(format!("{step:?} failed: {last:?}").into());
                }
                break;
            }
            outcome.was_stopped = true;
            disk.end(end, &mut rng);
        }
    }
    let shared = Shared::new(Machine { disk, changes: 0, stop_at: None, is_stopped: false });
    let session = shared.mount(root)?;
    let found = look(setting, root, &acknowledged, &last);
    unmount(root, session)?;
    found?;
    Ok(outcome)
}

/// What a process that was killed had open is closed a little later than it is gone.
fn unmount(root: &Path, session: BackgroundSession) -> Result<()> {
    let mut tries = 0;
    while let Err(e) = rustix::mount::unmount(root, UnmountFlags::empty()) {
        tries += 1;
        if e != Errno::BUSY || tries > 1000 {
            return Err(e.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(session.join()?)
}

/// The name of an image whose sample the device says it has kept.
fn acknowledges(event: &Value) -> Option<String> {
    let is_kept = event["event"] == "classified" && event["kept"].as_array().is_some_and(|kept| !kept.is_empty());
    is_kept.then(|| event["source"].as_str().unwrap_or_default().to_owned())
}

/// Runs a step's process until it ends, or kills it when the disk stops. Returns its events, and whether it went well.
fn run(program: &Path, step: Step, root: &Path, place: Option<&Place>, shared: &Shared) -> Result<(Vec<Value>, bool)> {
    let mut command = Command::new(program);
    if let Some(Place { address, database, .. }) = place {
        command.env(HUB, format!("{address} {}", database.display()));
    }
    let mut process = command
        .args(["power_cut::process", "--exact", "--ignored", "--nocapture"])
        .env(PROCESS, format!("{step:?} {}", root.display()))
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = process.stdout.take().ok_or("no output")?;
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(std::result::Result::ok);
        lines.filter_map(|line| serde_json::from_str::<Value>(line.get(line.find('{')?..)?).ok()).collect::<Vec<_>>()
    });
    let status = loop {
        if let Some(status) = process.try_wait()? {
            break status;
        }
        if shared.lock().is_stopped {
            process.kill()?;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    Ok((reader.join().map_err(|_| "the reader of events panicked")?, status.success()))
}

/// Device or intake, as a process of its own.
#[test]
#[ignore = "started by the test beside it"]
fn process() -> TestResult {
    let Ok(task) = env::var(PROCESS) else { return Ok(()) };
    let (step, root) = task.split_once(' ').ok_or("expected a step and a folder")?;
    let root = Path::new(root);
    let hub = env::var(HUB).ok();
    let hub = hub.as_deref().and_then(|hub| hub.split_once(' '));
    let mut config = EdgeConfig { poll_seconds: 0.01, seal_after_samples: 4, ..device_config(root) };
    let mut _server = None;
    if let Some((address, database)) = hub {
        let data =
            DataFolder { path: root.join("hub"), database: Some(format!("sqlite:{database}?mode=rwc")), bucket: None };
        let address = address.parse()?;
        config.remote = Address::Hub(url(address));
        _server = Some(Server::start_at(data, TcpListener::bind(address)?, false, Limits::default())?);
    }
    if step == "Intake" {
        let project = Project::open(&root.join("workstation/flywheel.toml"))?;
        let ingested = ingest(&project, &open_remote(&project)?, Timestamp::UNIX_EPOCH)?;
        return if ingested.refused.is_empty() { Ok(()) } else { Err(format!("{ingested:?}").into()) };
    }
    device::run(&config, device::Mode::Once, &AtomicBool::new(false), &mut |event| {
        println!("{}", serde_json::to_string(event).unwrap_or_default());
    })?;
    Ok(())
}

/// What has to be true at the end of every story.
fn look(setting: &Setting, root: &Path, acknowledged: &BTreeSet<String>, last: &[Value]) -> Result<()> {
    let expected: BTreeSet<String> = (0..IMAGES[0] + IMAGES[1]).map(|i| format!("{i}.png")).collect();
    let project = Project::open(&root.join("workstation/flywheel.toml"))?;
    let kept: Vec<String> = samples(&project)?.into_iter().map(|sample| sample.record.source).collect();
    let distinct: BTreeSet<String> = kept.iter().cloned().collect();
    if distinct != expected || kept.len() != expected.len() || !acknowledged.is_subset(&distinct) {
        return Err(format!("the workstation has {kept:?}; acknowledged were {acknowledged:?}").into());
    }
    let names = |folder: &str| -> Result<Vec<String>> {
        let entries = fs::read_dir(root.join(folder))?;
        Ok(entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<_>>()?)
    };
    let left = [names("state/store/open")?, names("state/store/sealed")?].concat();
    if !left.is_empty() {
        return Err(format!("the device still has {left:?}").into());
    }
    let mut journaled: BTreeMap<String, usize> = BTreeMap::new();
    for line in fs::read_to_string(root.join("state/predictions.jsonl"))?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        *journaled.entry(entry["source"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    if !journaled.keys().eq(&expected) || journaled.values().any(|times| *times != 1) {
        return Err(format!("the journal holds {journaled:?}").into());
    }
    let serves = |event: &&Value| event["event"] == "serving";
    let serving = last.iter().rfind(serves).map(|event| event["bundle"].clone());
    if serving != Some(serde_json::to_value(setting.new_bundle)?) {
        return Err(format!("{serving:?} serves instead of {}", setting.new_bundle).into());
    }
    // The workstation would take one of several copies; there are none.
    let mut copies = 0;
    for path in fs::read_dir(project.segments_folder().join("cam-1"))? {
        let path = path?.path();
        let digest = path.file_stem().unwrap_or_default().to_string_lossy().parse()?;
        copies += segment::read(&path, digest)?.len();
    }
    if copies == expected.len() { Ok(()) } else { Err(format!("{copies} copies of {} samples", expected.len()).into()) }
}

#[test]
#[ignore = "mounts file systems of its own"]
fn nothing_is_lost_wherever_a_process_or_the_power_stops() -> TestResult {
    stop_everywhere(Between::Folder)
}

#[test]
#[ignore = "mounts file systems of its own"]
fn nothing_is_lost_at_a_hub_wherever_a_process_or_the_power_stops() -> TestResult {
    stop_everywhere(Between::Hub)
}

fn stop_everywhere(between: Between) -> TestResult {
    let setting = Setting::new(between)?;
    let whole = live_through(&setting, None, End::Kill, 0)?;
    assert!(whole.changes > 200, "{whole:?}");
    let is_full = env::var_os("FLYWHEEL_POWER_CUTS").is_some();
    let ways = [(End::Kill, 0), (End::Lost, 0), (End::Names, 0), (End::Torn, 0), (End::Torn, 1), (End::Torn, 2)];
    let points = (1..=whole.changes).flat_map(|at| ways.map(|(end, seed)| (at, end, seed)));
    let points: Vec<(u64, End, u64)> = points.step_by(if is_full { 1 } else { 13 }).collect();

    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let (tried, stopped) = (points.len(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((at, end, seed)) = points.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    match live_through(&setting, Some(*at), *end, 1000 * seed + at) {
                        Ok(outcome) => {
                            stopped.fetch_add(u64::from(outcome.was_stopped), Ordering::SeqCst);
                        }
                        Err(e) => {
                            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                            failures.push(format!("{end:?} at change {at}, seed {seed}: {e}"));
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner()?;
    println!(
        "{between:?}: {tried} stops at {} changes, {} of them reached; samples lost, doubled or stuck in {} stories",
        whole.changes,
        stopped.into_inner(),
        failures.len(),
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}
