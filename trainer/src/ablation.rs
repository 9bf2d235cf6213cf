//! Variants of a run: every ablation of the ReMixMatch paper, and the other methods.
//!
//! Without strong augmentation too, labels are guessed from the anchor, as the paper says. The original code's program for that one
//! guesses from the next view, or from the mean of all.

use crate::{
    augment::{Strong, View},
    config::{Algorithm, TrainConfig, UnlabeledLoss},
};

/// A variant of a run, to be trained beside it.
#[derive(Clone, Copy, Debug)]
pub struct Ablation {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The method it belongs to.
    pub algorithm: Algorithm,
    change: fn(&mut TrainConfig),
}

/// All of them; table 3 of the ReMixMatch paper first.
pub const ABLATIONS: [Ablation; 16] = [
    remixmatch("remixmatch", "ReMixMatch as configured", |_| ()),
    remixmatch("k1", "one strong view", |c| c.remixmatch.strong_views = 1),
    remixmatch("k2", "two strong views", |c| c.remixmatch.strong_views = 2),
    remixmatch("k4", "four strong views", |c| c.remixmatch.strong_views = 4),
    remixmatch("k8", "eight strong views", |c| c.remixmatch.strong_views = 8),
    remixmatch("k16", "sixteen strong views", |c| c.remixmatch.strong_views = 16),
    remixmatch("no-rotation", "no rotation loss", |c| c.remixmatch.weights.rotation = 0.0),
    remixmatch("no-pre-mixup", "no loss on the unmixed strong view", |c| c.remixmatch.weights.pre_mixup = 0.0),
    remixmatch("no-alignment", "no distribution alignment", |c| c.remixmatch.distribution_alignment = false),
    remixmatch("l2", "squared error in place of cross-entropy, with MixMatch's weight", |c| {
        c.remixmatch.unlabeled_loss = UnlabeledLoss::SquaredError;
        c.remixmatch.weights.unlabeled = c.mixmatch.unlabeled_weight;
    }),
    remixmatch("no-strong", "weak views in place of strong ones", |c| c.strong = Strong::None),
    remixmatch("no-weak", "a strong view as anchor", |c| c.remixmatch.anchor = View::Strong),
    Ablation { name: "mixmatch", about: "MixMatch", algorithm: Algorithm::MixMatch, change: |_| () },
    Ablation { name: "fixmatch", about: "FixMatch", algorithm: Algorithm::FixMatch, change: |_| () },
    Ablation {
        name: "fixmatch-ra",
        about: "FixMatch with RandAugment",
        algorithm: Algorithm::FixMatch,
        change: |c| c.strong = Strong::RandAugment,
    },
    Ablation { name: "supervised", about: "the labels alone", algorithm: Algorithm::Supervised, change: |_| () },
];

const fn remixmatch(name: &'static str, about: &'static str, change: fn(&mut TrainConfig)) -> Ablation {
    Ablation { name, about, algorithm: Algorithm::ReMixMatch, change }
}

impl Ablation {
    /// The variant called `name`.
    pub fn named(name: &str) -> Option<Self> {
        ABLATIONS.into_iter().find(|ablation| ablation.name == name)
    }

    /// The settings of the variant, from those of its method.
    pub fn of(&self, mut config: TrainConfig) -> TrainConfig {
        (self.change)(&mut config);
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_changes_the_settings_in_its_own_way() -> crate::Result<()> {
        let mut seen = Vec::new();
        for ablation in ABLATIONS {
            let config = ablation.of(TrainConfig::of(ablation.algorithm)).validate()?;
            // Eight views are the default.
            assert!(ablation.name == "k8" || !seen.contains(&config), "{} equals another one", ablation.name);
            seen.push(config);
        }
        Ok(())
    }
}
