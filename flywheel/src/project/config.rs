use std::path::PathBuf;

use anyhow::{Result, ensure};
use edge_runtime::sync::Address;
use models::{
    CollectionPolicy, Preprocessing,
    preprocess::InputLayout,
    weights::{Arithmetic, Storage},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trainer::{
    config::{Algorithm, NetworkConfig, TrainConfig},
    data::sets::Set,
};

use super::layers::resolve;

/// A project, as in `flywheel.toml`. Relative paths start at the folder of that file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectConfig {
    /// An experiment of the papers, as "cifar10-250": its data, network and settings, over which the other keys go. Their names: training.md.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Where the images are.
    pub data: DataConfig,
    /// How an image file becomes the network's input, here and on every device.
    pub preprocessing: Preprocessing,
    /// Size of the network.
    #[serde(default)]
    pub network: NetworkConfig,
    /// Training.
    #[serde(default)]
    pub train: TrainConfig,
    /// From logits to probabilities and pseudo-labels.
    #[serde(default)]
    pub calibration: CalibrationConfig,
    /// Which samples devices keep.
    #[serde(default)]
    pub collection: CollectionPolicy,
    /// Which of the devices' samples are trained on.
    #[serde(default)]
    pub choice: ChoiceConfig,
    /// How a model goes out.
    #[serde(default)]
    pub export: ExportConfig,
    /// When a new model may go out.
    #[serde(default)]
    pub gate: GateConfig,
    /// Where things are kept.
    #[serde(default)]
    pub store: StoreConfig,
}

/// Where the images are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Folder of labeled images: one sub-folder a class, `FOLDER/CLASS/*.jpg` or `*.png`. Or a tar of the same, whose classes are
    /// the first folders below those that all its images share, or one named as WebDataset does, `KEY.jpg` beside `KEY.cls` or
    /// `KEY.json`. Either this or `set`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labeled: Option<PathBuf>,
    /// A data set of the papers in place of folders, with its own classes, size of images and test set: `[preprocessing]` is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Set>,
    /// Folder of that set's official files, where `flywheel data fetch` puts them.
    #[serde(default = "set_folder")]
    pub set_folder: PathBuf,
    /// Folder of images without labels, in any depth, or a tar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabeled: Option<PathBuf>,
    /// Folder or tar of labeled images that are only measured on: the frozen test set. Without one, a part of the labeled
    /// images is set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// Fraction of the labeled images to set aside as test set if there is no `test` folder. An image's own digest decides,
    /// so that it stays on its side when others are added; every class has at least one.
    #[serde(default = "test_fraction")]
    pub test_fraction: f64,
    /// Keep the labels of so many labeled images alone, chosen as the papers do: in proportion to the classes, by
    /// `split_seed`. The others are taken for unlabeled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<usize>,
    /// Changes which images are set aside, and which keep their labels. The papers report the splits 1 to 5 of their data sets;
    /// a preset has the first. 0 leaves the images of each class in their order.
    #[serde(default)]
    pub split_seed: u32,
}

fn set_folder() -> PathBuf {
    "data".into()
}

fn test_fraction() -> f64 {
    0.2
}

/// From logits to probabilities and pseudo-labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationConfig {
    /// Precision that a class's pseudo-labels should have: its threshold is the lowest confidence above which the
    /// calibrated confidences of unlabeled images average to this.
    pub precision: f64,
    /// No threshold is lower than this confidence. Default 0.95: FixMatch's threshold for pseudo-labels.
    pub lowest_threshold: f64,
}

impl Default for CalibrationConfig {
    fn default() -> Self {
        Self { precision: 0.99, lowest_threshold: 0.95 }
    }
}

/// Which of the devices' samples are trained on, of those that the current model is sure of. Of those that look alike, by
/// `collection.near_duplicates`, one alone is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChoiceConfig {
    /// Fraction of a class's samples that may come from one device, where three or more devices have sent some.
    pub device_share: f64,
    /// Samples of a class, at most. None: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_class: Option<u32>,
    /// Weights of a larger network, as `flywheel train` leaves them, whose labels choose in place of the current model's. As long as it
    /// is worse on the test set than the current model, by the gate's rules, it is not listened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Whether the share of each class among the unlabeled images is estimated from what the current model says of them, so that
    /// guessed labels are aligned with it and not with the labels' shares.
    pub estimate_shares: bool,
}

impl Default for ChoiceConfig {
    fn default() -> Self {
        Self { device_share: 0.5, per_class: None, teacher: None, estimate_shares: true }
    }
}

/// How a model goes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExportConfig {
    /// Private key that signs bundles, as `flywheel keygen` makes one. Without it they are not signed, and devices with
    /// trusted keys refuse them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<PathBuf>,
    /// How the model takes an image.
    pub input: InputLayout,
    /// How the model's file stores kernels. It costs no speed.
    pub weights: Storage,
    /// How the model computes. In 8 bits, images of the pool choose the ranges, the first convolution and the classifier stay in 32,
    /// and `weights` says nothing. tract then rounds to 8 bits and multiplies in 32, about as fast as without; engines with 8-bit
    /// arithmetic, such as ONNX Runtime's, gain by it.
    pub arithmetic: Arithmetic,
    /// Fraction of the test set that rounding to fewer bits may cost: a model that loses more does not go out.
    pub max_loss: f64,
    /// Kinds of devices that bundles are for, as their configuration's `target` names them. None: all.
    pub targets: Vec<String>,
    /// Days after which no device takes a bundle over any more. None: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_after_days: Option<u32>,
    /// Under which terms the model may be used, for the ONNX file's metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self {
            signing_key: None,
            input: InputLayout::default(),
            weights: Storage::default(),
            arithmetic: Arithmetic::default(),
            max_loss: 0.005,
            targets: Vec::new(),
            expires_after_days: None,
            licence: None,
        }
    }
}

/// When a new model may go out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Fraction of the test set by which a new model might be worse than the current one and still go out: the lower end of
    /// the one-sided 95 % interval of the difference must not be below minus this.
    pub margin: f64,
    /// The same of each class, on its own images, where there are enough of them for a model that is as good to show it: 26 for 0.2, 107 for
    /// 0.1. Where there are fewer, a model is refused only if it is shown to be worse.
    pub class_margin: f64,
    /// The same as `margin` on what devices see, by audit samples that people have labeled. As long as too few are labeled to show that
    /// much, a new model is refused only if they show that it is worse.
    pub field_margin: f64,
    /// Days for which an audit sample counts.
    pub audit_days: u32,
    /// Largest calibration error on the test set, after calibration. One that chance alone would show on so few images is let through.
    pub calibration_error: f64,
    /// Largest file of a model, in mebibytes. None: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_mebibytes: Option<f64>,
    /// Longest median inference, in milliseconds, by the devices' engine on one thread of the workstation. None: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_milliseconds: Option<f64>,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            margin: 0.02,
            class_margin: 0.2,
            field_margin: 0.05,
            audit_days: 30,
            calibration_error: 0.1,
            model_mebibytes: None,
            latency_milliseconds: None,
        }
    }
}

/// Where things are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Folder for everything that training and rounds make.
    pub folder: PathBuf,
    /// Folder shared with the devices, as on a network drive, or the address of a hub, as `https://hub.local:8443`, where
    /// `flywheel enrol` made the workstation known.
    pub remote: Address,
    /// Channel that models are published on.
    pub channel: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { folder: "flywheel".into(), remote: Address::Folder("remote".into()), channel: "stable".into() }
    }
}

impl ProjectConfig {
    /// Reads a configuration and checks every value.
    ///
    /// # Errors
    /// With the key, what was expected and what was found; unknown keys are errors.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_as(text, None)
    }

    /// The same for a method other than the one in the file.
    ///
    /// # Errors
    /// As [`ProjectConfig::parse`].
    pub fn parse_as(text: &str, algorithm: Option<Algorithm>) -> Result<Self> {
        let config: Self = resolve(text, algorithm)?.try_into()?;
        config.train.clone().validate()?;
        let data = &config.data;
        ensure!(
            data.labeled.is_some() != data.set.is_some(),
            "data: expected either `labeled`, a folder of images, or `set`, one of {}",
            Set::ALL.map(Set::name).join(", ")
        );
        if let Some(set) = data.set {
            ensure!(
                data.unlabeled.is_none() && data.test.is_none(),
                "data: {} has its own unlabeled images and test set; expected neither `unlabeled` nor `test` beside it",
                set.name()
            );
            ensure!(
                config.preprocessing == set.preprocessing(),
                "preprocessing: expected {:?}, the images of {}; leave it out",
                set.preprocessing(),
                set.name()
            );
        }
        let fractions = [
            ("data.test_fraction", config.data.test_fraction),
            ("calibration.precision", config.calibration.precision),
            ("calibration.lowest_threshold", config.calibration.lowest_threshold),
            ("export.max_loss", config.export.max_loss),
            ("gate.margin", config.gate.margin),
            ("gate.class_margin", config.gate.class_margin),
            ("gate.field_margin", config.gate.field_margin),
            ("gate.calibration_error", config.gate.calibration_error),
            ("choice.device_share", config.choice.device_share),
        ];
        for (key, value) in fractions {
            ensure!((0.0..=1.0).contains(&value), "{key} = {value}: expected a number from 0 to 1");
        }
        let limits = [
            ("gate.model_mebibytes", config.gate.model_mebibytes),
            ("gate.latency_milliseconds", config.gate.latency_milliseconds),
        ];
        for (key, limit) in limits {
            let is_sound = limit.is_none_or(|limit| limit > 0.0 && limit.is_finite());
            ensure!(is_sound, "{key} = {}: expected a number above 0", limit.unwrap_or(f64::NAN));
        }
        ensure!(config.gate.audit_days > 0, "gate.audit_days = 0: expected a day or more");
        config.collection.validate("collection")?;
        ensure!(
            config.export.arithmetic == Arithmetic::F32 || config.export.weights != Storage::F16,
            "export.weights = \"f16\": expected it left out beside arithmetic = \"int8\", which stores kernels in 8 bits"
        );
        let channel = &config.store.channel;
        ensure!(
            models::sync::is_device_name(channel),
            "store.channel = {channel:?}: expected 1 to 64 of a-z, A-Z, 0-9, - and _"
        );
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "[data]\nlabeled = 'images'\n[preprocessing]\ncolor = 'rgb'\nheight = 32\nwidth = 32\n";

    #[test]
    fn unknown_and_senseless_settings_are_errors_that_name_the_key() {
        assert!(ProjectConfig::parse(SMALLEST).is_ok_and(|c| c.train.batch == 64));
        for (addition, said) in [
            ("[train]\nlearning_rat = 0.1", "learning_rat"),
            ("[train.remixmatch]\nmixup_alpha = 0.0", "train.remixmatch.mixup_alpha"),
            ("[train]\nbatch = 30", "train.batch"),
            ("[gate]\nmargin = 2.0", "gate.margin"),
            ("[store]\nchannel = '../x'", "store.channel"),
            ("[export]\narithmetic = 'int8'\nweights = 'f16'", "export.weights"),
        ] {
            let error = ProjectConfig::parse(&format!("{SMALLEST}{addition}")).err().map(|e| format!("{e:#}"));
            assert!(error.as_ref().is_some_and(|e| e.contains(said)), "{error:?} does not say {said:?}");
        }
    }
}
