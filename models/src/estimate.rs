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
