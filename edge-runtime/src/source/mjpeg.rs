//! Frames of an MJPEG stream over HTTP: a `multipart/x-mixed-replace` answer whose parts are JPEG files, and which never ends.
//!
//! # Reference
//! RFC 2046, section 5.1. Cameras take liberties with it: a boundary that is declared with the dashes it is sent with, a part
//! without its length.

use std::{
    io::{self, BufRead, BufReader, Read},
    time::Duration,
};

use models::segment::MAX_IMAGE;
use ureq::{
    Agent,
    http::{StatusCode, header::CONTENT_TYPE},
};

use crate::{Error, Result};

const CONNECT: Duration = Duration::from_secs(10);
/// A camera that says nothing for so long is gone. Slow ones send a frame every few seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// No line of a part's headers is longer, nor are there more, in bytes.
const MAX_HEADERS: u64 = 16 << 10;
const MAX_HEADER_COUNT: usize = 32;

/// Gives each frame to `take`, until that says no, and then returns. `name` stands for the address in errors.
///
/// # Errors
/// [`Error::Camera`] if the stream cannot be reached, is none, ends, or falls silent.
pub(super) fn read(url: &str, name: &str, take: &mut dyn FnMut(&[u8]) -> bool) -> Result<()> {
    let failed = |why: String| Error::Camera { camera: name.to_owned(), why };
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_resolve(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("flywheel/", env!("CARGO_PKG_VERSION")));
    let agent: Agent = config.build().new_agent();
    let answer = agent.get(url).call().map_err(|e| failed(e.to_string().replace(url, name)))?;
    if answer.status() != StatusCode::OK {
        return Err(failed(format!("it answers {}", answer.status())));
    }
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let boundary = boundary(&kind)
        .ok_or_else(|| failed(format!("expected an MJPEG stream (multipart/x-mixed-replace), found {kind:?}")))?;
    let mut parts = Parts { reader: BufReader::new(answer.into_body().into_reader()), boundary, passed: None };
    let mut frame = Vec::new();
    loop {
        parts.next(&mut frame).map_err(|e| failed(e.to_string()))?;
        if !take(&frame) {
            return Ok(());
        }
    }
}

/// The boundary that a content type declares, without dashes before it.
fn boundary(kind: &str) -> Option<String> {
    let (media, parameters) = kind.split_once(';')?;
    if !media.trim().to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').trim_start_matches('-'))
    });
    value.filter(|value| !value.is_empty()).map(ToOwned::to_owned)
}

struct Parts<R> {
    reader: R,
    /// As it was declared, without dashes before it.
    boundary: String,
    /// The boundary's line as it came, if the next part's headers follow at once.
    passed: Option<Vec<u8>>,
}

impl<R: BufRead> Parts<R> {
    /// Reads the next part's content.
    fn next(&mut self, content: &mut Vec<u8>) -> io::Result<()> {
        content.clear();
        let boundary = match self.passed.take() {
            Some(boundary) => boundary,
            None => self.find_boundary()?,
        };
        match self.length()? {
            Some(length) if length > MAX_IMAGE => Err(malformed(format!("a frame of {length} bytes"))),
            Some(length) => {
                content.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
                self.reader.read_exact(content)
            }
            None => self.read_until(boundary, content),
        }
    }

    /// Skips what comes before the next boundary's line, and that too.
    fn find_boundary(&mut self) -> io::Result<Vec<u8>> {
        let mut skipped = 0;
        loop {
            let line = self.line()?;
            skipped += line.len() as u64;
            if skipped > MAX_IMAGE {
                return Err(malformed(format!("no boundary {:?}", self.boundary)));
            }
            let line = line.trim_ascii_end();
            let dashes = line.iter().take_while(|byte| **byte == b'-').count();
            if dashes >= 2 && &line[dashes..] == self.boundary.as_bytes() {
                return Ok(line.to_owned());
            }
        }
    }

    /// Reads a part's headers. The length that they declare.
    fn length(&mut self) -> io::Result<Option<u64>> {
        let mut text = Vec::new();
        loop {
            let line = self.line()?;
            text.extend_from_slice(&line);
            if line.trim_ascii_end().is_empty() {
                break;
            }
            if text.len() as u64 > MAX_HEADERS {
                return Err(malformed("headers that do not end"));
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADER_COUNT];
        let httparse::Status::Complete((_, headers)) =
            httparse::parse_headers(&text, &mut headers).map_err(malformed)?
        else {
            return Err(malformed("headers that break off"));
        };
        let Some(length) = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length")) else {
            return Ok(None);
        };
        let length = str::from_utf8(length.value).ok().and_then(|text| text.trim().parse().ok());
        length.map(Some).ok_or_else(|| malformed("a content-length that is no number"))
    }

    /// Reads up to the next boundary's line, and that too: the only end of a part without a length.
    fn read_until(&mut self, boundary: Vec<u8>, content: &mut Vec<u8>) -> io::Result<()> {
        let end = [b"\r\n", boundary.as_slice()].concat();
        loop {
            let available = self.reader.fill_buf()?;
            let (before, taken) = (content.len(), available.len());
            if taken == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            content.extend_from_slice(available);
            // The end may have begun in what came before.
            let from = before.saturating_sub(end.len());
            if let Some(at) = content[from..].windows(end.len()).position(|window| window == end) {
                self.reader.consume(from + at + end.len() - before);
                content.truncate(from + at);
                self.line()?;
                self.passed = Some(boundary);
                return Ok(());
            }
            self.reader.consume(taken);
            if content.len() as u64 > MAX_IMAGE {
                return Err(malformed("a frame that does not end"));
            }
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.reader.by_ref().take(MAX_HEADERS).read_until(b'\n', &mut line)?;
        if line.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(line) }
    }
}

fn malformed(found: impl ToString) -> io::Error {
    let found = found.to_string();
    io::Error::new(io::ErrorKind::InvalidData, format!("expected a part of an MJPEG stream, found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::TestResult;

    /// Reads a stream in pieces of every small size.
    fn frames(boundary: &str, stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let read = |size| {
            let reader = BufReader::with_capacity(size, stream);
            let mut parts = Parts { reader, boundary: boundary.to_owned(), passed: None };
            let (mut frames, mut frame) = (Vec::new(), Vec::new());
            while parts.next(&mut frame).is_ok() {
                frames.push(frame.clone());
            }
            frames
        };
        (1..40).map(read).collect()
    }

    #[test]
    fn parts_are_read_however_a_camera_writes_them() -> TestResult {
        let frame = b"\xff\xd8\r\n--not it\r\n\xff\xd9";
        for (kind, before, header) in [
            ("multipart/x-mixed-replace; boundary=cut", "--cut", "Content-Length: 16\r\n"),
            ("multipart/x-mixed-replace;boundary=\"--cut\"", "--cut", ""),
            ("Multipart/X-Mixed-Replace; charset=x; Boundary=--cut", "----cut", "X-Time: 1\r\n"),
        ] {
            let boundary = boundary(kind).ok_or("no boundary")?;
            let mut stream = b"\r\n".to_vec();
            for _ in 0..3 {
                stream.extend(format!("{before}\r\nContent-Type: image/jpeg\r\n{header}\r\n").bytes());
                stream.extend(frame);
                stream.extend(b"\r\n");
            }
            stream.extend(before.bytes());
            stream.extend(b"\r\n");
            for found in frames(&boundary, &stream) {
                assert_eq!(found, [frame; 3], "{kind}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_no_stream_ends_it() {
        for (stream, whole) in [
            (&b"--cut\r\nContent-Length: 2\r\n\r\nab\r\n--cut\r\nContent-Length: 9\r\n\r\nab"[..], 1),
            (b"--cut\r\nContent-Length: 99999999999\r\n\r\nab", 0),
            (b"--cut\r\nContent-Length: -1\r\n\r\nab", 0),
            (b"--cut\r\nno header\r\n\r\nab", 0),
            (b"<html>", 0),
        ] {
            assert!(frames("cut", stream).iter().all(|found| found.len() == whole), "{}", stream.escape_ascii());
        }
        assert_eq!(boundary("text/html; charset=utf-8").or(boundary("multipart/x-mixed-replace")), None);
    }
}
