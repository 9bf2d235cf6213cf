//! Whether a device computes what the processor computes.

use burn::{
    module::Module,
    tensor::{Tensor, TensorData, activation::softmax},
};
use models::NetworkSpec;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;

use crate::{
    Result,
    config::NetworkConfig,
    device::{DeviceId, DeviceKind, Precision},
    net::{self, Mode, WideResNet, floats},
    random,
    ssl::losses::cross_entropy,
};

/// Images a group, and groups: a small ReMixMatch step.
const BATCH: usize = 16;
const GROUPS: usize = 3;
const CLASSES: usize = 10;
const SIDE: usize = 32;

/// How far a device's numbers are from the processor's in 32 bits: the length of the difference over the length of the
/// processor's own, as vectors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deviation {
    /// What computed.
    pub device: DeviceKind,
    /// What its convolutions were computed in.
    pub precision: Precision,
    /// Of the logits in training mode.
    pub logits: f64,
    /// Of the gradient, all tensors taken together.
    pub gradient: f64,
    /// Of the tensor whose gradient is furthest away, among those that are not next to nothing.
    pub worst_gradient: f64,
    /// That tensor.
    pub worst_tensor: String,
    /// Of the logits in evaluation mode, which always are in 32 bits.
    pub evaluation: f64,
}

impl Deviation {
    /// Whether the device can be trusted: five thousandths in 32 bits (tensor cores round products to 10 bits), a twentieth in
    /// bf16 (which has 8).
    pub fn is_small(&self) -> bool {
        let bound = if self.precision.cast(self.device).is_some() { 0.05 } else { 0.005 };
        // Not `>`: a number that is none has to fail.
        self.logits <= bound && self.gradient <= bound && self.evaluation <= 0.005
    }
}

/// Runs the same network on the same images here and on the processor: forward, loss, backward.
///
/// # Errors
/// [`crate::Error::Config`] if this build lacks the device; [`models::Error::Network`].
pub fn check(network: NetworkConfig, device: DeviceKind, precision: Precision) -> Result<Deviation> {
    let spec = network.spec([3, SIDE, SIDE], CLASSES)?;
    let expected = compute(&spec, DeviceKind::Cpu, Precision::F32)?;
    let found = compute(&spec, device, precision)?;
    let concatenated = |numbers: &Numbers| numbers.gradients.iter().flat_map(|(_, g)| g.clone()).collect::<Vec<_>>();
    let total = length(&concatenated(&expected));
    let pairs = expected.gradients.iter().zip(&found.gradients);
    let (worst_gradient, worst_tensor) = pairs
        .filter(|((_, expected), _)| length(expected) > 1e-3 * total)
        .map(|((name, expected), (_, found))| (distance(found, expected), name.clone()))
        .fold((0.0, String::new()), |worst, next| if next.0 > worst.0 { next } else { worst });
    Ok(Deviation {
        device,
        precision,
        logits: distance(&found.logits, &expected.logits),
        gradient: distance(&concatenated(&found), &concatenated(&expected)),
        worst_gradient,
        worst_tensor,
        evaluation: distance(&found.evaluation, &expected.evaluation),
    })
}

struct Numbers {
    logits: Vec<f32>,
    gradients: Vec<(String, Vec<f32>)>,
    evaluation: Vec<f32>,
}

fn compute(spec: &NetworkSpec, kind: DeviceKind, precision: Precision) -> Result<Numbers> {
    let device = DeviceId { kind, index: 0 }.open()?;
    let random = &mut random::stream(1, "doctor");
    let fresh = WideResNet::new(spec, random, &device);
    let mut normal = |shape: &[usize]| {
        let values = (0..shape.iter().product()).map(|_| StandardNormal.sample(random)).collect::<Vec<f32>>();
        TensorData::new(values, shape.to_vec())
    };
    let images = Tensor::<4>::from_data(normal(&[GROUPS * BATCH, spec.input[0], SIDE, SIDE]), &device);
    let targets = softmax(Tensor::<2>::from_data(normal(&[GROUPS * BATCH, CLASSES]), &device), 1);

    let network = fresh.clone().computing_in(precision.cast(kind)).train();
    let mode = &mut Mode::Train { groups: GROUPS, record: None };
    let logits = network.logits(Tensor::from_inner(images.clone()), mode);
    let loss = cross_entropy(Tensor::from_inner(targets), logits.clone());
    let gradients = net::gradients(&network, &loss.backward());
    Ok(Numbers {
        logits: floats(logits),
        gradients: gradients.into_iter().map(|(name, gradient)| (name, floats(gradient))).collect(),
        evaluation: floats(fresh.logits(images, &mut Mode::Evaluate)),
    })
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let difference: Vec<f32> = found.iter().zip(expected).map(|(found, expected)| found - expected).collect();
    length(&difference) / length(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The processor against itself: exact in 32 bits; in bf16 neither exact nor far away.
    #[test]
    fn bf16_convolutions_are_near_and_weights_stay_in_32_bits() -> Result<()> {
        let network = NetworkConfig::wide_resnet(10, 1);
        let same = check(network, DeviceKind::Cpu, Precision::F32)?;
        assert_eq!((same.logits, same.gradient, same.evaluation), (0.0, 0.0, 0.0));
        let half = check(network, DeviceKind::Cpu, Precision::Bf16)?;
        assert!(half.is_small() && half.logits > 1e-4 && half.gradient > 1e-4, "{half:?}");
        assert_eq!(half.evaluation, 0.0);
        Ok(())
    }
}
