//! The images that a person should look at first.

use models::Prediction;
use serde::{Deserialize, Serialize};

/// Images that a verdict names, at most.
const NAMED: usize = 24;

/// An image that the new model gets wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrongImage {
    /// File of the test set, or the digest of an audit sample.
    pub image: String,
    /// What it shows; none for an audit sample of no class.
    pub truth: Option<String>,
    /// What the new model takes it for.
    pub taken_for: String,
    /// How sure it is.
    pub confidence: f64,
    /// Whether the current model gets it right.
    pub was_right: bool,
}

/// What both models say of an image.
#[derive(Clone, Debug)]
pub struct Answer<'a, T> {
    /// The image, however the caller knows it.
    pub image: T,
    /// What it shows; none for no class.
    pub truth: Option<usize>,
    /// What the new model says.
    pub new: &'a Prediction,
    /// The class that the current model gives it.
    pub current: Option<usize>,
}

impl<T> Answer<'_, T> {
    fn is_wrong(&self) -> bool {
        self.truth != Some(self.new.class)
    }

    /// Whether the current model gets it right.
    pub fn was_right(&self) -> bool {
        self.truth.is_some() && self.current == self.truth
    }
}

/// The images that the new model gets wrong: those first that the current one gets right, and of these the ones that it is surest of.
pub fn worst<'a, T>(answers: impl Iterator<Item = Answer<'a, T>>) -> Vec<Answer<'a, T>> {
    let mut wrong: Vec<_> = answers.filter(Answer::is_wrong).collect();
    wrong.sort_by(|a, b| {
        let by_news = b.was_right().cmp(&a.was_right());
        by_news.then(b.new.confidence.total_cmp(&a.new.confidence))
    });
    wrong.truncate(NAMED);
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_right_before_comes_first_and_the_surest_of_it() {
        let said = |confidence: f64| Prediction { class: 1, confidence, probs: vec![1.0 - confidence, confidence] };
        let predictions = [said(0.9), said(0.6), said(0.7), said(0.99), said(0.8)];
        // Image 3 is right; the current model is right about images 1 and 2; image 4 is of no class.
        let truths = [Some(0), Some(0), Some(0), Some(1), None];
        let current = [1, 0, 0, 1, 0];
        let answers = predictions.iter().enumerate().map(|(image, new)| Answer {
            image,
            truth: truths[image],
            new,
            current: Some(current[image]),
        });
        let order: Vec<usize> = worst(answers).into_iter().map(|answer| answer.image).collect();
        assert_eq!(order, [2, 1, 0, 4]);
    }
}
