//! Samples out to other tools, and the labels that people give them there back in.
//!
//! | module | what it holds |
//! |---|---|
//! | `queue` | the samples in the order in which a label is worth most |
//! | `table` | a folder of images with a table of what is known of each |

mod queue;
mod table;

pub use queue::{Queued, Why, queue};
pub use table::{Imported, TABLE, export, import};
