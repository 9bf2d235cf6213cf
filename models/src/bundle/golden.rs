use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{
    Error, Pixels, Result,
    calibration::argmax,
    tolerance::{Tolerance, max_abs_diff},
    weights::{f32_bytes, f32_values},
};

/// Images and the logits that were computed for them when the model was exported: what any engine must reproduce before it serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// Images of one shape.
    pub images: Vec<Pixels>,
    /// Logits of each image.
    pub logits: Vec<Vec<f32>>,
}

/// Logits that are not the golden ones.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "golden image {image} is not reproduced: logits differ by up to {max_abs_diff:.3e} (allowed: {allowed:.0e}, relative above \
     one), expected class {expected_class}, found {found_class}"
)]
pub struct Disagreement {
    /// Index of the image.
    pub image: usize,
    /// Largest difference between its logits.
    pub max_abs_diff: f64,
    /// Largest difference allowed.
    pub allowed: f64,
    /// Class of the golden logits.
    pub expected_class: usize,
    /// Class of the logits found.
    pub found_class: usize,
}

impl Golden {
    /// At most `count` of the items, spread evenly.
    pub fn choose<T: Clone>(items: &[T], count: usize) -> Vec<T> {
        let count = count.min(items.len());
        (0..count).map(|i| items[i * items.len() / count].clone()).collect()
    }

    /// Channels, height and width of an image, and logits of each; zeros if there are none.
    pub fn sizes(&self) -> ([usize; 3], usize) {
        (self.images.first().map_or([0; 3], Pixels::shape), self.logits.first().map_or(0, Vec::len))
    }

    /// The largest difference between an engine's logits of one image and the golden ones, if each is within
    /// the tolerance and the class is the same; on ties the first class counts.
    ///
    /// # Errors
    /// [`Disagreement`] otherwise.
    ///
    /// # Panics
    /// If there is no such image, or another number of logits.
    pub fn compare(&self, image: usize, found: &[f32], tolerance: Tolerance) -> Result<f64, Disagreement> {
        let expected = &self.logits[image];
        let max_abs_diff = max_abs_diff(expected, found);
        let (expected_class, found_class) = (argmax(expected), argmax(found));
        let same = expected.iter().zip(found).all(|(a, b)| tolerance.same(f64::from(*a), f64::from(*b)));
        if same && expected_class == found_class {
            return Ok(max_abs_diff);
        }
        Err(Disagreement { image, max_abs_diff, allowed: tolerance.bound, expected_class, found_class })
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let ([channels, height, width], classes) = self.sizes();
        let pixels: Vec<u8> = self.images.iter().flat_map(|image| image.data.iter().copied()).collect();
        let logits = f32_bytes(&self.logits.concat());
        let views = || {
            Ok([
                ("images", TensorView::new(Dtype::U8, vec![self.images.len(), height, width, channels], &pixels)?),
                ("logits", TensorView::new(Dtype::F32, vec![self.logits.len(), classes], &logits)?),
            ])
        };
        views()
            .and_then(|views| safetensors::serialize(views, None))
            .map_err(|e| Error::malformed(super::GOLDEN, "images and logits of one shape each", e))
    }

    pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        let malformed =
            |e: safetensors::SafeTensorError| Error::malformed(what, "golden vectors in safetensors form", e);
        let file = SafeTensors::deserialize(bytes).map_err(malformed)?;
        let images = file.tensor("images").map_err(malformed)?;
        let logits = file.tensor("logits").map_err(malformed)?;
        let refused = |expected: &str| Error::malformed(what, expected, format!("{images:?}, {logits:?}"));
        let (&[n, height, width, channels], &[m, classes]) = (images.shape(), logits.shape()) else {
            return Err(refused("images of rank 4 and logits of rank 2"));
        };
        if (images.dtype(), logits.dtype()) != (Dtype::U8, Dtype::F32)
            || n != m
            || images.data().is_empty()
            || classes == 0
        {
            return Err(refused("f32 logits for every u8 image"));
        }
        let image = |data: &[u8]| Pixels { height, width, channels, data: data.to_vec() };
        Ok(Self {
            images: images.data().chunks_exact(height * width * channels).map(image).collect(),
            logits: f32_values(logits.data()).chunks_exact(classes).map(<[f32]>::to_vec).collect(),
        })
    }
}
