//! What may be asked of a hub by who runs it: somebody with its own files, or an admin's key, over HTTP. Both ask the same things,
//! and get the same answers.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use models::{
    Digest,
    hub::Role,
    sync::{self, ChannelReport, is_device_name},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Error, Result, board,
    channels::Channels,
    database::Client,
    rollout::{Plan, Verdict},
    server::secret,
};

/// A token is good for a year at most.
pub const MAX_HOURS: u32 = 8760;

/// What is asked. Each says by which type it is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Make a token with which one key can be enrolled, once: [`Token`].
    Token {
        /// Whose key it will be.
        name: String,
        /// What it may do.
        role: Role,
        /// After which it is worth nothing.
        hours: u32,
    },
    /// Who was enrolled: a list of [`KnownKey`].
    Clients {},
    /// Who is signed in at the pages: a list of [`crate::database::Session`].
    Sessions {},
    /// Take a name's key and sessions all their rights: nothing.
    Revoke {
        /// Whose.
        name: String,
    },
    /// Delete what a device has sent: [`Forgotten`].
    Forget {
        /// The device.
        device: String,
    },
    /// How the devices are: a list of [`models::sync::DeviceStatus`].
    Devices {},
    /// What was done: a list of [`crate::database::LogEntry`], the latest first.
    Log {
        /// How many.
        last: u32,
    },
    /// How the channels' bundles go out: a list of [`ChannelState`].
    Rollouts {},
    /// Set in which steps the bundles of a channel go out: nothing.
    Plan {
        /// The channel.
        channel: String,
        /// The steps.
        plan: Plan,
    },
    /// Begin the next stage now: nothing.
    Next {
        /// The channel.
        channel: String,
        /// The bundle that is on its way: another one is left alone.
        bundle: Digest,
        /// The stage that it is in, from 1: in another one it is left alone.
        stage: usize,
    },
    /// Take the bundle back: nothing.
    Back {
        /// The channel.
        channel: String,
        /// As for [`Order::Next`].
        bundle: Digest,
        /// As for [`Order::Next`].
        stage: usize,
        /// For the record.
        why: String,
    },
}

/// A token, made now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The token itself, which is nowhere else.
    pub token: String,
    /// Whose key it will be.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it is worth nothing any more.
    pub expires: Timestamp,
}

/// A key that was enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownKey {
    /// Whose it is.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its id.
    pub key: Digest,
    /// When it was enrolled.
    pub enrolled: Timestamp,
    /// Since when it is worth nothing any more.
    pub revoked: Option<Timestamp>,
}

impl From<Client> for KnownKey {
    fn from(client: Client) -> Self {
        let Client { key, name, role, enrolled, revoked } = client;
        Self { name, role, key: key.id(), enrolled, revoked }
    }
}

/// What was deleted of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forgotten {
    /// Its segments.
    pub segments: u64,
}

/// A channel, and how its bundles go out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelState {
    /// The channel.
    pub channel: String,
    /// In which steps.
    pub plan: Plan,
    /// How far they are.
    pub report: ChannelReport,
}

/// Does what is asked, and writes down that `who` has asked, if it changes something.
///
/// # Errors
/// [`Error::Content`] for what cannot be done, with the reason; [`Error::Database`], [`Error::Store`].
pub async fn execute(channels: &Channels, order: Order, who: &str, now: Timestamp) -> Result<Value> {
    let database = &channels.database;
    match order {
        Order::Token { name, role, hours } => answer(&token(channels, name, role, hours, who, now).await?),
        Order::Clients {} => answer(&database.clients().await?.into_iter().map(KnownKey::from).collect::<Vec<_>>()),
        Order::Sessions {} => answer(&database.sessions(now).await?),
        Order::Revoke { name } => {
            if !database.revoke(&name, now).await? {
                return Err(Error::Content(format!("{name:?} has no key and no session that could be revoked")));
            }
            answer(&database.log(who, "revoked", &name, now).await?)
        }
        Order::Forget { device } => answer(&forget(channels, &device, who, now).await?),
        Order::Devices {} => {
            let mut statuses = Vec::new();
            database.each_status(|status| statuses.push(status)).await?;
            answer(&statuses)
        }
        Order::Log { last } => answer(&database.entries(last).await?),
        Order::Rollouts {} => {
            let mut reports = Vec::new();
            for channel in database.channels().await? {
                let plan = channels.get(&channel).await?.plan;
                reports.push(ChannelState { report: channels.report(&channel, now).await?, plan, channel });
            }
            answer(&reports)
        }
        Order::Plan { channel, plan } => {
            check_name(&channel)?;
            answer(&channels.plan(&channel, plan, who, now).await?)
        }
        Order::Next { channel, bundle, stage } => {
            answer(&channels.decide(&channel, (bundle, stage), &Verdict::Next, who, now).await?)
        }
        Order::Back { channel, bundle, stage, why } => {
            answer(&channels.decide(&channel, (bundle, stage), &Verdict::Back(why), who, now).await?)
        }
    }
}

fn answer(value: &impl Serialize) -> Result<Value> {
    Ok(serde_json::to_value(value).map_err(|e| models::Error::malformed("an answer", "a JSON form", e))?)
}

fn check_name(name: &str) -> Result<()> {
    let expected = || Error::Content(format!("{name:?}: expected 1 to 64 of a-z, A-Z, 0-9, - and _"));
    is_device_name(name).then_some(()).ok_or_else(expected)
}

async fn token(channels: &Channels, name: String, role: Role, hours: u32, who: &str, now: Timestamp) -> Result<Token> {
    check_name(&name)?;
    if !(1..=MAX_HOURS).contains(&hours) {
        return Err(Error::Content(format!("{hours} hours; expected 1 to {MAX_HOURS}")));
    }
    let expires = now + SignedDuration::from_hours(hours.into());
    let token = BASE64_URL_SAFE_NO_PAD.encode(secret()?);
    channels.database.add_token(&token, &name, role, expires).await?;
    channels.database.log(who, "token", &format!("for {name}, {}", role.name()), now).await?;
    Ok(Token { token, name, role, expires })
}

async fn forget(channels: &Channels, device: &str, who: &str, now: Timestamp) -> Result<Forgotten> {
    check_name(device)?;
    let Channels { database, objects } = channels;
    let names = objects.list(&format!("{}/{device}", sync::SEGMENTS)).await?;
    let segments = names.len() as u64;
    // Segments first: a receipt without one does no harm, and a crash in between is made good by the same order.
    objects.delete_all(names).await?;
    objects.delete_all(objects.list(&format!("receipts/{device}")).await?).await?;
    board::forget(objects, device).await?;
    database.forget(device).await?;
    database.log(who, "forgot", &format!("{segments} segments of {device}"), now).await?;
    Ok(Forgotten { segments })
}
