//! The embedded data set: 1,797 handwritten digits of 8x8 pixels.
//!
//! # Reference
//! E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (1998),
//! CC BY 4.0; the test part, from 13 writers.

use std::sync::LazyLock;

use flate2::read::GzDecoder;
use models::{LabelSet, Pixels, Preprocessing, preprocess::Color};
use rand_mt::Mt;

use super::{LabeledImages, TrainingData, sets::SetData, split};

const FILE: &[u8] = include_bytes!("../../data/digits.csv.gz");
const SIDE: usize = 8;
/// Pixel values in the file go from 0 to this.
const FULL: u32 = 16;

/// Images with labels.
pub const LABELED: usize = 40;
/// Images without labels, at the workstation from the start.
pub const POOL: usize = 700;
/// Images that only devices see.
pub const FIELD: usize = 600;

static ALL: LazyLock<LabeledImages> = LazyLock::new(|| {
    let mut file = csv::ReaderBuilder::new().has_headers(false).from_reader(GzDecoder::new(FILE));
    let mut all = LabeledImages::default();
    for row in file.deserialize() {
        let mut row: Vec<u32> = row.expect("the embedded file is well-formed");
        all.labels.push(row.pop().expect("the embedded file has labels") as usize);
        let data = row.into_iter().map(|v| ((v * 255 + FULL / 2) / FULL) as u8).collect();
        all.images.push(Pixels { height: SIDE, width: SIDE, channels: 1, data });
    }
    all
});

/// The digits, divided by a seed. Every image is in exactly one part.
#[derive(Clone, Debug)]
pub struct DigitsSplit {
    /// 40 images, 4 a class, whose labels may be used.
    pub labeled: LabeledImages,
    /// 700 images whose labels are held back.
    pub pool: LabeledImages,
    /// 600 images that only devices see; their labels are held back.
    pub field: LabeledImages,
    /// The other 457: the frozen test set.
    pub test: LabeledImages,
}

impl DigitsSplit {
    /// What a run trains and is measured on; the field is left out.
    pub fn training(self) -> TrainingData {
        TrainingData {
            labels: labels(),
            preprocessing: preprocessing(),
            unlabeled: [self.labeled.images.clone(), self.pool.images].concat(),
            labeled: self.labeled,
            prior: None,
            test: self.test,
        }
    }
}

/// The classes, in order.
pub fn labels() -> LabelSet {
    LabelSet::new((0..10).map(|digit| digit.to_string())).expect("ten distinct names")
}

/// Grey, 8 by 8 pixels.
pub fn preprocessing() -> Preprocessing {
    Preprocessing { color: Color::Gray, height: SIDE as u32, width: SIDE as u32 }
}

/// The digits as a data set: the last of the file are for testing.
pub(super) fn set() -> SetData {
    let count = LABELED + POOL + FIELD;
    SetData {
        labels: labels(),
        train: ALL.select(&Vec::from_iter(0..count)),
        unlabeled: Vec::new(),
        test: ALL.select(&Vec::from_iter(count..ALL.len())),
        folds: Vec::new(),
    }
}

/// Divides the digits: the labeled ones as the papers choose theirs, the others at random.
pub fn split(seed: u32) -> DigitsSplit {
    let labeled = split::labeled(&ALL.labels, 10, LABELED, seed);
    let mut rest: Vec<usize> = (0..ALL.len()).filter(|i| !labeled.contains(i)).collect();
    split::shuffle(&mut rest, &mut Mt::new(seed));
    let (pool, rest) = rest.split_at(POOL);
    let (field, test) = rest.split_at(FIELD);
    DigitsSplit {
        labeled: ALL.select(&labeled),
        pool: ALL.select(pool),
        field: ALL.select(field),
        test: ALL.select(test),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_disjoint_and_depend_on_the_seed() {
        let DigitsSplit { labeled, pool, field, test } = split(1);
        assert_eq!([labeled.len(), pool.len(), field.len(), test.len()], [40, 700, 600, 457]);
        assert!((0..10).all(|class| labeled.labels.iter().filter(|&&l| l == class).count() == 4));
        // Together they are the whole file, image for image.
        let mut found: Vec<_> = [&labeled, &pool, &field, &test]
            .into_iter()
            .flat_map(|part| part.images.iter().map(|i| i.data.clone()).zip(part.labels.clone()))
            .collect();
        let mut expected: Vec<_> = ALL.images.iter().map(|i| i.data.clone()).zip(ALL.labels.clone()).collect();
        found.sort();
        expected.sort();
        assert!(found == expected);
        assert!(split(2).test != test);
    }
}
