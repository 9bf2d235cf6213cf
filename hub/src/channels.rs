//! The channels as they are kept: in the database, where of two processes that change one only the first succeeds and the other
//! looks again. Orders of who publishes stay objects.

use jiff::Timestamp;
use models::{
    Digest,
    signing::{Message, RollbackOrder},
    sync::{self, ChannelPointer, ChannelReport},
};

use crate::{
    Error, Result,
    database::Database,
    objects::Objects,
    rollout::{Channel, Member, OrderBack, Plan, Verdict},
};

/// In the log, who brings rollouts on.
const HUB: &str = "hub";

/// A rollout that can still change, and what there is to decide it by.
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

    /// Brings every rollout on, by what the devices say. One that cannot be is passed over until the next time, with an error in the
    /// log.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn advance(&self, now: Timestamp) -> Result<()> {
        for name in self.database.channels().await? {
            if let Err(e) = self.advance_one(&name, now).await {
                tracing::error!("the rollout of {name} waits for the next time: {e}");
            }
        }
        Ok(())
    }

    async fn advance_one(&self, name: &str, now: Timestamp) -> Result<()> {
        let Some(case) = self.case(name, now).await? else { return Ok(()) };
        let verdict = case.channel.judge(&case.members, now);
        // Another process may have been first.
        self.act(case, &verdict, HUB, now).await.map(drop)
    }

    /// Has somebody decide about a channel's rollout, as they saw it: of this bundle, in this stage from 1 on.
    ///
    /// # Errors
    /// [`Error::Content`] if there is none, or if it is not as they saw it any more; [`Error::Database`], [`Error::Store`].
    pub async fn decide(
        &self,
        name: &str,
        seen: (Digest, usize),
        verdict: &Verdict,
        who: &str,
        now: Timestamp,
    ) -> Result<()> {
        loop {
            let case = self.case(name, now).await?;
            let case = case.ok_or_else(|| Error::Content(format!("no bundle is on its way out to {name:?}")))?;
            let found = case.channel.report(&[]).rollout.map(|rollout| (rollout.to.bundle, rollout.stage));
            if found != Some(seen) {
                return Err(Error::Content(format!("the rollout to {name:?} has changed: look again")));
            }
            if *verdict == Verdict::Next && case.channel.running().is_none() {
                return Err(Error::Content(format!("the last bundle of {name:?} is out everywhere")));
            }
            if self.act(case, verdict, who, now).await? {
                return Ok(());
            }
        }
    }

    /// A channel's rollout, if it has one that can still change.
    async fn case(&self, name: &str, now: Timestamp) -> Result<Option<Case>> {
        let (channel, revision) = self.load(name).await?;
        let Some(rollout) = channel.watched(now) else { return Ok(None) };
        let members = self.members(name, rollout.to, now).await?;
        Ok(Some(Case { name: name.to_owned(), channel, revision, members }))
    }

    /// Whether nobody else has changed the channel meanwhile.
    async fn act(&self, case: Case, verdict: &Verdict, who: &str, now: Timestamp) -> Result<bool> {
        let Case { name, mut channel, revision, members } = case;
        let action = match verdict {
            Verdict::Wait => return Ok(true),
            Verdict::Widen | Verdict::Next => {
                channel.act(verdict, &members, now);
                if channel.running().is_some() { "brought to more" } else { "brought to all" }
            }
            Verdict::Back(why) => {
                let order = self.order_back(&name, &channel).await?;
                let missing = if order.is_some() { "" } else { "; without an order, devices that have it keep it" };
                channel.act(&Verdict::Back(format!("{why}{missing}")), &members, now);
                channel.order_back = order.or(channel.order_back);
                "took back"
            }
        };
        if !self.database.put_channel(&name, &channel, revision).await? {
            return Ok(false);
        }
        let bundle = channel.rollout.map_or(String::new(), |rollout| rollout.to.bundle.short());
        let why = channel.went_back.last().filter(|_| action == "took back").map(|back| format!(": {}", back.why));
        let detail = format!("bundle {bundle} of {name}{}", why.unwrap_or_default());
        tracing::info!("{who} {action} {detail}");
        self.database.log(who, action, &detail, now).await?;
        Ok(true)
    }

    /// The order to go back that came with the bundle, if devices would follow it. Whose it is, they verify.
    async fn order_back(&self, name: &str, channel: &Channel) -> Result<Option<OrderBack>> {
        let Some(rollout) = &channel.rollout else { return Ok(None) };
        let object = sync::fallback(name);
        let order = match self.objects.get(&object).await {
            Err(Error::NotFound(_)) => return Ok(None),
            found => found?.bytes().await?,
        };
        let parsed = RollbackOrder::open_unverified(&object, &order).ok();
        let is_followed = parsed.is_some_and(|order| order.allows(name, rollout.to.sequence, &rollout.from));
        Ok(is_followed.then(|| OrderBack { to: rollout.from, object: String::from_utf8_lossy(&order).into_owned() }))
    }

    /// How a channel's bundles go out.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Store`].
    pub async fn report(&self, name: &str, now: Timestamp) -> Result<ChannelReport> {
        let channel = self.get(name).await?;
        let members = match &channel.rollout {
            Some(rollout) => self.members(name, rollout.to, now).await?,
            None => Vec::new(),
        };
        Ok(channel.report(&members))
    }

    async fn members(&self, name: &str, to: ChannelPointer, now: Timestamp) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        self.database.each_known_status(|status| members.extend(Member::of(&status, name, to.bundle, now))).await?;
        Ok(members)
    }
}
