use burn::{
    module::Module,
    tensor::{Device, FloatDType, Tensor},
};
use models::{
    NetworkSpec,
    network::{BlockSpec, ROTATIONS, STEM_CHANNELS},
};

use super::{
    batch_norm::{BatchNorm, Mode, Statistics},
    layers::{Convolution, Dense},
    layout::Layout,
};
use crate::random::Stream;

/// A wide ResNet with a class head and a rotation head.
///
/// Its tensors' paths are the names of [`NetworkSpec::tensors`] and [`NetworkSpec::rotation_head`].
#[derive(Module, Debug)]
pub(crate) struct WideResNet {
    stem: Convolution,
    groups: Vec<Group>,
    norm: BatchNorm,
    classifier: Dense,
    rotation: Dense,
}

#[derive(Module, Debug)]
struct Group {
    blocks: Vec<Block>,
}

#[derive(Module, Debug)]
struct Block {
    norm1: BatchNorm,
    conv1: Convolution,
    norm2: BatchNorm,
    conv2: Convolution,
    shortcut: Option<Convolution>,
    #[module(skip)]
    activate_before_shortcut: bool,
}

impl WideResNet {
    /// A network with fresh weights.
    pub(crate) fn new(spec: &NetworkSpec, random: &mut Stream, device: &Device) -> Self {
        let stem = Convolution::new(spec.input[0], STEM_CHANNELS, 3, spec.stem_stride, random, device);
        let blocks = spec.blocks();
        let groups = blocks
            .chunks(blocks.len() / spec.scales)
            .map(|group| Group { blocks: group.iter().map(|b| Block::new(b, random, device)).collect() })
            .collect();
        Self {
            stem,
            groups,
            norm: BatchNorm::new(spec.features(), device),
            classifier: Dense::new(spec.features(), spec.classes, random, device),
            rotation: Dense::new(spec.features(), ROTATIONS, random, device),
        }
    }

    /// Where its tensors live, with gradient if they have one.
    pub(crate) fn device(&self) -> Device {
        self.stem.device()
    }

    /// The same network with convolutions in other floats.
    pub(crate) fn computing_in(self, cast: Option<FloatDType>) -> Self {
        let groups = self
            .groups
            .into_iter()
            .map(|group| Group { blocks: group.blocks.into_iter().map(|block| block.computing_in(cast)).collect() });
        Self { stem: self.stem.computing_in(cast), groups: groups.collect(), ..self }
    }

    /// The same weights without gradient.
    pub(crate) fn without_gradient(&self) -> Self {
        self.valid()
    }

    /// The pooled features that both heads read.
    ///
    /// # Shapes
    /// `[batch, channels, height, width]` to `[batch, features]`.
    pub(crate) fn features(&self, images: Tensor<4>, mode: &mut Mode) -> Tensor<2> {
        let blocks = self.groups.iter().flat_map(|group| &group.blocks);
        let layout = Layout::of(&images.device());
        let x = self.stem.forward(layout.enter(images));
        let x = blocks.fold(x, |x, block| block.forward(x, mode));
        layout.pool(self.norm.forward(x, mode))
    }

    /// Class logits of features: `[batch, features]` to `[batch, classes]`.
    pub(crate) fn classify(&self, features: Tensor<2>) -> Tensor<2> {
        self.classifier.forward(features)
    }

    /// Rotation logits of features: `[batch, features]` to `[batch, 4]`.
    pub(crate) fn rotate(&self, features: Tensor<2>) -> Tensor<2> {
        self.rotation.forward(features)
    }

    /// Class logits of images: `[batch, channels, height, width]` to `[batch, classes]`.
    pub(crate) fn logits(&self, images: Tensor<4>, mode: &mut Mode) -> Tensor<2> {
        self.classify(self.features(images, mode))
    }

    /// Moves all running statistics a fraction `rate` towards `statistics`, which hold one entry a layer.
    pub(crate) fn follow(mut self, statistics: Vec<Statistics>, rate: f64) -> Self {
        let mut statistics = statistics.into_iter();
        let mut follow = |norm: BatchNorm| match statistics.next() {
            Some(statistics) => norm.follow(statistics, rate),
            None => panic!("fewer statistics than batch norms"),
        };
        for block in self.groups.iter_mut().flat_map(|group| &mut group.blocks) {
            block.norm1 = follow(block.norm1.clone());
            block.norm2 = follow(block.norm2.clone());
        }
        self.norm = follow(self.norm);
        self
    }
}

impl Block {
    fn new(spec: &BlockSpec, random: &mut Stream, device: &Device) -> Self {
        let BlockSpec { in_channels, out_channels, stride, .. } = *spec;
        let conv1 = Convolution::new(in_channels, out_channels, 3, stride, random, device);
        let conv2 = Convolution::new(out_channels, out_channels, 3, 1, random, device);
        let has_shortcut = spec.has_shortcut_convolution();
        Self {
            norm1: BatchNorm::new(in_channels, device),
            conv1,
            norm2: BatchNorm::new(out_channels, device),
            conv2,
            shortcut: has_shortcut.then(|| Convolution::new(in_channels, out_channels, 1, stride, random, device)),
            activate_before_shortcut: spec.activate_before_shortcut,
        }
    }

    fn computing_in(self, cast: Option<FloatDType>) -> Self {
        Self {
            conv1: self.conv1.computing_in(cast),
            conv2: self.conv2.computing_in(cast),
            shortcut: self.shortcut.map(|shortcut| shortcut.computing_in(cast)),
            ..self
        }
    }

    fn forward(&self, x: Tensor<4>, mode: &mut Mode) -> Tensor<4> {
        let h = self.norm1.forward(x.clone(), mode);
        let source = if self.activate_before_shortcut { h.clone() } else { x };
        let h = self.norm2.forward(self.conv1.forward(h), mode);
        let h = self.conv2.forward(h);
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(source) + h,
            None => source + h,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net, random};

    #[test]
    fn has_the_tensors_of_its_spec() {
        for (depth, width) in [(10, 1), (16, 2)] {
            let spec = NetworkSpec::wide_resnet(depth, width, [3, 8, 8], 10).expect("a valid network");
            let network = WideResNet::new(&spec, &mut random::stream(0, "test"), &Device::flex());
            let found: Vec<_> = net::tensors(&network).into_iter().map(|(name, t)| (name, t.dims()[0])).collect();
            let mut expected: Vec<_> =
                spec.tensors().iter().chain(&spec.rotation_head()).map(|t| (t.name.clone(), t.len())).collect();
            expected.sort();
            assert_eq!(found, expected);
        }
    }
}
