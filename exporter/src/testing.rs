//! Weights for the tests of this crate.

use models::{LabelSet, ModelSpec, NetworkSpec, Preprocessing, TrainingFacts, Weights, preprocess::Color};

/// Weights in which no two numbers of a tensor are alike, with every variance positive.
pub(crate) fn weights(depth: usize, width: usize, input: [usize; 3], classes: usize) -> models::Result<Weights> {
    let network = NetworkSpec::wide_resnet(depth, width, input, classes)?;
    let tensors =
        network.tensors().into_iter().map(|t| (t.name.clone(), (1..=t.len()).map(|i| i as f32 / 1e4).collect()));
    let tensors = tensors.collect();
    let labels = LabelSet::new((0..classes).map(|class| format!("class {class}")))?;
    let color = if input[0] == 1 { Color::Gray } else { Color::Rgb };
    let preprocessing = Preprocessing { color, height: input[1] as u32, width: input[2] as u32 };
    let training = TrainingFacts { labeled: 4, unlabeled: 100, steps: 1000, seed: 1 };
    Ok(Weights { spec: ModelSpec { network, labels, preprocessing }, training, tensors })
}
