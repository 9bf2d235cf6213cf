//! What the pages show: made by the workstation, shown by it or by a hub.
//!
//! Pictures are files beside it, named by what they show: `images/DIGEST.png`; in the store they are [`crate::sync::picture`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Estimate, LabelSet, Review, Said, sync::DeviceStatus};

/// Everything that the pages show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// When it was made.
    pub made: Timestamp,
    /// The classes.
    pub labels: LabelSet,
    /// All rounds, the oldest first.
    pub rounds: Vec<RoundLine>,
    /// What devices said last of themselves.
    pub devices: Vec<DeviceStatus>,
    /// How what they see lately differs from the test set, of those that have sent enough audit samples to tell.
    pub drifts: Vec<DeviceDrift>,
    /// The test set by what the current model makes of it; a row for each class, in which each class has a cell.
    pub confusion: Vec<Vec<Cell>>,
    /// Images that the current model gets wrong, the worst first.
    pub worst: Vec<Mistake>,
    /// How many samples wait for a person.
    pub waiting: usize,
    /// The first samples that wait for a person, and those that had their turn, in the order in which a label is worth most.
    pub queue: Vec<Waiting>,
}

impl Board {
    /// The round whose bundle devices run, if there is one.
    pub fn serving(&self) -> Option<&RoundLine> {
        self.rounds.iter().rfind(|round| round.published && round.withdrawn.is_none())
    }

    /// Every picture that the pages show, some several times.
    pub fn pictures(&self) -> impl Iterator<Item = Digest> {
        let cells = self.confusion.iter().flatten().flat_map(|cell| cell.pictures.iter().copied());
        let worst = self.worst.iter().map(|mistake| mistake.picture);
        cells.chain(worst).chain(self.queue.iter().map(|waiting| waiting.image))
    }
}

impl Waiting {
    /// What holds of it, by the last word.
    pub fn holds(&self) -> Option<&Said> {
        self.history.last().map(|review| &review.said).filter(|said| **said != Said::Undo)
    }
}

/// A round in a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundLine {
    /// Its number.
    pub round: u32,
    /// When it was done.
    pub finished: Timestamp,
    /// The bundle it made.
    pub bundle: Digest,
    /// Whether its bundle went out.
    pub published: bool,
    /// When it was taken back, if it was.
    pub withdrawn: Option<Timestamp>,
    /// What the gate said.
    pub reason: String,
    /// Accuracy on the test set with its 95 % interval.
    pub test: Estimate,
    /// Accuracy in the field with its 95 % interval, if people have labeled audit samples.
    pub field: Option<Estimate>,
    /// What was worth telling besides.
    pub told: Vec<String>,
}

/// How what a device sees differs from the test set, by what the current model says of its audit samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceDrift {
    /// The device.
    pub device: String,
    /// How far apart the model's confidences are: 0 to 1.
    pub confidence: f64,
    /// The same of the classes that it gives.
    pub classes: f64,
    /// Whether chance seldom shows as much.
    pub is_rare: bool,
}

/// Test images of a class that the current model gives a class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// How many.
    pub count: usize,
    /// Pictures of some of them: all, unless the class is right.
    pub pictures: Vec<Digest>,
}

/// An image that the current model gets wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mistake {
    /// Its picture.
    pub picture: Digest,
    /// What it shows; none for no class.
    pub truth: Option<usize>,
    /// What the model takes it for.
    pub taken_for: usize,
    /// How sure it is.
    pub confidence: f64,
}

/// Why a label is worth something, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It was kept by chance, to judge models: without a label it says little.
    Audit,
    /// The device was sure of another class than the current model.
    Contradicted,
    /// The current model is unsure.
    Unsure,
    /// The device was sure of the class that the current model gives it, too.
    Confident,
}

impl Why {
    /// Its name in tables and on pages, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Contradicted => "contradicted",
            Self::Unsure => "unsure",
            Self::Confident => "confident",
        }
    }
}

/// A sample that waits for a person, or had its turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// The sample's image, and its picture.
    pub image: Digest,
    /// Why a label is worth something.
    pub why: Why,
    /// The first in the queue of those that look alike: what is said of one holds for all.
    pub like: Digest,
    /// The device that sent it.
    pub device: String,
    /// When it was seen.
    pub captured: Timestamp,
    /// Classes by what the current model says, the most probable first, with their probabilities.
    pub guesses: Vec<(usize, f64)>,
    /// All that was said of it, the oldest first.
    pub history: Vec<Review>,
}
