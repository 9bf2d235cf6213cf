//! Draws and augments the images of a step on all cores, one step ahead of the device.

use std::{
    iter,
    ops::Range,
    sync::mpsc::{Receiver, Sender, channel},
    thread::Scope,
};

use models::Pixels;
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ShuffleBuffer, TrainingData};
use crate::{
    augment::{StrongAugment, View, WeakAugment, ct_augment::Policy},
    config::TrainConfig,
    random::{self, Stream},
};

/// What a method looks at in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    /// Labeled images.
    pub(crate) batch: usize,
    /// How each of them is seen.
    pub(crate) labeled: View,
    /// Unlabeled images.
    pub(crate) unlabeled_batch: usize,
    /// How they are seen: once for each view, each time drawn anew.
    pub(crate) unlabeled: Vec<View>,
}

impl Recipe {
    /// Whether strong augmentation is used, and so has something to learn.
    fn has_strong_views(&self) -> bool {
        self.labeled == View::Strong || self.unlabeled.contains(&View::Strong)
    }
}

/// One step's images as the network takes them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drawn {
    /// The labeled images, then all unlabeled ones in the first view, in the second, and so on:
    /// `[image, channel, height, width]`.
    pub(crate) images: Vec<f32>,
    /// Classes of the labeled images.
    pub(crate) labels: Vec<usize>,
    /// The labeled images once more, each under a policy that is to be measured, if there is any.
    pub(crate) probes: Vec<f32>,
    /// Those policies.
    pub(crate) policies: Vec<Policy>,
}

impl Drawn {
    /// Equal parts, each drawn as `part` says.
    pub(crate) fn split(self, part: &Recipe, count: usize) -> Vec<Self> {
        let batches = || iter::once(part.batch).chain(part.unlabeled.iter().map(|_| part.unlabeled_batch));
        let length = self.images.len() / (count * batches().sum::<usize>());
        let rows = |values: &[f32], rows: Range<usize>| values[rows.start * length..rows.end * length].to_vec();
        let of = |index: usize| {
            let mut start = 0;
            let mut images = Vec::with_capacity(self.images.len() / count);
            for size in batches() {
                let first = start + index * size;
                images.extend(rows(&self.images, first..first + size));
                start += count * size;
            }
            let labeled = index * part.batch..(index + 1) * part.batch;
            let is_probed = !self.policies.is_empty();
            Self {
                images,
                labels: self.labels[labeled.clone()].to_vec(),
                probes: if is_probed { rows(&self.probes, labeled.clone()) } else { Vec::new() },
                policies: if is_probed { self.policies[labeled].to_vec() } else { Vec::new() },
            }
        };
        (0..count).map(of).collect()
    }
}

/// The state that a step's images are drawn from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sampler {
    recipe: Recipe,
    weak: WeakAugment,
    strong: StrongAugment,
    labeled_order: ShuffleBuffer,
    unlabeled_order: ShuffleBuffer,
    random: Stream,
}

/// An image to be augmented: everything that is random about it has been drawn.
#[derive(Clone)]
struct Job<'a> {
    image: &'a Pixels,
    /// Seed of the weak augmentation, if there is any.
    weak: Option<u64>,
    policy: Policy,
    /// Seed of what the policy's operations draw.
    strong: u64,
}

/// A step's images before they are augmented.
struct Plan<'a> {
    labels: Vec<usize>,
    jobs: Vec<Job<'a>>,
    probes: Vec<Job<'a>>,
}

impl Sampler {
    pub(crate) fn new(recipe: Recipe, config: &TrainConfig, data: &TrainingData) -> Self {
        Self {
            recipe,
            weak: config.weak,
            strong: StrongAugment::new(config),
            labeled_order: ShuffleBuffer::new(data.labeled.len(), config.seed, "labeled order"),
            unlabeled_order: ShuffleBuffer::new(data.unlabeled.len(), config.seed, "unlabeled order"),
            random: random::stream(config.seed, "augmentation"),
        }
    }

    /// Draws one step's images. The result does not depend on how many cores help.
    pub(crate) fn draw(&mut self, data: &TrainingData) -> Drawn {
        let Plan { labels, jobs, probes } = self.plan(data);
        Drawn {
            images: self.inputs(&jobs),
            labels,
            probes: self.inputs(&probes),
            policies: probes.into_iter().map(|job| job.policy).collect(),
        }
    }

    /// Draws everything that is random about a step.
    fn plan<'a>(&mut self, data: &'a TrainingData) -> Plan<'a> {
        let Self { recipe, strong, labeled_order, unlabeled_order, random, .. } = self;
        let mut job = |image, view| Job {
            image,
            weak: (view != View::Plain).then(|| random.next_u64()),
            policy: if view == View::Strong { strong.policy(random) } else { Policy::new() },
            strong: random.next_u64(),
        };
        let labeled = labeled_order.take(recipe.batch);
        let mut jobs: Vec<Job> = labeled.iter().map(|&i| job(&data.labeled.images[i], recipe.labeled)).collect();
        if !recipe.unlabeled.is_empty() {
            let unlabeled = unlabeled_order.take(recipe.unlabeled_batch);
            let views = recipe.unlabeled.iter();
            jobs.extend(
                views
                    .flat_map(|&view| unlabeled.iter().map(move |&i| (i, view)))
                    .map(|(i, view)| job(&data.unlabeled[i], view)),
            );
        }
        // A probe is the weak view of a labeled image that is trained on, under another policy.
        let probe = |&Job { image, weak, .. }| {
            Some(Job { image, weak, policy: strong.probe(random)?, strong: random.next_u64() })
        };
        let probed = if recipe.has_strong_views() { &jobs[..recipe.batch] } else { &[] };
        let probes = probed.iter().filter_map(probe).collect();
        Plan { labels: labeled.iter().map(|&i| data.labeled.labels[i]).collect(), jobs, probes }
    }

    /// Augments in parallel.
    fn inputs(&self, jobs: &[Job]) -> Vec<f32> {
        let length = jobs.first().map_or(1, |job| job.image.data.len());
        let mut inputs = vec![0.0; jobs.len() * length];
        inputs.par_chunks_exact_mut(length).zip(jobs).for_each(|(input, job)| {
            let weak = match job.weak {
                Some(seed) => self.weak.apply(job.image, &mut random::from_seed(seed)),
                None => job.image.clone(),
            };
            let augmented = self.strong.apply(&job.policy, weak, &mut random::from_seed(job.strong));
            input.copy_from_slice(&augmented.to_input());
        });
        inputs
    }
}

/// Draws one step ahead, in a thread of its own.
pub(crate) struct Loader {
    /// What the next step's images were drawn from: with it, drawing starts anew where it was.
    sampler: Sampler,
    orders: Sender<Sampler>,
    drawn: Receiver<(Drawn, Sampler)>,
}

impl Loader {
    /// Starts drawing.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        data: &'scope TrainingData,
        sampler: Sampler,
    ) -> Self {
        let (orders, received) = channel::<Sampler>();
        let (sender, drawn) = channel();
        scope.spawn(move || {
            for mut sampler in received {
                let images = sampler.draw(data);
                if sender.send((images, sampler)).is_err() {
                    break;
                }
            }
        });
        let loader = Self { sampler, orders, drawn };
        loader.order();
        loader
    }

    /// The next step's images. Those of the step after it are drawn from now on, with what `strong` has learned so far:
    /// it is one step behind.
    ///
    /// # Panics
    /// If drawing panicked.
    pub(crate) fn next(&mut self, strong: &StrongAugment) -> Drawn {
        let (drawn, mut sampler) = self.drawn.recv().expect("drawing ends only with the loader");
        sampler.strong = strong.clone();
        self.sampler = sampler;
        self.order();
        drawn
    }

    /// The state that the images are drawn from which [`Loader::next`] gives next.
    pub(crate) fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    fn order(&self) {
        // It can only fail if drawing panicked, which the next call of `next` says.
        let _ = self.orders.send(self.sampler.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, thread};

    use super::*;
    use crate::{
        algorithm::Method,
        augment::{Strong, operation::Operation},
        config::Algorithm,
        data::digits,
    };

    /// What CTAugment learns is drawn by from the step after the next on: the next one is drawn already.
    #[test]
    fn what_a_step_has_taught_takes_effect_one_step_late() {
        let data = digits::split(1).training();
        let config = TrainConfig { batch: 64, ..TrainConfig::of(Algorithm::ReMixMatch) };
        let mut sampler = Sampler::new(Method::recipe(&config), &config, &data);
        // Only values in the topmost bin of each parameter are still recognised.
        let mut learned = sampler.strong.clone();
        for operation in Operation::ALL {
            for value in (0..320).map(|i| f64::from(i) / 340.0) {
                let probe = vec![(operation, operation.bins().iter().map(|_| value).collect())];
                (0..20).for_each(|_| learned.update(&probe, 0.0));
            }
        }
        let lowest = |sampler: &mut Sampler| {
            let Plan { jobs, .. } = sampler.plan(&data);
            let values = jobs.iter().flat_map(|job| &job.policy).filter(|(op, _)| op.bins() == [17]).map(|(_, v)| v[0]);
            values.fold(1.0, f64::min)
        };
        thread::scope(|scope| {
            let mut loader = Loader::start(scope, &data, sampler.clone());
            let expected = sampler.draw(&data);
            assert!(loader.next(&learned) == expected, "the first step has been drawn by what was not known");
            assert!(lowest(&mut sampler) < 0.1);
            assert!(lowest(&mut loader.sampler().clone()) > 0.9);
        });
    }

    /// Each row: how the labeled images are seen, and each view of the unlabeled ones; and whether the strong ones are probed.
    #[test]
    fn a_method_and_its_switches_see_images_as_they_say() {
        use View::{Plain, Strong as Strongly, Weak};

        let data = digits::split(1).training();
        let seen = |algorithm, change: fn(&mut TrainConfig)| {
            let mut config = TrainConfig { batch: 4, ..TrainConfig::of(algorithm) };
            config.remixmatch.strong_views = 1;
            config.fixmatch.unlabeled_ratio = 1;
            change(&mut config);
            let Plan { jobs, probes, .. } = Sampler::new(Method::recipe(&config), &config, &data).plan(&data);
            let view = |job: &Job| match (job.weak, &job.policy[..]) {
                (None, []) => Plain,
                (Some(_), []) => Weak,
                (weak, policy) => {
                    let is_cut_out = policy.last() == Some(&(Operation::Cutout, vec![1.0]));
                    assert!(weak.is_some() && is_cut_out == config.cutout, "{policy:?}");
                    Strongly
                }
            };
            let rows = jobs.chunks(4).map(|jobs| {
                let views: Vec<View> = jobs.iter().map(view).collect();
                assert!(views.iter().all(|view| *view == views[0]), "{views:?}");
                views[0]
            });
            (rows.collect::<Vec<_>>(), probes.len() == 4)
        };
        let (supervised, mixmatch) = (Algorithm::Supervised, Algorithm::MixMatch);
        let (fixmatch, remixmatch) = (Algorithm::FixMatch, Algorithm::ReMixMatch);
        assert_eq!(seen(supervised, |_| {}), (vec![Weak], false));
        assert_eq!(seen(mixmatch, |_| {}), (vec![Weak, Weak, Weak], false));
        assert_eq!(seen(fixmatch, |_| {}), (vec![Weak, Weak, Strongly], true));
        assert_eq!(seen(fixmatch, |c| c.strong = Strong::RandAugment), (vec![Weak, Weak, Strongly], false));
        assert_eq!(seen(remixmatch, |_| {}), (vec![Strongly, Weak, Strongly], true));
        assert_eq!(seen(remixmatch, |c| c.cutout = true), (vec![Strongly, Weak, Strongly], true));
        assert_eq!(seen(remixmatch, |c| c.strong = Strong::None), (vec![Weak, Weak, Weak], false));
        assert_eq!(seen(remixmatch, |c| c.remixmatch.anchor = Strongly), (vec![Strongly, Strongly, Strongly], true));
        assert_eq!(seen(remixmatch, |c| c.remixmatch.anchor = Plain), (vec![Strongly, Plain, Strongly], true));
    }

    /// The specification's section 0, steps 2 and 3.
    #[test]
    fn every_view_is_drawn_anew_and_a_probe_is_the_weak_view_that_is_trained_on() {
        let data = digits::split(1).training();
        let mut config = TrainConfig { batch: 4, ..TrainConfig::of(Algorithm::ReMixMatch) };
        config.remixmatch.strong_views = 2;
        let mut sampler = Sampler::new(Method::recipe(&config), &config, &data);
        let Plan { labels, jobs, probes } = sampler.plan(&data);

        let [labeled, anchors, strong_1, strong_2] = [0, 4, 8, 12].map(|first| &jobs[first..first + 4]);
        let seeds: BTreeSet<_> = jobs.iter().map(|job| job.weak).collect();
        assert!(seeds.len() == jobs.len() && !seeds.contains(&None), "two views have one weak draw, or one has none");
        let strong = [labeled, strong_1, strong_2].concat();
        assert!(strong.iter().all(|job| !job.policy.is_empty()), "a strong view that is none");
        for (label, job) in labels.iter().zip(labeled) {
            let mut known = data.labeled.images.iter().zip(&data.labeled.labels);
            assert!(known.any(|(image, of)| image == job.image && of == label), "an image with the label of another");
        }
        for (row, anchor) in anchors.iter().enumerate() {
            assert!(
                anchor.policy.is_empty() && [strong_1, strong_2].iter().all(|view| view[row].image == anchor.image)
            );
            assert!(strong_1[row].policy != strong_2[row].policy, "two strong views have one policy");
        }
        assert_eq!(probes.len(), 4);
        for (probe, trained) in probes.iter().zip(labeled) {
            assert!((probe.image, probe.weak) == (trained.image, trained.weak) && probe.policy != trained.policy);
        }
    }
}
