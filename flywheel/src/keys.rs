//! The pair of keys that bundles are signed and verified with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use models::{
    Digest, durable,
    signing::{PrivateKey, PublicKey},
};
use rand::{TryRng, rngs::SysRng};
use serde::Serialize;

/// Name of the private key's file.
pub const PRIVATE_KEY: &str = "signing.pem";
/// Name of the public key's file.
pub const PUBLIC_KEY: &str = "trusted.pem";

/// Where a pair of keys is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyFiles {
    /// The private key, which stays on the workstation.
    pub private: PathBuf,
    /// The public key, which devices get.
    pub public: PathBuf,
    /// The key's id in signatures.
    pub id: Digest,
}

/// The pair of keys in a folder, made if there is none.
///
/// # Errors
/// As [`generate`]; if one of the files holds no key.
pub fn existing_or_new(folder: &Path) -> Result<KeyFiles> {
    let (private, public) = (folder.join(PRIVATE_KEY), folder.join(PUBLIC_KEY));
    if !(private.exists() && public.exists()) {
        return generate(folder);
    }
    let id = PrivateKey::read(&private)?.public().id();
    ensure!(PublicKey::read(&public)?.id() == id, "{} is not the key of {}", public.display(), private.display());
    Ok(KeyFiles { private, public, id })
}

/// Makes a pair of keys in a folder.
///
/// # Errors
/// If there is a key already, or the folder cannot be written.
pub fn generate(folder: &Path) -> Result<KeyFiles> {
    let (private, public) = (folder.join(PRIVATE_KEY), folder.join(PUBLIC_KEY));
    for path in [&private, &public] {
        ensure!(!path.exists(), "{} exists already: expected a folder without keys", path.display());
    }
    let key = PrivateKey::generate(|| {
        let mut secret = [0; 32];
        SysRng.try_fill_bytes(&mut secret).context("the system has no randomness for a key")?;
        Ok::<_, anyhow::Error>(secret)
    })?;
    durable::create_folders(folder)?;
    durable::write_secret(&private, key.to_pem().as_bytes())?;
    durable::write(&public, key.public().to_pem().as_bytes())?;
    Ok(KeyFiles { private, public, id: key.public().id() })
}
