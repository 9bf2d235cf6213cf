use std::path::PathBuf;

/// Why training cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that another crate of ours reads or writes.
    #[error(transparent)]
    Models(#[from] models::Error),

    /// A setting that makes no sense.
    #[error("{key} = {found}: expected {expected}")]
    Config {
        /// The setting, as in the configuration file.
        key: &'static str,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A class without a single labeled image.
    #[error("class {class:?} has no image: expected at least one JPEG or PNG in {}", folder.display())]
    EmptyClass {
        /// The class.
        class: String,
        /// Where its images should be.
        folder: PathBuf,
    },

    /// Data that cannot be trained on.
    #[error("{what}: expected {expected}, found {found}")]
    Data {
        /// The set or folder.
        what: String,
        /// What is needed.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A run folder that belongs to another run.
    #[error("{} holds another run ({difference}): choose another folder, or delete it", folder.display())]
    OtherRun {
        /// The folder.
        folder: PathBuf,
        /// The first setting that differs, with both values.
        difference: String,
    },

    /// A checkpoint that cannot be read.
    #[error("{} is not a checkpoint of this run: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The device ran out of memory.
    #[error("training with {images} images a step does not fit into the memory of {device}: try {remedy}")]
    OutOfMemory {
        /// The device, as in `train.device`.
        device: &'static str,
        /// Images of a step, every view counted.
        images: usize,
        /// What to try: a smaller batch size, if there is one.
        remedy: String,
    },

    /// The device failed.
    #[error("{device} failed: {reason}")]
    Device {
        /// The device, as in `train.device`.
        device: &'static str,
        /// What its driver says.
        reason: String,
    },

    /// The loss is no longer a number.
    #[error("training diverged at step {step}: the loss is {loss}; try a lower learning_rate than {learning_rate}")]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
        /// The rate it happened with.
        learning_rate: f64,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
