//! How far two computations of the same number may be apart.
//!
//! Every comparison of floating-point numbers in the workspace names one of these.

/// A bound on `|a - b|`, absolute for numbers around one and relative to the larger one above it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The bound's name, for messages.
    pub name: &'static str,
    /// The bound.
    pub bound: f64,
}

/// Same code on the same machine: the same bits.
pub const EXACT: Tolerance = Tolerance { name: "exact", bound: 0.0 };

/// The same formula in `f32` here and in `f64` there: a few dozen roundings of 6e-8 each.
pub const SAME_MATH: Tolerance = Tolerance { name: "same_math", bound: 1e-5 };

/// The same network in two engines: other orders of summation over tens of layers of `f32`.
pub const CROSS_ENGINE: Tolerance = Tolerance { name: "cross_engine", bound: 1e-4 };

/// The same network of 8-bit feature maps in two engines: a sum close to the middle between two levels is rounded to either, and
/// the layers behind it carry that on.
pub const ROUNDED_LAYERS: Tolerance = Tolerance { name: "rounded_layers", bound: 0.1 };

impl Tolerance {
    /// Whether `a` and `b` count as the same number. NaN is never the same as anything.
    pub fn same(&self, a: f64, b: f64) -> bool {
        (a - b).abs() <= self.bound * a.abs().max(b.abs()).max(1.0)
    }
}

/// The largest `|a - b|` over two slices; infinite if a difference is not a number.
///
/// # Panics
/// If the slices differ in length.
pub fn max_abs_diff(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "comparing {} numbers with {}", a.len(), b.len());
    let diff = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs();
    a.iter().zip(b).map(diff).fold(0.0, |max, d| if d.is_nan() { f64::INFINITY } else { max.max(d) })
}
