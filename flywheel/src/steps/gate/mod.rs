//! Whether a new model may go out.
//!
//! | module | what it looks at |
//! |---|---|
//! | `test_set` | both models on the frozen test set, overall and in each class |
//! | `field` | both models on audit samples: what devices see |
//! | `limits` | calibration, size, speed |
//! | `wrong` | the images that a person should look at first |

mod field;
mod limits;
mod test_set;
mod wrong;

use serde::{Deserialize, Serialize};

pub use field::{FieldVerdict, against as against_in_field};
pub use limits::{Cost, check as check_limits, latency};
pub use test_set::{ClassVerdict, against, first, first_needs};
pub use wrong::{Answer, WrongImage, worst};

/// What the gate found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Whether the model may go out.
    pub passed: bool,
    /// Why, in a sentence.
    pub reason: String,
    /// Accuracy on the test set of the new model less that of the current one on the same images; none for a first model.
    pub difference: Option<f64>,
    /// Lower end of the difference's one-sided 95 % interval.
    pub difference_at_least: Option<f64>,
    /// The same for each class of which there are enough images to say something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassVerdict>,
    /// What audit samples say; none if people have labeled none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<FieldVerdict>,
    /// What the model costs a device; none of a model that did not come to be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Images it gets wrong, those first that speak most against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<WrongImage>,
}

impl Verdict {
    /// A model that does not come to be compared.
    pub fn refused(reason: String) -> Self {
        Self::uncompared(false, reason)
    }

    /// A model that is judged by itself.
    pub(crate) fn uncompared(passed: bool, reason: String) -> Self {
        Self {
            passed,
            reason,
            difference: None,
            difference_at_least: None,
            classes: Vec::new(),
            field: None,
            cost: None,
            worst: Vec::new(),
        }
    }

    /// The same with something else that was found: it has to pass all.
    fn and(mut self, passed: bool, reason: &str) -> Self {
        self.passed &= passed;
        self.reason = format!("{}; {reason}", self.reason);
        self
    }

    /// The same with what audit samples say.
    pub fn and_field(self, found: Option<(FieldVerdict, bool, String)>) -> Self {
        let Some((field, passed, reason)) = found else { return self };
        Self { field: Some(field), ..self.and(passed, &reason) }
    }

    /// The same with what the model costs a device, and the limits that it breaks.
    pub fn and_cost(self, cost: Cost, broken: &[String]) -> Self {
        let verdict = broken.iter().fold(self, |verdict, limit| verdict.and(false, limit));
        Self { cost: Some(cost), ..verdict }
    }
}

/// A difference of fractions as percentage points, with its sign.
fn points(difference: f64) -> String {
    format!("{:+.1}", 100.0 * difference)
}
