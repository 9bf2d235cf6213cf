use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use models::{
    hub::{Enrolled, Refusal, RefusalCode},
    signing::{PublicKey, TrustedKeys},
};
use object_store::ObjectStore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    hub::{Credentials, HubClient},
    objects::Objects,
};
use crate::{Error, Result};

/// Where a remote is: a folder, or a hub by its `https://` or `http://` address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Address {
    /// A folder, as of a network drive or a stick.
    Folder(PathBuf),
    /// A hub.
    Hub(String),
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        let is_url = text.starts_with("https://") || text.starts_with("http://");
        if is_url { Self::Hub(text.trim_end_matches('/').to_owned()) } else { Self::Folder(text.into()) }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Hub(url) => url.fmt(f),
        }
    }
}

/// What devices and workstation share, for callers that block. [`models::sync`] fixes the names.
#[derive(Clone, Debug)]
pub struct Remote(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Objects(Arc<Objects>),
    Hub(Arc<HubClient>),
}

impl Remote {
    /// The remote at an address; `credentials` is the folder with what enrolment at a hub has left.
    ///
    /// # Errors
    /// [`crate::Error::Remote`] for a folder that is not there; [`crate::Error::NotEnrolled`]; [`crate::Error::Models`].
    pub fn open(address: &Address, credentials: &Path) -> Result<Self> {
        match address {
            Address::Folder(path) => Self::folder(path),
            Address::Hub(url) => {
                let credentials = Credentials::open(credentials, url)?;
                Ok(Self(Kind::Hub(Arc::new(HubClient::new(url, credentials)?))))
            }
        }
    }

    /// A folder, as of a network drive or a stick. It must be there: a folder that is not mounted is not replaced by
    /// an empty one.
    ///
    /// # Errors
    /// [`crate::Error::Remote`] if it is not there.
    pub fn folder(path: &Path) -> Result<Self> {
        Ok(Self(Kind::Objects(Arc::new(Objects::folder(path)?))))
    }

    /// Any object store.
    ///
    /// # Errors
    /// [`crate::Error::Models`] if the system refuses what a runtime needs.
    pub fn new(store: Arc<dyn ObjectStore>) -> Result<Self> {
        Ok(Self(Kind::Objects(Arc::new(Objects::new(store)?))))
    }

    /// As whom a hub knows us; nothing if this is no hub.
    pub fn enrolled(&self) -> Option<&Enrolled> {
        match &self.0 {
            Kind::Objects(_) => None,
            Kind::Hub(hub) => Some(hub.enrolled()),
        }
    }

    /// Whose receipts count: a hub signs its own, and elsewhere whoever is trusted does.
    ///
    /// # Errors
    /// [`crate::Error::NotEnrolled`] if what a hub has left as its key is none.
    pub fn receipt_keys(&self, trusted: &TrustedKeys) -> Result<TrustedKeys> {
        let Some(enrolled) = self.enrolled() else { return Ok(trusted.clone()) };
        let key = PublicKey::from_pem(&enrolled.hub_key);
        let key = key.ok_or_else(|| models::Error::malformed("the hub's key", "a P-256 key", &enrolled.hub_key))?;
        Ok(TrustedKeys::new(vec![key])?)
    }

    /// An object's bytes; nothing if it is not there.
    ///
    /// # Errors
    /// [`crate::Error::Remote`], [`crate::Error::Offline`] or [`crate::Error::Refused`]; [`crate::Error::Models`] for an object of more than `limit` bytes,
    /// which is not read.
    pub fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match &self.0 {
            Kind::Objects(objects) => objects.get(name, limit),
            Kind::Hub(hub) => hub.get(name, limit),
        }
    }

    /// An object's size in bytes; nothing if it is not there.
    ///
    /// # Errors
    /// [`crate::Error::Remote`], [`crate::Error::Offline`] or [`crate::Error::Refused`].
    pub fn size(&self, name: &str) -> Result<Option<u64>> {
        match &self.0 {
            Kind::Objects(objects) => objects.size(name),
            Kind::Hub(hub) => hub.size(name),
        }
    }

    /// Names of all objects below a prefix, sorted.
    ///
    /// # Errors
    /// [`crate::Error::Remote`], [`crate::Error::Offline`] or [`crate::Error::Refused`].
    pub fn list(&self, prefix: &str) -> Result<Vec<String>> {
        match &self.0 {
            Kind::Objects(objects) => objects.list(prefix),
            Kind::Hub(hub) => hub.list(prefix),
        }
    }

    /// Writes an object as a whole or not at all.
    ///
    /// # Errors
    /// [`crate::Error::Remote`], [`crate::Error::Offline`] or [`crate::Error::Refused`].
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        match &self.0 {
            Kind::Objects(objects) => objects.put(name, bytes),
            Kind::Hub(hub) => hub.put(name, &bytes),
        }
    }

    /// [`Remote::put`] of what is large; also whether any of it has left the device, whatever came of it.
    pub(super) fn bring(&self, name: &str, bytes: Vec<u8>) -> (Result<()>, bool) {
        match &self.0 {
            Kind::Objects(objects) => (objects.put(name, bytes), true),
            Kind::Hub(hub) => hub.bring(name, &bytes),
        }
    }

    /// Asks a hub for what only an admin may; order and answer are JSON.
    ///
    /// # Errors
    /// [`crate::Error::Refused`], also by a remote that is no hub; [`crate::Error::Offline`].
    pub fn administrate(&self, order: &[u8]) -> Result<Vec<u8>> {
        match &self.0 {
            Kind::Objects(_) => {
                let refusal = Refusal { code: RefusalCode::NotFound, message: "it is a folder, and no hub".into() };
                Err(Error::Refused { action: "administrate", name: "the remote".into(), refusal })
            }
            Kind::Hub(hub) => hub.administrate(order),
        }
    }
}
