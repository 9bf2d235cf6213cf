use std::cmp::Ordering;

use models::{ReasonKind, SampleRecord};

/// How useful a sample is: the least useful is deleted first when space runs out, the most useful is sent first.
///
/// Audit samples come first and are never deleted, then what the workstation asked for, then what the model was unsure of, then
/// what it was confident of; within a kind, what the model was less sure of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worth {
    /// The most useful reason it was kept for.
    pub(super) kind: ReasonKind,
    /// The predicted class.
    pub(super) class: usize,
    confidence: f64,
}

impl Worth {
    pub(super) fn of(record: &SampleRecord) -> Self {
        let kind = record.reasons.iter().map(models::Reason::kind).max().unwrap_or(ReasonKind::Confident);
        Self { kind, class: record.prediction.class, confidence: record.prediction.confidence }
    }

    /// Whether a more useful sample may take its place.
    pub(super) fn may_go(&self) -> bool {
        self.kind != ReasonKind::Audit
    }
}

impl Ord for Worth {
    fn cmp(&self, other: &Self) -> Ordering {
        self.kind.cmp(&other.kind).then(other.confidence.total_cmp(&self.confidence))
    }
}

impl PartialOrd for Worth {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worth {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Worth {}
