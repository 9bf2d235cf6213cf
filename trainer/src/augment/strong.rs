use models::Pixels;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CtAugment, Geometry,
    ct_augment::{self, Policy},
    operation::Operation,
    rand_augment,
};
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
    /// RandAugment as FixMatch uses it.
    RandAugment,
}

/// Strong augmentation and what it has learned so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StrongAugment {
    operations: Operations,
    cutout: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Operations {
    None,
    CtAugment(CtAugment),
    RandAugment,
}

impl StrongAugment {
    pub(crate) fn new(config: &TrainConfig) -> Self {
        let operations = match config.strong {
            Strong::None => Operations::None,
            Strong::CtAugment => Operations::CtAugment(CtAugment::new(config.ct_augment)),
            Strong::RandAugment => Operations::RandAugment,
        };
        Self { operations, cutout: config.cutout }
    }

    /// Operations to train with.
    pub(crate) fn policy(&self, random: &mut Stream) -> Policy {
        let mut policy = match &self.operations {
            Operations::None => Policy::new(),
            Operations::CtAugment(augment) => augment.policy(random),
            Operations::RandAugment => rand_augment::policy(random),
        };
        if self.cutout {
            policy.push((Operation::Cutout, vec![1.0]));
        }
        policy
    }

    /// Operations to measure with, if measuring teaches anything.
    pub(crate) fn probe(&self, random: &mut Stream) -> Option<Policy> {
        match &self.operations {
            Operations::CtAugment(augment) => Some(augment.probe(random)),
            Operations::None | Operations::RandAugment => None,
        }
    }

    /// Applies operations to an image.
    pub(crate) fn apply(&self, policy: &Policy, image: Pixels, random: &mut Stream) -> Pixels {
        match &self.operations {
            Operations::CtAugment(augment) => augment.apply(policy, image, random),
            Operations::None => ct_augment::apply(policy, image, Geometry::default().canvas(), random),
            Operations::RandAugment => ct_augment::apply(policy, image, rand_augment::CANVAS, random),
        }
    }

    /// Takes in the probability that a probed image's label was given.
    pub(crate) fn update(&mut self, probe: &Policy, match_: f64) {
        if let Operations::CtAugment(augment) = &mut self.operations {
            augment.update(probe, match_);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    /// Sheared to its end, an image brings in what lies beyond its border: grey with RandAugment, black with CTAugment.
    #[test]
    fn each_kind_applies_operations_by_its_own_rules() {
        let white = Pixels { height: 16, width: 16, channels: 1, data: vec![255; 256] };
        let corner = |strong| {
            let augment = StrongAugment::new(&TrainConfig { strong, ..TrainConfig::default() });
            let sheared =
                augment.apply(&vec![(Operation::ShearX, vec![1.0])], white.clone(), &mut random::stream(0, "test"));
            assert_eq!(augment.apply(&Policy::new(), white.clone(), &mut random::stream(0, "test")), white);
            sheared.data.iter().copied().min()
        };
        assert_eq!((corner(Strong::RandAugment), corner(Strong::CtAugment)), (Some(127), Some(0)));
    }
}
