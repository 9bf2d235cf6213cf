//! The server between devices and workstation: takes samples in, hands models out.
//!
//! A hub keeps the objects of [`models::sync`] and lets everyone at those that are theirs. Requests are signed by a key that was
//! enrolled with a token; a device's key reaches its own segments, receipts and status, and the bundles. Segments are checked
//! while they arrive, sample by sample, and receipted by the hub's own key.
//!
//! The embedded default is one process with a folder:
//!
//! ```text
//! hub.db          who is known, what came in, what was done (SQLite)
//! objects/        the objects
//! keys/hub.pem    the key that signs receipts
//! tls/            the hub's certificate and its key
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`api`] | what is answered over HTTP |
//! | [`admin`] | what who runs it may ask, here or over HTTP |
//! | [`auth`] | whose a request is |
//! | [`limits`] | how much may be asked for |
//! | [`metrics`] | how much was |
//! | [`intake`] | takes a segment in while it arrives, and receipts it |
//! | [`statuses`] | how the devices are |
//! | [`rollout`] | how a bundle goes out: to some devices first, and back if too many refuse it |
//! | [`channels`] | the channels, each with its rollout, as they are kept |
//! | [`board`] | what the pages show, as of now |
//! | [`pages`] | the pages themselves |
//! | [`database`], [`objects`] | where all of it is |
//! | [`backup`] | all of it in one file, and back |
//! | [`tls`] | the hub's certificate |
//! | [`server`] | starts all of these, and stops them in good order |
//! | [`cli`] | the program `flywheel-hub` |

pub mod admin;
pub mod api;
pub mod auth;
pub mod backup;
pub mod board;
pub mod channels;
pub mod cli;
pub mod database;
mod error;
pub mod intake;
pub mod limits;
pub mod metrics;
pub mod objects;
pub mod pages;
pub mod rollout;
pub mod server;
pub mod statuses;
pub mod tls;

pub use error::{Error, Result};
