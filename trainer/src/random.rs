//! Randomness as a parameter: one root seed, and a stream for each use, derived by name.

use models::Digest;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A random stream whose position can be saved.
pub type Stream = ChaCha8Rng;

/// The stream called `name` of a root seed. Streams of other names are independent of it.
pub fn stream(seed: u64, name: &str) -> Stream {
    ChaCha8Rng::from_seed(Digest::of(format!("{seed}/{name}").as_bytes()).into_bytes())
}

/// A short-lived stream for one image.
pub fn from_seed(seed: u64) -> Stream {
    ChaCha8Rng::seed_from_u64(seed)
}
