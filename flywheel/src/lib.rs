//! The workstation's one command: train, export, run rounds, show the whole loop.
//!
//! This crate composes the others and is thin: each of [`steps`] takes files or values in and gives files or values
//! out, [`round`] puts them in order, and [`demo`] plays a whole project with two devices on embedded data.
//!
//! ```text
//! ingest -> relabel -> train -> export -> gate -> publish
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`project`] | the configuration, the folders, the images |
//! | [`steps`] | one step of a round each |
//! | [`ablation`] | variants of a training run, compared |
//! | [`round`] | a whole round, resumable, with its record |
//! | [`download`] | a file from the network, resumable and checked |
//! | [`keys`] | the pair of keys that bundles are signed and verified with |
//! | [`demo`], [`report`] | the loop end to end on real digits, and its page |
//! | [`cli`] | the commands |

pub mod ablation;
pub mod cli;
pub mod demo;
pub mod download;
pub mod interrupt;
pub mod keys;
pub mod progress;
pub mod project;
pub mod report;
pub mod round;
pub mod steps;
