//! Where images come from.

mod folder;

pub use folder::{Failure, Folder, Found};
