//! Losses and how they add up.

use burn::tensor::{Tensor, TensorData, activation::log_softmax};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mean over the batch of `-sum(target * log softmax(logits))`.
///
/// # Shapes
/// Both `[batch, class]`; the result has one element.
pub(crate) fn cross_entropy(targets: Tensor<2>, logits: Tensor<2>) -> Tensor<1> {
    -(targets * log_softmax(logits, 1)).sum_dim(1).mean()
}

/// Rows with a one at each label.
///
/// # Shapes
/// `[labels, classes]`.
pub(crate) fn one_hot(labels: &[usize], classes: usize, device: &burn::tensor::Device) -> Tensor<2> {
    let mut values = vec![0.0_f32; labels.len() * classes];
    for (row, label) in labels.iter().enumerate() {
        values[row * classes + label] = 1.0;
    }
    Tensor::from_data(TensorData::new(values, [labels.len(), classes]), device)
}

/// The losses a method may have, unweighted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Losses<T> {
    /// Cross-entropy of mixed labeled images.
    pub(crate) labeled: T,
    /// Cross-entropy of mixed unlabeled images against their guessed labels.
    pub(crate) unlabeled: T,
    /// Cross-entropy of one strong view, unmixed, against the guessed labels.
    pub(crate) pre_mixup: T,
    /// Cross-entropy of the rotation head.
    pub(crate) rotation: T,
}

impl<T> Losses<T> {
    /// Each loss through `f`.
    pub(crate) fn map<U>(self, f: impl Fn(T) -> U) -> Losses<U> {
        let Self { labeled, unlabeled, pre_mixup, rotation } = self;
        Losses { labeled: f(labeled), unlabeled: f(unlabeled), pre_mixup: f(pre_mixup), rotation: f(rotation) }
    }

    /// Each loss with its counterpart through `f`.
    pub(crate) fn zip<U, V>(self, other: Losses<U>, f: impl Fn(T, U) -> V) -> Losses<V> {
        Losses {
            labeled: f(self.labeled, other.labeled),
            unlabeled: f(self.unlabeled, other.unlabeled),
            pre_mixup: f(self.pre_mixup, other.pre_mixup),
            rotation: f(self.rotation, other.rotation),
        }
    }
}

/// Weights of the losses; the labeled loss has weight 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LossWeights {
    /// Of the unlabeled loss, once the ramp is over. Default 1.5: ReMixMatch, section 4.
    pub unlabeled: f64,
    /// Of the pre-mixup loss, once the ramp is over. Default 0.5: ReMixMatch, section 4.
    pub pre_mixup: f64,
    /// Of the rotation loss, from the first step. Default 0.5: ReMixMatch, section 4.
    pub rotation: f64,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self { unlabeled: 1.5, pre_mixup: 0.5, rotation: 0.5 }
    }
}

impl LossWeights {
    /// `labeled + ramp * (w_u * unlabeled + w_p * pre_mixup) + w_r * rotation`.
    pub(crate) fn total(&self, losses: Losses<Tensor<1>>, ramp: f64) -> Tensor<1> {
        losses.labeled
            + losses.unlabeled * (ramp * self.unlabeled)
            + losses.pre_mixup * (ramp * self.pre_mixup)
            + losses.rotation * self.rotation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ssl::{ramp::ramp, tests::*},
        vectors::{self, assert_same},
    };

    /// Case 07.
    #[test]
    fn remixmatch_losses_add_up() {
        let case = vectors::case("07_remixmatch_loss");
        let pair = |name: &str| {
            let logits = matrix(&case.input::<Vec<_>>(&format!("/logits_{name}")));
            cross_entropy(matrix(&case.input::<Vec<_>>(&format!("/targets_{name}"))), logits)
        };
        let rotation_logits = matrix(&case.input::<Vec<_>>("/logits_rot"));
        let rotation_targets = one_hot(&case.input::<Vec<usize>>("/labels_rot"), 4, &rotation_logits.device());
        let losses = Losses {
            labeled: pair("x"),
            unlabeled: pair("u"),
            pre_mixup: pair("k"),
            rotation: cross_entropy(rotation_targets, rotation_logits),
        };
        assert_same(&values(losses.labeled.clone()), &[case.expected("/loss_x")]);
        assert_same(&values(losses.unlabeled.clone()), &[case.expected("/loss_u")]);
        assert_same(&values(losses.pre_mixup.clone()), &[case.expected("/loss_kl")]);
        assert_same(&values(losses.rotation.clone()), &[case.expected("/loss_rot")]);
        let total = LossWeights::default().total(losses, ramp(case.input("/iteration"), 16_384));
        assert_same(&values(total), &[case.expected("/total")]);
    }

    /// Case 07b: the gradient is `(softmax - target) / batch`.
    #[test]
    fn soft_cross_entropy_has_the_right_gradient() {
        let case = vectors::case("07b_soft_ce_grad");
        let logits = matrix(&case.input::<Vec<_>>("/logits")).autodiff().require_grad();
        let targets = matrix(&case.input::<Vec<_>>("/targets")).autodiff();
        let gradients = cross_entropy(targets, logits.clone()).backward();
        let gradient = logits.grad(&gradients).expect("a gradient");
        assert_same(&values(gradient), &case.expected::<Vec<Vec<f64>>>("").concat());
    }
}
