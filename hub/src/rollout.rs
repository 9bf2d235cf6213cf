//! How a bundle goes out to the devices of a channel: to some of them first, to more once it does well there, and back from all
//! of them if too many refuse it. What devices say of it in their status decides; nothing here reads a clock or a disk.

use jiff::{SignedDuration, Timestamp};
use models::{
    Digest,
    sync::{ChannelPointer, ChannelReport, DeviceStatus, RolloutReport, RolloutState, Stage, Tally, WentBack},
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A device that was not heard for so long is not waited for.
const SILENT: SignedDuration = SignedDuration::from_hours(24);
/// The same of one that is in the middle of taking the bundle over.
const AMID: SignedDuration = SignedDuration::from_hours(72);
/// A bundle that is out everywhere can go back for so long: devices that were away take it then.
const WATCHED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// So many bundles that went back are remembered.
const REMEMBERED: usize = 100;

/// In which steps a channel's bundles go out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Shares of the channel's devices, in percent: they rise, and the last is 100. Each is at least one device.
    pub stages: Vec<u32>,
    /// Minutes that each stage lasts at least.
    pub minutes: u32,
    /// Percent of a stage's devices on which the bundle is good before the next stage begins.
    pub good: u32,
    /// Percent of a stage's devices: if more refuse the bundle, it goes back.
    pub refused: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { stages: vec![10, 50, 100], minutes: 60, good: 80, refused: 10 }
    }
}

impl Plan {
    /// Itself, if it makes sense.
    ///
    /// # Errors
    /// [`Error::Content`] that says what was expected.
    pub fn checked(self) -> Result<Self> {
        let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(Error::Content(what.to_owned())) };
        let rises = self.stages.windows(2).all(|pair| pair[0] < pair[1]) && self.stages.first() > Some(&0);
        expect(rises && self.stages.last() == Some(&100), "expected stages that rise, the last of them 100")?;
        expect((1..=100).contains(&self.good), "expected a share of good devices from 1 to 100")?;
        expect(self.refused < 100, "expected a share of refusing devices below 100")?;
        expect(self.good + self.refused <= 100, "expected shares that are not both reached at once")?;
        Ok(self)
    }
}

/// A channel: what its devices run, and what they are about to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The steps.
    #[serde(default)]
    pub plan: Plan,
    /// What is out everywhere.
    pub stable: Option<ChannelPointer>,
    /// The last bundle, if it went out by steps, or does.
    pub rollout: Option<Rollout>,
    /// What was taken back, the last ones.
    #[serde(default)]
    pub went_back: Vec<WentBack>,
    /// The order to leave the last of them.
    #[serde(default)]
    pub order_back: Option<OrderBack>,
}

/// A bundle on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// The bundle.
    pub to: ChannelPointer,
    /// What was out before.
    pub from: ChannelPointer,
    /// Whether it still goes out.
    pub state: RolloutState,
    /// The stage, from 0.
    pub stage: usize,
    /// Since when it has been in that stage, or is out everywhere.
    pub since: Timestamp,
    /// Devices up to this [`place`] have their turn.
    last_place: u64,
}

/// A signed order to leave what went back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderBack {
    /// To which bundle.
    pub to: ChannelPointer,
    /// The object that devices read.
    pub object: String,
}

/// A device that has a say in a rollout: it was heard lately, or is in the middle of taking the bundle over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    place: u64,
    stage: Option<Stage>,
}

impl Member {
    /// What a device's status says of its part in this, if it has one.
    pub fn of(status: &DeviceStatus, channel: &str, bundle: Digest, now: Timestamp) -> Option<Self> {
        let update = status.update.as_ref().filter(|update| update.bundle == bundle).map(|update| update.stage);
        let stage = update.or((status.bundle == bundle).then_some(Stage::Good));
        let patience = match stage {
            Some(Stage::Shadow | Stage::Probation) => AMID,
            _ => SILENT,
        };
        let is_heard = now.duration_since(status.reported) < patience;
        let takes_part = status.channel == channel && is_heard && stage != Some(Stage::NotMeant);
        takes_part.then(|| Self { place: place(bundle, &status.device), stage })
    }
}

/// When it is a device's turn with a bundle. By chance, and with each bundle by another one, so that it is not always the same
/// devices that go first.
fn place(bundle: Digest, device: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = Digest::of(format!("{bundle}/{device}").as_bytes()).into_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What becomes of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Wait,
    /// None of those who have their turn can be heard: another one has it, too.
    Widen,
    /// More devices have their turn, or, if all had it, it is out everywhere.
    Next,
    /// It goes back, for this reason.
    Back(String),
}

impl Channel {
    /// What a device of the channel should run.
    pub fn pointer(&self, device: &str) -> Option<ChannelPointer> {
        let offered = self.running().filter(|rollout| place(rollout.to.bundle, device) <= rollout.last_place);
        offered.map(|rollout| rollout.to).or(self.stable)
    }

    /// The order to go back to what is out everywhere, if something newer went back and there is one: also for devices that were
    /// away then.
    pub fn order(&self) -> Option<&str> {
        let order = self.order_back.as_ref().filter(|order| Some(order.to) == self.stable);
        order.map(|order| order.object.as_str())
    }

    /// The bundle on its way out, if there is one.
    pub fn running(&self) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| rollout.state == RolloutState::Running)
    }

    /// The bundle that can still go back: on its way out, or out everywhere since not long.
    pub fn watched(&self, now: Timestamp) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| match rollout.state {
            RolloutState::Running => true,
            RolloutState::Done => now.duration_since(rollout.since) < WATCHED,
            RolloutState::Back => false,
        })
    }

    /// Begins to bring a bundle out; where nothing is out yet, to all devices at once. One that is not newer than what devices may
    /// have goes to all devices at once, too: they follow it by a signed order alone, and that is in a hurry. Whether anything changed.
    ///
    /// # Errors
    /// [`Error::Content`] for a bundle that went back before.
    pub fn publish(&mut self, to: ChannelPointer, members: &[Member], now: Timestamp) -> Result<bool> {
        if let Some(WentBack { why, .. }) = self.went_back.iter().find(|back| back.to.bundle == to.bundle) {
            let bundle = to.bundle.short();
            return Err(Error::Content(format!(
                "bundle {bundle} went back from this channel ({why}): publish another one"
            )));
        }
        let last = self.rollout.as_ref().filter(|rollout| rollout.state != RolloutState::Back);
        if last.is_some_and(|rollout| rollout.to == to) {
            return Ok(false);
        }
        let newest = self.running().map(|rollout| rollout.to).or(self.stable);
        let Some(from) = self.stable.filter(|_| newest.is_some_and(|newest| newest.sequence < to.sequence)) else {
            let is_new = self.stable != Some(to) || self.running().is_some();
            (self.stable, self.rollout) = (Some(to), None);
            return Ok(is_new);
        };
        let last_place = self.last_place(0, 0, members);
        let state = RolloutState::Running;
        self.rollout = Some(Rollout { to, from, state, stage: 0, since: now, last_place });
        Ok(true)
    }

    /// Up to where a stage goes: never less far than the one before.
    fn last_place(&self, stage: usize, before: u64, members: &[Member]) -> u64 {
        let percent = self.plan.stages.get(stage).map_or(100, |percent| u128::from(*percent));
        if percent == 100 {
            return u64::MAX;
        }
        let mut places: Vec<u64> = members.iter().map(|member| member.place).collect();
        places.sort_unstable();
        let count = (percent * places.len() as u128).div_ceil(100) as usize;
        let of_known = count.checked_sub(1).map(|last| places[last]);
        before.max(of_known.unwrap_or((u128::from(u64::MAX) * percent / 100) as u64))
    }

    /// How far the devices are that have their turn.
    pub fn tally(&self, members: &[Member]) -> Tally {
        let mut tally = Tally::default();
        let last_place = self.rollout.as_ref().map_or(0, |rollout| rollout.last_place);
        for member in members.iter().filter(|member| member.place <= last_place) {
            *match member.stage {
                None | Some(Stage::NotMeant) => &mut tally.waiting,
                Some(Stage::Shadow | Stage::Probation | Stage::Broken) => &mut tally.trying,
                Some(Stage::Good) => &mut tally.good,
                Some(Stage::Refused) => &mut tally.refused,
            } += 1;
        }
        tally
    }

    /// What should become of the rollout.
    pub fn judge(&self, members: &[Member], now: Timestamp) -> Verdict {
        let Some(rollout) = self.watched(now) else { return Verdict::Wait };
        let tally = self.tally(members);
        let all = tally.all();
        let is_more = |count: u64, percent: u32| 100 * u128::from(count) > u128::from(percent) * u128::from(all);
        if is_more(tally.refused, self.plan.refused) {
            let Plan { refused: most, .. } = self.plan;
            return Verdict::Back(format!("{} of {all} devices refused it; at most {most} % may", tally.refused));
        }
        let is_time = now.duration_since(rollout.since) >= SignedDuration::from_mins(self.plan.minutes.into());
        if rollout.state != RolloutState::Running || !is_time {
            return Verdict::Wait;
        }
        if all == 0 {
            return if members.is_empty() { Verdict::Wait } else { Verdict::Widen };
        }
        if is_more(all - tally.good, 100 - self.plan.good) { Verdict::Wait } else { Verdict::Next }
    }

    /// Acts on a verdict about the bundle that is watched.
    pub fn act(&mut self, verdict: &Verdict, members: &[Member], now: Timestamp) {
        let Some(mut rollout) = self.watched(now).cloned() else { return };
        let before = rollout.last_place;
        match verdict {
            Verdict::Wait => return,
            Verdict::Widen => {
                let beyond = members.iter().map(|member| member.place).filter(|place| *place > before);
                rollout.last_place = beyond.min().unwrap_or(before);
            }
            Verdict::Next => {
                // In a small fleet several stages are the same devices; and the plan may be another one by now.
                let has_more = |last: u64| members.iter().any(|member| before < member.place && member.place <= last);
                let stages = (0..self.plan.stages.len()).map(|stage| (stage, self.last_place(stage, before, members)));
                let next = stages.into_iter().find(|(_, last_place)| has_more(*last_place));
                let everybody = (self.plan.stages.len() - 1, u64::MAX);
                match next.or((before < u64::MAX).then_some(everybody)) {
                    Some((stage, last_place)) => (rollout.stage, rollout.last_place) = (stage, last_place),
                    None => {
                        rollout.state = RolloutState::Done;
                        self.stable = Some(rollout.to);
                    }
                }
                rollout.since = now;
            }
            Verdict::Back(why) => {
                rollout.state = RolloutState::Back;
                self.stable = Some(rollout.from);
                self.went_back.push(WentBack { to: rollout.to, why: why.clone(), at: now });
                let too_many = self.went_back.len().saturating_sub(REMEMBERED);
                self.went_back.drain(..too_many);
            }
        }
        self.rollout = Some(rollout);
    }

    /// How its bundles go out.
    pub fn report(&self, members: &[Member]) -> ChannelReport {
        let stages = self.plan.stages.len();
        let rollout = self.rollout.as_ref().map(|Rollout { to, state, stage, since, .. }| RolloutReport {
            to: *to,
            state: *state,
            stage: (*stage).min(stages - 1) + 1,
            stages,
            since: *since,
            devices: self.tally(members),
        });
        ChannelReport { stable: self.stable, rollout, went_back: self.went_back.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use models::sync::{Counters, UpdateStatus};

    use super::*;

    fn pointer(sequence: u64) -> ChannelPointer {
        ChannelPointer { bundle: Digest::of(&sequence.to_le_bytes()), sequence }
    }

    fn minutes(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    /// Devices that do with a bundle what they are told to.
    struct Fleet(BTreeMap<String, DeviceStatus>);

    impl Fleet {
        fn of(devices: usize) -> Self {
            let status = |device: String| DeviceStatus {
                device,
                channel: "stable".into(),
                bundle: pointer(1).bundle,
                sequence: 1,
                counters: Counters::default(),
                unsealed: 0,
                backlog: 0,
                update: None,
                reported: minutes(0),
            };
            Self((0..devices).map(|i| format!("cam-{i}")).map(|name| (name.clone(), status(name))).collect())
        }

        fn members(&self, now: Timestamp) -> Vec<Member> {
            self.0.values().filter_map(|status| Member::of(status, "stable", pointer(2).bundle, now)).collect()
        }

        /// Devices that are offered the second bundle.
        fn offered(&self, channel: &Channel) -> Vec<String> {
            self.0.keys().filter(|device| channel.pointer(device) == Some(pointer(2))).cloned().collect()
        }

        fn say(&mut self, device: &str, stage: Stage, now: Timestamp) {
            let status = self.0.get_mut(device).expect("a device of the fleet");
            status.update = Some(UpdateStatus { bundle: pointer(2).bundle, stage, detail: String::new() });
            status.reported = now;
        }
    }

    fn begin(fleet: &Fleet, plan: Plan) -> Channel {
        let mut channel = Channel { plan, ..Channel::default() };
        channel.publish(pointer(1), &[], minutes(0)).expect("the first");
        assert_eq!((channel.pointer("cam-0"), channel.running()), (Some(pointer(1)), None));
        channel.publish(pointer(2), &fleet.members(minutes(0)), minutes(0)).expect("the second");
        channel
    }

    #[test]
    fn a_good_bundle_reaches_ever_more_devices_and_not_before_its_time() {
        let mut fleet = Fleet::of(30);
        let mut channel = begin(&fleet, Plan::default());
        let mut sizes = Vec::new();
        for (stage, now) in [0, 60, 120].into_iter().enumerate() {
            let offered = fleet.offered(&channel);
            sizes.push(offered.len());
            // Four of five are enough; that they are in the middle of it is not.
            for (i, device) in offered.iter().enumerate() {
                let stage = if i * 5 < offered.len() { Stage::Probation } else { Stage::Good };
                fleet.say(device, stage, minutes(now));
            }
            let members = fleet.members(minutes(now + 60));
            if stage == 0 {
                assert_eq!(channel.judge(&members, minutes(now + 60)), Verdict::Wait, "one of three is too much");
                fleet.say(&offered[0], Stage::Good, minutes(now));
            }
            let members = fleet.members(minutes(now + 60));
            assert_eq!(channel.judge(&members, minutes(now + 59)), Verdict::Wait);
            assert_eq!(channel.judge(&members, minutes(now + 60)), Verdict::Next);
            channel.act(&Verdict::Next, &members, minutes(now + 60));
            assert!(offered.iter().all(|device| channel.pointer(device) == Some(pointer(2))), "none is left behind");
        }
        assert_eq!(sizes, [3, 15, 30]);
        assert_eq!((channel.stable, channel.running()), (Some(pointer(2)), None));
        // It is watched for a week more.
        let refuse = |fleet: &mut Fleet, now| {
            fleet.offered(&channel).iter().take(4).for_each(|device| fleet.say(device, Stage::Refused, now));
            channel.judge(&fleet.members(now), now)
        };
        assert_eq!(refuse(&mut fleet, minutes(180 + 7 * 24 * 60)), Verdict::Wait);
        let now = minutes(179 + 7 * 24 * 60);
        assert!(matches!(refuse(&mut fleet, now), Verdict::Back(_)));
        channel.act(&Verdict::Back("too late".into()), &fleet.members(now), now);
        assert_eq!((channel.stable, fleet.offered(&channel)), (Some(pointer(1)), vec![]));
    }

    #[test]
    fn what_too_many_refuse_goes_back_and_never_out_again() {
        let mut fleet = Fleet::of(30);
        let mut channel = begin(&fleet, Plan { stages: vec![70, 100], ..Plan::default() });
        let offered = fleet.offered(&channel);
        assert_eq!(offered.len(), 21);
        offered.iter().take(2).for_each(|device| fleet.say(device, Stage::Refused, minutes(1)));
        let now = minutes(1);
        assert_eq!(channel.judge(&fleet.members(now), now), Verdict::Wait, "2 of 21 may");
        fleet.say(&offered[2], Stage::Refused, now);
        let verdict = channel.judge(&fleet.members(now), now);
        assert!(matches!(&verdict, Verdict::Back(why) if why.contains("3 of 21")), "{verdict:?}");
        channel.act(&verdict, &fleet.members(now), now);
        assert_eq!((fleet.offered(&channel), channel.stable), (vec![], Some(pointer(1))));
        assert!(channel.publish(pointer(2), &fleet.members(now), now).is_err());
        assert!(channel.publish(pointer(3), &fleet.members(now), now).expect("another one"));
        assert!(channel.publish(pointer(2), &fleet.members(now), now).is_err(), "also after another one");
        // Who merely got it wrong, or was not meant, does not speak against it.
        let offered = fleet.offered(&channel);
        assert!(offered.is_empty(), "another bundle is on its way");
        for stage in [Stage::Broken, Stage::NotMeant] {
            let mut fleet = Fleet::of(1);
            let channel = begin(&fleet, Plan { minutes: 0, ..Plan::default() });
            fleet.say("cam-0", stage, now);
            assert_eq!(channel.judge(&fleet.members(now), now), Verdict::Wait, "{stage:?}");
            assert_eq!(fleet.members(now).len(), usize::from(stage == Stage::Broken));
        }
    }

    #[test]
    fn who_is_away_is_not_waited_for_for_ever() {
        let mut fleet = Fleet::of(10);
        let mut channel = begin(&fleet, Plan { stages: vec![100], minutes: 0, ..Plan::default() });
        let day = 24 * 60;
        fleet.say("cam-0", Stage::Good, minutes(2 * day));
        fleet.say("cam-1", Stage::Probation, minutes(0));
        // One that has begun is waited for longer.
        let now = minutes(3 * day - 1);
        let members = fleet.members(now);
        assert_eq!(channel.tally(&members), Tally { waiting: 0, trying: 1, good: 1, refused: 0 });
        assert_eq!(channel.judge(&members, now), Verdict::Wait);
        let now = minutes(3 * day);
        fleet.say("cam-0", Stage::Good, now);
        assert_eq!(channel.judge(&fleet.members(now), now), Verdict::Next);
        // Nobody says that it is good, and nobody that it is not.
        assert_eq!(channel.judge(&[], now), Verdict::Wait);
        channel.act(&Verdict::Next, &members, now);
        assert_eq!(channel.stable, Some(pointer(2)));
    }

    #[test]
    fn if_those_in_turn_are_gone_another_one_has_it() {
        let mut fleet = Fleet::of(10);
        let mut channel = begin(&fleet, Plan { minutes: 0, ..Plan::default() });
        let gone = fleet.offered(&channel);
        assert_eq!(gone.len(), 1);
        let now = minutes(24 * 60);
        fleet.0.values_mut().filter(|status| status.device != gone[0]).for_each(|status| status.reported = now);
        assert_eq!(channel.judge(&fleet.members(now), now), Verdict::Widen);
        channel.act(&Verdict::Widen, &fleet.members(now), now);
        let offered = fleet.offered(&channel);
        assert!(offered.len() == 2 && offered.contains(&gone[0]), "{offered:?}");
        // What only the others say of it, who never had their turn, counts for nothing.
        let others: Vec<String> = fleet.0.keys().filter(|device| !offered.contains(*device)).cloned().collect();
        others.iter().for_each(|device| fleet.say(device, Stage::Refused, now));
        assert_eq!(channel.judge(&fleet.members(now), now), Verdict::Wait);
    }

    #[test]
    fn one_device_is_a_stage_of_its_own_and_an_order_is_for_all_at_once() {
        let mut fleet = Fleet::of(1);
        let mut channel = begin(&fleet, Plan { minutes: 0, ..Plan::default() });
        let now = minutes(1);
        assert_eq!(fleet.offered(&channel), ["cam-0"]);
        let again = channel.publish(pointer(2), &fleet.members(now), now);
        assert!(!again.expect("the same again"), "it goes on as it was");
        fleet.say("cam-0", Stage::Good, now);
        // Devices that nobody has heard of yet are the last stage.
        channel.act(&Verdict::Next, &fleet.members(now), now);
        assert_eq!((channel.stable, channel.pointer("cam-new")), (Some(pointer(1)), Some(pointer(2))));
        channel.act(&Verdict::Next, &fleet.members(now), now);
        assert_eq!(channel.stable, Some(pointer(2)));
        channel.publish(pointer(1), &fleet.members(now), now).expect("an older one");
        assert_eq!((channel.pointer("cam-0"), channel.running()), (Some(pointer(1)), None));
        // Older than what some devices have, and newer than what all have.
        channel.publish(pointer(4), &fleet.members(now), now).expect("a newer one");
        channel.publish(pointer(3), &fleet.members(now), now).expect("an order");
        assert_eq!((channel.stable, channel.running()), (Some(pointer(3)), None));
    }

    #[test]
    fn another_plan_ends_no_rollout() {
        let mut fleet = Fleet::of(10);
        let mut channel = begin(&fleet, Plan { minutes: 0, ..Plan::default() });
        let now = minutes(1);
        fleet.offered(&channel).iter().for_each(|device| fleet.say(device, Stage::Good, now));
        channel.plan.stages = vec![100];
        channel.act(&Verdict::Next, &fleet.members(now), now);
        assert!(channel.running().is_some() && fleet.offered(&channel).len() == 10);
    }

    #[test]
    fn steps_that_make_no_sense_are_refused() {
        let plan =
            |stages: &[u32], good, refused| Plan { stages: stages.to_vec(), minutes: 0, good, refused }.checked();
        assert!(plan(&[1, 10, 100], 80, 10).is_ok() && plan(&[100], 100, 0).is_ok());
        for (stages, good, refused) in [
            (&[][..], 80, 10),
            (&[10], 80, 10),
            (&[0, 100], 80, 10),
            (&[50, 50, 100], 80, 10),
            (&[100], 0, 10),
            (&[100], 101, 0),
            (&[100], 50, 51),
        ] {
            assert!(plan(stages, good, refused).is_err(), "{stages:?} {good} {refused}");
        }
    }
}
