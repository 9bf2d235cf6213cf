//! Starts a hub over a folder, and stops it in good order.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use models::{durable, signing::PrivateKey};
use rand::{TryRng, rngs::SysRng};
use tokio::task::JoinHandle;

use crate::{
    Error, Result,
    api::{Hub, router},
    database::Database,
    intake::Intake,
    limits::Limits,
    metrics,
    objects::{Bucket, Objects},
    tls::Identity,
};

/// How often statuses are written and meters are tidied.
const TIDY: Duration = Duration::from_secs(5);
/// How often rollouts are brought on.
const ROLL: Duration = Duration::from_secs(15);
/// A client that has not sent its headers by then is cut off.
const HEADER_TIME: Duration = Duration::from_secs(15);
/// In the names of objects that are being written.
pub(crate) const STAGED: char = '#';
/// Requests at hand get so long when the hub stops.
const GRACE: Duration = Duration::from_secs(20);

/// A hub's folder.
#[derive(Clone, Debug)]
pub struct DataFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Address of a database in place of the file in it.
    pub database: Option<String>,
    /// A bucket in place of the objects in it.
    pub bucket: Option<Bucket>,
}

impl DataFolder {
    /// Opens the database, which is created if it is missing.
    ///
    /// # Errors
    /// [`Error::Models`] if the folder cannot be created; [`Error::Database`].
    pub async fn database(&self) -> Result<Database> {
        durable::create_folders(&self.path)?;
        // Signs that mean something in an address.
        let path = self.path.join("hub.db").display().to_string();
        let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let own = format!("sqlite:{path}?mode=rwc");
        Database::open(self.database.as_ref().unwrap_or(&own)).await
    }

    /// Opens the store of objects; a folder is created if it is missing.
    ///
    /// # Errors
    /// [`Error::Models`], [`Error::Store`].
    pub fn objects(&self) -> Result<Objects> {
        if let Some(bucket) = &self.bucket {
            return Objects::bucket(bucket);
        }
        let folder = self.objects_folder();
        durable::create_folders(&folder)?;
        Objects::folder(&folder)
    }

    fn objects_folder(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// Opens everything, which is created if it is missing.
    ///
    /// # Errors
    /// [`Error::Models`], [`Error::Database`], [`Error::Store`].
    pub async fn intake(&self) -> Result<Intake> {
        let objects = self.objects()?;
        if self.bucket.is_none() {
            delete_staged(&self.objects_folder())?;
        }
        let database = self.database().await?;
        let key = self.key(&database).await?;
        Ok(Intake { database, objects, key })
    }

    /// The hub's certificate, made for these names if there is none.
    ///
    /// # Errors
    /// As [`Identity::own`].
    pub fn identity(&self, names: &[String]) -> Result<Identity> {
        Identity::own(&self.path.join("tls"), names)
    }

    /// The key that signs receipts: in the folder, or, with a database elsewhere, in that, for all processes on it.
    async fn key(&self, database: &Database) -> Result<PrivateKey> {
        let path = self.path.join("keys/hub.pem");
        let own = if path.exists() { PrivateKey::read(&path)? } else { PrivateKey::generate(secret)? };
        if self.database.is_none() {
            if !path.exists() {
                durable::create_folders(path.parent().unwrap_or(Path::new("")))?;
                durable::write_secret(&path, own.to_pem().as_bytes())?;
            }
            return Ok(own);
        }
        // A hub that had its database elsewhere before it had its key there brings it along.
        let pem = database.secret("receipts", &own.to_pem()).await?;
        let shared = PrivateKey::from_pem(&pem);
        let shared =
            shared.ok_or_else(|| models::Error::malformed("the hub's key in the database", "a P-256 key", "a text"))?;
        if path.exists() && shared.public() != own.public() {
            tracing::warn!("{} is not the key in the database, which is used", path.display());
        }
        Ok(shared)
    }
}

/// Deletes what was being written when the hub was killed: the store gives it its name with a number behind this sign.
fn delete_staged(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(models::Error::io("list", folder))? {
        let path = entry.map_err(models::Error::io("list", folder))?.path();
        if path.is_dir() {
            delete_staged(&path)?;
        } else if path.file_name().is_some_and(|name| name.to_string_lossy().contains(STAGED)) {
            durable::remove(&path)?;
        }
    }
    Ok(())
}

/// 32 bytes that nobody can guess.
///
/// # Errors
/// [`Error::Content`] if the system has none.
pub fn secret() -> Result<[u8; 32]> {
    let mut secret = [0; 32];
    SysRng.try_fill_bytes(&mut secret).map_err(|e| Error::Content(format!("the system gives no entropy: {e}")))?;
    Ok(secret)
}

/// Serves until `handle` says to stop: over TLS, or without if there is no identity, behind something that has one. `metrics` are for
/// another network: they ask nobody who they are.
///
/// # Errors
/// [`Error::Content`] if the socket cannot be used.
pub async fn serve(
    intake: Intake,
    limits: Limits,
    listener: TcpListener,
    metrics: Option<TcpListener>,
    identity: Option<&Identity>,
    handle: Handle<SocketAddr>,
) -> Result<()> {
    let hub = Arc::new(Hub::new(intake, limits));
    let tidying = every(TIDY, &hub, |hub| async move { hub.tidy().await });
    let rolling = every(ROLL, &hub, |hub| async move { hub.roll().await });
    if let Some(listener) = metrics {
        let page = metrics::router(Arc::clone(&hub.metrics)).into_make_service();
        let server = axum_server::from_tcp(listener).map_err(socket)?.handle(handle.clone());
        tokio::spawn(async move {
            if let Err(e) = server.serve(page).await {
                tracing::error!("metrics are not served: {e}");
            }
        });
    }
    let service = router(Arc::clone(&hub)).into_make_service_with_connect_info::<SocketAddr>();
    let served = match identity {
        Some(identity) => {
            let mut server = axum_server::from_tcp_rustls(listener, identity.load().await?).map_err(socket)?;
            server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
            server.handle(handle).serve(service).await
        }
        None => {
            let mut server = axum_server::from_tcp(listener).map_err(socket)?;
            server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
            server.handle(handle).serve(service).await
        }
    };
    tidying.abort();
    rolling.abort();
    hub.tidy().await;
    served.map_err(socket)
}

/// Does something with a hub now and then, until it is aborted.
fn every<F: Future<Output = ()> + Send>(
    period: Duration,
    hub: &Arc<Hub>,
    act: impl Fn(Arc<Hub>) -> F + Send + 'static,
) -> JoinHandle<()> {
    let hub = Arc::clone(hub);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(period).await;
            act(Arc::clone(&hub)).await;
        }
    })
}

/// Stops a server: no new requests, and those at hand get some time.
pub fn stop(handle: &Handle<SocketAddr>) {
    handle.graceful_shutdown(Some(GRACE));
}

fn socket(error: std::io::Error) -> Error {
    Error::Content(format!("cannot listen: {error}"))
}
