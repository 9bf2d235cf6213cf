//! The discrete Fourier transform by its definition, in place of the crate of this name.
//!
//! tract links a Fourier transform into every program, for operators on sound. No image classifier has them, and the real
//! crate's kernels, one for every length and processor, were a tenth of `flywheel-edge`. This computes the same numbers for
//! whoever needs them all the same, in the square of the length in place of its logarithm. Only what tract names is here.

use std::{f64::consts::TAU, fmt::Debug, sync::Arc};

pub use num_complex;
pub use num_traits;

use num_complex::Complex;
use num_traits::{FromPrimitive, Signed};

/// Numbers that can be transformed.
pub trait FftNum: Copy + FromPrimitive + Signed + Sync + Send + Debug + 'static {}

impl<T: Copy + FromPrimitive + Signed + Sync + Send + Debug + 'static> FftNum for T {}

/// Sign of the exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FftDirection {
    /// Minus.
    Forward,
    /// Plus; the result is not divided by the length.
    Inverse,
}

/// A transform of one length and direction.
pub trait Fft<T: FftNum>: Send + Sync {
    /// Transforms every stretch of its length in place.
    ///
    /// # Panics
    /// If the buffer is no multiple of the length.
    fn process(&self, buffer: &mut [Complex<T>]);
}

/// Makes transforms.
#[derive(Debug, Default)]
pub struct FftPlanner;

impl FftPlanner {
    /// A planner.
    pub fn new() -> Self {
        Self
    }

    /// The transform of a length in a direction.
    ///
    /// # Panics
    /// If `T` cannot hold a sine.
    pub fn plan_fft<T: FftNum>(&mut self, length: usize, direction: FftDirection) -> Arc<dyn Fft<T>> {
        let sign = if direction == FftDirection::Forward { -1.0 } else { 1.0 };
        let number = |value: f64| T::from_f64(value).expect("a number type that holds sines");
        let root = |k: usize| {
            let angle = sign * TAU * k as f64 / length as f64;
            Complex::new(number(angle.cos()), number(angle.sin()))
        };
        Arc::new(Definition { roots: (0..length).map(root).collect() })
    }

    /// The forward transform of a length.
    ///
    /// # Panics
    /// As [`FftPlanner::plan_fft`].
    pub fn plan_fft_forward<T: FftNum>(&mut self, length: usize) -> Arc<dyn Fft<T>> {
        self.plan_fft(length, FftDirection::Forward)
    }
}

/// The powers of a root of unity, as many as its length.
struct Definition<T> {
    roots: Vec<Complex<T>>,
}

impl<T: FftNum> Fft<T> for Definition<T> {
    fn process(&self, buffer: &mut [Complex<T>]) {
        let length = self.roots.len().max(1);
        assert!(buffer.len().is_multiple_of(length), "{} numbers for transforms of {length}", buffer.len());
        for stretch in buffer.chunks_exact_mut(length) {
            let sum = |k: usize| {
                let term = |(n, value): (usize, &Complex<T>)| *value * self.roots[n * k % length];
                stretch.iter().enumerate().map(term).fold(Complex::new(T::zero(), T::zero()), |sum, term| sum + term)
            };
            let transformed: Vec<_> = (0..length).map(sum).collect();
            stretch.copy_from_slice(&transformed);
        }
    }
}
