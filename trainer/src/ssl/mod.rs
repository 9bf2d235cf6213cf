//! The parts that semi-supervised methods share: one idea a file, tensors in and out, no hidden randomness.

pub(crate) mod align;
pub(crate) mod guess;
pub(crate) mod interleave;
pub(crate) mod losses;
pub(crate) mod mixup;
pub(crate) mod pseudo_label;
pub(crate) mod ramp;
pub(crate) mod rotation;
pub(crate) mod sharpen;

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    pub(super) use crate::net::numbers as values;

    /// Rows of numbers as a tensor.
    pub(super) fn matrix(rows: &[Vec<f64>]) -> Tensor<2> {
        let shape = [rows.len(), rows[0].len()];
        let values: Vec<f32> = rows.iter().flatten().map(|v| *v as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }
}
