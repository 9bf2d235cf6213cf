//! The steps of a round: files or values in, files or values out.

pub mod audit;
pub mod calibrate;
pub mod check;
pub mod choose;
pub mod collected;
pub mod demand;
pub mod export;
pub mod forget;
pub mod gate;
pub mod ingest;
pub mod model;
pub mod publish;
pub mod relabel;
pub mod review;
pub mod rounding;
pub mod score;
pub mod shift;
pub mod teacher;
#[cfg(test)]
pub(crate) mod testing;
pub mod train;
pub mod watch;
