//! A folder of images with a table of what is known of each, as CSV: `samples.csv` and `images/DIGEST.png`.
//!
//! The columns: `image`, the digest that names it; `file`; `why` a label is worth something; `device`, `source`, `captured`; `device_label`
//! and `device_confidence`, what the device said; `predicted` and `confidence`, what the current model says, and `prob_CLASS` for each
//! class; `label`, what people have said, to be filled in. In that column stands a class, or one of `!reject`, `!unsure` and `!undo`.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use models::{Digest, LabelSet, Review, Reviews, Said, durable};
use serde::Serialize;

use super::queue::Queued;

/// Name of the table.
pub const TABLE: &str = "samples.csv";
const IMAGES: &str = "images";
const REJECT: &str = "!reject";
const UNSURE: &str = "!unsure";
const UNDO: &str = "!undo";

/// Writes samples, in their order, to a folder that is not there yet; it appears whole.
///
/// # Errors
/// If it is there, or cannot be written.
pub fn export(folder: &Path, queue: &[Queued<'_>], labels: &LabelSet, reviews: &Reviews) -> Result<()> {
    ensure!(!folder.exists(), "{} exists already: expected a folder that does not", folder.display());
    Ok(durable::write_folder(folder, |folder| {
        let images = folder.join(IMAGES);
        std::fs::create_dir(&images).map_err(models::Error::io("create", &images))?;
        let mut table = csv::Writer::from_writer(Vec::new());
        let fixed = ["image", "file", "why", "label", "device", "source", "captured"];
        let said = ["device_label", "device_confidence", "predicted", "confidence"];
        let probs = labels.names().iter().map(|name| format!("prob_{name}"));
        let header: Vec<String> = fixed.into_iter().chain(said).map(str::to_owned).chain(probs).collect();
        let mut rows = vec![header];
        for queued in queue {
            let (record, prediction) = (&queued.relabeled.sample.record, &queued.relabeled.prediction);
            let file = format!("{IMAGES}/{}.{}", record.image, record.extension);
            durable::write(&folder.join(&file), &queued.relabeled.sample.image)?;
            let name = |class: usize| labels.names().get(class).cloned().unwrap_or_default();
            let fixed = [
                record.image.to_string(),
                file,
                queued.why.name().to_owned(),
                reviews.of(record.image).map_or(String::new(), text),
                record.device.clone(),
                record.source.clone(),
                record.captured.to_string(),
                name(record.prediction.class),
                record.prediction.confidence.to_string(),
                name(prediction.class),
                prediction.confidence.to_string(),
            ];
            rows.push(fixed.into_iter().chain(prediction.probs.iter().map(ToString::to_string)).collect());
        }
        let written = rows.iter().try_for_each(|row| table.write_record(row)).map_err(std::io::Error::other);
        let bytes = written.and_then(|()| table.into_inner().map_err(|e| std::io::Error::other(e.to_string())));
        let path = folder.join(TABLE);
        durable::write(&path, &bytes.map_err(models::Error::io("write", &path))?)
    })?)
}

/// What came back in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Rows that say something new.
    pub new: usize,
    /// Rows that say what is known.
    pub known: usize,
    /// Rows without a label.
    pub empty: usize,
}

/// Reads what people have said in a table with the columns `image` and `label`; others are passed over. What holds already is not said
/// again.
///
/// # Errors
/// If the table cannot be read, or a row names no image or no class, with the line.
pub fn import(
    path: &Path,
    labels: &LabelSet,
    reviews: &Reviews,
    by: &str,
    at: Timestamp,
) -> Result<(Vec<Review>, Imported)> {
    let mut table = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let header = table.headers().with_context(|| format!("cannot read {}", path.display()))?.clone();
    let column = |name: &str| {
        let place = header.iter().position(|column| column == name);
        place.with_context(|| format!("{}: expected the columns image and label, found {header:?}", path.display()))
    };
    let (image, label) = (column("image")?, column("label")?);
    let (mut said, mut imported) = (BTreeMap::new(), Imported::default());
    for row in table.records() {
        let row = row.with_context(|| format!("in {}", path.display()))?;
        let line = row.position().map_or(0, csv::Position::line);
        let context = || format!("{}, line {line}", path.display());
        let cell = |column: usize| row.get(column).unwrap_or_default().trim();
        let image: Digest = cell(image).parse().with_context(context)?;
        let Some(new) = parse(cell(label), labels).with_context(context)? else {
            imported.empty += 1;
            continue;
        };
        if reviews.of(image) == Some(&new) || (new == Said::Undo && reviews.of(image).is_none()) {
            imported.known += 1;
            continue;
        }
        if let Some(Review { said, .. }) =
            said.insert(image, Review { at, image, by: by.to_owned(), said: new.clone() })
            && said != new
        {
            bail!("{}: image {image} stands there twice, with different labels", context());
        }
        imported.new += 1;
    }
    Ok((said.into_values().collect(), imported))
}

fn parse(text: &str, labels: &LabelSet) -> Result<Option<Said>> {
    Ok(Some(match text {
        "" => return Ok(None),
        REJECT => Said::Reject,
        UNSURE => Said::Unsure,
        UNDO => Said::Undo,
        label => {
            let classes = labels.names().join(", ");
            ensure!(
                labels.index(label).is_some(),
                "{label:?}: expected one of {classes}, or {REJECT}, {UNSURE}, {UNDO}"
            );
            Said::Label(label.to_owned())
        }
    }))
}

fn text(said: &Said) -> String {
    match said {
        Said::Label(label) => label.clone(),
        Said::Reject => REJECT.into(),
        Said::Unsure => UNSURE.into(),
        Said::Undo => UNDO.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_is_new_and_a_wrong_row_is_an_error_with_its_line() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("labels.csv");
        let labels = LabelSet::new(["cat", "dog"])?;
        let (a, b, c, d) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"), Digest::of(b"d"));
        let known = Review { at: Timestamp::UNIX_EPOCH, image: d, by: "ann".into(), said: Said::Label("dog".into()) };
        let reviews = Reviews::new([known]);
        let import = |text: String| {
            std::fs::write(&path, text)?;
            import(&path, &labels, &reviews, "bob", Timestamp::constant(1, 0))
        };
        let (said, imported) = import(format!("note,label,image\nx,cat,{a}\n,,{b}\n,!reject,{c}\n,dog,{d}\n"))?;
        assert_eq!(imported, Imported { new: 2, known: 1, empty: 1 });
        let mut found: Vec<_> = said.into_iter().map(|review| (review.image, review.said)).collect();
        let mut expected = vec![(a, Said::Label("cat".into())), (c, Said::Reject)];
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        for (text, said) in [
            (format!("image,label\n{a},cat\n{b},cow\n"), "line 3"),
            ("image,label\nnonsense,cat\n".to_owned(), "line 2"),
            (format!("image,class\n{a},cat\n"), "columns image and label"),
            (format!("image,label\n{a},cat\n{a},dog\n"), "twice"),
        ] {
            let error = import(text).err().map(|e| format!("{e:#}")).unwrap_or_default();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
        Ok(())
    }
}
