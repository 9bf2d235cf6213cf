//! Vector registers, chosen at run time.

use pulp::{Simd, WithSimd};

#[cfg(test)]
thread_local! {
    /// Lanes that registers may have at most, so that tests reach the narrower ones of this processor too.
    pub(super) static MOST_LANES: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
}

/// Runs `op` with the widest registers of this processor: AVX-512, AVX2 or NEON, else without.
pub(super) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V4::try_new().filter(allowed) {
        return Simd::vectorize(simd, op);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new().filter(allowed) {
        return Simd::vectorize(simd, op);
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(simd) = pulp::aarch64::Neon::try_new().filter(allowed) {
        return Simd::vectorize(simd, op);
    }
    Simd::vectorize(pulp::Scalar, op)
}

#[cfg(not(test))]
fn allowed<S: Simd>(_: &S) -> bool {
    true
}

#[cfg(test)]
fn allowed<S: Simd>(_: &S) -> bool {
    S::F32_LANES <= MOST_LANES.get()
}

/// The first numbers, as many as a register has.
#[inline(always)]
pub(super) fn load<S: Simd>(values: &[f32]) -> S::f32s {
    S::as_simd_f32s(&values[..S::F32_LANES]).0[0]
}

/// Writes a register to the first numbers.
#[inline(always)]
pub(super) fn store<S: Simd>(to: &mut [f32], values: S::f32s) {
    S::as_mut_simd_f32s(&mut to[..S::F32_LANES]).0[0] = values;
}

/// Leaky ReLU; a slope of 1 changes nothing.
#[inline(always)]
pub(super) fn leaky<S: Simd>(simd: S, slope: f32, values: S::f32s) -> S::f32s {
    simd.max_f32s(values, simd.mul_f32s(simd.splat_f32s(slope), values))
}
