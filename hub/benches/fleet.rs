//! A fleet at one hub, and uploads beside a plain nginx: `cargo bench -p hub --bench fleet -- [SECONDS] [DEVICES]`.
//!
//! The hub is a process of its own, and the fleet is threads of this one, on the same machine. One device in a hundred is active
//! at a time: it connects by TLS, asks for its channel, tells how it is, and every fourth time sends a segment of ten images of
//! 20 kB. Then four clients without TLS put segments of 1 MiB into the hub and, if `FLYWHEEL_NGINX` is the address of a folder that
//! takes PUT, into that, in turn. The hub checks, syncs and receipts each segment; nginx does none of it. Then a hub whose objects are
//! in a bucket signs addresses for segments that go past it, and last, a rollout is judged by what the whole fleet says.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hub::{channels::Channels, server::DataFolder};
use jiff::{SignedDuration, Timestamp};
use models::{
    Digest, Prediction, Reason, Sample, SampleRecord,
    hub::{OBJECTS, Role},
    segment,
    signing::{
        PrivateKey,
        request::{CONTENT_DIGEST, REQUEST_SIGNATURE, Request, SIGNATURE_INPUT},
    },
    sync::{self, ChannelPointer, Counters, DeviceStatus},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ureq::{
    Agent,
    http::Request as HttpRequest,
    tls::{Certificate, RootCerts, TlsConfig},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One contact in so many brings a segment.
const CONTACTS_PER_SEGMENT: usize = 4;
const UPLOADERS: usize = 4;
const UPLOAD_SECONDS: u64 = 10;

/// A hub as a process, stopped when this is dropped.
struct Hub {
    process: Child,
    url: String,
}

impl Hub {
    fn start(data: &Path, options: &[&str]) -> Result<Self> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_flywheel-hub"))
            .args(["serve", "--listen", "127.0.0.1:0", "--name", "127.0.0.1", "--data"])
            .arg(data)
            .args(["--device-mebibytes-per-day", "1000000", "--requests-per-second", "100000"])
            .args(options)
            .envs([("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "secret")])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let url = line.split([' ', ',']).find(|word| word.starts_with("http")).ok_or("no address")?.to_owned();
        Ok(Self { process, url })
    }

    /// Largest resident memory so far, in mebibytes.
    fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM")).ok_or("no VmHWM")?;
        let kibibytes: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
        Ok(kibibytes >> 10)
    }

    /// Seconds of a processor that it has used.
    fn processor(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // After the name, which is in brackets: user and system time, in hundredths.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<std::result::Result<f64, _>>()? / 100.0)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // It is gone either way.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn device(number: usize) -> String {
    format!("device-{number}")
}

fn key(number: usize) -> Result<PrivateKey> {
    let secret = Digest::of(format!("key {number}").as_bytes()).into_bytes();
    PrivateKey::from_secret(secret).ok_or_else(|| "no key".into())
}

fn enrol(data: &Path, devices: usize) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let database = DataFolder { path: data.to_owned(), database: None, bucket: None }.database().await?;
        let now = Timestamp::now();
        for number in 0..devices {
            let token = format!("token {number}");
            database.add_token(&token, &device(number), Role::Device, now + SignedDuration::from_hours(1)).await?;
            database.enrol(&token, &key(number)?.public(), now).await?;
        }
        Ok(())
    })
}

/// Sends a signed request and waits for the whole answer; its status.
fn send(agent: &Agent, url: &str, method: &str, name: &str, content: &[u8], key: &PrivateKey) -> Result<u16> {
    let path = format!("{OBJECTS}/{name}");
    let signed = Request { method, path: &path, query: "", content: Digest::of(content) }.sign(Timestamp::now(), key);
    let request = HttpRequest::builder()
        .method(method)
        .uri(format!("{url}{path}"))
        .header(CONTENT_DIGEST, signed.content_digest)
        .header(SIGNATURE_INPUT, signed.signature_input)
        .header(REQUEST_SIGNATURE, signed.signature);
    let mut answer = if method == "PUT" { agent.run(request.body(content)?)? } else { agent.run(request.body(())?)? };
    answer.body_mut().read_to_vec()?;
    Ok(answer.status().as_u16())
}

fn agent(certificate: Option<&[u8]>) -> Result<Agent> {
    let mut tls = TlsConfig::builder();
    if let Some(pem) = certificate {
        tls = tls.root_certs(RootCerts::new_with_certs(&[Certificate::from_pem(pem)?]));
    }
    Ok(Agent::config_builder().http_status_as_error(false).max_redirects(0).tls_config(tls.build()).build().new_agent())
}

/// A segment of so many images of so many bytes, none of them like another.
fn sealed(device: &str, rng: &mut SmallRng, images: usize, bytes: usize) -> Result<(Digest, Vec<u8>)> {
    let samples: Vec<Sample> = (0..images)
        .map(|i| {
            let mut image = vec![0; bytes];
            rng.fill_bytes(&mut image);
            let record = SampleRecord {
                image: Digest::of(&image),
                extension: "jpg".into(),
                device: device.to_owned(),
                source: format!("{i}.jpg"),
                captured: Timestamp::now(),
                bundle: Digest::of(b"bundle"),
                prediction: Prediction { class: 0, confidence: 0.9, probs: vec![0.1; 10] },
                reasons: vec![Reason::Confident { threshold: 0.8 }],
            };
            Sample { record, image }
        })
        .collect();
    let mut content = Vec::new();
    segment::write(&mut content, &samples)?;
    Ok((Digest::of(&content), content))
}

/// Latencies in milliseconds, and bytes of segments.
#[derive(Default)]
struct Seen {
    small: Vec<f64>,
    segments: Vec<f64>,
    bytes: usize,
    failures: usize,
}

fn status(device: String) -> DeviceStatus {
    DeviceStatus {
        device,
        channel: "stable".into(),
        bundle: Digest::of(b"bundle"),
        sequence: 1,
        counters: Counters::default(),
        unsealed: 0,
        backlog: 0,
        update: None,
        reported: Timestamp::now(),
    }
}

fn contact(url: &str, certificate: &[u8], number: usize, turn: usize, seen: &mut Seen) -> Result<()> {
    let (agent, key, device) = (agent(Some(certificate))?, key(number)?, device(number));
    let mut timed = |method: &str, name: &str, content: &[u8]| -> Result<f64> {
        let began = Instant::now();
        let status = send(&agent, url, method, name, content, &key)?;
        seen.failures += usize::from(!(200..300).contains(&status) && status != 404);
        Ok(1000.0 * began.elapsed().as_secs_f64())
    };
    let pointer = timed("GET", &sync::channel("stable"), b"")?;
    let status = status(device.clone());
    let reported = timed("PUT", &sync::device_status(&device), &serde_json::to_vec(&status)?)?;
    let mut uploaded = None;
    if turn.is_multiple_of(CONTACTS_PER_SEGMENT) {
        let mut rng = SmallRng::seed_from_u64((number * 1_000_003 + turn) as u64);
        let (digest, content) = sealed(&device, &mut rng, 10, 20_000)?;
        uploaded = Some((timed("PUT", &sync::segment(&device, digest), &content)?, content.len()));
    }
    seen.small.extend([pointer, reported]);
    if let Some((milliseconds, bytes)) = uploaded {
        seen.segments.push(milliseconds);
        seen.bytes += bytes;
    }
    Ok(())
}

fn fleet(data: &Path, devices: usize, seconds: u64) -> Result<()> {
    let began = Instant::now();
    enrol(data, devices)?;
    println!("{devices} devices enrolled in {:.0} s", began.elapsed().as_secs_f64());
    let hub = Hub::start(data, &[])?;
    let certificate = fs::read(data.join("tls/certificate.pem"))?;
    let (turn, all) = (AtomicUsize::new(0), Mutex::new(Seen::default()));
    let (active, began) = (devices / 100, Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..active {
            scope.spawn(|| {
                let mut seen = Seen::default();
                while began.elapsed() < Duration::from_secs(seconds) {
                    let turn = turn.fetch_add(1, Ordering::Relaxed);
                    if let Err(e) = contact(&hub.url, &certificate, turn % devices, turn, &mut seen) {
                        eprintln!("{e}");
                        seen.failures += 1;
                    }
                }
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.small.extend(seen.small);
                all.segments.extend(seen.segments);
                all.bytes += seen.bytes;
                all.failures += seen.failures;
            });
        }
    });
    let (took, mut all) = (began.elapsed().as_secs_f64(), all.into_inner()?);
    let contacts = turn.into_inner();
    println!(
        "{active} active at a time, {took:.0} s: {:.0} contacts a second, enough for {devices} devices every {:.0} s; {} failures",
        contacts as f64 / took,
        devices as f64 * took / contacts as f64,
        all.failures,
    );
    println!("hub: at most {} MiB resident", hub.memory()?);
    for (what, latencies) in [("channel or status", &mut all.small), ("segment of 200 kB", &mut all.segments)] {
        latencies.sort_by(f64::total_cmp);
        let at =
            |quantile: f64| latencies.get((quantile * (latencies.len() - 1) as f64) as usize).copied().unwrap_or(0.0);
        println!("{what}: {} requests, p50 {:.1} ms, p99 {:.1} ms", latencies.len(), at(0.5), at(0.99));
    }
    println!(
        "segments: {:.0} a second, {:.1} MB a second",
        all.segments.len() as f64 / took,
        all.bytes as f64 / took / 1e6
    );
    Ok(())
}

/// Megabytes a second of segments of 1 MiB from a few clients.
fn uploads(put: impl Fn(&Agent, usize, Digest, &[u8]) -> Result<u16> + Sync) -> Result<f64> {
    let (bytes, began) = (AtomicUsize::new(0), Instant::now());
    let time = Duration::from_secs(UPLOAD_SECONDS);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..UPLOADERS)
            .map(|number| {
                scope.spawn({
                    let (put, bytes) = (&put, &bytes);
                    move || -> Result<()> {
                        let agent = agent(None)?;
                        let mut rng = SmallRng::seed_from_u64(Timestamp::now().as_nanosecond() as u64 + number as u64);
                        // Made before: what is measured is not this machine's making of segments.
                        let (_, mut content) = sealed(&device(number), &mut rng, 10, 100_000)?;
                        let mut turn = 0_u64;
                        while began.elapsed() < time {
                            turn += 1;
                            // Behind the end of the tar: another digest for the same samples.
                            content.truncate(content.len() - if turn > 1 { 8 } else { 0 });
                            content.extend(turn.to_le_bytes());
                            let status = put(&agent, number, Digest::of(&content), &content)?;
                            if !(200..300).contains(&status) {
                                return Err(format!("answered {status}").into());
                            }
                            bytes.fetch_add(content.len(), Ordering::Relaxed);
                        }
                        Ok(())
                    }
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| "a client panicked")?)
    })?;
    Ok(bytes.into_inner() as f64 / began.elapsed().as_secs_f64() / 1e6)
}

fn beside_nginx(data: &Path) -> Result<()> {
    enrol(data, UPLOADERS)?;
    let hub = Hub::start(data, &["--plain"])?;
    let keys = (0..UPLOADERS).map(key).collect::<Result<Vec<_>>>()?;
    let to_hub = || {
        uploads(|agent, number, digest, content| {
            send(agent, &hub.url, "PUT", &sync::segment(&device(number), digest), content, &keys[number])
        })
    };
    let Ok(nginx) = env::var("FLYWHEEL_NGINX") else {
        println!("uploads of 1 MiB: {:.0} MB a second (no FLYWHEEL_NGINX to compare with)", to_hub()?);
        return Ok(());
    };
    let to_nginx = || {
        uploads(|agent, _, digest, content| {
            let request = HttpRequest::put(format!("{nginx}/{digest}.tar")).body(content)?;
            Ok(agent.run(request)?.status().as_u16())
        })
    };
    for _ in 0..3 {
        let (ours, theirs) = (to_hub()?, to_nginx()?);
        println!("uploads of 1 MiB: hub {ours:.0}, nginx {theirs:.0} MB a second, ratio {:.2}", ours / theirs);
    }
    Ok(())
}

/// What it costs a hub to let a segment in: through it, or past it to a bucket, which is not asked before there is something in it.
fn past_a_bucket(data: &Path) -> Result<()> {
    let keys = (0..UPLOADERS).map(key).collect::<Result<Vec<_>>>()?;
    for (what, options, size) in [
        ("of 1 MiB through the hub", &["--plain"][..], 1 << 20),
        ("past the hub, of any size", &["--plain", "--objects", "s3://bucket"], 1),
    ] {
        let data = data.join(options.len().to_string());
        enrol(&data, UPLOADERS)?;
        let hub = Hub::start(&data, options)?;
        let (before, began, sent) = (hub.processor()?, Instant::now(), AtomicUsize::new(0));
        let clients = |number: usize| -> Result<()> {
            let (agent, mut turn) = (agent(None)?, 0_u64);
            let mut rng = SmallRng::seed_from_u64(number as u64);
            let (_, segment) = sealed(&device(number), &mut rng, 10, 100_000)?;
            while began.elapsed() < Duration::from_secs(UPLOAD_SECONDS) {
                turn += 1;
                let mut content = if size > 1 { segment.clone() } else { Vec::new() };
                content.extend(turn.to_le_bytes());
                let name = sync::segment(&device(number), Digest::of(&content));
                let status = send(&agent, &hub.url, "PUT", &name, &content, &keys[number])?;
                if !matches!(status, 201 | 307) {
                    return Err(format!("answered {status}").into());
                }
                sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..UPLOADERS).map(|number| scope.spawn(move || clients(number))).collect();
            clients.into_iter().try_for_each(|client| client.join().map_err(|_| "a client panicked")?)
        })?;
        let sent = sent.into_inner() as f64;
        let (rate, cost) = (sent / began.elapsed().as_secs_f64(), 1000.0 * (hub.processor()? - before) / sent);
        println!("segments {what}: {rate:.0} a second, {cost:.2} ms of a processor each");
    }
    Ok(())
}

/// How long a rollout is judged, by devices that are enrolled there.
fn rollout(data: &Path, devices: usize) -> Result<()> {
    let now = Timestamp::now();
    let statuses: Vec<DeviceStatus> = (0..devices).map(|number| status(device(number))).collect();
    tokio::runtime::Runtime::new()?.block_on(async {
        let data = DataFolder { path: data.to_owned(), database: None, bucket: None };
        let channels = Channels { database: data.database().await?, objects: data.objects()? };
        channels.database.put_statuses(&statuses).await?;
        for sequence in [1, 2] {
            let to = ChannelPointer { bundle: Digest::of(&[sequence as u8]), sequence };
            channels.publish("stable", to, "bench", now).await?;
        }
        let began = Instant::now();
        channels.advance(now).await?;
        println!("a rollout judged by {devices} devices: {:.3} s", began.elapsed().as_secs_f64());
        Ok(())
    })
}

fn main() -> Result<()> {
    let mut numbers = env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let (seconds, devices) = (numbers.next().unwrap_or(30), numbers.next().unwrap_or(10_000));
    // On the disk of the build, not in a temporary folder that may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    fleet(&folder.path().join("fleet"), devices.max(100), seconds as u64)?;
    beside_nginx(&folder.path().join("uploads"))?;
    past_a_bucket(&folder.path().join("bucket"))?;
    rollout(&folder.path().join("fleet"), devices.max(100))
}
