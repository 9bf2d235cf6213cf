//! Takes a segment in while it arrives: hashed, checked sample by sample, and stored at once, in the memory of one sample and some
//! pieces. It is there only if all of it is right; then it is receipted.

use std::{io, path::Path};

use axum::body::BodyDataStream;
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use models::{
    Digest, Sample, segment,
    signing::{Message, PrivateKey, request::SignedHeaders},
    sync::{self, Receipt},
};
use object_store::buffered::BufWriter;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc::{Receiver, channel},
    task::{JoinHandle, spawn_blocking},
};

use crate::{
    Error, Result,
    database::{Database, SegmentRow},
    objects::{Objects, Stored},
};

/// Pieces of the body between the network and the check.
const PIECES: usize = 16;

/// Where segments go, and who signs for them.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Remembers them.
    pub database: Database,
    /// Keeps them.
    pub objects: Objects,
    /// Signs receipts.
    pub key: PrivateKey,
}

impl Intake {
    /// Takes the segment of this device and digest, which its request has signed for, from a body of at most `limit` bytes, and receipts
    /// it. A segment that is here already is receipted again.
    ///
    /// # Errors
    /// [`Error::Content`] for a body that is not that segment; nothing of it stays. [`Error::Store`], [`Error::Database`].
    pub async fn take(
        &self,
        device: &str,
        digest: Digest,
        seal: SignedHeaders,
        body: BodyDataStream,
        limit: u64,
        now: Timestamp,
    ) -> Result<Receipt> {
        let name = sync::segment(device, digest);
        let (bytes, samples) = self.store(&name, device, digest, body, limit).await?;
        let row = SegmentRow { device: device.to_owned(), digest, bytes, samples, received: now };
        // Goes on although the client may be gone.
        let intake = self.clone();
        let receipted = tokio::spawn(async move {
            intake.database.add_segment(&row).await?;
            intake.receipt(&row.device, digest, Some(samples as usize), seal, now).await
        });
        let receipted = receipted.await;
        receipted.map_err(|e| Error::BrokenOff(format!("{name} is stored, and not receipted yet: {e}")))?
    }

    /// Receipts a segment that its device has brought to the store itself, if it is there, whole, by the store's own check of its
    /// content.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn confirm(
        &self,
        device: &str,
        digest: Digest,
        bytes: u64,
        seal: SignedHeaders,
        now: Timestamp,
    ) -> Result<Option<Receipt>> {
        let name = sync::segment(device, digest);
        let expected = Stored { bytes, digest: Some(digest) };
        match self.objects.stored(&name).await? {
            Some(found) if found == expected => Ok(Some(self.receipt(device, digest, None, seal, now).await?)),
            Some(found) => {
                tracing::warn!("{name}: the store has {found:?} and not {expected:?}; does it check sha256?");
                Ok(None)
            }
            None => Ok(None),
        }
    }

    async fn receipt(
        &self,
        device: &str,
        segment: Digest,
        samples: Option<usize>,
        seal: SignedHeaders,
        received: Timestamp,
    ) -> Result<Receipt> {
        let receipt = Receipt { segment, samples, received, seal: Some(seal) };
        self.objects.put(&sync::receipt(device, segment), receipt.seal(Some(&self.key))?.into()).await?;
        Ok(receipt)
    }

    /// Bytes and samples of the segment, which is stored.
    async fn store(
        &self,
        name: &str,
        device: &str,
        digest: Digest,
        body: BodyDataStream,
        limit: u64,
    ) -> Result<(u64, u64)> {
        let (pieces, check) = channel(PIECES);
        let check = count_samples(name.to_owned(), device.to_owned(), check);
        let (mut object, mut body, mut is_good) = (self.objects.writer(name), Measured::new(name, body, limit), true);
        let arrived: Result<()> = async {
            while let Some(piece) = body.next().await? {
                // After a fault the check has ended. The rest is read all the same: who is cut off while sending does not hear why.
                is_good = is_good && pieces.send(piece.clone()).await.is_ok();
                if is_good {
                    object.put(piece).await?;
                }
            }
            Ok(())
        }
        .await;
        drop(pieces);
        let checked = check.await.map_err(|e| Error::BrokenOff(format!("the check of {name} broke off: {e}")))?;
        let is_right = match (arrived, checked) {
            (Err(e), _) => Err(e),
            (Ok(()), Err(e)) => Err(Error::Content(e.to_string())),
            (Ok(()), Ok(samples)) => body.is(digest).map(|bytes| (bytes, samples)),
        };
        finish(name, object, is_right).await
    }

    /// Keeps an object of at most `limit` bytes, if it has this digest; nothing of another one stays.
    ///
    /// # Errors
    /// [`Error::Content`], [`Error::TooLarge`], [`Error::BrokenOff`]; [`Error::Store`].
    pub async fn keep(&self, name: &str, digest: Digest, body: BodyDataStream, limit: u64) -> Result<()> {
        let (mut object, mut body) = (self.objects.writer(name), Measured::new(name, body, limit));
        let arrived: Result<()> = async {
            while let Some(piece) = body.next().await? {
                object.put(piece).await?;
            }
            Ok(())
        }
        .await;
        let is_right = arrived.and_then(|()| body.is(digest)).map(drop);
        finish(name, object, is_right).await
    }
}

/// A body, measured while it comes.
struct Measured<'a> {
    name: &'a str,
    body: BodyDataStream,
    hasher: Sha256,
    bytes: u64,
    limit: u64,
}

impl<'a> Measured<'a> {
    fn new(name: &'a str, body: BodyDataStream, limit: u64) -> Self {
        Self { name, body, hasher: Sha256::new(), bytes: 0, limit }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(piece) = self.body.next().await else { return Ok(None) };
        let piece = piece.map_err(|e| Error::BrokenOff(format!("the body broke off: {e}")))?;
        self.bytes += piece.len() as u64;
        if self.bytes > self.limit {
            return Err(Error::TooLarge { what: self.name.to_owned(), found: self.bytes, most: self.limit });
        }
        self.hasher.update(&piece);
        Ok(Some(piece))
    }

    /// How many bytes came, if they are what was promised.
    fn is(self, promised: Digest) -> Result<u64> {
        match Digest::from_bytes(self.hasher.finalize().into()) {
            found if found == promised => Ok(self.bytes),
            found => Err(Error::Content(format!("{} has the sha256 {found}; another one was signed", self.name))),
        }
    }
}

/// Gives an object its name, if it is right.
async fn finish<T>(name: &str, mut object: BufWriter, is_right: Result<T>) -> Result<T> {
    if is_right.is_ok() {
        object.shutdown().await.map_err(|e| object_store::Error::Generic { store: "hub", source: e.into() })?;
    } else if let Err(abort) = object.abort().await {
        // What was written so far is deleted, as far as that goes; it never had its name.
        tracing::debug!("{name}: {abort}");
    }
    is_right
}

/// Reads the pieces of a segment as they come, and counts its samples; they all must be of that device.
fn count_samples(name: String, device: String, pieces: Receiver<Bytes>) -> JoinHandle<models::Result<u64>> {
    spawn_blocking(move || {
        let mut samples = 0;
        let mut pieces = Pieces { pieces, current: Bytes::new() };
        segment::each(Path::new(&name), &mut pieces, |Sample { record, .. }| {
            samples += 1;
            if record.device == device {
                return Ok(());
            }
            Err(models::Error::malformed(&name, format!("samples of device {device}"), record.device))
        })?;
        // What follows the end of the tar is hashed with the rest.
        io::copy(&mut pieces, &mut io::sink()).map_err(models::Error::io("read", Path::new(&name)))?;
        Ok(samples)
    })
}

/// What arrives, for a reader that blocks.
struct Pieces {
    pieces: Receiver<Bytes>,
    current: Bytes,
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let read = buffer.len().min(self.current.len());
        buffer[..read].copy_from_slice(&self.current.split_to(read));
        Ok(read)
    }
}
