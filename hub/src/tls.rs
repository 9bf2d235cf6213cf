//! The hub's certificate: one of its own, made when it first starts, or one that is given.

use std::path::{Path, PathBuf};

use axum_server::tls_rustls::RustlsConfig;
use models::durable;
use rcgen::{CertificateParams, KeyPair};

use crate::{Error, Result};

/// Files of a certificate and its key, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, which clients are given if nobody they trust has signed it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Identity {
    /// The certificate in `folder`, made for these host names and addresses if there is none.
    ///
    /// # Errors
    /// [`Error::Models`] if it cannot be written; [`Error::Content`] for a name that is none.
    pub fn own(folder: &Path, names: &[String]) -> Result<Self> {
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
        if !certificate.exists() {
            let wrong = |e: rcgen::Error| Error::Content(format!("no certificate for {names:?}: {e}"));
            durable::create_folders(folder)?;
            let pair = KeyPair::generate().map_err(wrong)?;
            let made = CertificateParams::new(names).and_then(|params| params.self_signed(&pair)).map_err(wrong)?;
            durable::write_secret(&key, pair.serialize_pem().as_bytes())?;
            durable::write(&certificate, made.pem().as_bytes())?;
        }
        Ok(Self { certificate, key })
    }

    /// What the server needs of it.
    ///
    /// # Errors
    /// [`Error::Content`] for files that hold no certificate or key, with both paths.
    pub async fn load(&self) -> Result<RustlsConfig> {
        // Whoever was first has chosen it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        RustlsConfig::from_pem_file(&self.certificate, &self.key).await.map_err(|e| {
            Error::Content(format!(
                "{} and {}: expected a certificate and its key in PEM form: {e}",
                self.certificate.display(),
                self.key.display()
            ))
        })
    }
}
