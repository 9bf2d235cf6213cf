//! Randomness as a parameter: one root seed, and a stream for each use, derived by name.

use models::Digest;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A random stream whose position can be saved.
pub type Stream = ChaCha8Rng;

/// The stream called `name` of a root seed. Streams of other names are independent of it.
pub fn stream(seed: u64, name: &str) -> Stream {
    ChaCha8Rng::from_seed(Digest::of(format!("{seed}/{name}").as_bytes()).into_bytes())
}

/// `count` seeds drawn from `stream`: one for each image of a batch, so that images can be augmented in parallel
/// and in any order with the same result.
pub fn seeds(stream: &mut Stream, count: usize) -> Vec<u64> {
    (0..count).map(|_| stream.next_u64()).collect()
}

/// A short-lived stream for one image.
pub fn from_seed(seed: u64) -> Stream {
    ChaCha8Rng::seed_from_u64(seed)
}
