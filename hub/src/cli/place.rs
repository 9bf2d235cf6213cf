//! Where a hub is that is asked: here, by its own files, or elsewhere, by an admin's key.

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::DataArgs;
use crate::{
    admin::{Order, execute},
    channels::Channels,
};

/// Who works with the hub's own files, in its log.
pub(super) const OPERATOR: &str = "operator";

/// Asks a hub elsewhere, by a client of whoever offers these commands.
pub type Ask<'a> = &'a (dyn Fn(&Order) -> Result<Value> + Sync);

/// What these commands work on.
pub(super) struct Place<'a> {
    ask: Option<Ask<'a>>,
}

impl<'a> Place<'a> {
    pub(super) fn new(ask: Option<Ask<'a>>) -> Self {
        Self { ask }
    }

    /// The hub's answer: of the one in the folder, if that is named, or else of the one elsewhere, if there is one.
    pub(super) async fn ask<T: DeserializeOwned>(&self, data: &DataArgs, order: Order) -> Result<T> {
        let answer = match self.ask {
            Some(ask) if !data.is_given() => ask(&order)?,
            _ => {
                let folder = data.folder();
                let channels = Channels { database: folder.database().await?, objects: folder.objects()? };
                execute(&channels, order, OPERATOR, Timestamp::now()).await?
            }
        };
        serde_json::from_value(answer).context("the hub's answer is not what was expected: is it of another version?")
    }
}
