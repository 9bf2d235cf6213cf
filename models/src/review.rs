//! What people say of kept images.
//!
//! Whatever is said is added and nothing is replaced: of several people, at a page and in files, nobody's word is lost, an image has
//! its history, and to undo is to say so. A file of what was said in one go is named by its sha256.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// What somebody said of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// When.
    pub at: Timestamp,
    /// The image: digest of its file's bytes.
    pub image: Digest,
    /// Who.
    pub by: String,
    /// What.
    pub said: Said,
}

/// What somebody decides at a page of images; who and when, the server knows better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The image: digest of its file's bytes.
    pub image: Digest,
    /// What it shows.
    pub said: Said,
}

/// What there is to say of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It shows this class.
    Label(String),
    /// It shows none of the classes, or several: nothing is to be learned from it.
    Reject,
    /// It cannot be told.
    Unsure,
    /// What was said before is taken back.
    Undo,
}

/// What holds of each image, of all that was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviews {
    all: BTreeMap<Digest, Vec<Review>>,
}

impl Reviews {
    /// Brings what was said into the order of time; the same word twice is one.
    pub fn new(reviews: impl IntoIterator<Item = Review>) -> Self {
        let mut all = Self::default();
        all.extend(reviews);
        all
    }

    /// What holds of an image: the last word; none if nobody has spoken, or it was taken back.
    pub fn of(&self, image: Digest) -> Option<&Said> {
        let said = &self.history(image).last()?.said;
        (*said != Said::Undo).then_some(said)
    }

    /// All that was said of an image, the oldest first.
    pub fn history(&self, image: Digest) -> &[Review] {
        self.all.get(&image).map_or(&[], Vec::as_slice)
    }

    /// How often anybody has said something. It only ever grows.
    pub fn words(&self) -> usize {
        self.all.values().map(Vec::len).sum()
    }

    /// Every image of which something holds.
    pub fn images(&self) -> impl Iterator<Item = (Digest, &Said)> {
        self.all.keys().filter_map(|image| Some((*image, self.of(*image)?)))
    }
}

impl Extend<Review> for Reviews {
    fn extend<T: IntoIterator<Item = Review>>(&mut self, reviews: T) {
        for review in reviews {
            let history = self.all.entry(review.image).or_default();
            if let Err(place) = history.binary_search(&review) {
                history.insert(place, review);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_holds_until_it_is_taken_back_and_none_is_lost() {
        let review = |second: i64, said: Said| Review {
            at: Timestamp::constant(second, 0),
            image: Digest::of(b"image"),
            by: "ann".into(),
            said,
        };
        let cat = review(1, Said::Label("cat".into()));
        let dog = review(2, Said::Label("dog".into()));
        let of = |all: &[&Review]| Reviews::new(all.iter().map(|review| (*review).clone()));
        // In whatever order the files are read.
        assert_eq!(of(&[&dog, &cat, &dog]).of(cat.image), Some(&dog.said));
        let undone = of(&[&cat, &dog, &review(3, Said::Undo)]);
        assert_eq!((undone.of(cat.image), undone.images().count()), (None, 0));
        assert_eq!(undone.history(cat.image).len(), 3);
        assert_eq!(of(&[&cat]).of(Digest::of(b"another")), None);
        assert_eq!((undone.words(), of(&[&dog, &cat, &dog]).words()), (3, 2));
    }
}
