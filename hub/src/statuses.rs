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

    /// Brings everything to the database.
    ///
    /// # Errors
    /// [`crate::Error::Database`]; the statuses stay for the next time.
    pub async fn flush(&self, database: &Database) -> Result<()> {
        let taken = std::mem::take(&mut *self.lock());
        if taken.is_empty() {
            return Ok(());
        }
        let mut statuses: Vec<DeviceStatus> = taken.into_values().collect();
        // In one order everywhere: two processes that write the same rows would otherwise wait for each other.
        statuses.sort_by(|a, b| a.device.cmp(&b.device));
        let written = database.put_statuses(&statuses).await;
        if written.is_err() {
            statuses.into_iter().for_each(|status| self.put(status));
        }
        written
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
