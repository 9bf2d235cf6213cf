use serde::{Deserialize, Serialize};

/// A fraction, or the difference of two, with the ends of its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end of its interval.
    pub at_least: f64,
    /// Upper end of its interval.
    pub at_most: f64,
}

impl Estimate {
    /// Whether the interval is so narrow that a model which is not worse would be shown to be within the margin in 95 of 100 cases: its
    /// half is at most half of the margin.
    pub fn can_tell(&self, margin: f64) -> bool {
        self.at_most - self.at_least <= margin
    }
}
