//! A record, for tests.

use jiff::Timestamp;
use models::Digest;

use super::{Inputs, RoundRecord};
use crate::steps::gate::Verdict;

/// A round that went out.
pub(crate) fn recorded(round: u32) -> RoundRecord {
    RoundRecord {
        round,
        finished: Timestamp::UNIX_EPOCH,
        parent: None,
        inputs: Inputs::none(Timestamp::UNIX_EPOCH),
        seed: 0,
        lineage: None,
        bundle: Digest::of(&[round as u8]),
        test_accuracy: 0.9,
        verdict: Verdict::uncompared(true, String::new()),
        watched: None,
        published: true,
        withdrawn: None,
    }
}
