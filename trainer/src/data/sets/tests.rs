//! Files that numpy, scipy and Python's own tools have written: `fixtures/make_datasets.py`.

use std::{fs, path::PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::*;

fn fixtures() -> PathBuf {
    PathBuf::from("fixtures/datasets")
}

fn expected<T: for<'a> Deserialize<'a>>(pointer: &str) -> T {
    let text = fs::read_to_string(fixtures().join("expected.json")).expect("a fixture");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    serde_json::from_value(all.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}")).clone()).expect("numbers")
}

/// Every 61st value of each image, in the order rows, columns, channels.
fn samples(images: &[Pixels]) -> Vec<Vec<u8>> {
    images.iter().map(|image| image.data.iter().step_by(61).copied().collect()).collect()
}

#[test]
fn both_versions_of_cifar_are_read() -> Result<()> {
    let images: Vec<Vec<u8>> = expected("/images/32");
    for (set, folder) in [
        (Set::Cifar10, "cifar10-binary"),
        (Set::Cifar10, "cifar10-python"),
        (Set::Cifar100, "cifar100-binary"),
        (Set::Cifar100, "cifar100-python"),
    ] {
        let data = set.read(&fixtures().join(folder))?;
        let of = |key: &str| expected::<Vec<usize>>(&format!("/{}/{key}", set.name()));
        assert_eq!(data.labels.names(), expected::<Vec<String>>(&format!("/{}/names", set.name())), "{folder}");
        assert_eq!((data.train.labels.clone(), data.test.labels), (of("labels"), of("test")), "{folder}");
        let count = data.train.len();
        assert_eq!(samples(&data.train.images), images[..count], "{folder}");
        assert_eq!(samples(&data.test.images), images[count..=count], "{folder}");
    }
    Ok(())
}

#[test]
fn svhn_is_read_with_and_without_the_extra_images() -> Result<()> {
    let images: Vec<Vec<u8>> = expected("/images/32");
    let without = Set::Svhn.read(&fixtures().join("svhn"))?;
    assert_eq!(without.train.labels, expected::<Vec<usize>>("/svhn/labels"));
    assert_eq!(without.labels.names()[9], "0", "label 10 is the digit 0");
    assert_eq!(samples(&without.train.images), images[..2]);
    let with = Set::SvhnExtra.read(&fixtures().join("svhn"))?;
    assert_eq!(with.train.labels, [expected::<Vec<usize>>("/svhn/labels"), expected("/svhn/extra")].concat());
    assert_eq!(samples(&with.train.images), images[..3]);
    assert_eq!((with.test.labels, samples(&with.test.images)), (expected("/svhn/test"), images[3..4].to_vec()));
    Ok(())
}

#[test]
fn stl10_is_read_upright_with_its_folds() -> Result<()> {
    let images: Vec<Vec<u8>> = expected("/images/96");
    let data = Set::Stl10.read(&fixtures().join("stl10"))?;
    assert_eq!(data.labels.names(), expected::<Vec<String>>("/stl10/names"));
    assert_eq!(data.train.labels, expected::<Vec<usize>>("/stl10/labels"));
    assert_eq!(samples(&data.train.images), images[..2]);
    assert_eq!((samples(&data.test.images), samples(&data.unlabeled)), (images[2..3].to_vec(), images[3..].to_vec()));
    // The seed is the line of the official file, where it has as many as wanted.
    assert_eq!((data.choose(1, 0)?, data.choose(1, 1)?, data.choose(2, 2)?.len()), (vec![0], vec![1], 2));
    assert!(data.choose(1, 2).is_err_and(|e| e.to_string().contains("data.split_seed = 2: expected 0 to 1")));
    Ok(())
}

#[test]
fn a_link_to_nowhere_beside_the_files_is_none_of_them() -> Result<()> {
    let folder = tempfile::tempdir().map_err(models::Error::io("create", "a folder".as_ref()))?;
    let files = fixtures().join("cifar10-binary").canonicalize().expect("a fixture");
    std::os::unix::fs::symlink(files, folder.path().join("files")).expect("a link");
    std::os::unix::fs::symlink("nowhere", folder.path().join("a")).expect("a link");
    assert_eq!(Set::Cifar10.read(folder.path())?.train.len(), 5);
    Ok(())
}

#[test]
fn the_digits_need_no_files() -> Result<()> {
    let data = Set::Digits.read("nowhere".as_ref())?;
    assert_eq!((data.train.len(), data.test.len(), data.labels.len()), (1340, 457, 10));
    assert!(data.train.labels.iter().chain(&data.test.labels).all(|label| *label < 10));
    Ok(())
}

#[test]
fn what_is_missing_or_cut_off_is_an_error_that_names_it() -> Result<()> {
    let folder = tempfile::tempdir().map_err(models::Error::io("create", "a folder".as_ref()))?;
    let said = |set: Set| set.read(folder.path()).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(said(Set::Cifar10).contains("`flywheel data fetch cifar10`"), "{}", said(Set::Cifar10));
    for (set, from, file) in [
        (Set::Cifar10, "cifar10-python/cifar-10-batches-py", "data_batch_2"),
        (Set::Cifar100, "cifar100-binary/cifar-100-binary", "train.bin"),
        (Set::Svhn, "svhn", "test_32x32.mat"),
        (Set::Cifar10, "cifar10-binary", "cifar-10-binary.tar.gz"),
    ] {
        let folder = tempfile::tempdir().map_err(models::Error::io("create", "a folder".as_ref()))?;
        for entry in fs::read_dir(fixtures().join(from)).expect("a fixture") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy");
        }
        let path = folder.path().join(file);
        let bytes = fs::read(&path).expect("a file");
        fs::remove_file(&path).expect("removed");
        let found = if file.ends_with(".tar.gz") { "found none".into() } else { format!("found all but {file}") };
        assert!(set.read(folder.path()).is_err_and(|e| e.to_string().contains(&found)), "{file} removed");
        for length in [0, 1, bytes.len() / 3, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).expect("written");
            let error = set.read(folder.path()).err().map(|e| e.to_string());
            assert!(error.as_ref().is_some_and(|e| e.contains(file)), "{file} cut at {length}: {error:?}");
        }
    }
    Ok(())
}
