use jiff::Timestamp;
use models::{Prediction, Reason, SampleRecord};

use super::*;
use crate::fixture::TestResult;

const LIMITS: Limits = Limits { samples: 4, segment_bytes: 1 << 20, bytes: 1 << 30 };
const CONFIDENT: Reason = Reason::Confident { threshold: 0.8 };
const UNCERTAIN: Reason = Reason::Uncertain { margin: 0.05, entropy: 0.9 };
const AUDIT: Reason = Reason::Audit { probability: 0.1 };
/// Bytes of the file of a sample of these tests: header and block of the image, header and block of the record, the tar's end,
/// the checksum.
const FILE: u64 = 6 * 512 + 4;

fn sample_of(number: u8, class: usize, confidence: f64, reason: Reason) -> Sample {
    let image = vec![number; 100];
    let record = SampleRecord {
        image: Digest::of(&image),
        extension: "png".into(),
        device: "cam-1".into(),
        source: format!("{number}.png"),
        captured: Timestamp::UNIX_EPOCH,
        bundle: Digest::of(b"bundle"),
        prediction: Prediction { class, confidence, probs: vec![confidence, 1.0 - confidence] },
        reasons: vec![reason],
    };
    Sample { record, image }
}

fn sample(number: u8) -> Sample {
    sample_of(number, 0, 0.9, CONFIDENT)
}

fn number(image: Digest) -> u8 {
    (0..=255).find(|number| Digest::of(&[*number; 100]) == image).expect("an image of these tests")
}

fn numbers(images: impl IntoIterator<Item = Digest>) -> Vec<u8> {
    let mut numbers: Vec<u8> = images.into_iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Numbers of the samples in all sealed segments, sorted; a duplicate would show.
fn sealed_numbers(store: &Store) -> Result<Vec<u8>> {
    let mut images = Vec::new();
    for digest in store.sealed()? {
        images.extend(segment::read(&store.path(digest), digest)?.into_iter().map(|sample| sample.record.image));
    }
    Ok(numbers(images))
}

fn everything(_: Digest) -> bool {
    true
}

#[test]
fn seals_what_is_journaled_and_the_most_useful_first() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut store = Store::open(folder.path(), LIMITS)?;
    for number in [1, 2, 3, 3] {
        store.keep(&sample(number), &mut Vec::new())?;
        assert!(!store.is_full());
    }
    store.keep(&sample_of(4, 0, 0.85, CONFIDENT), &mut Vec::new())?;
    assert!(store.is_full());
    store.keep(&sample_of(5, 1, 0.5, UNCERTAIN), &mut Vec::new())?;
    store.keep(&sample_of(6, 1, 0.99, AUDIT), &mut Vec::new())?;
    let but_two = |image: Digest| number(image) != 2;
    assert_eq!(store.seal(but_two)?.map(|s| s.samples), Some(4));
    assert_eq!((sealed_numbers(&store)?.contains(&4), store.open_samples()), (true, 2));
    assert!([5, 6].iter().all(|useful| sealed_numbers(&store).is_ok_and(|sealed| sealed.contains(useful))));
    store.seal(but_two)?;
    assert_eq!((sealed_numbers(&store)?, store.seal(but_two)?), (vec![1, 3, 4, 5, 6], None));
    assert_eq!(store.seal(everything)?.map(|s| s.samples), Some(1));

    let mut small = Store::open(folder.path(), Limits { segment_bytes: 4000, ..LIMITS })?;
    small.keep(&sample(7), &mut Vec::new())?;
    assert!(!small.is_full());
    small.keep(&sample(8), &mut Vec::new())?;
    assert!(small.is_full(), "two files are more than 4000 bytes");
    assert_eq!(small.seal(everything)?.map(|s| s.samples), Some(1));
    small.release(small.sealed()?[0])?;
    assert_eq!(small.sealed()?.len(), 3);
    Ok(())
}

#[test]
fn a_full_store_makes_room_by_worth_and_never_takes_more_than_its_budget() -> TestResult {
    let folder = tempfile::tempdir()?;
    // Room for four files, beside a quarter that stays free for a segment.
    let bytes = 6 * FILE;
    let mut store = Store::open(folder.path(), Limits { bytes, ..LIMITS })?;
    let evicted = |store: &mut Store, sample: Sample| -> Result<Option<Vec<u8>>> {
        let mut evicted = Vec::new();
        let kept = store.keep(&sample, &mut evicted)?;
        assert!(store.bytes() <= bytes - bytes / 4, "{} bytes", store.bytes());
        assert_eq!(store.bytes(), FILE * store.open_samples() as u64);
        Ok(kept.then(|| numbers(evicted)))
    };
    for (number, class, confidence) in [(1, 0, 0.9), (2, 0, 0.8), (3, 0, 0.95), (4, 1, 0.99)] {
        assert_eq!(evicted(&mut store, sample_of(number, class, confidence, CONFIDENT))?, Some(vec![]));
    }
    // Of the class that there is most of, the one that the model was surest of; then the next.
    assert_eq!(evicted(&mut store, sample_of(5, 1, 0.5, UNCERTAIN))?, Some(vec![3]));
    assert_eq!(evicted(&mut store, sample_of(6, 1, 0.9, AUDIT))?, Some(vec![1]));
    // A confident sample less useful than all that are there has no room.
    assert_eq!(evicted(&mut store, sample_of(7, 0, 0.999, CONFIDENT))?, None);
    assert_eq!(evicted(&mut store, sample_of(8, 1, 0.9, AUDIT))?, Some(vec![4]));
    assert_eq!(evicted(&mut store, sample_of(9, 1, 0.9, AUDIT))?, Some(vec![2]));
    assert_eq!(evicted(&mut store, sample_of(10, 1, 0.9, AUDIT))?, Some(vec![5]));
    // Only audit samples are left: they go for nothing, not even for another one.
    assert_eq!(evicted(&mut store, sample_of(11, 1, 0.9, AUDIT))?, None);
    // The same image again takes its own place; and a segment fits into what was kept free.
    assert_eq!(evicted(&mut store, sample_of(10, 0, 0.9, AUDIT))?, Some(vec![]));
    store.seal(everything)?;
    assert!(store.bytes() <= bytes);
    assert_eq!(sealed_numbers(&store)?, [6]);

    let store = Store::open(folder.path(), LIMITS)?;
    let mut on_disk = 0;
    for place in ["open", "sealed"] {
        for path in list(&folder.path().join(place))? {
            on_disk += size(&path)?;
        }
    }
    assert_eq!(store.bytes(), on_disk, "a restart counts what is there");
    Ok(())
}

/// Every state that a crash can leave: each sample ends up in exactly one segment, and no litter stays.
#[test]
fn recovers_from_a_crash_at_any_step() -> TestResult {
    type Crash = fn(&Path, &mut Store) -> TestResult;
    /// Seals, and brings so many of the files back whose deletion the crash has cut off.
    fn cut_off(store: &mut Store, left: usize) -> TestResult {
        let files: Vec<_> = (1..=3).map(|n| store.open.path(sample(n).record.image)).collect();
        let contents: Vec<_> = files.iter().map(fs::read).collect::<io::Result<_>>()?;
        store.seal(everything)?;
        Ok(files.iter().zip(contents).take(left).try_for_each(|(file, content)| fs::write(file, content))?)
    }
    let crashes: [(&str, Crash); 4] = [
        ("before the seal", |_, _| Ok(())),
        ("while writing", |root, _| {
            fs::write(root.join("sealed/.tmp-abc"), b"half a segment")?;
            Ok(fs::write(root.join("open/.tmp-def"), b"half a sample")?)
        }),
        ("after the segment's rename", |_, store| cut_off(store, 3)),
        ("while deleting", |_, store| cut_off(store, 1)),
    ];
    for (when, crash) in crashes {
        let folder = tempfile::tempdir()?;
        let mut store = Store::open(folder.path(), LIMITS)?;
        for number in 1..=3 {
            store.keep(&sample(number), &mut Vec::new())?;
        }
        crash(folder.path(), &mut store)?;
        let mut store = Store::open(folder.path(), LIMITS)?;
        // The first was not journaled yet: it is classified again, unless it was sealed.
        if store.open_samples() > 0 {
            store.keep(&sample(1), &mut Vec::new())?;
        }
        store.keep(&sample(4), &mut Vec::new())?;
        store.seal(everything)?;
        assert_eq!(sealed_numbers(&store)?, [1, 2, 3, 4], "crash {when}");
        let litter = |path: &str| -> io::Result<usize> { Ok(fs::read_dir(folder.path().join(path))?.count()) };
        let segments = store.sealed()?.len();
        assert_eq!((litter("")?, litter("open")?, litter("sealed")?), (3, 0, segments), "crash {when}");
    }
    Ok(())
}

#[test]
fn a_seal_whose_deletions_failed_doubles_nothing() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut store = Store::open(folder.path(), LIMITS)?;
    store.keep(&sample(1), &mut Vec::new())?;
    let sealed = store.seal(everything)?.ok_or("nothing was sealed")?;
    // As if its file could not be deleted.
    store.open.write(&sample(1), &open::encode(&sample(1))?)?;
    store.doubled.insert(sample(1).record.image);
    store.keep(&sample(2), &mut Vec::new())?;
    assert_eq!(store.seal(everything)?.map(|sealed| sealed.samples), Some(1), "the second alone");
    assert_eq!(sealed_numbers(&store)?, [1, 2]);
    store.release(sealed.segment)?;
    assert_eq!((store.open_samples(), store.seal(everything)?), (0, None));
    Ok(())
}

#[test]
fn a_damaged_open_sample_costs_only_itself() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut store = Store::open(folder.path(), LIMITS)?;
    for number in 1..=3 {
        store.keep(&sample(number), &mut Vec::new())?;
    }
    // A byte of the image, and one of the record, which still is a record.
    let damage = |store: &Store, number: u8, find: &[u8]| -> TestResult {
        let victim = store.open.path(sample(number).record.image);
        let mut bytes = fs::read(&victim)?;
        let at = bytes.windows(find.len()).position(|w| w == find).ok_or("not found")?;
        bytes[at] ^= 1;
        Ok(fs::write(&victim, bytes)?)
    };
    damage(&store, 1, &[1; 100])?;
    store.seal(everything)?;
    assert_eq!(sealed_numbers(&store)?, [2, 3]);
    store.keep(&sample(4), &mut Vec::new())?;
    damage(&store, 4, b"0.9")?;
    let mut store = Store::open(folder.path(), LIMITS)?;
    store.keep(&sample(5), &mut Vec::new())?;
    store.seal(everything)?;
    assert_eq!(sealed_numbers(&store)?, [2, 3, 5]);
    assert_eq!(list(&folder.path().join("damaged"))?.len(), 2, "what was damaged is set aside");
    Ok(())
}

#[test]
fn a_disk_that_refuses_is_an_error_with_the_path() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut store = Store::open(folder.path(), LIMITS)?;
    fs::remove_dir_all(folder.path().join("open"))?;
    fs::write(folder.path().join("open"), b"a file where the folder was")?;
    let said = store.keep(&sample(1), &mut Vec::new()).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(said.contains("open"), "{said}");
    assert_eq!(store.open_samples(), 0);
    Ok(())
}
