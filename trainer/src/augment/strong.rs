use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CtAugment, ct_augment::Policy};
use crate::{config::TrainConfig, random::Stream};

/// How an image is changed before the network sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Not at all.
    Plain,
    /// By weak augmentation.
    Weak,
    /// By weak and then strong augmentation.
    Strong,
}

/// What makes a strong view of a weak one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strong {
    /// Nothing.
    None,
    /// CTAugment, whose strength is learned while training.
    #[default]
    CtAugment,
}

/// Strong augmentation and what it has learned so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum StrongAugment {
    None,
    CtAugment(CtAugment),
}

impl StrongAugment {
    pub(crate) fn new(config: &TrainConfig) -> Self {
        match config.strong {
            Strong::None => Self::None,
            Strong::CtAugment => Self::CtAugment(CtAugment::new(config.ct_augment)),
        }
    }

    /// Operations to train with.
    pub(crate) fn policy(&self, random: &mut Stream) -> Policy {
        match self {
            Self::None => Policy::new(),
            Self::CtAugment(augment) => augment.policy(random),
        }
    }

    /// Operations to measure with, if measuring teaches anything.
    pub(crate) fn probe(&self, random: &mut Stream) -> Option<Policy> {
        match self {
            Self::None => None,
            Self::CtAugment(augment) => Some(augment.probe(random)),
        }
    }

    /// Takes in the probability that a probed image's label was given.
    pub(crate) fn update(&mut self, probe: &Policy, match_: f64) {
        if let Self::CtAugment(augment) = self {
            augment.update(probe, match_);
        }
    }
}
