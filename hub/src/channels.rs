//! The channels as they are kept: in the database, where of two processes that change one only the first succeeds and the other
//! looks again. Orders of who publishes stay objects.

use jiff::Timestamp;
use models::{
    signing::{Message, RollbackOrder},
    sync::{self, ChannelPointer, RolloutReport, RolloutState},
};

use crate::{
    Error, Result,
    database::Database,
    objects::Objects,
    rollout::{Channel, Member, Plan, Rollout, Verdict},
};

/// In the log, who brings rollouts on.
const HUB: &str = "hub";

/// A rollout that is running, and what there is to decide it by.
struct Case {
    name: String,
    channel: Channel,
    revision: Option<i64>,
    members: Vec<Member>,
}

/// What the channels of a hub are kept in.
#[derive(Clone, Debug)]
pub struct Channels {
    /// Keeps them, and what devices say.
    pub database: Database,
    /// Keeps orders, and the pointers of hubs that had no rollouts yet.
    pub objects: Objects,
}

impl Channels {
    /// A channel; one that nothing was published to is empty.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Store`], [`Error::Models`].
    pub async fn get(&self, name: &str) -> Result<Channel> {
        Ok(self.load(name).await?.0)
    }

    async fn load(&self, name: &str) -> Result<(Channel, Option<i64>)> {
        if let Some((channel, revision)) = self.database.channel(name).await? {
            return Ok((channel, Some(revision)));
        }
        let object = sync::channel(name);
        let stable = match self.objects.get(&object).await {
            Err(Error::NotFound(_)) => None,
            Err(e) => return Err(e),
            Ok(found) => Some(
                serde_json::from_slice(&found.bytes().await?)
                    .map_err(|e| models::Error::malformed(&object, "a channel pointer", e))?,
            ),
        };
        Ok((Channel { stable, ..Channel::default() }, None))
    }

    /// Begins to bring a bundle out.
    ///
    /// # Errors
    /// [`Error::Content`] for one that went back before; [`Error::Database`], [`Error::Store`].
    pub async fn publish(&self, name: &str, to: ChannelPointer, who: &str, now: Timestamp) -> Result<()> {
        let said = format!("bundle {} for {name}", to.bundle.short());
        loop {
            let (mut channel, revision) = self.load(name).await?;
            let members = self.members(name, to, now).await?;
            if !channel.publish(to, &members, now)? {
                return Ok(());
            }
            if self.database.put_channel(name, &channel, revision).await? {
                return self.database.log(who, "published", &said, now).await;
            }
        }
    }

    /// Sets the steps in which a channel's bundles go out, from now on.
    ///
    /// # Errors
    /// [`Error::Content`] for steps that make no sense; [`Error::Database`], [`Error::Store`].
    pub async fn plan(&self, name: &str, plan: Plan, who: &str, now: Timestamp) -> Result<()> {
        let plan = plan.checked()?;
        loop {
            let (mut channel, revision) = self.load(name).await?;
            channel.plan = plan.clone();
            if self.database.put_channel(name, &channel, revision).await? {
                return self.database.log(who, "planned", &format!("{name}: {plan:?}"), now).await;
            }
        }
    }

    /// Brings every rollout on, by what the devices say.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Store`].
    pub async fn advance(&self, now: Timestamp) -> Result<()> {
        for name in self.database.channels().await? {
            if let Some(case) = self.case(&name, now).await? {
                let verdict = case.channel.judge(&case.members, now);
                // Another process may have been first.
                self.act(case, &verdict, HUB, now).await?;
            }
        }
        Ok(())
    }

    /// Has somebody decide about a channel's rollout. Whether there was one.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Store`].
    pub async fn decide(&self, name: &str, verdict: &Verdict, who: &str, now: Timestamp) -> Result<bool> {
        while let Some(case) = self.case(name, now).await? {
            if self.act(case, verdict, who, now).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A channel's rollout, if it has one that is running.
    async fn case(&self, name: &str, now: Timestamp) -> Result<Option<Case>> {
        let (channel, revision) = self.load(name).await?;
        let Some(rollout) = channel.running() else { return Ok(None) };
        let members = self.members(name, rollout.to, now).await?;
        Ok(Some(Case { name: name.to_owned(), channel, revision, members }))
    }

    /// Whether nobody else has changed the channel meanwhile.
    async fn act(&self, case: Case, verdict: &Verdict, who: &str, now: Timestamp) -> Result<bool> {
        let Case { name, mut channel, revision, members } = case;
        match verdict {
            Verdict::Wait => return Ok(true),
            Verdict::Next => channel.act(verdict, &members, now),
            Verdict::Back(why) => {
                // Before it is needed: devices follow it only once the pointer says so.
                let is_ordered = self.order_back(&name, &channel).await?;
                let missing = if is_ordered { "" } else { "; without an order, devices that have it keep it" };
                channel.act(&Verdict::Back(format!("{why}{missing}")), &members, now);
            }
        }
        if !self.database.put_channel(&name, &channel, revision).await? {
            return Ok(false);
        }
        let Some(Rollout { to, state, why, .. }) = channel.rollout else { return Ok(true) };
        let (action, why) = match state {
            RolloutState::Running => ("brought to more", String::new()),
            RolloutState::Done => ("brought to all", String::new()),
            RolloutState::Back => ("took back", format!(": {}", why.unwrap_or_default())),
        };
        let detail = format!("bundle {} of {name}{why}", to.bundle.short());
        tracing::info!("{who} {action} {detail}");
        self.database.log(who, action, &detail, now).await?;
        Ok(true)
    }

    /// Gives the order to go back that came with the bundle. Whether there is one.
    async fn order_back(&self, name: &str, channel: &Channel) -> Result<bool> {
        let (Some(rollout), Some(stable)) = (channel.running(), channel.stable) else { return Ok(false) };
        let object = sync::fallback(name);
        let order = match self.objects.get(&object).await {
            Err(Error::NotFound(_)) => return Ok(false),
            found => found?.bytes().await?,
        };
        // Devices verify whose it is.
        let Ok(parsed) = RollbackOrder::open_unverified(&object, &order) else { return Ok(false) };
        if !parsed.allows(name, rollout.to.sequence, &stable) {
            return Ok(false);
        }
        self.objects.put(&sync::rollback(name), order).await?;
        Ok(true)
    }

    /// How a channel's last rollout goes, if there was one.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Store`].
    pub async fn report(&self, name: &str, now: Timestamp) -> Result<Option<RolloutReport>> {
        let channel = self.get(name).await?;
        let Some(rollout) = &channel.rollout else { return Ok(None) };
        Ok(channel.report(&self.members(name, rollout.to, now).await?))
    }

    async fn members(&self, name: &str, to: ChannelPointer, now: Timestamp) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        self.database.each_status(|status| members.extend(Member::of(&status, name, to.bundle, now))).await?;
        Ok(members)
    }
}
