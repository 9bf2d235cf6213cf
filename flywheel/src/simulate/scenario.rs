//! What happens to the devices.

use clap::ValueEnum;
use models::{LabelSet, Pixels};
use rand::RngExt;
use rand_distr::{Distribution, Normal};
use serde::{Deserialize, Serialize};
use trainer::random::Stream;

/// The rarest class of an imbalanced field is seen so many times less often than the most frequent.
const IMBALANCE: f64 = 20.0;
/// Round after which a class appears that nobody has labeled.
const APPEARS_AFTER: u32 = 2;

/// What happens to the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// They see what the labeled images are like
    Stationary,
    /// They see some classes 20 times as often as others
    Imbalance,
    /// Their images get darker, more blurred and noisier from round to round
    Drift,
    /// From the third round on they see a class that has no label
    NewClass,
    /// One of them sends wrong labels, and is sure of them
    WrongDevice,
    /// The teacher was trained on wrong labels
    PoisonedTeacher,
}

impl Scenario {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }

    /// How many of the classes that images have are known.
    pub(super) fn known_classes(self, classes: usize) -> usize {
        if self == Self::NewClass { classes - 1 } else { classes }
    }

    /// How often a class is seen in a round, against the others.
    pub(super) fn share(self, class: usize, labels: &LabelSet, round: u32) -> f64 {
        match self {
            Self::Imbalance => IMBALANCE.powf(-(class as f64) / (labels.len() - 1) as f64),
            Self::NewClass if class >= labels.len() && round <= APPEARS_AFTER => 0.0,
            _ => 1.0,
        }
    }

    /// What an image looks like by the last of so many rounds, or earlier.
    pub(super) fn seen(self, image: &Pixels, (round, rounds): (u32, u32), rng: &mut Stream) -> Pixels {
        let severity = match self {
            Self::Drift => f64::from(round - 1) / f64::from((rounds - 1).max(1)),
            _ => 0.0,
        };
        let noise = Normal::new(0.0, 2.0 + 25.0 * severity).expect("a positive deviation");
        let (blur, light) = (0.6 * severity, 1.0 - 0.4 * severity);
        let Pixels { height, width, channels, ref data } = *image;
        let at =
            |row: usize, column: usize, channel: usize| f64::from(data[(row * width + column) * channels + channel]);
        let mut seen = Vec::with_capacity(data.len());
        for row in 0..height {
            for column in 0..width {
                let (rows, columns) = (near(row, height), near(column, width));
                let count = (rows.len() * columns.len()) as f64;
                for channel in 0..channels {
                    let around = rows.clone().flat_map(|r| columns.clone().map(move |c| (r, c)));
                    let mean = around.map(|(r, c)| at(r, c, channel)).sum::<f64>() / count;
                    let value = light * ((1.0 - blur) * at(row, column, channel) + blur * mean) + noise.sample(rng);
                    seen.push(value.round().clamp(0.0, 255.0) as u8);
                }
            }
        }
        Pixels { data: seen, ..*image }
    }
}

/// A place and its neighbours.
fn near(place: usize, size: usize) -> std::ops::Range<usize> {
    place.saturating_sub(1)..(place + 2).min(size)
}

/// A class by its share.
pub(super) fn draw_class(shares: &[f64], rng: &mut Stream) -> usize {
    let mut left = rng.random::<f64>() * shares.iter().sum::<f64>();
    let within = |share: &f64| {
        left -= share;
        left < 0.0
    };
    shares.iter().position(within).unwrap_or(shares.len() - 1)
}
