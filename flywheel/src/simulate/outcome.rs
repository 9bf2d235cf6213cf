//! What came of a simulation, in numbers.

use models::Estimate;
use serde::{Deserialize, Serialize};

use super::{coverage::Coverage, scenario::Scenario};
use crate::project::GateConfig;

/// What came of a simulation, as in `simulation.json`. Every accuracy is a fraction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Simulation {
    /// One for each scenario and seed.
    pub runs: Vec<Run>,
    /// How often the gate's intervals held, over all of them.
    pub coverage: Coverage,
    /// Models that went out although they were worse than the one before, by more than the gate's margins.
    pub bad_published: usize,
    /// The same of the loop without guards.
    pub bad_published_unguarded: usize,
}

/// A scenario, played with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The scenario.
    pub scenario: Scenario,
    /// Decides the division of the images and all randomness.
    pub seed: u32,
    /// The loop as it is.
    pub guarded: Vec<RoundOutcome>,
    /// The loop as it is often built.
    pub unguarded: Vec<RoundOutcome>,
}

/// A round, and the truth about the devices while its bundle, or the last that went out, served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundOutcome {
    /// Its number.
    pub round: u32,
    /// Whether its model went out.
    pub published: bool,
    /// Why, or why not.
    pub reason: String,
    /// Round whose model serves after it.
    pub serving: u32,
    /// Accuracy of its model on the test set.
    pub test_accuracy: f64,
    /// Accuracy of the serving model on images such as devices see after this round.
    pub field_accuracy: f64,
    /// Accuracy of the serving model on images such as those with labels.
    pub labels_accuracy: f64,
    /// What the model would have changed; none in the first round.
    pub replaced: Option<Replaced>,
    /// Samples of the field that it trained on.
    pub field_samples: usize,
    /// How many of them were chosen under a wrong label.
    pub wrong_samples: usize,
    /// What audit samples said of the model that served before it, and the truth.
    pub audit: Option<Audited>,
    /// How often the gate's intervals hold for this pair of models.
    pub coverage: Option<Coverage>,
}

/// Accuracies of the model that served before a round, and of the one that the round made, on the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    /// On images such as devices saw before the round.
    pub field: [f64; 2],
    /// On images such as those with labels.
    pub labels: [f64; 2],
}

/// An estimate beside what it estimates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audited {
    /// The estimate.
    pub estimate: Estimate,
    /// Accuracy on all images that devices have seen in the days that count.
    pub truth: f64,
}

impl RoundOutcome {
    /// Whether a model went out that is worse than the one before by more than the gate's margins.
    pub fn is_bad(&self, gate: &GateConfig) -> bool {
        let lost = |[before, after]: [f64; 2], margin: f64| before - after > margin;
        self.published && self.replaced.is_some_and(|r| lost(r.field, gate.field_margin) || lost(r.labels, gate.margin))
    }
}

impl Simulation {
    /// Adds the runs up.
    pub(super) fn of(runs: Vec<Run>, gate: &GateConfig) -> Self {
        let bad = |rounds: &[RoundOutcome]| rounds.iter().filter(|round| round.is_bad(gate)).count();
        let coverage = runs.iter().flat_map(|run| &run.guarded).filter_map(|round| round.coverage);
        Self {
            coverage: coverage.fold(Coverage::default(), Coverage::and),
            bad_published: runs.iter().map(|run| bad(&run.guarded)).sum(),
            bad_published_unguarded: runs.iter().map(|run| bad(&run.unguarded)).sum(),
            runs,
        }
    }
}
