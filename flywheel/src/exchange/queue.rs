//! The samples in the order in which a label is worth most.

use std::collections::{BTreeMap, BTreeSet};

use models::{Digest, Reviews, board::Why};

use crate::steps::{audit::Cohort, relabel::Relabeled};

/// A sample that waits for a person.
#[derive(Clone, Debug)]
pub struct Queued<'a> {
    /// The sample, with what the current model says of it.
    pub relabeled: &'a Relabeled,
    /// Why a label is worth something.
    pub why: Why,
}

/// Orders samples by what a label of each is worth: audit samples in the order that chance gave them, the latest that came in together
/// first; then those that are contradicted, then those that the model is least sure of. What people have decided comes last.
pub fn queue<'a>(relabeled: &'a [Relabeled], cohorts: &[Cohort], reviews: &Reviews) -> Vec<Queued<'a>> {
    let mut places: BTreeMap<Digest, (usize, Digest)> = BTreeMap::new();
    for (age, cohort) in cohorts.iter().rev().enumerate() {
        let place = cohort.order();
        places.extend(cohort.samples.iter().map(|image| (*image, (age, place(*image)))));
    }
    let decided: BTreeSet<Digest> = reviews.images().map(|(image, _)| image).collect();
    let mut queue: Vec<Queued<'a>> =
        relabeled.iter().map(|relabeled| Queued { relabeled, why: why(relabeled) }).collect();
    queue.sort_by(|a, b| {
        let image = |queued: &Queued<'_>| queued.relabeled.sample.record.image;
        let is_decided = |queued: &Queued<'_>| decided.contains(&image(queued));
        let margin = |queued: &Queued<'_>| queued.relabeled.prediction.margin();
        let within = match a.why {
            Why::Audit => places.get(&image(a)).cmp(&places.get(&image(b))),
            _ => margin(a).total_cmp(&margin(b)),
        };
        is_decided(a).cmp(&is_decided(b)).then(a.why.cmp(&b.why)).then(within)
    });
    queue
}

fn why(relabeled: &Relabeled) -> Why {
    let record = &relabeled.sample.record;
    if record.audit_probability().is_some() {
        return Why::Audit;
    }
    match record.pseudo_label() {
        Some(label) if label != relabeled.prediction.class => Why::Contradicted,
        Some(_) => Why::Confident,
        None => Why::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use models::{Pixels, Prediction, Reason, Review, Said};

    use super::*;
    use crate::steps::testing;

    fn relabeled(image: &[u8], reason: Reason, probs: [f64; 2]) -> Relabeled {
        let class = usize::from(probs[1] > probs[0]);
        Relabeled {
            sample: testing::sample("cam-1", image, reason),
            pixels: Pixels { height: 1, width: 1, channels: 1, data: vec![0] },
            prediction: Prediction { class, confidence: probs[class], probs: probs.to_vec() },
        }
    }

    #[test]
    fn audit_samples_come_in_the_order_of_chance_and_the_least_sure_before_the_sure() {
        let audit = Reason::Audit { probability: 0.1 };
        let unsure = Reason::Uncertain { margin: 0.1, entropy: 0.9 };
        let confident = Reason::Confident { threshold: 0.95 };
        // The devices said class 0 of all.
        let mut samples = vec![
            relabeled(b"sure", confident, [0.99, 0.01]),
            relabeled(b"less sure", unsure, [0.6, 0.4]),
            relabeled(b"unsure", unsure, [0.5, 0.5]),
            relabeled(b"contradicted", confident, [0.1, 0.9]),
            relabeled(b"decided", unsure, [0.5, 0.5]),
        ];
        samples.extend((0..20).map(|i: u8| relabeled(&[i], audit, [0.7, 0.3])));
        let images = |range: std::ops::Range<u8>| range.map(|i| Digest::of(&[i])).collect();
        let cohort = |range| Cohort { came_in: Timestamp::UNIX_EPOCH, samples: images(range) };
        let said =
            Review { at: Timestamp::UNIX_EPOCH, image: Digest::of(b"decided"), by: "ann".into(), said: Said::Reject };
        let cohorts = [cohort(0..5), cohort(5..20)];
        let queue = queue(&samples, &cohorts, &Reviews::new([said]));
        let order: Vec<&[u8]> = queue.iter().map(|queued| queued.relabeled.sample.image.as_slice()).collect();
        let is_of = |range: std::ops::Range<u8>| move |image: &&[u8]| image.len() == 1 && range.contains(&image[0]);
        assert!(order[..15].iter().all(is_of(5..20)) && order[15..20].iter().all(is_of(0..5)), "{order:?}");
        let place = cohorts[1].order();
        assert!(order[..15].windows(2).all(|pair| place(Digest::of(pair[0])) < place(Digest::of(pair[1]))));
        let rest: Vec<&str> = order[20..].iter().map(|image| std::str::from_utf8(image).unwrap_or("")).collect();
        assert_eq!(rest, ["contradicted", "unsure", "less sure", "sure", "decided"]);
    }
}
