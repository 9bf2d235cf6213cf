//! The Fourier transform that stands in for a crate that tract links: `edge-runtime/rustfft`.

use models::tolerance::SAME_MATH;
use rustfft::{FftDirection, FftPlanner, num_complex::Complex};

fn assert_same(found: &[Complex<f64>], expected: &[Complex<f64>]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            SAME_MATH.same(found.re, expected.re) && SAME_MATH.same(found.im, expected.im),
            "{found} != {expected}"
        );
    }
}

#[test]
fn transforms_as_numpy_does_and_back_again() {
    let x = [(1.0, 0.0), (2.0, -1.0), (-3.0, 0.5), (4.0, 1.0), (0.25, -2.0)].map(|(re, im)| Complex::new(re, im));
    // numpy.fft.fft of the same numbers.
    let expected = [
        (4.25, -1.5),
        (1.543_435_133, 0.309_571_388),
        (0.552_042_267, -4.795_443_331),
        (-1.574_584_753, 10.576_596_28),
        (0.229_107_353, -4.590_724_337),
    ]
    .map(|(re, im)| Complex::new(re, im));
    let mut found = x;
    FftPlanner::new().plan_fft_forward(5).process(&mut found);
    assert_same(&found, &expected);
    FftPlanner::new().plan_fft(5, FftDirection::Inverse).process(&mut found);
    assert_same(&found, &x.map(|value| value * 5.0));
    // Two stretches in one buffer, each by itself.
    let mut both = [x, x].concat();
    FftPlanner::new().plan_fft_forward(5).process(&mut both);
    assert_same(&both, &[expected, expected].concat());
}
