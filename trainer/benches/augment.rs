//! Augmentation of one 32x32 colour image on one core.
//!
//! ```sh
//! cargo bench --workspace --bench augment
//! python3 benches/pillow.py    # the same operations in Pillow
//! ```

use std::{hint::black_box, time::Instant};

use models::Pixels;
use rand::Rng;
use trainer::{
    augment::{CtAugment, CtAugmentConfig, WeakAugment},
    random,
};

/// Images a sample, and samples of which the median counts.
const IMAGES: u32 = 2000;
const SAMPLES: usize = 21;

fn main() {
    let mut data = vec![0; 3 * 32 * 32];
    random::stream(1, "bench").fill_bytes(&mut data);
    let image = Pixels { height: 32, width: 32, channels: 3, data };
    let (weak, strong) = (WeakAugment::default(), CtAugment::new(CtAugmentConfig::default()));
    let mut random = random::stream(2, "bench");
    measure("weak", || weak.apply(black_box(&image), &mut random).data.len());
    measure("to input", || black_box(&image).to_input().len());
    measure("weak, two operations of CTAugment, to input", || {
        let weak = weak.apply(black_box(&image), &mut random);
        strong.apply(&strong.policy(&mut random), weak, &mut random).to_input().len()
    });
}

/// Prints the median time of one call.
fn measure(name: &str, mut run: impl FnMut() -> usize) {
    let mut sample = || {
        let start = Instant::now();
        (0..IMAGES).for_each(|_| _ = black_box(run()));
        start.elapsed() / IMAGES
    };
    sample();
    let mut times: Vec<_> = (0..SAMPLES).map(|_| sample()).collect();
    times.sort();
    println!("{name}: {:.1} microseconds", 1e6 * times[SAMPLES / 2].as_secs_f64());
}
