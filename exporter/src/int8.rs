//! Models that compute in 8 bits: kernels a channel, and every feature map within a range that images have shown.
//!
//! Written with QuantizeLinear and DequantizeLinear around operators on 32-bit numbers ("QDQ"): what an engine without 8-bit
//! arithmetic computes as it stands, and one with it, such as ONNX Runtime, in whole numbers.
//!
//! # Reference
//! Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018),
//! section 2; Wu et al., "Integer Quantization for Deep Learning Inference" (2020), section 3 for the choice of ranges.

mod fold;
mod histogram;
mod round;

use std::collections::BTreeMap;

use models::{Pixels, Weights, preprocess::InputLayout};

use self::histogram::Histogram;
use crate::{BoxError, Error, OnnxOptions, Result, model::encode, onnx_proto::GraphProto, wide_resnet};

/// How a range is chosen from the numbers that were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeMethod {
    /// From the least to the greatest.
    MinMax,
    /// Without the outermost 0.005 % at either end.
    Percentile,
    /// The part whose 256 levels lose the least information about the whole.
    Entropy,
}

impl RangeMethod {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MinMax, Self::Percentile, Self::Entropy];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::MinMax => "min-max",
            Self::Percentile => "percentile",
            Self::Entropy => "entropy",
        }
    }
}

/// The least and the greatest number of every feature map that is rounded, by its name in the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges(BTreeMap<String, [f32; 2]>);

/// The numbers that images bring about in a network, wherever an 8-bit model of it rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Observations(BTreeMap<String, Histogram>);

impl Observations {
    /// Runs every image twice through a model whose only output is a row of all the numbers.
    ///
    /// `load` makes an engine from the bytes of that model, which takes images in the layout `input`: a function from one image
    /// to its row.
    ///
    /// # Errors
    /// Those of [`to_onnx`](crate::to_onnx); [`Error::Load`] and [`Error::Observe`] from the engine; [`Error::Observation`]
    /// without an image, for a row of another length, and for numbers that are not finite.
    pub fn of<R, E>(
        weights: &Weights,
        input: InputLayout,
        images: &[Pixels],
        load: impl FnOnce(&[u8]) -> Result<R, E>,
    ) -> Result<Self>
    where
        R: FnMut(&Pixels) -> Result<Vec<f32>, E>,
        E: Into<BoxError>,
    {
        let options = OnnxOptions { input, ..OnnxOptions::default() };
        let mut graph = folded(weights, &options)?;
        let places = round::observe(&mut graph);
        let onnx = encode(graph, weights, &options);
        let mut engine = load(&onnx).map_err(|e| Error::Load { source: e.into() })?;
        if images.is_empty() {
            return Err(Error::Observation { expected: "an image".into(), found: "none".into() });
        }
        let mut rows = |seen: &mut dyn FnMut(usize, &[f32])| {
            for (image, pixels) in images.iter().enumerate() {
                let row = engine(pixels).map_err(|e| Error::Observe { image, source: e.into() })?;
                let length: usize = places.iter().map(|(_, length)| length).sum();
                let finite = row.iter().filter(|value| value.is_finite()).count();
                if (row.len(), finite) != (length, length) {
                    let found = format!("{finite} among {} for image {image} of the pool", row.len());
                    return Err(Error::Observation { expected: format!("{length} finite numbers"), found });
                }
                let mut rest = row.as_slice();
                for (place, (_, length)) in places.iter().enumerate() {
                    let (values, after) = rest.split_at(*length);
                    seen(place, values);
                    rest = after;
                }
            }
            Ok(())
        };
        let mut extremes = vec![[f32::INFINITY, f32::NEG_INFINITY]; places.len()];
        rows(&mut |place, values| {
            let [least, greatest] = extremes[place];
            extremes[place] =
                values.iter().fold([least, greatest], |[least, greatest], v| [least.min(*v), greatest.max(*v)]);
        })?;
        let mut histograms: Vec<_> = extremes.into_iter().map(Histogram::new).collect();
        rows(&mut |place, values| histograms[place].add(values))?;
        Ok(Self(places.into_iter().map(|(name, _)| name).zip(histograms).collect()))
    }

    /// The range of each place.
    pub fn ranges(&self, method: RangeMethod) -> Ranges {
        let range = |histogram: &Histogram| match method {
            RangeMethod::MinMax => histogram.extremes(),
            RangeMethod::Percentile => histogram.percentile(),
            RangeMethod::Entropy => histogram.entropy(),
        };
        Ranges(self.0.iter().map(|(name, histogram)| (name.clone(), range(histogram))).collect())
    }
}

/// The graph of a network that computes in 8 bits.
pub(crate) fn graph(weights: &Weights, options: &OnnxOptions, ranges: &Ranges) -> Result<GraphProto> {
    let mut graph = folded(weights, options)?;
    round::round(&mut graph, &ranges.0);
    Ok(graph)
}

/// In 32 bits, without the batch norms that a convolution can take over.
fn folded(weights: &Weights, options: &OnnxOptions) -> Result<GraphProto> {
    let options = OnnxOptions { weights: models::weights::Storage::F32, ..options.clone() };
    let mut graph = wide_resnet::graph(weights, &options)?;
    fold::fold(&mut graph);
    Ok(graph)
}
