use std::{path::Path, sync::Arc};

use futures_util::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path as Name};
use tokio::runtime::Runtime;

use crate::{Error, Result};

/// An object store, for callers that block.
#[derive(Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    runtime: Runtime,
}

impl Objects {
    pub(super) fn folder(path: &Path) -> Result<Self> {
        let failed = |source| Error::Remote { action: "open", name: path.display().to_string(), source };
        Self::new(Arc::new(LocalFileSystem::new_with_prefix(path).map_err(failed)?.with_fsync(true)))
    }

    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(models::Error::io("start a runtime for", Path::new("the remote")))?;
        Ok(Self { store, runtime })
    }

    pub(super) fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let failed = |source| Error::Remote { action: "read", name: name.to_owned(), source };
        self.runtime.block_on(async {
            let object = match self.store.get(&Name::from(name)).await {
                Ok(object) => object,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(e) => return Err(failed(e)),
            };
            let size = object.meta.size;
            if size > limit {
                let expected = format!("at most {limit} bytes");
                return Err(models::Error::malformed(name, expected, format!("{size} bytes")).into());
            }
            Ok(Some(object.bytes().await.map_err(failed)?.to_vec()))
        })
    }

    pub(super) fn size(&self, name: &str) -> Result<Option<u64>> {
        match self.runtime.block_on(self.store.head(&Name::from(name))) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::Remote { action: "look up", name: name.to_owned(), source }),
        }
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let failed = |source| Error::Remote { action: "list", name: prefix.to_owned(), source };
        let objects: Vec<_> =
            self.runtime.block_on(self.store.list(Some(&Name::from(prefix))).try_collect()).map_err(failed)?;
        let mut names: Vec<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort();
        Ok(names)
    }

    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let failed = |source| Error::Remote { action: "write", name: name.to_owned(), source };
        self.runtime.block_on(self.store.put(&Name::from(name), bytes.into())).map_err(failed)?;
        Ok(())
    }
}
