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
//! | [`statistics`] | estimates with intervals |
//! | [`ablation`] | variants of a training run, compared |
//! | [`round`] | a whole round, resumable, with its record |
//! | [`schedule`] | rounds one after another |
//! | [`exchange`] | samples out to other tools, and labels back in |
//! | [`board`] | what the pages show |
//! | [`download`] | a file from the network, resumable and checked |
//! | [`keys`] | the pair of keys that bundles are signed and verified with |
//! | [`demo`], [`report`] | the loop end to end on real digits, and its page |
//! | [`simulate`] | many rounds on images whose truth is known |
//! | [`cli`] | the commands |

pub mod ablation;
pub mod board;
pub mod cli;
pub mod demo;
pub mod download;
pub mod exchange;
pub mod interrupt;
pub mod keys;
pub mod progress;
pub mod project;
pub mod report;
pub mod round;
pub mod schedule;
pub mod simulate;
pub mod statistics;
pub mod steps;
