use rand::{RngExt, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::random::{self, Stream};

/// Slots of the buffer: the original code's value.
const SLOTS: usize = 8192;

/// An endless shuffled stream of the indices `0..len`: put in a random order once, repeated, and shuffled through a
/// buffer, as the original code's input pipeline does. With fewer images than slots this is close to drawing with
/// replacement; with more, the random order keeps images of one folder from coming together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShuffleBuffer {
    order: Vec<usize>,
    next: usize,
    slots: Vec<usize>,
    random: Stream,
}

impl ShuffleBuffer {
    /// A stream over `len` images.
    pub(crate) fn new(len: usize, seed: u64, name: &str) -> Self {
        let mut random = random::stream(seed, name);
        let mut order: Vec<usize> = (0..len).collect();
        order.shuffle(&mut random);
        let mut buffer = Self { order, next: 0, slots: Vec::new(), random };
        buffer.slots = (0..SLOTS.min(len * SLOTS)).map(|_| buffer.repeat()).collect();
        buffer
    }

    /// The next `count` indices.
    ///
    /// # Panics
    /// If there are no images.
    pub(crate) fn take(&mut self, count: usize) -> Vec<usize> {
        (0..count)
            .map(|_| {
                let slot = self.random.random_range(0..SLOTS);
                let refill = self.repeat();
                std::mem::replace(&mut self.slots[slot], refill)
            })
            .collect()
    }

    fn repeat(&mut self) -> usize {
        let index = self.order[self.next];
        self.next = (self.next + 1) % self.order.len();
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20,000 images in two blocks: the very first draws already hold both.
    #[test]
    fn blocks_do_not_come_together() {
        let drawn = ShuffleBuffer::new(20_000, 1, "test").take(1000);
        let first_block = drawn.iter().filter(|&&i| i < 10_000).count();
        assert!((400..600).contains(&first_block), "{first_block} of 1000");
    }

    #[test]
    fn draws_every_image_about_equally_often_and_goes_on_where_it_was_saved() {
        let mut buffer = ShuffleBuffer::new(40, 1, "test");
        let mut counts = [0; 40];
        buffer.take(40_000).into_iter().for_each(|i| counts[i] += 1);
        assert!(counts.iter().all(|n| (850..1150).contains(n)), "{counts:?}");
        let saved = serde_json::to_string(&buffer).expect("JSON");
        let mut restored: ShuffleBuffer = serde_json::from_str(&saved).expect("JSON");
        assert_eq!(restored.take(500), buffer.take(500));
    }
}
