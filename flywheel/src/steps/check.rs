//! Golden vectors through engines.

use std::{env, fmt, path::PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use edge_runtime::{Engine, engine::Backend};
use models::{bundle::Golden, preprocess::InputSpec, tolerance::Tolerance};
use serde::Serialize;

/// An engine to check a model with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// The engine of devices
    Tract,
    /// ONNX Runtime
    Ort,
}

/// How closely an engine reproduced the golden logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// The engine.
    pub engine: EngineName,
    /// Largest difference over all logits of all golden images.
    pub max_abs_diff: f64,
    /// Golden images.
    pub images: usize,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.engine {
            EngineName::Tract => "tract",
            EngineName::Ort => "ONNX Runtime",
        };
        write!(f, "{name} within {:.1e} of the golden logits on {} images", self.max_abs_diff, self.images)
    }
}

/// Runs the golden vectors through engines.
///
/// # Errors
/// If an engine is not there, refuses the model, or computes something else.
pub fn check(
    engines: &[EngineName],
    onnx: &[u8],
    input: InputSpec,
    golden: &Golden,
    tolerance: Tolerance,
) -> Result<Vec<Checked>> {
    let one = |engine: &EngineName| {
        let library = (*engine == EngineName::Ort).then(onnxruntime).transpose()?;
        let backend = library.as_deref().map_or(Backend::Tract, Backend::onnxruntime);
        let loaded = Engine::from_bytes(onnx, input, backend)?;
        let parity = exporter::parity(golden, tolerance, |image| loaded.logits(image))?;
        Ok(Checked { engine: *engine, max_abs_diff: parity.max_abs_diff, images: golden.images.len() })
    };
    engines.iter().map(one).collect()
}

/// The library of ONNX Runtime: the one that `ORT_DYLIB_PATH` names, or that of the Python environment that is active.
///
/// # Errors
/// If there is none, with what was looked for.
fn onnxruntime() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ORT_DYLIB_PATH") {
        return Ok(path.into());
    }
    let expected = "expected ORT_DYLIB_PATH, or an active Python environment in which onnxruntime is installed";
    let root = env::var_os("VIRTUAL_ENV").or_else(|| env::var_os("CONDA_PREFIX")).context(expected)?;
    let lib = PathBuf::from(root).join("lib");
    let folders = |path: &PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    folders(&lib)
        .map(|python| python.join("site-packages/onnxruntime/capi"))
        .flat_map(|capi| folders(&capi).collect::<Vec<_>>())
        .find(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so")))
        .with_context(|| format!("{} holds no onnxruntime: {expected}", lib.display()))
}
