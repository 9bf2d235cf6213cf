//! A tar as WebDataset has them: of each sample `DIGEST.png`, `DIGEST.json` with what is known of it, and, if people have labeled it,
//! `DIGEST.cls` with the number of its class.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use models::{Digest, LabelSet, durable};
use serde::Deserialize;

use super::{
    Known,
    metadata::{Metadata, Row},
    queue::Queued,
    said,
};

/// No description of a sample is larger, in bytes.
const MAX_JSON: u64 = 1 << 20;

/// Writes samples, in their order, to a tar that is not there yet; it appears whole.
///
/// # Errors
/// If it is there, or cannot be written.
pub(super) fn export(path: &Path, queue: &[Queued<'_>], known: Known<'_>) -> Result<()> {
    ensure!(!path.exists(), "{} exists already: expected a file that does not", path.display());
    Ok(durable::write_with(path, |file| {
        let mut tar = tar::Builder::new(file);
        for queued in queue {
            let known = Metadata::of(queued, known);
            add(&mut tar, &format!("{}.{}", known.image, known.extension), &queued.relabeled.sample.image)?;
            add(&mut tar, &format!("{}.json", known.image), &serde_json::to_vec(&known)?)?;
            if let Some(class) = known.class {
                add(&mut tar, &format!("{}.cls", known.image), class.to_string().as_bytes())?;
            }
        }
        tar.into_inner().map(drop)
    })?)
}

fn add(tar: &mut tar::Builder<impl io::Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes)
}

/// What of a description counts.
#[derive(Deserialize)]
struct Described {
    image: Digest,
    #[serde(default)]
    label: String,
    held: Option<String>,
}

/// Reads what people have said in the `label` of each `.json`. What holds already is not said again.
///
/// # Errors
/// If the tar cannot be read, or a description names no image or no class, with its name.
pub(super) fn rows(path: &Path, labels: &LabelSet) -> Result<Vec<Row>> {
    let context = || format!("cannot read {}", path.display());
    let mut tar = tar::Archive::new(File::open(path).with_context(context)?);
    let rows = tar.entries().with_context(context)?.filter_map(|entry| described(entry, labels).transpose());
    rows.collect::<Result<_>>().with_context(|| format!("in {}", path.display()))
}

fn described(entry: io::Result<tar::Entry<'_, File>>, labels: &LabelSet) -> Result<Option<Row>> {
    let entry = entry?;
    let name = entry.path()?.display().to_string();
    if !name.ends_with(".json") {
        return Ok(None);
    }
    let mut text = Vec::new();
    entry.take(MAX_JSON).read_to_end(&mut text)?;
    let Described { image, label, held } =
        serde_json::from_slice(&text).with_context(|| format!("{name}: expected `image` and `label`"))?;
    let parse = |text: &str| said::parse(text, labels).with_context(|| name.clone());
    let held = held.map(|held| parse(&held)).transpose()?;
    Ok(Some(Row { image, said: parse(&label)?, held, said_at: None }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use models::{Pixels, Prediction, Reason, Review, Reviews, Said, board::Why};

    use super::*;
    use crate::{
        exchange::{Imported, import, queue::Queued},
        steps::{relabel::Relabeled, testing},
    };

    #[test]
    fn labels_that_were_changed_in_a_tar_come_back_in() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("samples.tar");
        let labels = LabelSet::new(["cat", "dog"])?;
        let relabeled = |image: &[u8]| Relabeled {
            sample: testing::sample("cam-1", image, Reason::Confident { threshold: 0.9 }),
            pixels: Pixels { height: 1, width: 1, channels: 1, data: vec![0] },
            prediction: Prediction { class: 1, confidence: 0.75, probs: vec![0.25, 0.75] },
        };
        let samples = [relabeled(b"a"), relabeled(b"b")];
        let queue: Vec<_> = samples.iter().map(|relabeled| Queued { relabeled, why: Why::Confident }).collect();
        let at = Timestamp::UNIX_EPOCH;
        let said = Said::Label("dog".into());
        let reviews = Reviews::new([Review { at, image: Digest::of(b"a"), by: "ann".into(), said }]);
        let known = Known { labels: &labels, reviews: &reviews, embeddings: &BTreeMap::new(), label_studio: false };
        export(&path, &queue, known)?;
        assert!(export(&path, &queue, known).is_err(), "it was replaced");
        let (said, imported) = import(&path, &labels, &reviews, "bob", at)?;
        assert_eq!((said.len(), imported), (0, Imported { new: 0, known: 1, empty: 1 }));
        // The same length, so that the tar stays one.
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).replace("\"label\":\"dog\"", "\"label\":\"cat\"");
        std::fs::write(&path, text)?;
        let (said, _) = import(&path, &labels, &reviews, "bob", at)?;
        assert_eq!(said, [Review { at, image: Digest::of(b"a"), by: "bob".into(), said: Said::Label("cat".into()) }]);
        let text = std::fs::read_to_string(&path)?.replace("\"label\":\"cat\"", "\"label\":\"cow\"");
        std::fs::write(&path, text)?;
        let error = import(&path, &labels, &reviews, "bob", at).err().map(|e| format!("{e:#}")).unwrap_or_default();
        assert!(error.contains(".json") && error.contains("cow"), "{error}");
        Ok(())
    }
}
