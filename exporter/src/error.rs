use models::bundle::Disagreement;

/// Whatever an engine reports.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why weights did not become a model, or a model not a bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The weights lack a tensor of their network.
    #[error("the weights lack tensor {tensor} of shape {expected:?}")]
    MissingTensor {
        /// Its name.
        tensor: String,
        /// The shape it should have.
        expected: Vec<usize>,
    },

    /// A tensor has another size than its network says.
    #[error("tensor {tensor} has the wrong size: expected shape {expected:?}, found {found} numbers")]
    TensorSize {
        /// Its name.
        tensor: String,
        /// The shape it should have.
        expected: Vec<usize>,
        /// How many numbers it holds.
        found: usize,
    },

    /// A tensor holds an infinity or a NaN: training diverged.
    #[error("tensor {tensor} holds {found} at index {index}: expected finite numbers")]
    NotFinite {
        /// Its name.
        tensor: String,
        /// Where, in row-major order.
        index: usize,
        /// What is there.
        found: f32,
    },

    /// Golden vectors that prove nothing about the model.
    #[error("golden vectors do not fit: expected {expected}, found {found}")]
    Golden {
        /// What they should have.
        expected: String,
        /// What they have.
        found: String,
    },

    /// The engine refused the ONNX model.
    #[error("the engine cannot load the ONNX model: {source}")]
    Load {
        /// The engine's reason.
        source: BoxError,
    },

    /// The engine loaded the ONNX model but failed to run it.
    #[error("the engine fails on golden image {image}: {source}")]
    Run {
        /// Index of the image.
        image: usize,
        /// The engine's reason.
        source: BoxError,
    },

    /// Images do not show the ranges of a model in 8 bits.
    #[error("8-bit ranges cannot be observed: expected {expected}, found {found}")]
    Observation {
        /// What they should show.
        expected: String,
        /// What they show.
        found: String,
    },

    /// The engine failed on an image that was to show ranges.
    #[error("the engine fails on image {image} of the pool: {source}")]
    Observe {
        /// Index of the image.
        image: usize,
        /// The engine's reason.
        source: BoxError,
    },

    /// The engine returned another number of logits than the trainer.
    #[error("golden image {image} has the wrong number of logits: expected {expected}, found {found}")]
    LogitsCount {
        /// Index of the image.
        image: usize,
        /// How many the trainer computed.
        expected: usize,
        /// How many the engine returned.
        found: usize,
    },

    /// The ONNX model does not compute what the trained network computed.
    #[error(transparent)]
    Differs(#[from] Disagreement),

    /// A part breaks a rule of its own format, or the bundle's folder cannot be written.
    #[error(transparent)]
    Models(#[from] models::Error),
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
