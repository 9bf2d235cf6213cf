use models::{Pixels, bundle::Golden, tolerance::Tolerance};

use crate::{BoxError, Error, Result};

/// How closely an engine reproduced the trainer's logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parity {
    /// Largest difference over all logits of all golden images.
    pub max_abs_diff: f64,
}

/// Runs every golden image and proves that its logits, within a tolerance, and its class are the golden ones.
///
/// `run` takes one image and returns its logits. Logits are compared by [`Golden::compare`].
///
/// # Errors
/// [`Error::Differs`], [`Error::LogitsCount`] or [`Error::Run`] with the first image that is not reproduced;
/// [`Error::Golden`] if there are no golden vectors or they do not fit each other.
pub fn parity<E: Into<BoxError>>(
    golden: &Golden,
    tolerance: Tolerance,
    mut run: impl FnMut(&Pixels) -> Result<Vec<f32>, E>,
) -> Result<Parity> {
    validate(golden)?;
    let mut parity = Parity { max_abs_diff: 0.0 };
    for (index, (image, expected)) in golden.images.iter().zip(&golden.logits).enumerate() {
        let found = run(image).map_err(|e| Error::Run { image: index, source: e.into() })?;
        if found.len() != expected.len() {
            return Err(Error::LogitsCount { image: index, expected: expected.len(), found: found.len() });
        }
        parity.max_abs_diff = parity.max_abs_diff.max(golden.compare(index, &found, tolerance)?);
    }
    Ok(parity)
}

fn validate(golden: &Golden) -> Result<()> {
    let Golden { images, logits } = golden;
    let refuse = |expected: String, found: String| Err(Error::Golden { expected, found });
    if images.is_empty() || images.len() != logits.len() {
        return refuse(
            "logits for each of at least one image".to_owned(),
            format!("{} rows for {} images", logits.len(), images.len()),
        );
    }
    let shape = images[0].shape();
    if let Some((index, image)) = images.iter().enumerate().find(|(_, image)| image.shape() != shape) {
        return refuse(format!("images of shape {shape:?}"), format!("{:?} in image {index}", image.shape()));
    }
    let classes = logits[0].len().max(1);
    if let Some((index, row)) = logits.iter().enumerate().find(|(_, row)| row.len() != classes) {
        return refuse(format!("{classes} logits for every image"), format!("{} for image {index}", row.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use models::tolerance::CROSS_ENGINE;

    use super::*;

    fn pixel(value: u8) -> Pixels {
        Pixels { height: 1, width: 1, channels: 1, data: vec![value] }
    }

    /// Two images of one pixel; an engine that answers with `logits` looks its answer up by the pixel.
    fn golden() -> Golden {
        Golden { images: vec![pixel(0), pixel(1)], logits: vec![vec![50.0, -2.0], vec![0.3, 0.300_01]] }
    }

    fn check(second: &[f32]) -> Result<Parity> {
        let run = |image: &Pixels| if image.data[0] == 0 { vec![50.001, -2.0] } else { second.to_vec() };
        parity(&golden(), CROSS_ENGINE, |image| Ok::<_, BoxError>(run(image)))
    }

    #[test]
    fn accepts_rounding_and_reports_the_largest() -> Result<()> {
        let parity = check(&[0.3, 0.300_05])?;
        // 0.001 of 50 is 2e-5 relative; in f32 the difference is 0.001 up to 2e-6.
        assert!((parity.max_abs_diff - 1e-3).abs() < 4e-6, "{parity:?}");
        Ok(())
    }

    #[test]
    fn refuses_another_number_another_class_and_no_number() {
        for (second, said) in [
            (&[0.3, 0.301][..], ["image 1", "by up to 9.9", "expected class 1, found 1"]),
            (&[0.3, 0.299_95], ["image 1", "by up to 5.999e-5", "expected class 1, found 0"]),
            (&[f32::NAN, 0.300_01], ["image 1", "by up to inf", "1"]),
            (&[0.3], ["image 1", "expected 2", "found 1"]),
        ] {
            let error = check(second).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(said.iter().all(|s| error.contains(s)), "{second:?}: {error:?} does not say {said:?}");
        }
    }

    #[test]
    fn golden_vectors_that_prove_nothing_are_refused() {
        let empty = Golden { images: vec![], logits: vec![] };
        let unpaired = Golden { images: vec![pixel(0)], ..golden() };
        let wide = Pixels { height: 1, width: 2, channels: 1, data: vec![0; 2] };
        let misshapen = Golden { images: vec![pixel(0), wide], ..golden() };
        let ragged = Golden { logits: vec![vec![1.0, 2.0], vec![1.0]], ..golden() };
        let blank = Golden { logits: vec![vec![], vec![]], ..golden() };
        for golden in [empty, unpaired, misshapen, ragged, blank] {
            let mut rows = golden.logits.clone().into_iter();
            let result = parity(&golden, CROSS_ENGINE, |_| Ok::<_, BoxError>(rows.next().unwrap_or_default()));
            assert!(matches!(result, Err(Error::Golden { .. })), "{golden:?}: {result:?}");
        }
    }
}
