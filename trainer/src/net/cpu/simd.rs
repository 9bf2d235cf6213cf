use std::ops::Range;

use pulp::{Simd, WithSimd};

/// Channels that are computed together, in neighbouring lanes.
pub(super) const BLOCK: usize = 16;

/// Runs `op` with the widest registers that the kernels here are made for: AVX-512, AVX2 or NEON, else without.
///
/// AVX-512 pays even where it computes 512 bits in two halves: twice as many registers hold more results, and there are half as many
/// instructions. Its results are those of AVX2 bit by bit.
pub(super) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return Simd::vectorize(simd, op);
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return Simd::vectorize(simd, op);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(simd) = pulp::aarch64::Neon::try_new() {
        return Simd::vectorize(simd, op);
    }
    Simd::vectorize(pulp::Scalar, op)
}

/// Runs a loop over slices with registers as wide as [`dispatch`] chooses, left to the compiler.
#[inline(always)]
pub(super) fn vectorized<R>(run: impl FnOnce() -> R) -> R {
    struct Closure<F>(F);
    impl<R, F: FnOnce() -> R> WithSimd for Closure<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> R {
            (self.0)()
        }
    }
    dispatch(Closure(run))
}

/// The sums of a block over pixels that have so many channels.
#[inline(always)]
pub(super) fn sum(
    pixels: &[f32],
    channels: usize,
    block: &Range<usize>,
    f: impl Fn(usize, f32) -> f32,
) -> [f32; BLOCK] {
    let mut sums = [0.0; BLOCK];
    for pixel in pixels.chunks_exact(channels) {
        let values = take(&pixel[block.clone()]);
        for i in 0..BLOCK {
            sums[i] += f(i, values[i]);
        }
    }
    sums
}

/// A pixel's channels, cut into blocks of which the last may be smaller.
pub(super) fn blocks(channels: usize) -> impl Iterator<Item = Range<usize>> {
    (0..channels).step_by(BLOCK).map(move |first| first..(first + BLOCK).min(channels))
}

/// A block of channels, zeros behind the last.
#[inline(always)]
pub(super) fn take(channels: &[f32]) -> [f32; BLOCK] {
    match channels.first_chunk() {
        Some(whole) => *whole,
        None => std::array::from_fn(|i| channels.get(i).copied().unwrap_or_default()),
    }
}

/// Writes a block, or as many of its channels as there are.
#[inline(always)]
pub(super) fn put(channels: &mut [f32], values: &[f32; BLOCK]) {
    match channels.first_chunk_mut() {
        Some(whole) => *whole = *values,
        None => channels.iter_mut().zip(values).for_each(|(to, from)| *to = *from),
    }
}
