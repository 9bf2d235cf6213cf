//! Which images get labels: the splits of the papers.

use rand_mt::Mt;

/// Indices of `count` labeled images out of `labels`, chosen as the original code does.
///
/// For a seed other than 0, each class's images are shuffled by one legacy MT19937 generator. Then images are taken one
/// at a time from the class that is furthest behind its share.
///
/// # Panics
/// If there are fewer images than `count`.
pub fn labeled(labels: &[usize], classes: usize, count: usize, seed: u32) -> Vec<usize> {
    assert!(count <= labels.len(), "{count} labels out of {}", labels.len());
    let mut by_class = by_class(labels, classes);
    if seed != 0 {
        let mut random = Mt::new(seed);
        by_class.iter_mut().for_each(|indices| shuffle(indices, &mut random));
    }
    let frequencies: Vec<usize> = by_class.iter().map(Vec::len).collect();
    let mut taken = vec![0; classes];
    proportional(&frequencies, count)
        .into_iter()
        .map(|class| {
            taken[class] += 1;
            by_class[class][taken[class] - 1]
        })
        .collect()
}

/// The indices of each class, in order.
pub fn by_class(labels: &[usize], classes: usize) -> Vec<Vec<usize>> {
    let mut indices = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(index, &label)| indices[label].push(index));
    indices
}

/// The class of each of `count` images in the order they are taken, so that every prefix follows the frequencies.
fn proportional(frequencies: &[usize], count: usize) -> Vec<usize> {
    let most = frequencies.iter().copied().max().unwrap_or(1) as f64;
    let mut taken = vec![0_usize; frequencies.len()];
    let choose = |_| {
        let ahead = taken.iter().copied().max().unwrap_or(0).max(1) as f64;
        let behind = |class: usize| frequencies[class] as f64 / most - taken[class] as f64 / ahead;
        let available = (0..taken.len()).filter(|&class| taken[class] < frequencies[class]);
        let class = available.reduce(|best, class| if behind(class) > behind(best) { class } else { best });
        let class = class.unwrap_or(0);
        taken[class] += 1;
        class
    };
    (0..count).map(choose).collect()
}

/// numpy's legacy shuffle: Fisher-Yates from the end, positions drawn by masking and rejecting.
pub fn shuffle<T>(items: &mut [T], random: &mut Mt) {
    for i in (1..items.len()).rev() {
        let mask = (i + 1).next_power_of_two() as u32 - 1;
        let j = loop {
            let draw = random.next_u32() & mask;
            if draw as usize <= i {
                break draw as usize;
            }
        };
        items.swap(i, j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;

    /// Case 18.
    #[test]
    fn shuffles_like_numpy() {
        let case = vectors::case("18_split_shuffle");
        let mut random = Mt::new(case.input("/seed"));
        let mut ten: Vec<usize> = (0..10).collect();
        shuffle(&mut ten, &mut random);
        assert_eq!(ten, case.expected::<Vec<usize>>("/shuffle10"));
        let mut many: Vec<usize> = (0..5000).collect();
        shuffle(&mut many, &mut random);
        assert_eq!(many[..8], case.expected::<Vec<usize>>("/next_shuffle5000_first8"));
    }

    /// Case 18b.
    #[test]
    fn takes_classes_in_proportion() {
        let case = vectors::case("18b_split_class_counts");
        let svhn: Vec<usize> = case.input("/svhn_train_counts");
        let counts = |frequencies: &[usize], count| {
            let mut counts = vec![0; frequencies.len()];
            proportional(frequencies, count).into_iter().for_each(|class| counts[class] += 1);
            counts
        };
        for (count, name) in [(40, "svhn_noextra_40"), (250, "svhn_noextra_250"), (1000, "svhn_noextra_1000")] {
            assert_eq!(counts(&svhn, count), case.expected::<Vec<usize>>(&format!("/{name}")));
        }
        assert_eq!(counts(&[5000; 10], 40), case.expected::<Vec<usize>>("/cifar_40"));
        assert_eq!(proportional(&svhn, 20), case.expected::<Vec<usize>>("/svhn_first20_order"));
    }
}
