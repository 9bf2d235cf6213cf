//! Frames of a camera of this machine, by Video4Linux. Cameras that deliver JPEG files, as those at USB do.

use std::{io, path::Path};

use linuxvideo::{
    BufType, Device,
    format::{PixFormat, PixelFormat},
    stream::ReadStream,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{Error, Result};

/// A camera that delivers nothing for so long is gone.
const SILENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Gives each frame to `take`, until that says no, and then returns. The camera is asked for its largest frames.
///
/// # Errors
/// [`Error::Camera`] if the camera cannot be used, delivers no JPEG files, or falls silent.
pub(super) fn read(path: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> Result<()> {
    let failed = |why: String| Error::Camera { camera: format!("v4l2:{}", path.display()), why };
    let mut stream = open(path).map_err(|e| failed(e.to_string()))?;
    loop {
        let frame = next(&mut stream).map_err(|e| failed(e.to_string()))?;
        if frame.is_some_and(|frame| !take(&frame)) {
            return Ok(());
        }
    }
}

fn open(path: &Path) -> io::Result<ReadStream> {
    let device = Device::open(path)?;
    let formats = device.formats(BufType::VIDEO_CAPTURE).map(|format| Ok(format?.pixel_format()));
    let formats: Vec<PixelFormat> = formats.collect::<io::Result<_>>()?;
    let format = [PixelFormat::MJPG, PixelFormat::JPEG].into_iter().find(|format| formats.contains(format));
    let Some(format) = format else {
        let why = format!("expected a camera that delivers MJPG or JPEG, found one for {formats:?}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    };
    device.video_capture(PixFormat::new(u32::MAX, u32::MAX, format))?.into_stream()
}

/// The next frame; nothing for one that the driver says is damaged.
fn next(stream: &mut ReadStream) -> io::Result<Option<Vec<u8>>> {
    loop {
        match poll(&mut [PollFd::new(&*stream, PollFlags::IN)], Some(&SILENCE)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    stream.dequeue(|buffer| Ok((!buffer.is_error()).then(|| buffer.to_vec())))
}
