//! Downloads a file so that a broken connection costs only what was not yet here, and a damaged file is never used.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use md5::{Digest, Md5};
use models::durable;
use ureq::http::{HeaderMap, StatusCode};

use crate::{interrupt, progress::Progress};

/// Attempts in a row that bring nothing new before it is given up.
const ATTEMPTS: u32 = 5;
const CHUNK: usize = 1 << 16;

/// A file to download.
#[derive(Clone, Debug)]
pub struct Download {
    /// Where it comes from.
    pub url: String,
    /// Where it goes. Until it is whole and right, what has arrived is beside it, with `.part` at the end.
    pub path: PathBuf,
    /// Its digest, in hexadecimal.
    pub md5: String,
    /// Pause after a first failed attempt; it doubles with each further one.
    pub pause: Duration,
    /// How long the server may be silent until an attempt counts as failed.
    pub silence: Duration,
}

/// How a download ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The file was there, and is right.
    Already,
    /// It has come now; so many bytes were here from an earlier try.
    Now {
        /// Those bytes.
        resumed_from: u64,
    },
}

/// What one attempt led to.
enum Attempt {
    Whole,
    /// The connection broke; why.
    Broken(String),
}

impl Download {
    /// Brings the file, or makes sure that it is right.
    ///
    /// # Errors
    /// If it cannot be reached, which says what to do by hand; if what came or was there has another digest; if the disk
    /// fails; after Ctrl-C. What has arrived stays for the next call.
    pub fn run(&self, progress: &Progress) -> Result<Fetched> {
        if self.path.exists() {
            let found = digest(&self.path)?;
            ensure!(found == self.md5, "{}: expected MD5 {}, found {found}; delete it", self.path.display(), self.md5);
            return Ok(Fetched::Already);
        }
        durable::create_folders(self.path.parent().unwrap_or(Path::new(".")))?;
        let part = self.part();
        let resumed_from = length(&part);
        let mut failures = 0;
        while let Attempt::Broken(reason) = self.attempt(&part, &mut failures, progress)? {
            ensure!(failures < ATTEMPTS, "{}", self.by_hand(&reason));
            thread::sleep(self.pause * 2_u32.pow(failures));
            interrupt::check()?;
        }
        let found = digest(&part)?;
        if found != self.md5 {
            durable::remove(&part)?;
            bail!("{}: expected MD5 {}, found {found}; it was deleted", self.url, self.md5);
        }
        durable::rename(&part, &self.path)?;
        Ok(Fetched::Now { resumed_from })
    }

    fn part(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".part");
        name.into()
    }

    /// Asks for what is not here yet. `failures` counts the attempts since the last one that brought something.
    fn attempt(&self, part: &Path, failures: &mut u32, progress: &Progress) -> Result<Attempt> {
        *failures += 1;
        let here = length(part);
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(self.silence))
            .timeout_per_read(Some(self.silence))
            .http_status_as_error(false);
        let mut request = ureq::Agent::new_with_config(config.build()).get(&self.url);
        if here > 0 {
            request = request.header("Range", format!("bytes={here}-"));
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(e) => return Ok(Attempt::Broken(e.to_string())),
        };
        let start = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if starts_at(response.headers(), here) => here,
            // Everything is here already; the digest will tell.
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(Attempt::Whole),
            status if status.is_server_error() => return Ok(Attempt::Broken(status.to_string())),
            status => bail!("{}", self.by_hand(&status.to_string())),
        };
        let total = response.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let total = total.map(|rest| start + rest);
        let cannot = |what: &str| format!("cannot {what} {}", part.display());
        let mut file = OpenOptions::new().create(true).append(true).open(part).with_context(|| cannot("open"))?;
        file.set_len(start).with_context(|| cannot("cut"))?;

        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let bar = progress.bytes(&name, total);
        let (mut body, mut at, mut chunk) = (response.into_body().into_reader(), start, vec![0; CHUNK]);
        loop {
            interrupt::check()?;
            let count = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) => return Ok(Attempt::Broken(e.to_string())),
            };
            file.write_all(&chunk[..count]).with_context(|| cannot("write"))?;
            at += count as u64;
            *failures = 0;
            bar.at(at);
        }
        match total {
            Some(total) if at < total => Ok(Attempt::Broken(format!("{at} of {total} bytes came"))),
            _ => Ok(Attempt::Whole),
        }
    }

    fn by_hand(&self, reason: &str) -> String {
        format!(
            "cannot download {} ({reason}). Without a network: bring that file by other means and save it as {}; the same \
             command then checks it",
            self.url,
            self.path.display()
        )
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn starts_at(headers: &HeaderMap, start: u64) -> bool {
    let range = headers.get("content-range").and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {start}-")))
}

fn digest(path: &Path) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let (mut file, mut md5, mut chunk) = (File::open(path)?, Md5::new(), vec![0; CHUNK]);
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
                count => md5.update(&chunk[..count]),
            }
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        net::{TcpListener, TcpStream},
        sync::{Arc, Mutex},
    };

    use super::*;

    const CONTENT: &[u8] = &[7; 300_000];

    /// What the server does with its next request.
    #[derive(Clone, Copy, PartialEq)]
    enum Answer {
        Ranges,
        /// Breaks off after so many bytes of the answer.
        BreakAfter(usize),
        /// Says nothing more after so many bytes, and keeps the connection.
        SilentAfter(usize),
        Unavailable,
        Missing,
        WholeFileAlways,
    }

    /// A server on this machine; it notes the ranges it was asked for.
    fn serve(answers: Vec<Answer>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/file.bin", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            let mut kept = Vec::new();
            for answer in answers {
                let (stream, _) = listener.accept().expect("a connection");
                if let Answer::SilentAfter(_) = answer {
                    kept.push(stream.try_clone().expect("a stream"));
                }
                log.lock().expect("the log").push(respond(stream, answer));
            }
        });
        (url, asked)
    }

    fn respond(mut stream: TcpStream, answer: Answer) -> String {
        let mut range = String::new();
        for line in BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(|line| line.ok()) {
            if let Some(value) = line.to_lowercase().strip_prefix("range: bytes=") {
                range = value.to_owned();
            }
            if line.is_empty() {
                break;
            }
        }
        let start: usize = range.trim_end_matches('-').parse().unwrap_or(0);
        let (status, start) = match answer {
            Answer::Unavailable => ("503 Service Unavailable", CONTENT.len()),
            Answer::Missing => ("404 Not Found", CONTENT.len()),
            Answer::WholeFileAlways => ("200 OK", 0),
            _ if start > 0 => ("206 Partial Content", start),
            _ => ("200 OK", 0),
        };
        let rest = &CONTENT[start..];
        let sent = match answer {
            Answer::BreakAfter(count) | Answer::SilentAfter(count) => &rest[..count],
            _ => rest,
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}\r\nConnection: close\r\n\r\n",
            rest.len(),
            CONTENT.len() - 1,
            CONTENT.len()
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent));
        range
    }

    /// Silence is long enough for a busy machine; the server that is silent for good waits for it.
    fn download(url: String, folder: &Path) -> Download {
        // Python: hashlib.md5(bytes([7]) * 300_000)
        let md5 = "a95aa03512179a387a47aab51d3e5d20".to_owned();
        let path = folder.join("file.bin");
        Download { url, path, md5, pause: Duration::ZERO, silence: Duration::from_secs(3) }
    }

    #[test]
    fn a_broken_or_silent_connection_is_taken_up_where_it_ended() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let answers = vec![
            Answer::BreakAfter(100_000),
            Answer::Unavailable,
            Answer::SilentAfter(50_000),
            Answer::BreakAfter(50_000),
            Answer::Ranges,
        ];
        let (url, asked) = serve(answers);
        let download = download(url, folder.path());
        assert_eq!(download.run(&Progress::default())?, Fetched::Now { resumed_from: 0 });
        assert_eq!(fs::read(&download.path)?, CONTENT);
        let asked = asked.lock().expect("the log").clone();
        assert_eq!(asked, ["", "100000-", "100000-", "150000-", "200000-"]);
        assert!(!download.part().exists());
        assert_eq!(download.run(&Progress::default())?, Fetched::Already);
        Ok(())
    }

    #[test]
    fn a_server_without_ranges_starts_anew_and_a_damaged_file_is_never_kept() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (url, _) = serve(vec![Answer::WholeFileAlways, Answer::Ranges]);
        let download = download(url, folder.path());
        fs::write(download.part(), [1; 1000])?;
        assert_eq!(download.run(&Progress::default())?, Fetched::Now { resumed_from: 1000 });
        assert_eq!(fs::read(&download.path)?, CONTENT);

        // Beginning with other bytes, which only the digest can tell.
        fs::remove_file(&download.path)?;
        fs::write(download.part(), [1; 1000])?;
        let error = download.run(&Progress::default()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("expected MD5") && !download.part().exists() && !download.path.exists(), "{error}");
        Ok(())
    }

    #[test]
    fn without_a_network_it_says_what_to_do() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (url, _) = serve(vec![Answer::Missing]);
        for url in [url, "http://127.0.0.1:1/file.bin".to_owned()] {
            let download = download(url, folder.path());
            let error = download.run(&Progress::default()).err().map(|e| e.to_string()).unwrap_or_default();
            let path = download.path.display().to_string();
            assert!(error.contains("save it as") && error.contains(&path) && error.contains(&download.url), "{error}");
        }
        Ok(())
    }
}
