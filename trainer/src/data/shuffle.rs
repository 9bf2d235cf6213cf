use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::random::{self, Stream};

/// Slots of the buffer: the original code's value.
const SLOTS: usize = 8192;

/// An endless shuffled stream of the indices `0..len`: repeated in order, then shuffled through a buffer, as the
/// original code's input pipeline does. With fewer images than slots this is close to drawing with replacement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShuffleBuffer {
    len: usize,
    next: usize,
    slots: Vec<usize>,
    random: Stream,
}

impl ShuffleBuffer {
    /// A stream over `len` images.
    pub(crate) fn new(len: usize, seed: u64, name: &str) -> Self {
        let mut buffer = Self { len, next: 0, slots: Vec::new(), random: random::stream(seed, name) };
        buffer.slots = (0..SLOTS).map(|_| buffer.repeat()).collect();
        buffer
    }

    /// The next `count` indices.
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
        let index = self.next;
        self.next = (index + 1) % self.len;
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
