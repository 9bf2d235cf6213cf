//! The objects that devices and workstation share, by the names of [`models::sync`], in any object store.

mod s3;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use models::{Digest, hub::Elsewhere};
use object_store::{
    GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, buffered::BufWriter, local::LocalFileSystem, path::Path as Name,
};

use self::s3::S3;
pub use self::s3::Stored;
use crate::{Error, Result};

/// Bytes that are written at once.
const PART: usize = 1 << 20;
/// The same to an S3 store, which takes no fewer.
const S3_PART: usize = 5 << 20;

/// So many objects are deleted at a time.
const DELETIONS: usize = 16;

/// The store.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    s3: Option<Arc<S3>>,
}

/// Where objects are, if not in the hub's own folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// `s3://BUCKET/PREFIX`.
    pub url: String,
    /// How to get there, by the names that AWS's own programs know from the environment, such as `AWS_ENDPOINT`, `AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`; others are passed over.
    pub options: BTreeMap<String, String>,
}

impl Objects {
    /// Objects as files below a folder, which must be there. What is written survives a power cut.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn folder(path: &Path) -> Result<Self> {
        Ok(Self { store: Arc::new(LocalFileSystem::new_with_prefix(path)?.with_fsync(true)), s3: None })
    }

    /// Objects in a bucket of an S3 store. What is large goes between it and the clients directly.
    ///
    /// # Errors
    /// [`Error::Models`] for an address that is none; [`Error::Store`].
    pub fn bucket(bucket: &Bucket) -> Result<Self> {
        let s3 = Arc::new(S3::open(&bucket.url, &bucket.options)?);
        Ok(Self { store: s3.store(), s3: Some(s3) })
    }

    /// Whether what is large goes between store and clients directly.
    pub fn is_direct(&self) -> bool {
        self.s3.is_some()
    }

    /// Where a client can bring an object of this content; nothing if that is the hub itself.
    ///
    /// # Errors
    /// [`Error::Store`] if there are no credentials to sign with.
    pub async fn upload(&self, name: &str, digest: Digest, bytes: u64) -> Result<Option<Elsewhere>> {
        let Some(s3) = &self.s3 else { return Ok(None) };
        Ok(Some(s3.upload(name, digest, bytes).await?))
    }

    /// Where a client can have an object; nothing if that is the hub itself.
    ///
    /// # Errors
    /// [`Error::Store`] if there are no credentials to sign with.
    pub async fn download(&self, name: &str) -> Result<Option<Elsewhere>> {
        let Some(s3) = &self.s3 else { return Ok(None) };
        Ok(Some(s3.download(name).await?))
    }

    /// What the store has under a name, by its own check; nothing of a folder, which checks nothing.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn stored(&self, name: &str) -> Result<Option<Stored>> {
        let Some(s3) = &self.s3 else { return Ok(None) };
        s3.stored(name).await
    }

    /// An object, its content still to be read.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Store`].
    pub async fn get(&self, name: &str) -> Result<GetResult> {
        self.store.get(&Name::from(name)).await.map_err(|e| not_found(name, e))
    }

    /// What is known of an object.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Store`].
    pub async fn head(&self, name: &str) -> Result<ObjectMeta> {
        self.store.head(&Name::from(name)).await.map_err(|e| not_found(name, e))
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn has(&self, name: &str) -> Result<bool> {
        match self.head(name).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Names of all objects below a prefix, sorted.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let objects: Vec<ObjectMeta> = self.store.list(Some(&Name::from(prefix))).try_collect().await?;
        let mut names: Vec<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Writes an object as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn put(&self, name: &str, content: Bytes) -> Result<()> {
        self.store.put(&Name::from(name), content.into()).await?;
        Ok(())
    }

    /// An object that is written piece by piece, and there only once it is shut down.
    pub fn writer(&self, name: &str) -> BufWriter {
        // One part at a time: the default is eight of ten mebibytes.
        let part = if self.is_direct() { S3_PART } else { PART };
        BufWriter::with_capacity(Arc::clone(&self.store), Name::from(name), part).with_max_concurrency(1)
    }

    /// Deletes objects, some at a time.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn delete_all(&self, names: Vec<String>) -> Result<()> {
        let deletions = stream::iter(names).map(|name| async move { self.delete(&name).await });
        deletions.buffer_unordered(DELETIONS).try_collect().await
    }

    /// Deletes an object; that it is not there is as good.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn delete(&self, name: &str) -> Result<()> {
        match self.store.delete(&Name::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

fn not_found(name: &str, error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::NotFound(name.to_owned()),
        other => other.into(),
    }
}
