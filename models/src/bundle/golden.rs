use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{
    Error, Result,
    calibration::argmax,
    tolerance::{CROSS_ENGINE, max_abs_diff},
    weights::{f32_bytes, f32_values},
};

/// Inputs and the logits that the trainer computed for them: what any engine must reproduce before it serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// Shape of one input: channels, height, width.
    pub input_shape: [usize; 3],
    /// Inputs, one after another.
    pub inputs: Vec<Vec<f32>>,
    /// Logits of each input.
    pub logits: Vec<Vec<f32>>,
}

/// Logits that are not the golden ones.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "golden input {input} is not reproduced: logits differ by up to {max_abs_diff:.3e} (allowed: {:.0e}, relative above \
     one), expected class {expected_class}, found {found_class}",
    CROSS_ENGINE.bound
)]
pub struct Disagreement {
    /// Index of the input.
    pub input: usize,
    /// Largest difference between its logits.
    pub max_abs_diff: f64,
    /// Class of the golden logits.
    pub expected_class: usize,
    /// Class of the logits found.
    pub found_class: usize,
}

impl Golden {
    /// The largest difference between an engine's logits of one input and the golden ones, if each is within
    /// [`CROSS_ENGINE`] and the class is the same; on ties the first class counts.
    ///
    /// # Errors
    /// [`Disagreement`] otherwise.
    ///
    /// # Panics
    /// If there is no such input, or another number of logits.
    pub fn compare(&self, input: usize, found: &[f32]) -> Result<f64, Disagreement> {
        let expected = &self.logits[input];
        let max_abs_diff = max_abs_diff(expected, found);
        let (expected_class, found_class) = (argmax(expected), argmax(found));
        let same = expected.iter().zip(found).all(|(a, b)| CROSS_ENGINE.same(f64::from(*a), f64::from(*b)));
        if same && expected_class == found_class {
            return Ok(max_abs_diff);
        }
        Err(Disagreement { input, max_abs_diff, expected_class, found_class })
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let [channels, height, width] = self.input_shape;
        let classes = self.logits.first().map_or(0, Vec::len);
        let parts = [
            ("inputs", vec![self.inputs.len(), channels, height, width], f32_bytes(&self.inputs.concat())),
            ("logits", vec![self.logits.len(), classes], f32_bytes(&self.logits.concat())),
        ];
        parts
            .iter()
            .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, _>>()
            .and_then(|views| safetensors::serialize(views, None))
            .map_err(|e| Error::malformed(super::GOLDEN, "inputs and logits of one shape each", e))
    }

    pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        let malformed =
            |e: safetensors::SafeTensorError| Error::malformed(what, "golden vectors in safetensors form", e);
        let file = SafeTensors::deserialize(bytes).map_err(malformed)?;
        let inputs = file.tensor("inputs").map_err(malformed)?;
        let logits = file.tensor("logits").map_err(malformed)?;
        let ([n, channels, height, width], [m, classes]) = (inputs.shape(), logits.shape()) else {
            return Err(Error::malformed(
                what,
                "inputs of rank 4 and logits of rank 2",
                format!("{inputs:?}, {logits:?}"),
            ));
        };
        let floats = inputs.dtype() == Dtype::F32 && logits.dtype() == Dtype::F32;
        let size = channels * height * width;
        if n != m || *n == 0 || size == 0 || *classes == 0 || !floats {
            return Err(Error::malformed(what, "f32 logits for every input", format!("{inputs:?}, {logits:?}")));
        }
        let rows = |bytes: &[u8], length: usize| f32_values(bytes).chunks_exact(length).map(<[f32]>::to_vec).collect();
        Ok(Self {
            input_shape: [*channels, *height, *width],
            inputs: rows(inputs.data(), size),
            logits: rows(logits.data(), *classes),
        })
    }
}
