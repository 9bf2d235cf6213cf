//! What a model costs a device, and how far its words can be trusted.

use std::time::Instant;

use anyhow::Result;
use edge_runtime::{Engine, engine::Backend};
use models::{Bundle, ReportCard};
use serde::{Deserialize, Serialize};

use crate::{project::GateConfig, statistics::error_by_chance};

/// Inferences of which the median is taken.
const RUNS: usize = 31;

/// What a model costs a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Bytes of the model's file.
    pub model_bytes: u64,
    /// Median milliseconds of an inference by the devices' engine on one thread, on the workstation.
    pub milliseconds: f64,
}

/// What a bundle costs a device.
///
/// # Errors
/// If its model or its golden vectors cannot be read, or the engine refuses them.
pub fn latency(bundle: &Bundle) -> Result<Cost> {
    let onnx = std::fs::read(bundle.model_path())?;
    let engine = Engine::from_bytes(&onnx, bundle.manifest().input_spec(), Backend::Tract)?;
    let golden = bundle.golden()?;
    let mut times = Vec::with_capacity(RUNS);
    for image in golden.images.iter().cycle().take(RUNS) {
        let start = Instant::now();
        engine.logits(image)?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(Cost { model_bytes: onnx.len() as u64, milliseconds: 1000.0 * times.get(RUNS / 2).copied().unwrap_or(0.0) })
}

/// The limits that a model breaks, each in words.
pub fn check(card: &ReportCard, cost: &Cost, config: &GateConfig) -> Vec<String> {
    let mut broken = Vec::new();
    let (error, chance) = (card.ece_after, error_by_chance(&card.reliability_after));
    if error > config.calibration_error && error > chance {
        broken.push(format!(
            "calibration error {:.1} %: above the limit of {:.1} %, and above {:.1} %, which chance would show",
            100.0 * error,
            100.0 * config.calibration_error,
            100.0 * chance
        ));
    }
    let mebibytes = cost.model_bytes as f64 / f64::from(1 << 20);
    if let Some(limit) = config.model_mebibytes.filter(|limit| mebibytes > *limit) {
        broken.push(format!("the model's file has {mebibytes:.2} MiB: above the limit of {limit} MiB"));
    }
    if let Some(limit) = config.latency_milliseconds.filter(|limit| cost.milliseconds > *limit) {
        let took = cost.milliseconds;
        broken.push(format!("an inference takes {took:.2} ms on this machine: above the limit of {limit} ms"));
    }
    broken
}

#[cfg(test)]
mod tests {
    use models::TrainingFacts;

    use super::*;
    use crate::steps::score::report_card;

    /// A model that is sure of every image, of which every `wrong`th is wrong only among the second half.
    fn card(count: usize, wrong: usize) -> ReportCard {
        let facts = TrainingFacts { labeled: 1, unlabeled: 0, steps: 1, seed: 0 };
        let mut card = report_card(&vec![vec![4.0, 0.0]; count], &vec![0; count], 2, facts);
        let bin = card.reliability_after.last_mut().expect("ten intervals");
        (bin.count, bin.confidence, bin.accuracy) = (count, 0.98, 1.0 - 1.0 / wrong as f64);
        card.ece_after = (bin.confidence - bin.accuracy).abs();
        card
    }

    #[test]
    fn a_model_that_says_more_than_it_knows_or_costs_too_much_is_refused_in_words() {
        let cost = Cost { model_bytes: 3 << 20, milliseconds: 5.0 };
        let config = GateConfig { calibration_error: 0.1, ..GateConfig::default() };
        assert_eq!(check(&card(400, 10), &cost, &config), Vec::<String>::new());
        let broken = check(&card(400, 4), &cost, &config);
        assert!(broken.len() == 1 && broken[0].contains("23.0 %"), "{broken:?}");
        // Of four images, one is wrong by chance often enough.
        assert!(check(&card(4, 4), &cost, &GateConfig { calibration_error: 0.0, ..config }).is_empty());
        let config = GateConfig { model_mebibytes: Some(2.5), latency_milliseconds: Some(4.0), ..config };
        let broken = check(&card(400, 10), &cost, &config);
        assert!(broken.len() == 2 && broken[0].contains("3.00 MiB") && broken[1].contains("5.00 ms"), "{broken:?}");
    }
}
