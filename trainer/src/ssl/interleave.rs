//! Interleaving: makes every batch a sample of the whole pool, so that batch norm's running statistics can follow
//! any one of them.
//!
//! # Reference
//! The original code of MixMatch and ReMixMatch; its authors explain it in the repository, not in the papers.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};

/// The order of interleaved rows.
#[derive(Clone, Debug)]
pub(crate) struct Interleaving {
    source: Tensor<1, Int>,
}

impl Interleaving {
    /// Of `batches` batches of `size` rows.
    pub(crate) fn new(batches: usize, size: usize, device: &Device) -> Self {
        let source = interleave(batches, size);
        let length = source.len();
        Self { source: Tensor::from_data(TensorData::new(source, [length]), device) }
    }

    /// Interleaves rows, or brings interleaved ones back in order: it is its own inverse.
    ///
    /// # Shapes
    /// `[batches * size, ..]` to the same.
    pub(crate) fn apply<const D: usize>(&self, rows: Tensor<D>) -> Tensor<D> {
        let source = self.source.clone();
        rows.clone().select(0, if rows.is_autodiff() { Tensor::from_inner(source) } else { source })
    }
}

/// Where each row of `batches` interleaved batches of `size` rows comes from.
///
/// Every batch is cut into as many groups as there are batches; group `i` of batch 0 changes places with group `i`
/// of batch `i`. Applying it twice restores the order.
fn interleave(batches: usize, size: usize) -> Vec<i64> {
    let mut source: Vec<i64> = (0..(batches * size) as i64).collect();
    for (batch, rows) in groups(batches, size).into_iter().enumerate().skip(1) {
        for row in rows {
            source.swap(row, batch * size + row);
        }
    }
    source
}

/// Rows of each group: of equal size, the remainder one each to the last groups.
fn groups(count: usize, size: usize) -> Vec<Range<usize>> {
    let (base, larger) = (size / count, size % count);
    let mut start = 0;
    let group = |i| {
        let end = start + base + usize::from(i >= count - larger);
        std::mem::replace(&mut start, end)..end
    };
    (0..count).map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;

    /// Case 09.
    #[test]
    fn takes_rows_from_where_the_original_does() {
        let case = vectors::case("09_interleave");
        let (size, batches): (usize, usize) = (case.input("/B"), case.input("/n"));
        let expected: Vec<Vec<[usize; 2]>> = case.expected("/source");
        let expected: Vec<i64> = expected.concat().iter().map(|[batch, row]| (batch * size + row) as i64).collect();
        assert_eq!(interleave(batches, size), expected);
        for (batches, name) in [(3, "B64_n3_remixmatch_K1"), (6, "B64_n6_K4"), (10, "B64_n10_remixmatch_K8")] {
            let sizes: Vec<usize> = groups(batches, 64).iter().map(Range::len).collect();
            assert_eq!(sizes, case.expected::<Vec<usize>>(&format!("/group_sizes/{name}")));
            let once = interleave(batches, 64);
            assert!(once.iter().map(|&row| once[row as usize]).eq(0..64 * batches as i64), "not its own inverse");
        }
    }
}
