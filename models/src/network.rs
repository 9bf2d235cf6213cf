//! The networks, as data: layers, tensor names and shapes, without any arithmetic.
//!
//! The trainer builds a module from a [`NetworkSpec`] and the exporter an ONNX graph; both walk [`NetworkSpec::blocks`]
//! and exchange tensors by the names of [`NetworkSpec::tensors`], so that they cannot disagree.
//!
//! # Reference
//! Zagoruyko and Komodakis, "Wide Residual Networks" (2016), in the form that MixMatch and ReMixMatch use: a
//! pre-activation network with a bias in every convolution, leaky ReLU, and "SAME" padding.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Channels after the first convolution.
pub const STEM_CHANNELS: usize = 16;
/// Slope of the leaky ReLU for negative inputs.
pub const LEAKY_SLOPE: f64 = 0.1;
/// Added to the variance in batch norm.
pub const NORM_EPSILON: f64 = 1e-3;
/// Classes of the rotation head: 0, 180, 90 counter-clockwise, 90 clockwise.
pub const ROTATIONS: usize = 4;

/// A wide ResNet for images of one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Convolution layers, shortcuts included: `scales * (2 * blocks + 1) + 1`. 28 in WRN-28-2.
    pub depth: usize,
    /// Width factor k: group `s` has `16 * k * 2^s` channels.
    pub width: usize,
    /// Groups of blocks, each but the first at half the resolution: 3, or 4 for STL-10.
    pub scales: usize,
    /// Stride of the first convolution: 1 in the papers; 2 makes all that follows about four times faster.
    #[serde(default = "one")]
    pub stem_stride: usize,
    /// Input shape: channels, height, width.
    pub input: [usize; 3],
    /// Classes.
    pub classes: usize,
}

fn one() -> usize {
    1
}

/// One residual block: two 3x3 convolutions and a shortcut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSpec {
    /// Prefix of its tensors' names, as `groups.0.blocks.0`.
    pub name: String,
    /// Channels in.
    pub in_channels: usize,
    /// Channels out.
    pub out_channels: usize,
    /// Stride of the first convolution and of the shortcut.
    pub stride: usize,
    /// Whether the shortcut starts after the first activation (the very first block) or at the raw input.
    pub activate_before_shortcut: bool,
}

impl BlockSpec {
    /// Whether the shortcut is a 1x1 convolution; otherwise it is the identity.
    pub fn has_shortcut_convolution(&self) -> bool {
        self.in_channels != self.out_channels
    }
}

/// What a tensor is for, which decides how it is initialised, decayed and averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorRole {
    /// Convolution or dense kernel: trained, decayed, averaged.
    Kernel,
    /// Bias, or scale and shift of a batch norm: trained, averaged.
    Offset,
    /// Running mean or variance of a batch norm: followed, never averaged.
    Statistic,
}

impl TensorRole {
    /// The role of the tensor called `name`: one rule for those who list tensors and those who are handed them by name.
    pub fn of(name: &str) -> Self {
        let mut parts = name.rsplit('.');
        let (part, layer) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match part {
            "running_mean" | "running_var" => Self::Statistic,
            "weight" if !layer.starts_with("norm") => Self::Kernel,
            _ => Self::Offset,
        }
    }

    /// Whether gradients change it.
    pub fn is_trained(self) -> bool {
        self != Self::Statistic
    }
}

/// A tensor's name, shape and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the weights file.
    pub name: String,
    /// Shape: `[out, in, height, width]` for convolutions, `[out, in]` for dense layers, `[channels]` otherwise.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: TensorRole,
}

impl TensorSpec {
    /// How many numbers it holds.
    #[expect(clippy::len_without_is_empty, reason = "a tensor of a valid network is never empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

impl NetworkSpec {
    /// WRN-`depth`-`width` with three groups for `[channels, height, width]` inputs.
    ///
    /// # Errors
    /// As [`NetworkSpec::validate`].
    pub fn wide_resnet(depth: usize, width: usize, input: [usize; 3], classes: usize) -> Result<Self> {
        Self { depth, width, scales: 3, stem_stride: 1, input, classes }.validate()
    }

    /// The spec itself, if it describes a network.
    ///
    /// # Errors
    /// [`Error::Network`] that says which number is wrong and what would do.
    pub fn validate(self) -> Result<Self> {
        let Self { depth, width, scales, stem_stride, input, classes } = self;
        if !(1..=6).contains(&scales) || !(1..=64).contains(&width) {
            return Err(Error::Network(format!(
                "expected 1 to 6 scales and width 1 to 64, found {scales} and {width}"
            )));
        }
        if !(1..=4).contains(&stem_stride) {
            return Err(Error::Network(format!("expected a stem_stride of 1 to 4, found {stem_stride}")));
        }
        let blocks = self.blocks_per_group();
        if blocks == 0 || depth > 1000 || depth != scales * (2 * blocks + 1) + 1 {
            let fitting: Vec<_> = (1..=4).map(|n| (scales * (2 * n + 1) + 1).to_string()).collect();
            return Err(Error::Network(format!(
                "depth {depth} does not fit {scales} scales: expected one of {}, ...",
                fitting.join(", ")
            )));
        }
        if !matches!(input[0], 1 | 3) {
            return Err(Error::Network(format!("expected 1 or 3 input channels, found {}", input[0])));
        }
        let smallest = stem_stride << (scales - 1);
        if input[1..].iter().any(|side| !(smallest..=4096).contains(side)) {
            return Err(Error::Network(format!(
                "expected an input of {smallest} to 4096 pixels a side for {scales} scales, found {}x{}",
                input[1], input[2]
            )));
        }
        if classes < 2 {
            return Err(Error::Network(format!("expected at least 2 classes, found {classes}")));
        }
        Ok(self)
    }

    /// Its name, as `WRN-28-2`.
    pub fn name(&self) -> String {
        let Self { depth, width, stem_stride, .. } = self;
        let stem = if *stem_stride == 1 { String::new() } else { format!(", stem of stride {stem_stride}") };
        format!("WRN-{depth}-{width}{stem}")
    }

    /// Multiplications of one image's forward pass, those of the convolutions and the last layer.
    pub fn multiplications(&self) -> usize {
        let halved = |size: [usize; 2], stride: usize| size.map(|side| side.div_ceil(stride));
        let mut size = halved([self.input[1], self.input[2]], self.stem_stride);
        let mut sum = self.input[0] * STEM_CHANNELS * 9 * size[0] * size[1] + self.features() * self.classes;
        for block in self.blocks() {
            size = halved(size, block.stride);
            let shortcut = if block.has_shortcut_convolution() { block.in_channels } else { 0 };
            sum += (9 * (block.in_channels + block.out_channels) + shortcut) * block.out_channels * size[0] * size[1];
        }
        sum
    }

    fn blocks_per_group(&self) -> usize {
        (self.depth.saturating_sub(1) / self.scales.max(1)).saturating_sub(1) / 2
    }

    /// Channels of group `scale`.
    pub fn channels(&self, scale: usize) -> usize {
        (STEM_CHANNELS * self.width) << scale
    }

    /// Length of the pooled feature vector.
    pub fn features(&self) -> usize {
        self.channels(self.scales - 1)
    }

    /// The blocks in order.
    pub fn blocks(&self) -> Vec<BlockSpec> {
        let per_group = self.blocks_per_group();
        let position = |scale: usize| (0..per_group).map(move |block| (scale, block));
        let mut in_channels = STEM_CHANNELS;
        (0..self.scales)
            .flat_map(position)
            .map(|(scale, block)| {
                let out_channels = self.channels(scale);
                BlockSpec {
                    name: format!("groups.{scale}.blocks.{block}"),
                    in_channels: std::mem::replace(&mut in_channels, out_channels),
                    out_channels,
                    stride: if scale > 0 && block == 0 { 2 } else { 1 },
                    activate_before_shortcut: scale == 0 && block == 0,
                }
            })
            .collect()
    }

    /// The tensors that a trained network of this spec consists of, without the rotation head.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = Vec::new();
        convolution(&mut list, "stem", self.input[0], STEM_CHANNELS, 3);
        for block in self.blocks() {
            let name = &block.name;
            norm(&mut list, &format!("{name}.norm1"), block.in_channels);
            convolution(&mut list, &format!("{name}.conv1"), block.in_channels, block.out_channels, 3);
            norm(&mut list, &format!("{name}.norm2"), block.out_channels);
            convolution(&mut list, &format!("{name}.conv2"), block.out_channels, block.out_channels, 3);
            if block.has_shortcut_convolution() {
                convolution(&mut list, &format!("{name}.shortcut"), block.in_channels, block.out_channels, 1);
            }
        }
        norm(&mut list, "norm", self.features());
        dense(&mut list, "classifier", self.features(), self.classes);
        list
    }

    /// The tensors of the rotation head, which serves training only.
    pub fn rotation_head(&self) -> Vec<TensorSpec> {
        let mut list = Vec::new();
        dense(&mut list, "rotation", self.features(), ROTATIONS);
        list
    }
}

fn push(list: &mut Vec<TensorSpec>, layer: &str, part: &str, shape: &[usize]) {
    let name = format!("{layer}.{part}");
    list.push(TensorSpec { role: TensorRole::of(&name), name, shape: shape.to_vec() });
}

fn convolution(list: &mut Vec<TensorSpec>, layer: &str, inputs: usize, outputs: usize, kernel: usize) {
    push(list, layer, "weight", &[outputs, inputs, kernel, kernel]);
    push(list, layer, "bias", &[outputs]);
}

fn dense(list: &mut Vec<TensorSpec>, layer: &str, inputs: usize, outputs: usize) {
    push(list, layer, "weight", &[outputs, inputs]);
    push(list, layer, "bias", &[outputs]);
}

fn norm(list: &mut Vec<TensorSpec>, layer: &str, channels: usize) {
    for part in ["weight", "bias", "running_mean", "running_var"] {
        push(list, layer, part, &[channels]);
    }
}

/// Zeros to add before and after one side so that the result has `ceil(size / stride)` pixels.
///
/// The odd one goes after: a stride of 2 over an even size starts its windows at pixel 0.
pub fn same_padding(size: usize, kernel: usize, stride: usize) -> (usize, usize) {
    let total = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
    (total / 2, total - total / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(tensors: &[TensorSpec]) -> usize {
        tensors.iter().filter(|t| t.role.is_trained()).map(TensorSpec::len).sum()
    }

    /// Case 17 of the specification's vectors.
    #[test]
    fn has_the_papers_sizes() -> Result<()> {
        let wrn_28_2 = NetworkSpec::wide_resnet(28, 2, [3, 32, 32], 10)?;
        assert_eq!(trained(&wrn_28_2.tensors()), 1_469_642);
        assert_eq!(trained(&wrn_28_2.rotation_head()), 516);
        let wrn_37_2 = NetworkSpec { depth: 37, width: 2, scales: 4, stem_stride: 1, input: [3, 96, 96], classes: 10 }
            .validate()?;
        assert_eq!(trained(&wrn_37_2.tensors()), 5_933_770);
        assert_eq!(trained(&wrn_37_2.rotation_head()), 1_028);
        // 25 batch norms of WRN-28-2: kernels are those of 28 convolutions and one dense layer.
        let with_role = |role| wrn_28_2.tensors().iter().filter(|t| t.role == role).count();
        assert_eq!((with_role(TensorRole::Kernel), with_role(TensorRole::Statistic)), (29, 50));
        for (network, expected) in [(wrn_28_2.clone(), 28), (wrn_37_2, 37)] {
            let convolutions = network.tensors().iter().filter(|t| t.shape.len() == 4).count();
            assert_eq!(convolutions, expected);
        }
        Ok(())
    }

    /// Worked out by hand: the stem; each group's first block, its shortcut; the classifier.
    #[test]
    fn counts_multiplications() -> Result<()> {
        let spec = NetworkSpec { stem_stride: 2, ..NetworkSpec::wide_resnet(10, 2, [3, 32, 32], 10)? };
        let stem = 16 * 16 * 16 * 27;
        let first = 16 * 16 * (32 * 16 * 9 + 32 * 32 * 9 + 32 * 16);
        let second = 8 * 8 * (64 * 32 * 9 + 64 * 64 * 9 + 64 * 32);
        let third = 4 * 4 * (128 * 64 * 9 + 128 * 128 * 9 + 128 * 64);
        assert_eq!(spec.multiplications(), stem + first + second + third + 1280);
        Ok(())
    }

    #[test]
    fn refuses_what_is_no_network() {
        for (depth, width, input, classes, said) in [
            (27, 2, [3, 32, 32], 10, "10, 16, 22, 28"),
            (28, 0, [3, 32, 32], 10, "width"),
            (28, 2, [2, 32, 32], 10, "channels"),
            (28, 2, [3, 2, 32], 10, "2x32"),
            (28, 2, [3, 32, 32], 1, "classes"),
        ] {
            let error = NetworkSpec::wide_resnet(depth, width, input, classes).err().map(|e| e.to_string());
            assert!(error.as_ref().is_some_and(|e| e.contains(said)), "{error:?} does not say {said:?}");
        }
    }

    #[test]
    fn pads_the_odd_pixel_at_the_end() {
        assert_eq!(same_padding(32, 3, 1), (1, 1));
        assert_eq!(same_padding(32, 3, 2), (0, 1));
        assert_eq!(same_padding(5, 3, 2), (1, 1));
        assert_eq!(same_padding(32, 1, 2), (0, 0));
    }
}
