//! Losses and how they add up.

use burn::tensor::{
    Tensor, TensorData,
    activation::{log_softmax, softmax},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mean over the batch of `-sum(target * log softmax(logits))`.
///
/// # Shapes
/// Both `[batch, class]`; the result has one element.
pub(crate) fn cross_entropy(targets: Tensor<2>, logits: Tensor<2>) -> Tensor<1> {
    -(targets * log_softmax(logits, 1)).sum_dim(1).mean()
}

/// The same over the images with a `counted` of 1, and 0 for those with 0; the mean is over all.
///
/// # Shapes
/// `[batch, class]`, and `[batch]` for `counted`; both without gradient but for the logits.
///
/// # Reference
/// Sohn et al., "FixMatch" (2020), equation 4.
pub(crate) fn masked_cross_entropy(targets: Tensor<2>, logits: Tensor<2>, counted: Tensor<1>) -> Tensor<1> {
    cross_entropy(targets * counted.unsqueeze_dim(1), logits)
}

/// Mean over the batch and the classes of `(target - softmax(logits))^2`.
///
/// # Shapes
/// Both `[batch, class]`; the result has one element.
///
/// # Reference
/// Berthelot et al., "MixMatch" (2019), equation 4.
pub(crate) fn squared_error(targets: Tensor<2>, logits: Tensor<2>) -> Tensor<1> {
    (targets - softmax(logits, 1)).square().mean()
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

/// The losses a method may have, unweighted. A method without one leaves it out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Losses<T> {
    /// Of labeled images.
    pub(crate) labeled: T,
    /// Of unlabeled images against their guessed labels or pseudo-labels.
    pub(crate) unlabeled: Option<T>,
    /// Cross-entropy of one strong view, unmixed, against the guessed labels.
    pub(crate) pre_mixup: Option<T>,
    /// Cross-entropy of the rotation head.
    pub(crate) rotation: Option<T>,
}

impl<T> Losses<T> {
    /// The labeled loss alone.
    pub(crate) fn labeled(labeled: T) -> Self {
        Self { labeled, unlabeled: None, pre_mixup: None, rotation: None }
    }

    /// Each loss through `f`.
    pub(crate) fn map<U>(self, mut f: impl FnMut(T) -> U) -> Losses<U> {
        Losses {
            labeled: f(self.labeled),
            unlabeled: self.unlabeled.map(&mut f),
            pre_mixup: self.pre_mixup.map(&mut f),
            rotation: self.rotation.map(&mut f),
        }
    }
}

impl Losses<f64> {
    /// Sums, loss by loss.
    pub(crate) fn add(self, other: Self) -> Self {
        let add = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
        Self {
            labeled: self.labeled + other.labeled,
            unlabeled: add(self.unlabeled, other.unlabeled),
            pre_mixup: add(self.pre_mixup, other.pre_mixup),
            rotation: add(self.rotation, other.rotation),
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
        let weighted = [
            (losses.unlabeled, ramp * self.unlabeled),
            (losses.pre_mixup, ramp * self.pre_mixup),
            (losses.rotation, self.rotation),
        ];
        let present = weighted.into_iter().filter_map(|(loss, weight)| Some(loss? * weight));
        present.fold(losses.labeled, |total, loss| total + loss)
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
            unlabeled: Some(pair("u")),
            pre_mixup: Some(pair("k")),
            rotation: Some(cross_entropy(rotation_targets, rotation_logits)),
        };
        let found = losses.clone().map(|loss| values(loss)[0]);
        assert_same(&[found.labeled], &[case.expected("/loss_x")]);
        assert_same(&[found.unlabeled.expect("a loss")], &[case.expected("/loss_u")]);
        assert_same(&[found.pre_mixup.expect("a loss")], &[case.expected("/loss_kl")]);
        assert_same(&[found.rotation.expect("a loss")], &[case.expected("/loss_rot")]);
        let total = LossWeights::default().total(losses, ramp(case.input("/iteration"), 16_384));
        assert_same(&values(total), &[case.expected("/total")]);
    }

    /// Case 08: the mean is over classes too, and the gradient flows through the softmax.
    #[test]
    fn mixmatch_losses_add_up() {
        let case = vectors::case("08_mixmatch_loss");
        let rows = |pointer: &str| matrix(&case.input::<Vec<_>>(pointer)).autodiff();
        let logits = rows("/logits_u").require_grad();
        let unlabeled = squared_error(rows("/targets_u"), logits.clone());
        let gradients = unlabeled.backward();
        let gradient = logits.grad(&gradients).expect("a gradient");
        assert_same(&values(gradient), &case.expected::<Vec<Vec<f64>>>("/grad_l2u_wrt_logits_u").concat());
        assert_same(&values(unlabeled.clone()), &[case.expected("/loss_l2u")]);
        let labeled = cross_entropy(rows("/targets_x"), rows("/logits_x"));
        let weights = LossWeights { unlabeled: case.input("/w_match"), ..LossWeights::default() };
        let losses = Losses { unlabeled: Some(unlabeled), ..Losses::labeled(labeled) };
        let total = weights.total(losses, ramp(case.input("/iteration"), 16_384));
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
