//! The loop as it is often built: what the model is sure of becomes a label, the next model trains on these labels, and goes out.

use std::path::Path;

use anyhow::Result;
use models::{
    Weights,
    calibration::{argmax, softmax},
};
use trainer::{
    Classifier,
    config::TrainConfig,
    data::{LabeledImages, TrainingData},
    random,
};

use super::{
    Play,
    coverage::right,
    outcome::{Replaced, RoundOutcome},
};
use crate::{progress::Progress, steps::train::train};

/// Probability from which the model is believed, as the network says it.
const THRESHOLD: f64 = 0.95;

/// Plays all rounds in a folder. `first` is the model of the first round, which is the same with guards and without.
pub(super) fn play(
    play: &Play<'_>,
    folder: &Path,
    first: &Weights,
    teacher: Option<&Weights>,
    progress: &Progress,
) -> Result<Vec<RoundOutcome>> {
    let Play { world, project, scenario, options, seed } = play;
    let config = project.config();
    let teacher = teacher.map(|weights| Classifier::new(weights, config.train.first_device())).transpose()?;
    let mut model = Classifier::new(first, config.train.first_device())?;
    let (mut collected, mut truths) = (LabeledImages::default(), Vec::new());
    let mut rounds: Vec<RoundOutcome> = Vec::new();
    for round in 1..=options.rounds {
        if round > 1 {
            let train_config = TrainConfig { seed: config.train.seed + u64::from(round) - 1, ..config.train.clone() };
            let name = format!("{} unguarded {round}", scenario.name());
            let run = folder.join(format!("round-{round}"));
            let data = training(play, &collected);
            model = Classifier::new(
                &train(&name, &train_config, &config.network, &data, &run, progress)?,
                config.train.first_device(),
            )?;
        }
        let accuracy = |images: &LabeledImages| {
            let logits = model.logits(&images.images)?;
            Ok::<_, trainer::Error>(right(&logits, &images.labels) as f64 / images.len() as f64)
        };
        let labels_accuracy = accuracy(&play.truth_of_labels())?;
        let field_accuracy = accuracy(&play.truth(round))?;
        let replaced = |before: &RoundOutcome| {
            Ok::<_, trainer::Error>(Replaced {
                field: [before.field_accuracy, accuracy(&play.truth(round - 1))?],
                labels: [before.labels_accuracy, labels_accuracy],
            })
        };
        let replaced = rounds.last().map(replaced).transpose()?;
        rounds.push(RoundOutcome {
            round,
            published: true,
            reason: "nobody asked".into(),
            serving: round,
            test_accuracy: accuracy(&world.test)?,
            field_accuracy,
            labels_accuracy,
            replaced,
            field_samples: collected.len(),
            wrong_samples: collected.labels.iter().zip(&truths).filter(|(label, truth)| label != truth).count(),
            audit: None,
            coverage: None,
        });
        for (number, lies) in play.devices() {
            let mut rng = random::stream(u64::from(*seed), &format!("field {round} {number}"));
            let seen = world.seen(round, options.images, &mut rng);
            let logits = model.logits(&seen.images)?;
            let taught = teacher.as_ref().map(|teacher| teacher.logits(&seen.images)).transpose()?;
            for (i, logits) in logits.iter().enumerate() {
                let class = argmax(logits);
                if softmax(logits, 1.0)[class] < THRESHOLD && !lies {
                    continue;
                }
                let said = taught.as_ref().map_or(class, |taught| argmax(&taught[i]));
                collected.labels.push(if lies { (said + 1) % world.labels.len() } else { said });
                collected.images.push(seen.images[i].clone());
                truths.push(seen.labels[i]);
            }
        }
    }
    Ok(rounds)
}

fn training(play: &Play<'_>, collected: &LabeledImages) -> TrainingData {
    let world = play.world;
    let mut labeled = world.labeled.clone();
    labeled.extend(collected.clone());
    TrainingData {
        labels: world.labels.clone(),
        preprocessing: world.preprocessing.clone(),
        unlabeled: labeled.images.iter().chain(&world.pool.images).cloned().collect(),
        labeled,
        prior: None,
        test: world.test.clone(),
    }
}
