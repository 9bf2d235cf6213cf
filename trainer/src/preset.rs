//! The papers' experiments by name: which data, which network, which settings.
//!
//! | source | what it gives |
//! |---|---|
//! | ReMixMatch, section 4 and the original code's run scripts | strong views, loss weights, ramps, weak augmentation |
//! | MixMatch, section 4 and the original code's run scripts | weights of the unlabeled loss, mixup's alpha, weight decay of the large network |
//! | FixMatch, section 4 | optimiser, weight decay, the network for CIFAR-100 |
//!
//! What no paper says of a combination, such as MixMatch with 40 labels, has the method's general settings.

use crate::{
    Error, Result,
    augment::{View, WeakAugment},
    config::{Algorithm, LossWeights, MixMatchConfig, NetworkConfig, ReMixMatchConfig, TrainConfig},
};

/// A data set as the papers use it, and the numbers of labels they choose from it.
const EXPERIMENTS: [(&str, &[usize]); 5] = [
    ("cifar10", &[40, 250, 500, 1000, 2000, 4000]),
    ("cifar100", &[400, 2500, 10_000]),
    ("svhn", &[40, 250, 500, 1000, 2000, 4000]),
    ("svhn-extra", &[40, 250, 500, 1000, 2000, 4000]),
    ("stl10", &[1000, 5000]),
];

/// An experiment of the papers with one method.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// Name of the data set, as in `data.set`.
    pub set: &'static str,
    /// How many of its training images keep their label.
    pub labels: usize,
    /// The network.
    pub network: NetworkConfig,
    /// The method's settings.
    pub train: TrainConfig,
}

impl Preset {
    /// All names, as `cifar10-250`.
    pub fn names() -> Vec<String> {
        EXPERIMENTS
            .iter()
            .flat_map(|(set, counts)| counts.iter().map(move |labels| format!("{set}-{labels}")))
            .collect()
    }

    /// The experiment called `name` with a method.
    ///
    /// # Errors
    /// [`Error::Config`] with all names, if there is none.
    pub fn named(name: &str, algorithm: Algorithm) -> Result<Self> {
        let parts = name.rsplit_once('-').and_then(|(set, labels)| Some((set, labels.parse().ok()?)));
        let find = |(wanted, labels)| {
            let (set, counts) = EXPERIMENTS.iter().find(|(set, _)| *set == wanted)?;
            counts.contains(&labels).then(|| Self::new(set, labels, algorithm))
        };
        parts.and_then(find).ok_or_else(|| Error::Config {
            key: "preset",
            expected: format!("one of {}", Self::names().join(", ")),
            found: format!("{name:?}"),
        })
    }

    fn new(set: &'static str, labels: usize, algorithm: Algorithm) -> Self {
        let train = TrainConfig::of(algorithm);
        Self {
            set,
            labels,
            network: match set {
                // MixMatch and its successors: four scales for 96x96 images.
                "stl10" => NetworkConfig::wide_resnet(37, 2),
                // FixMatch, section 4.1.
                "cifar100" => NetworkConfig::wide_resnet(28, 8),
                _ => NetworkConfig::default(),
            },
            train: TrainConfig {
                weak: weak(set),
                mixmatch: mixmatch(set),
                remixmatch: remixmatch(set, labels),
                // FixMatch, section 4.1: twice that of other sets. MixMatch's original code, `runs/table1.sh`: with its large
                // network, which CIFAR-100 has here.
                weight_decay: match (set, algorithm) {
                    ("cifar100", Algorithm::FixMatch) => 0.001,
                    ("cifar100", Algorithm::MixMatch) => 0.04,
                    _ => train.weight_decay,
                },
                ..train
            },
        }
    }
}

/// Digits do not mirror; the shift is an eighth of the side.
fn weak(set: &str) -> WeakAugment {
    match set {
        "svhn" | "svhn-extra" => WeakAugment { flip: false, shift: 4 },
        "stl10" => WeakAugment { flip: true, shift: 12 },
        _ => WeakAugment { flip: true, shift: 4 },
    }
}

/// MixMatch, section 4.2; for CIFAR-100 the original code's run scripts.
fn mixmatch(set: &str) -> MixMatchConfig {
    let (unlabeled_weight, mixup_alpha) = match set {
        "cifar100" => (150.0, 0.75),
        "svhn" => (250.0, 0.75),
        "svhn-extra" => (250.0, 0.25),
        "stl10" => (50.0, 0.75),
        _ => (75.0, 0.75),
    };
    MixMatchConfig { unlabeled_weight, mixup_alpha, ..MixMatchConfig::default() }
}

/// The original code's `runs/ssl`; with 40 labels ReMixMatch, section 4.3. It has no command for SVHN with the extra images:
/// those of SVHN.
fn remixmatch(set: &str, labels: usize) -> ReMixMatchConfig {
    let default = ReMixMatchConfig::default();
    let one_view = |rotation| ReMixMatchConfig {
        strong_views: 1,
        weights: LossWeights { rotation, ..default.weights },
        ..default
    };
    match (set, labels) {
        ("cifar10", 40) => ReMixMatchConfig { ramp_steps: 131_072, ..one_view(2.0) },
        ("svhn" | "svhn-extra", 40) => one_view(3.0),
        ("stl10", _) => ReMixMatchConfig { strong_views: 4, anchor: View::Plain, ..default },
        _ => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_an_experiment_with_every_method() -> Result<()> {
        for name in Preset::names() {
            for algorithm in Algorithm::ALL {
                let preset = Preset::named(&name, algorithm)?;
                assert_eq!(format!("{}-{}", preset.set, preset.labels), name);
                assert_eq!(preset.train.clone().validate()?.algorithm, algorithm);
            }
        }
        let unknown = Preset::named("cifar10-41", Algorithm::ReMixMatch).err().map(|e| e.to_string());
        assert!(unknown.as_ref().is_some_and(|e| e.contains("cifar10-40, cifar10-250")), "{unknown:?}");
        Ok(())
    }

    #[test]
    fn the_page_in_docs_names_each() {
        let page = include_str!("../../docs/training.md");
        for name in Preset::names() {
            assert!(page.contains(&format!(" {name},")) || page.contains(&format!(" {name} |")), "{name}");
        }
    }

    /// Section 1.2 of the specification; FixMatch, section 4.1.
    #[test]
    fn mixmatch_and_fixmatch_have_the_settings_of_each_set() -> Result<()> {
        for (name, unlabeled_weight, mixup_alpha, weight_decay, fixmatch_decay) in [
            ("cifar10-250", 75.0, 0.75, 0.02, 0.0005),
            ("svhn-250", 250.0, 0.75, 0.02, 0.0005),
            ("svhn-extra-250", 250.0, 0.25, 0.02, 0.0005),
            ("stl10-1000", 50.0, 0.75, 0.02, 0.0005),
            ("cifar100-10000", 150.0, 0.75, 0.04, 0.001),
        ] {
            let train = Preset::named(name, Algorithm::MixMatch)?.train;
            let found = (name, train.mixmatch.unlabeled_weight, train.mixmatch.mixup_alpha, train.weight_decay);
            assert_eq!(found, (name, unlabeled_weight, mixup_alpha, weight_decay));
            assert_eq!(Preset::named(name, Algorithm::FixMatch)?.train.weight_decay, fixmatch_decay);
        }
        Ok(())
    }

    /// The table of section 1.1 of the specification.
    #[test]
    fn remixmatch_has_the_settings_of_its_original_code() -> Result<()> {
        for (name, views, rotation, ramp, shift, flip, depth) in [
            ("cifar10-250", 8, 0.5, 16_384, 4, true, 28),
            ("cifar10-40", 1, 2.0, 131_072, 4, true, 28),
            ("svhn-1000", 8, 0.5, 16_384, 4, false, 28),
            ("svhn-40", 1, 3.0, 16_384, 4, false, 28),
            ("stl10-1000", 4, 0.5, 16_384, 12, true, 37),
        ] {
            let Preset { train, network, .. } = Preset::named(name, Algorithm::ReMixMatch)?;
            let r = train.remixmatch;
            let found = (name, r.strong_views, r.weights.rotation, r.ramp_steps, train.weak.shift, train.weak.flip);
            assert_eq!(found, (name, views, rotation, ramp, shift, flip));
            assert_eq!((network.depth, network.width, train.steps, train.learning_rate), (depth, 2, 1 << 20, 0.002));
            assert_eq!((network.scales, r.weights.unlabeled, r.weights.pre_mixup), (3 + depth % 2, 1.5, 0.5));
            assert_eq!(r.anchor, if depth == 37 { View::Plain } else { View::Weak });
        }
        Ok(())
    }
}
