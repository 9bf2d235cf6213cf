//! A hub, as its clients see it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use models::{
    Digest, durable,
    hub::{ADMIN, ENROL, Elsewhere, Enrol, Enrolled, OBJECTS, Refusal, RefusalCode},
    signing::{
        PrivateKey,
        request::{CONTENT_DIGEST, REQUEST_SIGNATURE, Request, SIGNATURE_INPUT},
    },
};
use rand::{TryRng, rngs::SysRng};
use serde::{Deserialize, Serialize};
use ureq::{
    Agent, Body,
    http::{
        self, Response, StatusCode,
        header::{CONTENT_LENGTH, DATE, EXPECT, RETRY_AFTER},
    },
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::MAX_MESSAGE;
use crate::{Error, Result};

const CONNECT: Duration = Duration::from_secs(15);
/// Until the hub says whether it wants a content at all.
const QUESTION: Duration = Duration::from_secs(20);
/// Until the hub answers, after all was sent.
const ANSWER: Duration = Duration::from_secs(120);
/// Within a content, until more of it comes or goes.
const SILENCE: Duration = Duration::from_secs(60);
/// A hub may ask so often for a pause of so many seconds at most, before it counts as a refusal.
const PATIENCE: u32 = 5;
const LONGEST_PAUSE: u64 = 5;
/// What the hub is asked about before it is sent, in bytes.
const LARGE: usize = 1 << 16;
/// A list of names may be longer.
const MAX_LIST: u64 = 256 << 20;

/// What enrolment at a hub leaves in a folder: the key, what the hub said, and its certificate if it is one of its own.
#[derive(Clone, Debug)]
pub struct Credentials {
    key: PrivateKey,
    enrolled: Enrolled,
    certificate: Option<Vec<u8>>,
}

/// The content of `enrolled.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Enrolment {
    /// The hub.
    hub: String,
    #[serde(flatten)]
    enrolled: Enrolled,
}

struct Files {
    key: PathBuf,
    enrolled: PathBuf,
    certificate: PathBuf,
}

impl Files {
    fn of(folder: &Path) -> Self {
        let [key, enrolled, certificate] = ["key.pem", "enrolled.json", "certificate.pem"].map(|n| folder.join(n));
        Self { key, enrolled, certificate }
    }
}

impl Credentials {
    /// Reads what enrolment at this hub has left in a folder.
    ///
    /// # Errors
    /// [`Error::NotEnrolled`] if there is nothing, or that of another hub; [`Error::Models`] with the path.
    pub fn open(folder: &Path, hub: &str) -> Result<Self> {
        let files = Files::of(folder);
        let not_enrolled = |why: String| Error::NotEnrolled { hub: hub.to_owned(), why };
        if !files.enrolled.exists() {
            return Err(not_enrolled(format!("there is no {}", files.enrolled.display())));
        }
        let text = fs::read(&files.enrolled).map_err(models::Error::io("read", &files.enrolled))?;
        let enrolment: Enrolment = serde_json::from_slice(&text)
            .map_err(|e| models::Error::malformed(files.enrolled.display(), "what enrolment has left", e))?;
        if enrolment.hub != hub {
            return Err(not_enrolled(format!("{} is of {}", files.enrolled.display(), enrolment.hub)));
        }
        let certificate = if files.certificate.exists() {
            Some(fs::read(&files.certificate).map_err(models::Error::io("read", &files.certificate))?)
        } else {
            None
        };
        Ok(Self { key: PrivateKey::read(&files.key)?, enrolled: enrolment.enrolled, certificate })
    }

    /// Makes a key and has it known at a hub by a token; all that is needed for requests is in `folder` then. What was cut off
    /// can be done again with the same token. `certificate` is a file with the hub's certificate, if it is one of its own.
    ///
    /// # Errors
    /// [`Error::Refused`] for a token that is not good; [`Error::Offline`]; [`Error::Models`] with the path.
    pub fn enrol(folder: &Path, hub: &str, token: &str, certificate: Option<&Path>) -> Result<Self> {
        match Self::enrol_key(folder, hub, token, certificate) {
            // The key was known there before, and is revoked or has another name.
            Err(Error::Refused { refusal, .. }) if refusal.code == RefusalCode::Key => {
                durable::remove(&Files::of(folder).key)?;
                Self::enrol_key(folder, hub, token, certificate)
            }
            outcome => outcome,
        }
    }

    fn enrol_key(folder: &Path, hub: &str, token: &str, certificate: Option<&Path>) -> Result<Self> {
        let files = Files::of(folder);
        durable::create_folders(folder)?;
        let read = |path: &Path| fs::read(path).map_err(models::Error::io("read", path));
        let certificate = certificate.map(read).transpose()?;
        if !files.key.exists() {
            durable::write_secret(&files.key, PrivateKey::generate(secret)?.to_pem().as_bytes())?;
        }
        let key = PrivateKey::read(&files.key)?;
        let message = Enrol { token: token.to_owned(), public_key: key.public().to_pem() };
        let body = serde_json::to_vec(&message).map_err(|e| models::Error::malformed("a token", "JSON", e))?;
        let request = http::Request::post(format!("{hub}{ENROL}")).body(body).map_err(|e| malformed_url(hub, e))?;
        let answer = agent_trusting(certificates(certificate.as_deref())?).run(request).map_err(|e| offline(hub, e))?;
        let text = accept("enrol at", hub, answer)?;
        let enrolled: Enrolled =
            serde_json::from_slice(&text).map_err(|e| models::Error::malformed(hub, "an enrolment", e))?;
        let enrolment = Enrolment { hub: hub.to_owned(), enrolled };
        match &certificate {
            Some(pem) => durable::write(&files.certificate, pem)?,
            // One of an earlier enrolment would keep this hub out.
            None if files.certificate.exists() => durable::remove(&files.certificate)?,
            None => {}
        }
        durable::write_json(&files.enrolled, &enrolment)?;
        Ok(Self { key, enrolled: enrolment.enrolled, certificate })
    }

    /// As whom the hub knows us.
    pub fn enrolled(&self) -> &Enrolled {
        &self.enrolled
    }
}

/// 32 bytes that nobody can guess.
fn secret() -> Result<[u8; 32]> {
    let mut secret = [0; 32];
    SysRng
        .try_fill_bytes(&mut secret)
        .map_err(|e| Error::Config { what: "enrolment".into(), reason: format!("the system gives no entropy: {e}") })?;
    Ok(secret)
}

/// Signs requests and sends them.
#[derive(Debug)]
pub(super) struct HubClient {
    agent: Agent,
    /// For the store that a hub may send us to, which does not have the hub's own certificate.
    store: Agent,
    url: String,
    credentials: Credentials,
    /// Milliseconds by which the hub's clock is ahead of ours, as far as it has said.
    ahead: AtomicI64,
}

impl HubClient {
    pub(super) fn new(url: &str, credentials: Credentials) -> Result<Self> {
        let trusted = certificates(credentials.certificate.as_deref())?;
        // The first one is the hub's.
        let of_store = trusted.get(1..).unwrap_or_default().to_vec();
        let (agent, store) = (agent_trusting(trusted), agent_trusting(of_store));
        Ok(Self { agent, store, url: url.to_owned(), credentials, ahead: AtomicI64::new(0) })
    }

    pub(super) fn enrolled(&self) -> &Enrolled {
        &self.credentials.enrolled
    }

    pub(super) fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(mut answer) = found(self.call("GET", &path(name), "", &[])?) else { return Ok(None) };
        if answer.status() == StatusCode::TEMPORARY_REDIRECT {
            let (request, store) = elsewhere(name, "GET", answer)?;
            let request = request.body(()).map_err(|e| malformed_url(&store, e))?;
            let there = self.store.run(request).map_err(|e| offline(&store, e))?;
            match found(there) {
                Some(there) => answer = there,
                None => return Ok(None),
            }
            check_store("read", name, &mut answer)?;
        }
        check("read", name, &mut answer)?;
        let size = length(&answer);
        if size.is_some_and(|size| size > limit) {
            let found = format!("{} bytes", size.unwrap_or_default());
            return Err(models::Error::malformed(name, format!("at most {limit} bytes"), found).into());
        }
        Ok(Some(answer.into_body().into_with_config().limit(limit).read_to_vec().map_err(|e| offline(&self.url, e))?))
    }

    pub(super) fn size(&self, name: &str) -> Result<Option<u64>> {
        let Some(mut answer) = found(self.call("HEAD", &path(name), "", &[])?) else { return Ok(None) };
        check("look up", name, &mut answer)?;
        let size = length(&answer).ok_or_else(|| models::Error::malformed(name, "a content-length", "none"))?;
        Ok(Some(size))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut answer = self.call("GET", OBJECTS, &format!("prefix={prefix}"), &[])?;
        check("list", prefix, &mut answer)?;
        let text = answer.into_body().into_with_config().limit(MAX_LIST).read_to_vec();
        let text = text.map_err(|e| offline(&self.url, e))?;
        Ok(serde_json::from_slice(&text).map_err(|e| models::Error::malformed(prefix, "a list of names", e))?)
    }

    pub(super) fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        self.bring(name, content).0
    }

    /// The outcome, and whether any of the content has left: a hub is asked first.
    pub(super) fn bring(&self, name: &str, content: &[u8]) -> (Result<()>, bool) {
        let mut answer = match self.call("PUT", &path(name), "", content) {
            Ok(answer) => answer,
            Err(e) => {
                let has_left = !matches!(e, Error::Refused { .. });
                return (Err(e), has_left);
            }
        };
        if answer.status() != StatusCode::TEMPORARY_REDIRECT {
            let outcome = check("write", name, &mut answer);
            let has_left = outcome.is_ok();
            return (outcome, has_left);
        }
        (self.bring_elsewhere(name, content, answer), true)
    }

    fn bring_elsewhere(&self, name: &str, content: &[u8], answer: Response<Body>) -> Result<()> {
        let (request, store) = elsewhere(name, "PUT", answer)?;
        let request = request.body(content).map_err(|e| malformed_url(&store, e))?;
        let mut there = self.store.run(request).map_err(|e| offline(&store, e))?;
        check_store("write", name, &mut there)?;
        // The hub sees for itself that it is there.
        let mut answer = self.call("PUT", &path(name), "", content)?;
        check("write", name, &mut answer)
    }

    pub(super) fn administrate(&self, order: &[u8]) -> Result<Vec<u8>> {
        let mut answer = self.call("POST", ADMIN, "", order)?;
        check("administrate", &self.url, &mut answer)?;
        answer.into_body().into_with_config().limit(MAX_LIST).read_to_vec().map_err(|e| offline(&self.url, e))
    }

    /// Sends a signed request; again by the hub's own time, if it says that ours is wrong, and again after the seconds that it
    /// asks for, if they are few.
    fn call(&self, method: &str, path: &str, query: &str, content: &[u8]) -> Result<Response<Body>> {
        let mut answer = self.send(method, path, query, content)?;
        for _ in 0..PATIENCE {
            let Some(pause) = short_pause(&answer) else { break };
            thread::sleep(pause);
            answer = self.send(method, path, query, content)?;
        }
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let hub_time = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
        let (refusal, Some(hub_time)) = (refusal(&mut answer), hub_time) else { return Ok(answer) };
        // A HEAD's answer has no body that says why.
        if method != "HEAD" && refusal.code != RefusalCode::Clock {
            return Err(Error::Refused { action: "be known at", name: self.url.clone(), refusal });
        }
        let ahead = hub_time.duration_since(Timestamp::now()).as_millis();
        self.ahead.store(i64::try_from(ahead).unwrap_or(0), Ordering::Relaxed);
        self.send(method, path, query, content)
    }

    fn send(&self, method: &str, path: &str, query: &str, content: &[u8]) -> Result<Response<Body>> {
        let ahead = SignedDuration::from_millis(self.ahead.load(Ordering::Relaxed));
        let request = Request { method, path, query, content: Digest::of(content) };
        let now = Timestamp::now();
        let signed = request.sign(now.checked_add(ahead).unwrap_or(now), &self.credentials.key);
        let question = if query.is_empty() { "" } else { "?" };
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}{question}{query}", self.url))
            .header(CONTENT_DIGEST, signed.content_digest)
            .header(SIGNATURE_INPUT, signed.signature_input)
            .header(REQUEST_SIGNATURE, signed.signature);
        if content.len() > LARGE {
            // What the hub refuses is not sent to it first.
            request = request.header(EXPECT, "100-continue");
        }
        let failed = |e| offline(&self.url, e);
        if matches!(method, "PUT" | "POST") {
            self.agent.run(request.body(content).map_err(|e| malformed_url(&self.url, e))?).map_err(failed)
        } else {
            self.agent.run(request.body(()).map_err(|e| malformed_url(&self.url, e))?).map_err(failed)
        }
    }
}

/// Those in a PEM file: the hub's own, and after it those that its store is known by.
fn certificates(pem: Option<&[u8]>) -> Result<Vec<Certificate<'static>>> {
    let Some(pem) = pem else { return Ok(Vec::new()) };
    let malformed =
        |found: String| models::Error::malformed("the hub's certificate", "certificates in PEM form", found);
    let items: Vec<PemItem<'_>> = parse_pem(pem).collect::<Result<_, _>>().map_err(|e| malformed(e.to_string()))?;
    let certificate = |item| if let PemItem::Certificate(certificate) = item { Some(certificate) } else { None };
    let found: Vec<Certificate<'static>> = items.into_iter().filter_map(certificate).collect();
    if found.is_empty() { Err(malformed("none".into()).into()) } else { Ok(found) }
}

/// Trusts these certificates, or, if there are none, the public authorities that are built in.
fn agent_trusting(certificates: Vec<Certificate<'static>>) -> Agent {
    let mut tls = TlsConfig::builder();
    if !certificates.is_empty() {
        tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates)));
    }
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT))
        .timeout_resolve(Some(CONNECT))
        .timeout_await_100(Some(QUESTION))
        .timeout_recv_response(Some(ANSWER))
        .timeout_per_read(Some(SILENCE))
        .timeout_per_write(Some(SILENCE))
        .user_agent(concat!("flywheel/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls.build());
    config.build().new_agent()
}

fn path(name: &str) -> String {
    format!("{OBJECTS}/{name}")
}

/// The pause that a hub asks for, if it is short.
fn short_pause(answer: &Response<Body>) -> Option<Duration> {
    let seconds: u64 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    let is_short = answer.status() == StatusCode::TOO_MANY_REQUESTS && seconds <= LONGEST_PAUSE;
    is_short.then(|| Duration::from_secs(seconds))
}

fn length(answer: &Response<Body>) -> Option<u64> {
    answer.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn found(answer: Response<Body>) -> Option<Response<Body>> {
    (answer.status() != StatusCode::NOT_FOUND).then_some(answer)
}

fn accept(action: &'static str, name: &str, mut answer: Response<Body>) -> Result<Vec<u8>> {
    check(action, name, &mut answer)?;
    answer.into_body().into_with_config().limit(MAX_MESSAGE).read_to_vec().map_err(|e| offline(name, e))
}

fn check(action: &'static str, name: &str, answer: &mut Response<Body>) -> Result<()> {
    if answer.status().is_success() {
        return Ok(());
    }
    Err(Error::Refused { action, name: name.to_owned(), refusal: refusal(answer) })
}

/// The request to where a hub sends us, and whose that is.
fn elsewhere(name: &str, method: &str, answer: Response<Body>) -> Result<(http::request::Builder, String)> {
    let text = answer.into_body().into_with_config().limit(MAX_MESSAGE).read_to_vec();
    let Elsewhere { url, headers }: Elsewhere = serde_json::from_slice(&text.map_err(|e| offline(name, e))?)
        .map_err(|e| models::Error::malformed(name, "where it is to be had", e))?;
    // What follows is a signature, and nobody's business.
    let store = url.split('?').next().unwrap_or_default().to_owned();
    let request = http::Request::builder().method(method).uri(url);
    Ok((headers.into_iter().fold(request, |request, (header, value)| request.header(header, value)), store))
}

/// What a store says when it refuses is its own matter, and may pass.
fn check_store(action: &'static str, name: &str, answer: &mut Response<Body>) -> Result<()> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let said = answer.body_mut().with_config().limit(MAX_MESSAGE).read_to_string().unwrap_or_default();
    let refusal = Refusal { code: RefusalCode::Hub, message: format!("its store answers {status}: {said}") };
    Err(Error::Refused { action, name: name.to_owned(), refusal })
}

/// Why an answer refuses. A proxy on the way may answer too, in words of its own.
fn refusal(answer: &mut Response<Body>) -> Refusal {
    let status = answer.status();
    let code = match status {
        StatusCode::UNAUTHORIZED => RefusalCode::Key,
        StatusCode::FORBIDDEN => RefusalCode::Role,
        StatusCode::TOO_MANY_REQUESTS => RefusalCode::TooMuch,
        StatusCode::PAYLOAD_TOO_LARGE => RefusalCode::TooLarge,
        _ => RefusalCode::Hub,
    };
    let text = answer.body_mut().with_config().limit(MAX_MESSAGE).read_to_vec().unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_else(|_| Refusal { code, message: format!("it answers {status}") })
}

fn offline(hub: &str, error: ureq::Error) -> Error {
    Error::Offline { hub: hub.to_owned(), source: Box::new(error) }
}

fn malformed_url(hub: &str, error: http::Error) -> Error {
    models::Error::malformed(hub, "an address as https://HOST:PORT", error).into()
}
