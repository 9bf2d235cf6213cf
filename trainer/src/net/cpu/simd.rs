use pulp::{Simd, WithSimd};

/// Runs `op` with the widest registers that the kernels here are made for: AVX2 or NEON, else without.
///
/// AVX-512 is left alone: where it is as fast as it is wide, the sixteen registers of AVX2 keep up with the caches.
pub(super) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return Simd::vectorize(simd, op);
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

/// The sum of `f` over values, in several parts that a register holds.
#[inline(always)]
pub(super) fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|v| f(*v)).sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += f(*value));
    }
    sums.iter().sum::<f32>() + rest
}
