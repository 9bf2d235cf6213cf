//! What every engine has to do: one suite for all of them.

use std::path::PathBuf;

use models::{
    preprocess::InputLayout,
    tolerance::{CROSS_ENGINE, max_abs_diff},
};

use super::*;
use crate::fixture;

fn spec(channels: usize) -> InputSpec {
    InputSpec { layout: InputLayout::F32, shape: [channels, 4, 4] }
}

/// The ONNX Runtime that `ORT_DYLIB_PATH` names, if this build can load one.
fn library() -> Option<PathBuf> {
    std::env::var_os("ORT_DYLIB_PATH").filter(|_| cfg!(feature = "onnxruntime")).map(PathBuf::from)
}

/// What it is to run on: the accelerators that `FLYWHEEL_ACCELERATORS` names, as a configuration would.
fn accelerators() -> Vec<Accelerator> {
    let names = std::env::var("FLYWHEEL_ACCELERATORS").unwrap_or_default();
    let known = |name: &str| clap::ValueEnum::from_str(name, false).unwrap_or_else(|e| panic!("{name}: {e}"));
    names.split(',').filter(|name| !name.is_empty()).map(known).collect()
}

fn for_each_backend(test: impl Fn(Backend) -> Result<()>) -> Result<()> {
    test(Backend::Tract)?;
    let accelerators = &accelerators();
    let onnxruntime = |library| Backend::OnnxRuntime { library, accelerators };
    library().as_deref().map_or(Ok(()), |library| test(onnxruntime(library)))
}

#[test]
fn computes_what_numpy_computes() -> Result<()> {
    for_each_backend(|backend| {
        let engine = Engine::from_bytes(fixture::ONNX, spec(1), backend)?;
        assert_eq!((engine.input(), engine.classes()), (spec(1), 3));
        for case in fixture::cases() {
            let found = engine.logits(&case.pixels())?;
            let difference = max_abs_diff(&found, &case.logits);
            assert!(difference <= CROSS_ENGINE.bound, "{backend:?}: {found:?} instead of {:?}", case.logits);
        }
        Ok(())
    })
}

#[test]
fn a_graph_or_an_image_that_does_not_fit_is_an_error_with_both_shapes() -> Result<()> {
    for_each_backend(|backend| {
        let said = |result: Result<Engine>| result.err().map(|e| e.to_string()).unwrap_or_default();
        let other = said(Engine::from_bytes(fixture::ONNX, spec(3), backend));
        assert!(other.contains("[1, 3, 4, 4]") && other.replace(' ', "").contains("1,1,4,4"), "{other}");
        let bytes = InputSpec { layout: InputLayout::Rgb8, ..spec(1) };
        let other = said(Engine::from_bytes(fixture::ONNX, bytes, backend));
        assert!(other.contains("u8") && other.contains("[1, 4, 4, 1]"), "{other}");
        assert!(said(Engine::from_bytes(b"no graph", spec(1), backend)).contains("cannot run"));

        let engine = Engine::from_bytes(fixture::ONNX, spec(1), backend)?;
        let small = Pixels { height: 3, width: 5, channels: 1, data: vec![0; 15] };
        let small = engine.logits(&small).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(small.contains("4x4") && small.contains("3x5"), "{small}");
        Ok(())
    })
}

#[test]
fn threads_share_an_engine() -> Result<()> {
    for_each_backend(|backend| {
        let engine = Engine::from_bytes(fixture::ONNX, spec(1), backend)?;
        let cases = fixture::cases();
        std::thread::scope(|scope| {
            let run = || cases.iter().map(|case| engine.logits(&case.pixels())).collect::<Result<Vec<_>>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            let expected = run()?;
            for thread in threads {
                assert_eq!(thread.join().expect("a thread")?, expected);
            }
            Ok(())
        })
    })
}

/// A device that is told to use an accelerator which its library knows nothing of must not go on in silence.
#[test]
fn an_accelerator_that_is_not_there_is_an_error_that_names_it() {
    let Some(library) = library() else { return };
    let backend = Backend::OnnxRuntime { library: &library, accelerators: &[Accelerator::Rknpu] };
    let said = Engine::from_bytes(fixture::ONNX, spec(1), backend).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(said.contains("expected an ONNX Runtime that was built with RknpuExecutionProvider"), "{said}");
}

/// Bundles come through a network and a disk: what is damaged must not take the device down.
#[test]
fn a_damaged_graph_never_panics() {
    for cut in 0..fixture::ONNX.len() {
        let _ = Engine::from_bytes(&fixture::ONNX[..cut], spec(1), Backend::Tract);
    }
    for at in 0..fixture::ONNX.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = fixture::ONNX.to_vec();
            damaged[at] ^= flip;
            let _ = Engine::from_bytes(&damaged, spec(1), Backend::Tract);
        }
    }
}
