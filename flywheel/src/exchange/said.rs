//! What people say, in the words of a table: a class, or one of `!reject`, `!unsure` and `!undo`.

use anyhow::{Result, ensure};
use models::{LabelSet, Said};

pub(super) const REJECT: &str = "!reject";
pub(super) const UNSURE: &str = "!unsure";
const UNDO: &str = "!undo";

/// Reads it; an empty text says nothing.
///
/// # Errors
/// If it is no class.
pub(super) fn parse(text: &str, labels: &LabelSet) -> Result<Option<Said>> {
    Ok(Some(match text.trim() {
        "" => return Ok(None),
        REJECT => Said::Reject,
        UNSURE => Said::Unsure,
        UNDO => Said::Undo,
        label => {
            let classes = labels.names().join(", ");
            let is_known = labels.index(label).is_some();
            ensure!(is_known, "{label:?}: expected one of {classes}, or {REJECT}, {UNSURE}, {UNDO}");
            Said::Label(label.to_owned())
        }
    }))
}

/// Writes it.
pub(super) fn text(said: &Said) -> String {
    match said {
        Said::Label(label) => label.clone(),
        Said::Reject => REJECT.into(),
        Said::Unsure => UNSURE.into(),
        Said::Undo => UNDO.into(),
    }
}
