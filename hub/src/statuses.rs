//! How the devices are. They say so often, and it is worth no disk write each: what came in is written together, now and then.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use models::sync::DeviceStatus;

use crate::{Result, database::Database};

/// Statuses that came in and are not in the database yet.
#[derive(Debug, Default)]
pub struct Statuses {
    fresh: Mutex<HashMap<String, DeviceStatus>>,
    /// Held while they are written.
    writing: tokio::sync::Mutex<()>,
}

impl Statuses {
    /// Takes a status in, unless there is a later one.
    pub fn put(&self, status: DeviceStatus) {
        let mut fresh = self.lock();
        match fresh.get(&status.device) {
            Some(known) if known.reported > status.reported => {}
            _ => {
                fresh.insert(status.device.clone(), status);
            }
        }
    }

    /// Brings everything to the database: once this is done, all that came in before is there, whoever wrote it.
    ///
    /// # Errors
    /// [`crate::Error::Database`]; the statuses stay for the next time.
    pub async fn flush(&self, database: &Database) -> Result<()> {
        let _writing = self.writing.lock().await;
        let mut statuses: Vec<DeviceStatus> = self.lock().values().cloned().collect();
        if statuses.is_empty() {
            return Ok(());
        }
        // In one order everywhere: two processes that write the same rows would otherwise wait for each other.
        statuses.sort_by(|a, b| a.device.cmp(&b.device));
        database.put_statuses(&statuses).await?;
        // Only now: until then the database does not have them.
        let mut fresh = self.lock();
        for written in &statuses {
            if fresh.get(&written.device) == Some(written) {
                fresh.remove(&written.device);
            }
        }
        Ok(())
    }

    /// How every device is whose key was not revoked, by their names.
    ///
    /// # Errors
    /// [`crate::Error::Database`].
    pub async fn of_known_devices(&self, database: &Database) -> Result<Vec<DeviceStatus>> {
        self.flush(database).await?;
        let mut all = Vec::new();
        database.each_known_status(|status| all.push(status)).await?;
        Ok(all)
    }

    /// A device's status as JSON, the latest one.
    ///
    /// # Errors
    /// [`crate::Error::Database`].
    pub async fn get(&self, database: &Database, device: &str) -> Result<Option<String>> {
        let fresh = self.lock().get(device).and_then(|status| serde_json::to_string(status).ok());
        match fresh {
            Some(status) => Ok(Some(status)),
            None => database.status(device).await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, DeviceStatus>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
