//! Runs a graph with an ONNX Runtime that the device has, loaded while the program runs.

use std::{
    path::Path,
    sync::{Mutex, OnceLock, PoisonError},
};

use models::preprocess::{InputLayout, InputSpec};
use ort::{
    environment::Environment,
    ep::{self, ExecutionProvider, ExecutionProviderDispatch},
    session::{Session, builder::GraphOptimizationLevel},
    value::{Outlet, TensorElementType, TensorRef},
};

use super::{Accelerator, Declared, Input, LOGITS, check};
use crate::{Error, Result};

/// A process has one, made from the first library that it loads.
static ENVIRONMENT: OnceLock<Result<Environment, String>> = OnceLock::new();

/// A graph on one thread a run. A session runs one image at a time: there are as many as images were ever run at once.
#[derive(Debug)]
pub(super) struct Graph {
    onnx: Vec<u8>,
    environment: Environment,
    accelerators: Vec<Accelerator>,
    output: String,
    idle: Mutex<Vec<Session>>,
}

impl Graph {
    /// The graph, and how many classes it knows.
    pub(super) fn load(
        model: &str,
        onnx: Vec<u8>,
        input: InputSpec,
        library: &Path,
        accelerators: &[Accelerator],
    ) -> Result<(Self, usize)> {
        let refused = |reason: String| Error::Engine { model: model.to_owned(), reason };
        let environment = ENVIRONMENT.get_or_init(|| {
            let builder = ort::init_from(library).map_err(|e| e.to_string())?;
            builder.with_telemetry(false).build().map_err(|e| e.to_string())
        });
        let environment = environment.clone().map_err(refused)?;
        let session = session(&environment, &onnx, accelerators).map_err(refused)?;
        let (inputs, outputs) = (session.inputs(), session.outputs());
        let output = match outputs {
            [only] => Some(only),
            several => several.iter().find(|output| output.name() == LOGITS),
        };
        let ([taken], Some(output)) = (inputs, output) else {
            let found = format!("{} and {}", inputs.len(), outputs.len());
            return Err(Error::Shape { model: model.to_owned(), expected: "one input and one output".into(), found });
        };
        let number = match input.layout {
            InputLayout::F32 => TensorElementType::Float32,
            InputLayout::Rgb8 => TensorElementType::Uint8,
        };
        let classes = check(model, input, &declared(taken, number), &declared(output, TensorElementType::Float32))?;
        let output = output.name().to_owned();
        let accelerators = accelerators.to_vec();
        Ok((Self { onnx, environment, accelerators, output, idle: Mutex::new(vec![session]) }, classes))
    }

    /// The logits of one input, or why there are none.
    pub(super) fn run(&self, spec: InputSpec, input: Input) -> Result<Vec<f32>, String> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let mut session = match taken {
            Some(session) => session,
            None => session(&self.environment, &self.onnx, &self.accelerators)?,
        };
        let logits = run(&mut session, &self.output, spec, &input).map_err(|e| e.to_string());
        idle().push(session);
        logits
    }
}

/// The provider of an accelerator, which the library was built for.
fn provider(accelerator: Accelerator) -> Result<ExecutionProviderDispatch, String> {
    fn of<P: ExecutionProvider + Into<ExecutionProviderDispatch>>(p: P) -> Result<ExecutionProviderDispatch, String> {
        match P::is_available() {
            Ok(true) => Ok(p.into().error_on_failure()),
            Ok(false) => Err(format!("expected an ONNX Runtime that was built with {}", P::NAME)),
            Err(e) => Err(e.to_string()),
        }
    }
    match accelerator {
        Accelerator::Acl => of(ep::ACL::default()),
        Accelerator::CoreMl => of(ep::CoreML::default()),
        Accelerator::Cuda => of(ep::CUDA::default()),
        Accelerator::Nnapi => of(ep::NNAPI::default()),
        Accelerator::OpenVino => of(ep::OpenVINO::default().with_num_threads(1)),
        Accelerator::Qnn => of(ep::QNN::default()),
        Accelerator::Rknpu => of(ep::RKNPU::default()),
        Accelerator::TensorRt => of(ep::TensorRT::default()),
        Accelerator::Xnnpack => of(ep::XNNPACK::default()),
    }
}

fn session(environment: &Environment, onnx: &[u8], accelerators: &[Accelerator]) -> Result<Session, String> {
    let providers = accelerators.iter().map(|accelerator| provider(*accelerator)).collect::<Result<Vec<_>, _>>()?;
    let build = || {
        Session::builder(environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_execution_providers(&providers)?
            .commit_from_memory(onnx)
    };
    build().map_err(|e: ort::Error| e.to_string())
}

fn run(session: &mut Session, output: &str, spec: InputSpec, input: &Input) -> ort::Result<Vec<f32>> {
    let outputs = match input {
        Input::F32(values) => {
            session.run(ort::inputs![TensorRef::from_array_view((spec.dims(), values.as_slice()))?])?
        }
        Input::Rgb8(values) => session.run(ort::inputs![TensorRef::from_array_view((spec.dims(), *values))?])?,
    };
    Ok(outputs[output].try_extract_tensor::<f32>()?.1.to_vec())
}

fn declared(outlet: &Outlet, number: TensorElementType) -> Declared {
    let dims = |shape: &ort::value::Shape| shape.iter().map(|size| usize::try_from(*size).ok()).collect();
    Declared {
        is_type: outlet.dtype().tensor_type() == Some(number),
        shape: outlet.dtype().tensor_shape().map(dims),
        text: outlet.dtype().to_string(),
    }
}
