use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The classes in their order: class `i` of every logits row is `labels.name(i)`.
///
/// The order is decided once, when training starts, and travels inside the weights and the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct LabelSet(Vec<String>);

impl LabelSet {
    /// A label set of at least two distinct, non-empty names.
    ///
    /// # Errors
    /// [`Error::Labels`].
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.len() < 2 {
            return Err(Error::Labels(format!("expected at least two classes, found {names:?}")));
        }
        let mut seen = BTreeSet::new();
        for name in &names {
            if name.trim().is_empty() {
                return Err(Error::Labels("a class has an empty name".into()));
            }
            if !seen.insert(name) {
                return Err(Error::Labels(format!("class {name:?} is listed twice")));
            }
        }
        Ok(Self(names))
    }

    /// How many classes there are.
    #[expect(clippy::len_without_is_empty, reason = "a label set is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The name of class `index`.
    ///
    /// # Panics
    /// If `index` is not below [`LabelSet::len`].
    pub fn name(&self, index: usize) -> &str {
        &self.0[index]
    }

    /// The class of this name, if there is one.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|label| label == name)
    }

    /// All names, in class order.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for LabelSet {
    type Error = Error;

    fn try_from(names: Vec<String>) -> Result<Self> {
        Self::new(names)
    }
}

impl From<LabelSet> for Vec<String> {
    fn from(labels: LabelSet) -> Self {
        labels.0
    }
}
