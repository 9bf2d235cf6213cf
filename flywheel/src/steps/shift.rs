//! Which share each class has among images without labels, by what a model says of them and what it confuses.
//!
//! # Reference
//! Lipton, Wang and Smola, "Detecting and correcting for label shift with black box predictors" (2018), equation 1: what is
//! predicted is the shares times the confusion matrix. It is solved by maximum likelihood, as in Saerens, Latinne and Decaestecker
//! (2002), section 2, on predicted classes: unlike an inverse, that gives shares even where classes are hardly told apart.

/// Steps of the solution, at most.
const STEPS: usize = 1000;
/// A step that moves no share by more than this is the last.
const STILL: f64 = 1e-9;

/// How often a model takes each class for each other: a row for each true class, whose values add up to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion(Vec<Vec<f64>>);

impl Confusion {
    /// From test images, each with its class and the one that the model gives it. Each class counts one more that is recognised, so that
    /// a class without images has a row.
    pub fn of(images: impl Iterator<Item = (usize, usize)>, classes: usize) -> Self {
        let mut counts: Vec<Vec<f64>> =
            (0..classes).map(|class| (0..classes).map(|other| f64::from(u8::from(class == other))).collect()).collect();
        images.for_each(|(truth, predicted)| counts[truth][predicted] += 1.0);
        for row in &mut counts {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|count| *count /= sum);
        }
        Self(counts)
    }

    /// How many images of each class there are among those that the model gives these classes. Each class is counted one more, so that
    /// none is thought to be absent.
    pub fn counts(&self, predicted: impl Iterator<Item = usize>) -> Vec<f64> {
        let classes = self.0.len();
        let mut observed = vec![0.0; classes];
        predicted.for_each(|class| observed[class] += 1.0);
        let total: f64 = observed.iter().sum();
        let mut shares = vec![1.0 / classes as f64; classes];
        for _ in 0..STEPS {
            let expected: Vec<f64> = (0..classes)
                .map(|predicted| self.0.iter().zip(&shares).map(|(row, share)| row[predicted] * share).sum())
                .collect();
            let counts = self.0.iter().zip(&shares).map(|(row, share)| {
                let explained = row.iter().zip(&expected).zip(&observed).filter(|((_, e), _)| **e > 0.0);
                1.0 + share * explained.map(|((p, e), o)| p / e * o).sum::<f64>()
            });
            let next: Vec<f64> = counts.map(|count| count / (total + classes as f64)).collect();
            let moved = next.iter().zip(&shares).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            shares = next;
            if moved < STILL {
                break;
            }
        }
        shares.into_iter().map(|share| share * total).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_found_behind_what_the_model_confuses() {
        // Of class 0, a fifth is taken for class 1; of class 1, a tenth for class 0; class 2 is always recognised.
        let row = |truth: usize, row: [usize; 3]| {
            row.into_iter().enumerate().flat_map(move |(class, count)| vec![(truth, class); count])
        };
        let test = row(0, [800, 200, 0]).chain(row(1, [100, 900, 0])).chain(row(2, [0, 0, 1000]));
        let confusion = Confusion::of(test, 3);
        // 6000 images of class 0, 1000 of class 1, 3000 of class 2, as the model sees them.
        let seen = [(0, 4800 + 100), (1, 1200 + 900), (2, 3000)];
        let counts = confusion.counts(seen.into_iter().flat_map(|(class, count)| vec![class; count]));
        for (found, truth) in counts.iter().zip([6000.0, 1000.0, 3000.0]) {
            assert!((found - truth).abs() < 15.0, "{counts:?}");
        }
        // A model that never tells two classes apart says nothing of them: both keep images.
        let blind = Confusion::of((0..2000).map(|i| (i % 2, 0)), 2);
        let counts = blind.counts([0; 1000].into_iter());
        assert!(counts.iter().all(|count| *count > 300.0), "{counts:?}");
    }
}
