//! A folder of images with a table of what is known of each: `metadata.csv` and `images/DIGEST.png`, the names that HuggingFace's
//! `imagefolder` looks for.
//!
//! The columns: `image`, the digest that names it; `file_name`; `why` a label is worth something; `label`, what people have said, to be filled
//! in; `held`, the same, to stay as it is; `device`, `source`, `captured`; `device_label` and `device_confidence`, what the device said;
//! `predicted` and `confidence`, what the current model says, and `prob_CLASS` for each class; if it was asked for, what the network sees, as
//! `embedding_0` and so on. Beside it is `labels.json`, for FiftyOne, and, if they were asked for, are `label_studio.json` and `.xml`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use models::{LabelSet, durable};

use super::{
    Known, fiftyone, label_studio,
    metadata::{Metadata, Row},
    queue::Queued,
    said,
};

/// Name of the table.
const TABLE: &str = "metadata.csv";
const IMAGES: &str = "images";
const COLUMNS: [&str; 12] = [
    "image",
    "file_name",
    "why",
    "label",
    "held",
    "device",
    "source",
    "captured",
    "device_label",
    "device_confidence",
    "predicted",
    "confidence",
];

/// Writes samples, in their order, to a folder that is not there yet; it appears whole.
///
/// # Errors
/// If it is there, or cannot be written.
pub(super) fn export(folder: &Path, queue: &[Queued<'_>], known: Known<'_>) -> Result<()> {
    ensure!(!folder.exists(), "{} exists already: expected a folder that does not", folder.display());
    durable::write_folder(folder, |folder| {
        durable::create_folders(&folder.join(IMAGES))?;
        let mut table = csv::Writer::from_writer(Vec::new());
        let names = known.labels.names();
        let probs = names.iter().map(|name| format!("prob_{name}"));
        let width = queue
            .iter()
            .filter_map(|queued| known.embeddings.get(&queued.relabeled.sample.record.image))
            .map(Vec::len)
            .max();
        let embedding = (0..width.unwrap_or(0)).map(|place| format!("embedding_{place}"));
        table.write_record(COLUMNS.into_iter().map(str::to_owned).chain(probs).chain(embedding))?;
        for queued in queue {
            let known = Metadata::of(queued, known);
            let file_name = format!("{IMAGES}/{}.{}", known.image, known.extension);
            durable::write(&folder.join(&file_name), &queued.relabeled.sample.image)?;
            let fixed = [
                known.image.to_string(),
                file_name,
                known.why.to_owned(),
                known.label,
                known.held,
                harmless(known.device),
                harmless(known.source),
                known.captured.to_string(),
                known.device_label,
                known.device_confidence.to_string(),
                known.predicted,
                known.confidence.to_string(),
            ];
            let numbers =
                known.probs.iter().map(ToString::to_string).chain(known.embedding.iter().map(ToString::to_string));
            table.write_record(fixed.into_iter().chain(numbers))?;
        }
        let bytes = table.into_inner().context("cannot write the table")?;
        durable::write(&folder.join(TABLE), &bytes)?;
        if known.label_studio {
            label_studio::write(folder, queue, known)?;
        }
        fiftyone::write(folder, queue, known)
    })
}

/// A text of a device's, which no spreadsheet takes for a formula.
fn harmless(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

/// Reads what people have said in a table with the columns `image` and `label`. Where there are `held`, what held when the table was
/// written, and `said_at`, when somebody decided, no row goes over a later word. Other columns are passed over.
///
/// # Errors
/// If the table cannot be read, or a row names no image or no class, with the line.
pub(super) fn rows(path: &Path, labels: &LabelSet) -> Result<Vec<Row>> {
    let mut table = csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let header = table.headers().with_context(|| format!("cannot read {}", path.display()))?.clone();
    let column = |name: &str| {
        let place = header.iter().position(|column| column == name);
        place.with_context(|| format!("{}: expected the columns image and label, found {header:?}", path.display()))
    };
    let (image, label) = (column("image")?, column("label")?);
    let (held, said_at) = (column("held").ok(), column("said_at").ok());
    let rows = table.records().map(|row| {
        let row = row.with_context(|| format!("in {}", path.display()))?;
        let context = || format!("{}, line {}", path.display(), row.position().map_or(0, csv::Position::line));
        let cell = |column: usize| row.get(column).unwrap_or_default().trim();
        Ok(Row {
            image: cell(image).parse().with_context(context)?,
            said: said::parse(cell(label), labels).with_context(context)?,
            held: held.map(|held| said::parse(cell(held), labels)).transpose().with_context(context)?,
            said_at: said_at.map(|said_at| cell(said_at).parse()).transpose().with_context(context)?,
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use models::{Digest, Review, Reviews, Said};

    use super::*;
    use crate::exchange::{Imported, import};

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
        // A table from before somebody changed a label says nothing new where it was left as it was, nor what was decided before.
        let (said, imported) = import(format!("image,label,held\n{d},cat,cat\n{a},cat,dog\n"))?;
        assert_eq!((said.len(), said[0].image, imported.known), (1, a, 1));
        let (said, _) = import(format!("image,label,said_at\n{d},cat,1969-12-31T00:00:00Z\n"))?;
        let both = Reviews::new(reviews.history(d).iter().cloned().chain(said));
        assert_eq!((both.of(d), both.history(d).len()), (Some(&Said::Label("dog".into())), 2));
        for (text, said) in [
            (format!("image,label\n{a},cat\n{b},cow\n"), "line 3"),
            ("image,label\nnonsense,cat\n".to_owned(), "line 2"),
            (format!("image,class\n{a},cat\n"), "columns image and label"),
            (format!("image,label\n{a},cat\n{a},dog\n"), "twice"),
            (format!("image,label\n{d},dog\n{d},cat\n"), "twice"),
        ] {
            let error = import(text).err().map(|e| format!("{e:#}")).unwrap_or_default();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
        Ok(())
    }
}
