//! The objects that devices and workstation share, by the names of [`models::sync`], in any object store.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::{
    GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, buffered::BufWriter, local::LocalFileSystem, path::Path as Name,
};

use crate::{Error, Result};

/// Bytes that are written at once.
const PART: usize = 1 << 20;

/// The store.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
}

impl Objects {
    /// Objects as files below a folder, which must be there. What is written survives a power cut.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn folder(path: &Path) -> Result<Self> {
        Ok(Self { store: Arc::new(LocalFileSystem::new_with_prefix(path)?.with_fsync(true)) })
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
        BufWriter::with_capacity(Arc::clone(&self.store), Name::from(name), PART).with_max_concurrency(1)
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
