//! A bundle of which every file may be anything: opening, proving and reading it ends with a value or an error.
//!
//! `cargo fuzz run bundle --fuzz-dir models/fuzz --sanitizer none -- -max_total_time=60`

#![no_main]

use std::{cell::LazyCell, collections::BTreeMap, fs, path::Path};

use arbitrary::Arbitrary;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use models::{
    Bundle, Calibration, CollectionPolicy, Digest, LabelSet, Manifest, NetworkSpec, Preprocessing,
    bundle::{FORMAT, FileEntry, GOLDEN, MANIFEST, MODEL, REPORT_CARD, Release, SIGNATURE},
    preprocess::{Color, InputLayout},
    signing::{Message, PrivateKey, RollbackOrder, TrustedKeys},
    weights::{Arithmetic, Storage},
};

#[derive(Arbitrary, Debug)]
struct Files {
    /// In place of a manifest that fits the other files.
    manifest: Option<Vec<u8>>,
    golden: Vec<u8>,
    report_card: Vec<u8>,
    signature: Option<Vec<u8>>,
}

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(|| tempfile::tempdir().expect("a temporary folder"));
    static TRUSTED: LazyCell<TrustedKeys> = LazyCell::new(|| {
        let key = PrivateKey::from_secret([7; 32]).expect("a key");
        TrustedKeys::new(vec![key.public()]).expect("one key")
    });
}

fuzz_target!(|files: Files| {
    FOLDER.with(|folder| TRUSTED.with(|trusted| read(folder.path(), trusted, &files)));
});

fn read(folder: &Path, trusted: &TrustedKeys, files: &Files) {
    let contents: [(&str, &[u8]); 3] =
        [(MODEL, b"the network"), (GOLDEN, &files.golden), (REPORT_CARD, &files.report_card)];
    let entry = |bytes: &[u8]| FileEntry { sha256: Digest::of(bytes), bytes: bytes.len() as u64 };
    let entries = contents.iter().map(|(name, bytes)| ((*name).to_owned(), entry(bytes))).collect();
    let manifest = files.manifest.clone().unwrap_or_else(|| manifest(entries));
    for (name, bytes) in contents.into_iter().chain([(MANIFEST, &manifest[..])]) {
        fs::write(folder.join(name), bytes).expect("a file");
    }
    match &files.signature {
        Some(bytes) => fs::write(folder.join(SIGNATURE), bytes).expect("a file"),
        None => drop(fs::remove_file(folder.join(SIGNATURE))),
    }
    let Ok(bundle) = Bundle::open(folder) else { return };
    assert!(files.manifest.is_some() || bundle.manifest().files.len() == 3);
    if let Ok(golden) = bundle.golden() {
        let classes = bundle.manifest().labels.len();
        assert!(golden.logits.iter().all(|row| row.len() == classes));
        golden.images.iter().for_each(|image| assert_eq!(image.to_input().len(), image.data.len()));
    }
    let _ = bundle.report_card();
    // Nobody here signs: whatever is accepted was forged.
    assert!(bundle.verify(trusted).is_err());
    let order = files.signature.as_deref().unwrap_or_default();
    assert!(RollbackOrder::open("an order", order, trusted).is_err());
}

fn manifest(files: BTreeMap<String, FileEntry>) -> Vec<u8> {
    let preprocessing = Preprocessing { color: Color::Gray, height: 4, width: 4 };
    let manifest = Manifest {
        format: FORMAT,
        sequence: 7,
        parent: None,
        created: Timestamp::UNIX_EPOCH,
        release: Release::to_channel("stable"),
        network: NetworkSpec::wide_resnet(10, 1, preprocessing.shape(), 2).expect("a network"),
        labels: LabelSet::new(["cat", "dog"]).expect("two names"),
        preprocessing,
        input: InputLayout::F32,
        weights: Storage::F32,
        arithmetic: Arithmetic::F32,
        calibration: Calibration { temperature: 1.5, thresholds: vec![0.9, 0.8] },
        collection: CollectionPolicy::default(),
        files,
    };
    serde_json::to_vec(&manifest).expect("JSON")
}
