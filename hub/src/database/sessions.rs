//! Who has signed in at the pages: with a token, as keys are enrolled, and then by a secret that only their browser has.

use jiff::{SignedDuration, Timestamp};
use models::{Digest, hub::Role};
use serde::{Deserialize, Serialize};
use sqlx::{Row, any::AnyRow};

use super::{Database, role, time};
use crate::{Error, Result};

/// So long after signing in, a new token is needed.
pub const SESSION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Somebody who has signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Who, as the token said.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// When they signed in.
    pub began: Timestamp,
    /// When it ends by itself.
    pub expires: Timestamp,
}

impl Database {
    /// Lets somebody in by a token, which is used up by that; `secret` is what their browser shows from now on.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that is unknown, used, too old, or a device's, which stays good for the device; [`Error::Database`].
    pub async fn sign_in(&self, token: &str, secret: &str, now: Timestamp) -> Result<Session> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query(
            "UPDATE tokens SET used = $1 WHERE digest = $2 AND used IS NULL AND expires > $3 AND role <> $4
             RETURNING name, role",
        )
        .bind(now.as_millisecond())
        .bind(Digest::of(token.as_bytes()).to_string())
        .bind(now.as_millisecond())
        .bind(Role::Device.name())
        .fetch_optional(&mut *transaction)
        .await?;
        let row = row.ok_or(Error::Token)?;
        let (name, role): (String, Role) = (row.try_get(0)?, role(&row.try_get::<String, _>(1)?)?);
        let session = Session { name, role, began: now, expires: now + SESSION };
        sqlx::query("DELETE FROM sessions WHERE expires <= $1")
            .bind(now.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO sessions (digest, name, role, began, expires) VALUES ($1, $2, $3, $4, $5)")
            .bind(Digest::of(secret.as_bytes()).to_string())
            .bind(session.name.clone())
            .bind(session.role.name())
            .bind(session.began.as_millisecond())
            .bind(session.expires.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(session)
    }

    /// Who shows this secret, if they are signed in.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn session(&self, secret: &str, now: Timestamp) -> Result<Option<Session>> {
        let row = sqlx::query("SELECT name, role, began, expires FROM sessions WHERE digest = $1 AND expires > $2")
            .bind(Digest::of(secret.as_bytes()).to_string())
            .bind(now.as_millisecond())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(session).transpose()
    }

    /// Everybody who is signed in, by name.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn sessions(&self, now: Timestamp) -> Result<Vec<Session>> {
        let rows =
            sqlx::query("SELECT name, role, began, expires FROM sessions WHERE expires > $1 ORDER BY name, began")
                .bind(now.as_millisecond())
                .fetch_all(&self.pool)
                .await?;
        rows.iter().map(session).collect()
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn sign_out(&self, secret: &str) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE digest = $1")
            .bind(Digest::of(secret.as_bytes()).to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn session(row: &AnyRow) -> Result<Session> {
    Ok(Session {
        name: row.try_get(0)?,
        role: role(&row.try_get::<String, _>(1)?)?,
        began: time(row.try_get(2)?)?,
        expires: time(row.try_get(3)?)?,
    })
}
