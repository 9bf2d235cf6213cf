//! The steps of a round: files or values in, files or values out.

pub mod calibrate;
pub mod check;
pub mod choose;
pub mod demand;
pub mod export;
pub mod forget;
pub mod gate;
pub mod ingest;
pub mod model;
pub mod publish;
pub mod relabel;
pub mod rounding;
pub mod score;
#[cfg(test)]
mod testing;
pub mod train;
