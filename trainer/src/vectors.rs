//! Reference values: the specification's test vectors, computed with numpy in `f64`, pixel operations with Pillow; and
//! whole training steps, computed with PyTorch.

use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use serde_json::Value;

static CASES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/vectors.json")).expect("fixtures/vectors.json"));

/// Whole steps in PyTorch: `fixtures/make_steps.py`.
static STEPS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/steps.json")).expect("fixtures/steps.json"));

/// What the reference steps have at a JSON pointer.
pub(crate) fn steps<T: DeserializeOwned>(pointer: &str) -> T {
    read(&STEPS, pointer)
}

/// One case.
pub(crate) struct Case(&'static Value);

/// The case called `name`.
pub(crate) fn case(name: &str) -> Case {
    Case(CASES.get(name).unwrap_or_else(|| panic!("no case {name}")))
}

impl Case {
    /// An input, by JSON pointer below `inputs`.
    pub(crate) fn input<T: DeserializeOwned>(&self, pointer: &str) -> T {
        self.at(&format!("/inputs{pointer}"))
    }

    /// An expected value, by JSON pointer below `expected`.
    pub(crate) fn expected<T: DeserializeOwned>(&self, pointer: &str) -> T {
        self.at(&format!("/expected{pointer}"))
    }

    fn at<T: DeserializeOwned>(&self, pointer: &str) -> T {
        read(self.0, pointer)
    }
}

fn read<T: DeserializeOwned>(all: &Value, pointer: &str) -> T {
    let value = all.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{pointer}: {e}"))
}

/// Asserts that two rows of numbers are the same math.
#[track_caller]
pub(crate) fn assert_same(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?} against {expected:?}");
    for (f, e) in found.iter().zip(expected) {
        assert!(models::tolerance::SAME_MATH.same(*f, *e), "{found:?} against {expected:?}");
    }
}
