//! Who is known, what came in, and what was done: SQLite in a file, or PostgreSQL.
//!
//! The statements are written once, in what both understand. Times are milliseconds since 1970.

mod sessions;

use std::path::Path;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use models::{Digest, hub::Role, signing::PublicKey, sync::DeviceStatus};
use serde::{Deserialize, Serialize};
use sqlx::{
    AnyPool, Row,
    any::{AnyPoolOptions, AnyRow},
};

pub use self::sessions::{SESSION, Session};
use crate::{Error, Result, rollout::Channel};

/// Connections that one process holds.
const CONNECTIONS: u32 = 8;

const SCHEMA: [&str; 10] = [
    "CREATE TABLE IF NOT EXISTS tokens (
        digest TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, expires BIGINT NOT NULL, used BIGINT)",
    "CREATE TABLE IF NOT EXISTS clients (
        key_id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, public_key TEXT NOT NULL,
        enrolled BIGINT NOT NULL, revoked BIGINT)",
    "CREATE TABLE IF NOT EXISTS sessions (
        digest TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, began BIGINT NOT NULL, expires BIGINT NOT NULL)",
    // A name is one key's at a time.
    "CREATE UNIQUE INDEX IF NOT EXISTS client_names ON clients (name) WHERE revoked IS NULL",
    "CREATE TABLE IF NOT EXISTS segments (
        device TEXT NOT NULL, digest TEXT NOT NULL, bytes BIGINT NOT NULL, samples BIGINT NOT NULL,
        received BIGINT NOT NULL, PRIMARY KEY (device, digest))",
    "CREATE INDEX IF NOT EXISTS segment_times ON segments (device, received)",
    "CREATE TABLE IF NOT EXISTS statuses (device TEXT PRIMARY KEY, reported BIGINT NOT NULL, status TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, secret TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS channels (name TEXT PRIMARY KEY, revision BIGINT NOT NULL, channel TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS log (
        at BIGINT NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL)",
];

/// A connection to either database.
#[derive(Clone, Debug)]
pub struct Database {
    pool: AnyPool,
}

/// Whose a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The key.
    pub key: PublicKey,
    /// Its owner.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was enrolled.
    pub enrolled: Timestamp,
    /// Since when it is worth nothing any more.
    pub revoked: Option<Timestamp>,
}

/// A segment that was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    /// Who sent it.
    pub device: String,
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// Samples in it; 0 if the hub has not looked into it.
    pub samples: u64,
    /// When it came in, or was let in.
    pub received: Timestamp,
}

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When.
    pub at: Timestamp,
    /// By whom: a client's name, or "operator" for who has the hub's own files.
    pub who: String,
    /// What, in a word.
    pub action: String,
    /// To what.
    pub detail: String,
}

impl Database {
    /// Connects to `sqlite:PATH` or `postgres://…`, and creates what is missing there.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn open(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let is_sqlite = url.starts_with("sqlite:");
        let options = AnyPoolOptions::new().max_connections(CONNECTIONS).after_connect(move |connection, _| {
            Box::pin(async move {
                if is_sqlite {
                    // A write-ahead log for readers beside a writer; synced at every commit, since a revoked key must stay so.
                    for pragma in
                        ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA busy_timeout = 10000"]
                    {
                        sqlx::query(pragma).execute(&mut *connection).await?;
                    }
                }
                Ok(())
            })
        });
        let database = Self { pool: options.connect(url).await? };
        for statement in SCHEMA {
            sqlx::query(statement).execute(&database.pool).await?;
        }
        Ok(database)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Copies an SQLite database to a new file, as it is at one moment.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn copy_to(&self, file: &Path) -> Result<()> {
        sqlx::query("VACUUM INTO $1").bind(file.display().to_string()).execute(&self.pool).await?;
        Ok(())
    }

    /// A secret of the hub's that all its processes share: the one that is there, or else this one from now on.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn secret(&self, name: &str, new: &str) -> Result<String> {
        sqlx::query("INSERT INTO secrets (name, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(name.to_owned())
            .bind(new.to_owned())
            .execute(&self.pool)
            .await?;
        let row = sqlx::query("SELECT secret FROM secrets WHERE name = $1")
            .bind(name.to_owned())
            .fetch_one(&self.pool)
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Remembers a token by its digest; the token itself is nowhere.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn add_token(&self, token: &str, name: &str, role: Role, expires: Timestamp) -> Result<()> {
        sqlx::query("INSERT INTO tokens (digest, name, role, expires) VALUES ($1, $2, $3, $4)")
            .bind(Digest::of(token.as_bytes()).to_string())
            .bind(name.to_owned())
            .bind(role.name())
            .bind(expires.as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Makes a key known to whom the token was given; the token is used up by that. Doing it again with the same key changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that is unknown, used or too old; [`Error::NameInUse`] or [`Error::KnownKey`], and the token
    /// stays good;
    /// [`Error::Database`].
    pub async fn enrol(&self, token: &str, key: &PublicKey, now: Timestamp) -> Result<Client> {
        let mut transaction = self.pool.begin().await?;
        // One statement looks and uses it up: of two at once, one finds nothing.
        let row = sqlx::query(
            "UPDATE tokens SET used = $1 WHERE digest = $2 AND used IS NULL AND expires > $3 RETURNING name, role",
        )
        .bind(now.as_millisecond())
        .bind(Digest::of(token.as_bytes()).to_string())
        .bind(now.as_millisecond())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else {
            drop(transaction);
            return self.enrolled_by(token, key).await?.ok_or(Error::Token);
        };
        let (name, role): (String, Role) = (row.try_get(0)?, role(&row.try_get::<String, _>(1)?)?);
        let inserted = sqlx::query(
            "INSERT INTO clients (key_id, name, role, public_key, enrolled) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
        )
        .bind(key.id().to_string())
        .bind(name.clone())
        .bind(role.name())
        .bind(key.to_pem())
        .bind(now.as_millisecond())
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            let known = sqlx::query("SELECT 1 FROM clients WHERE key_id = $1")
                .bind(key.id().to_string())
                .fetch_optional(&mut *transaction)
                .await?;
            return Err(if known.is_some() { Error::KnownKey } else { Error::NameInUse { name } });
        }
        transaction.commit().await?;
        Ok(Client { key: key.clone(), name, role, enrolled: now, revoked: None })
    }

    /// Who was enrolled by this token with this very key: the answer to that may have been lost.
    async fn enrolled_by(&self, token: &str, key: &PublicKey) -> Result<Option<Client>> {
        let row = sqlx::query("SELECT name FROM tokens WHERE digest = $1")
            .bind(Digest::of(token.as_bytes()).to_string())
            .fetch_optional(&self.pool)
            .await?;
        let name: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
        Ok(self.client(key.id()).await?.filter(|client| Some(&client.name) == name.as_ref()))
    }

    /// Whose a key is, if it is known and not revoked.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn client(&self, key: Digest) -> Result<Option<Client>> {
        let row = sqlx::query(
            "SELECT public_key, name, role, enrolled, revoked FROM clients WHERE key_id = $1 AND revoked IS NULL",
        )
        .bind(key.to_string())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(client).transpose()
    }

    /// Every key that ever was enrolled, by name.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn clients(&self) -> Result<Vec<Client>> {
        let rows = sqlx::query("SELECT public_key, name, role, enrolled, revoked FROM clients ORDER BY name, enrolled")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(client).collect()
    }

    /// Every key that ever was enrolled under a name.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn clients_named(&self, name: &str) -> Result<Vec<Client>> {
        let rows = sqlx::query(
            "SELECT public_key, name, role, enrolled, revoked FROM clients WHERE name = $1 ORDER BY enrolled",
        )
        .bind(name.to_owned())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(client).collect()
    }

    /// Takes a name's key all its rights, ends its sessions, and with them the tokens by which a person could sign in again; one for a
    /// device's next key stays good. Whether there was anything.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn revoke(&self, name: &str, now: Timestamp) -> Result<bool> {
        let mut transaction = self.pool.begin().await?;
        let revoked = sqlx::query("UPDATE clients SET revoked = $1 WHERE name = $2 AND revoked IS NULL")
            .bind(now.as_millisecond())
            .bind(name.to_owned())
            .execute(&mut *transaction)
            .await?;
        let tokens = sqlx::query("DELETE FROM tokens WHERE name = $1 AND used IS NULL AND role = $2")
            .bind(name.to_owned())
            .bind(Role::Reviewer.name())
            .execute(&mut *transaction)
            .await?;
        let sessions = sqlx::query("DELETE FROM sessions WHERE name = $1")
            .bind(name.to_owned())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok([revoked, tokens, sessions].iter().any(|gone| gone.rows_affected() > 0))
    }

    /// Remembers that a segment is in, or was let in: of its sizes the largest, if somebody has said several.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn add_segment(&self, segment: &SegmentRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO segments (device, digest, bytes, samples, received) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (device, digest) DO UPDATE SET bytes = excluded.bytes WHERE segments.bytes < excluded.bytes",
        )
        .bind(segment.device.clone())
        .bind(segment.digest.to_string())
        .bind(segment.bytes as i64)
        .bind(segment.samples as i64)
        .bind(segment.received.as_millisecond())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Bytes of a segment that is in, or was let in.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn segment_bytes(&self, device: &str, digest: Digest) -> Result<Option<u64>> {
        let row = sqlx::query("SELECT bytes FROM segments WHERE device = $1 AND digest = $2")
            .bind(device.to_owned())
            .bind(digest.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get::<i64, _>(0)).transpose()?.map(|bytes| bytes.max(0) as u64))
    }

    /// Bytes of the segments that a device sent since then.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn bytes_since(&self, device: &str, since: Timestamp) -> Result<u64> {
        // PostgreSQL sums whole numbers to a decimal.
        let row = sqlx::query(
            "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM segments WHERE device = $1 AND received > $2",
        )
        .bind(device.to_owned())
        .bind(since.as_millisecond())
        .fetch_one(&self.pool)
        .await?;
        Ok(row.try_get::<i64, _>(0)?.max(0) as u64)
    }

    /// Forgets that a device's segments ever came, and how it was. How many segments there were.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn forget(&self, device: &str) -> Result<u64> {
        sqlx::query("DELETE FROM statuses WHERE device = $1").bind(device.to_owned()).execute(&self.pool).await?;
        let gone =
            sqlx::query("DELETE FROM segments WHERE device = $1").bind(device.to_owned()).execute(&self.pool).await?;
        Ok(gone.rows_affected())
    }

    /// Keeps statuses, unless there is a later one of the same device: all of them in one transaction.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn put_statuses(&self, statuses: &[DeviceStatus]) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        for status in statuses {
            sqlx::query(
                "INSERT INTO statuses (device, reported, status) VALUES ($1, $2, $3)
                 ON CONFLICT (device) DO UPDATE SET reported = excluded.reported, status = excluded.status
                 WHERE statuses.reported <= excluded.reported",
            )
            .bind(status.device.clone())
            .bind(status.reported.as_millisecond())
            .bind(serde_json::to_string(status).map_err(|e| models::Error::malformed("a status", "JSON", e))?)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Reads what every device said last, in the order of their names. What cannot be read is passed over, with a warning.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn each_status(&self, each: impl FnMut(DeviceStatus)) -> Result<()> {
        self.read_statuses("SELECT device, status FROM statuses ORDER BY device", each).await
    }

    /// The same of devices whose key was not revoked.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn each_known_status(&self, each: impl FnMut(DeviceStatus)) -> Result<()> {
        let known = "SELECT device, status FROM statuses
            WHERE device IN (SELECT name FROM clients WHERE revoked IS NULL) ORDER BY device";
        self.read_statuses(known, each).await
    }

    async fn read_statuses(&self, query: &'static str, mut each: impl FnMut(DeviceStatus)) -> Result<()> {
        let mut rows = sqlx::query(query).fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            let (device, text): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            match serde_json::from_str(&text) {
                Ok(status) => each(status),
                Err(e) => tracing::warn!("the status of {device} is not readable: {e}"),
            }
        }
        Ok(())
    }

    /// A channel and its revision, if it is known.
    ///
    /// # Errors
    /// [`Error::Database`]; [`Error::Models`] for one that is not readable.
    pub async fn channel(&self, name: &str) -> Result<Option<(Channel, i64)>> {
        let row = sqlx::query("SELECT channel, revision FROM channels WHERE name = $1")
            .bind(name.to_owned())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let text: String = row.try_get(0)?;
        let channel = serde_json::from_str(&text).map_err(|e| models::Error::malformed("a channel", "JSON", e))?;
        Ok(Some((channel, row.try_get(1)?)))
    }

    /// Names of all channels, sorted.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn channels(&self) -> Result<Vec<String>> {
        let rows = sqlx::query("SELECT name FROM channels ORDER BY name").fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Writes a channel, if it still has that revision; one that is new has none. Whether it was written.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn put_channel(&self, name: &str, channel: &Channel, revision: Option<i64>) -> Result<bool> {
        let text = serde_json::to_string(channel).map_err(|e| models::Error::malformed("a channel", "JSON", e))?;
        let statement = match revision {
            None => "INSERT INTO channels (name, revision, channel) VALUES ($1, $2 + 1, $3) ON CONFLICT DO NOTHING",
            Some(_) => "UPDATE channels SET revision = revision + 1, channel = $3 WHERE name = $1 AND revision = $2",
        };
        let written = sqlx::query(statement)
            .bind(name.to_owned())
            .bind(revision.unwrap_or(0))
            .bind(text)
            .execute(&self.pool)
            .await?;
        Ok(written.rows_affected() == 1)
    }

    /// A device's status, as JSON.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn status(&self, device: &str) -> Result<Option<String>> {
        let row = sqlx::query("SELECT status FROM statuses WHERE device = $1")
            .bind(device.to_owned())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// The devices that ever told how they are, sorted.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn devices(&self) -> Result<Vec<String>> {
        let rows = sqlx::query("SELECT device FROM statuses ORDER BY device").fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Writes down what was done.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn log(&self, who: &str, action: &str, detail: &str, now: Timestamp) -> Result<()> {
        sqlx::query("INSERT INTO log (at, who, action, detail) VALUES ($1, $2, $3, $4)")
            .bind(now.as_millisecond())
            .bind(who.to_owned())
            .bind(action.to_owned())
            .bind(detail.to_owned())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The last things that were done, the latest first.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn entries(&self, entries: u32) -> Result<Vec<LogEntry>> {
        let rows = sqlx::query("SELECT at, who, action, detail FROM log ORDER BY at DESC LIMIT $1")
            .bind(i64::from(entries))
            .fetch_all(&self.pool)
            .await?;
        let entry = |row: &AnyRow| {
            Ok(LogEntry {
                at: time(row.try_get(0)?)?,
                who: row.try_get(1)?,
                action: row.try_get(2)?,
                detail: row.try_get(3)?,
            })
        };
        rows.iter().map(entry).collect()
    }
}

fn client(row: &AnyRow) -> Result<Client> {
    let pem: String = row.try_get(0)?;
    let revoked: Option<i64> = row.try_get(4)?;
    Ok(Client {
        key: PublicKey::from_pem(&pem).ok_or_else(|| models::Error::malformed("a client", "a P-256 key", pem))?,
        name: row.try_get(1)?,
        role: role(&row.try_get::<String, _>(2)?)?,
        enrolled: time(row.try_get(3)?)?,
        revoked: revoked.map(time).transpose()?,
    })
}

fn role(name: &str) -> Result<Role> {
    let role = Role::ALL.into_iter().find(|role| role.name() == name);
    Ok(role.ok_or_else(|| models::Error::malformed("a client", "a role", name))?)
}

fn time(milliseconds: i64) -> Result<Timestamp> {
    Ok(Timestamp::from_millisecond(milliseconds).map_err(|e| models::Error::malformed("the database", "a time", e))?)
}
