use burn::tensor::{Device, Tensor, TensorData};
use models::{NetworkSpec, Pixels};

use crate::{
    augment::ct_augment::Policy,
    data::loader::{Drawn, Recipe},
    ssl::losses::one_hot,
};

/// One step's images on the device, without gradient.
pub(crate) struct Batch {
    images: Tensor<4>,
    labels: Vec<usize>,
    classes: usize,
    sizes: Vec<usize>,
    probes: Option<Probes>,
}

/// Labeled images under policies that are to be measured, once the weights have changed.
pub(crate) struct Probes {
    /// `[batch, channel, height, width]`.
    pub(crate) images: Tensor<4>,
    labels: Vec<usize>,
    policies: Vec<Policy>,
}

impl Batch {
    /// Takes the images that were drawn for a network to a device.
    pub(crate) fn new(drawn: Drawn, recipe: &Recipe, network: &NetworkSpec, device: &Device) -> Self {
        let NetworkSpec { input: shape, classes, .. } = *network;
        let Drawn { images, labels, probes, policies } = drawn;
        let upload = |values: Vec<f32>| {
            let rows = values.len() / shape.iter().product::<usize>();
            Tensor::from_data(TensorData::new(values, [rows, shape[0], shape[1], shape[2]]), device)
        };
        Self {
            images: upload(images),
            sizes: std::iter::once(recipe.batch)
                .chain(recipe.unlabeled.iter().map(|_| recipe.unlabeled_batch))
                .collect(),
            probes: (!policies.is_empty()).then(|| Probes { images: upload(probes), labels: labels.clone(), policies }),
            labels,
            classes,
        }
    }

    /// Labeled images.
    pub(crate) fn size(&self) -> usize {
        self.sizes[0]
    }

    /// Classes of the labeled images.
    pub(crate) fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The same as targets: `[batch, class]`.
    pub(crate) fn targets(&self) -> Tensor<2> {
        one_hot(&self.labels, self.classes, &self.images.device())
    }

    /// All images: labeled ones, then the views one after another: `[rows, channel, height, width]`.
    pub(crate) fn all(&self) -> Tensor<4> {
        self.images.clone()
    }

    /// The unlabeled images in view `index`: `[unlabeled batch, channel, height, width]`.
    pub(crate) fn view(&self, index: usize) -> Tensor<4> {
        self.views(index, 1)
    }

    /// `count` views from `first` on, one after another.
    pub(crate) fn views(&self, first: usize, count: usize) -> Tensor<4> {
        let rows = |parts: &[usize]| parts.iter().sum::<usize>();
        self.images.clone().narrow(0, rows(&self.sizes[..=first]), rows(&self.sizes[first + 1..=first + count]))
    }

    /// What is to be measured, if anything is.
    pub(crate) fn probes(&self) -> Option<&Probes> {
        self.probes.as_ref()
    }
}

impl Probes {
    /// The policies, and what `probs` say of their images' labels.
    ///
    /// # Shapes
    /// `probs`: `[batch, class]`.
    pub(crate) fn judge(&self, probs: &[f64]) -> Vec<(Policy, f64)> {
        let rows = probs.chunks_exact(probs.len() / self.labels.len());
        let of_label = rows.zip(&self.labels).map(|(row, &label)| row[label]);
        self.policies.iter().cloned().zip(of_label).collect()
    }
}

/// Images as one tensor.
///
/// # Shapes
/// `[images, channel, height, width]`.
pub(crate) fn images(images: &[Pixels], device: &Device) -> Tensor<4> {
    let Pixels { height, width, channels, .. } = images[0];
    let values: Vec<f32> = images.iter().flat_map(Pixels::to_input).collect();
    Tensor::from_data(TensorData::new(values, [images.len(), channels, height, width]), device)
}
