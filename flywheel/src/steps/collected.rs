//! What has come in from the field.

use anyhow::Result;
use jiff::Timestamp;
use models::{Reviews, Sample};

use super::{
    audit::{Cohort, cohorts},
    ingest::samples,
    review::reviews,
};
use crate::project::Project;

/// Samples, and what was said of them.
#[derive(Debug)]
pub struct Collected {
    /// Every sample, each image once.
    pub samples: Vec<Sample>,
    /// Which audit samples came in together.
    pub cohorts: Vec<Cohort>,
    /// What people have said.
    pub reviews: Reviews,
}

impl Collected {
    /// Reads what is here. Audit samples that are new become a cohort that came in now.
    ///
    /// # Errors
    /// If a file cannot be read or written, or was changed since it came in.
    pub fn load(project: &Project, now: Timestamp) -> Result<Self> {
        let samples = samples(project)?;
        let cohorts = cohorts(project, &samples, now)?;
        Ok(Self { samples, cohorts, reviews: reviews(project)? })
    }
}
