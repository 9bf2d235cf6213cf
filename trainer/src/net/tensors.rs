//! A module's tensors by name: what optimiser, average, checkpoint and export work on.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Gradients, Tensor},
};

/// Flat tensors by their path in the module, without gradient.
pub(crate) type NamedTensors = BTreeMap<String, Tensor<1>>;

/// Every tensor of a module.
pub(crate) fn tensors<M: Module>(module: &M) -> NamedTensors {
    collect(module, None)
}

/// The gradient of every tensor that has one.
pub(crate) fn gradients<M: Module>(module: &M, gradients: &Gradients) -> NamedTensors {
    collect(module, Some(gradients))
}

/// The module with every tensor of `tensors` in the place of its name. Others stay.
pub(crate) fn load<M: Module>(module: M, tensors: NamedTensors) -> M {
    module.map(&mut Loader { path: Vec::new(), tensors })
}

/// A tensor's numbers, row by row.
#[cfg(test)]
pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// A tensor's numbers as they are stored.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn collect<M: Module>(module: &M, gradients: Option<&Gradients>) -> NamedTensors {
    let mut collector = Collector { path: Vec::new(), gradients, found: NamedTensors::new() };
    module.visit(&mut collector);
    collector.found
}

struct Collector<'a> {
    path: Vec<String>,
    gradients: Option<&'a Gradients>,
    found: NamedTensors,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let wanted = match self.gradients {
            Some(gradients) => value.grad(gradients),
            None => Some(value.inner()),
        };
        if let Some(tensor) = wanted {
            let length = tensor.shape().num_elements();
            self.found.insert(self.path.join("."), tensor.reshape([length]));
        }
    }
}

struct Loader {
    path: Vec<String>,
    tensors: NamedTensors,
}

impl ModuleMapper for Loader {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(tensor) = self.tensors.remove(&self.path.join(".")) else { return param };
        param.map(|old| {
            let new = tensor.reshape(old.dims());
            let new = if old.is_autodiff() { Tensor::from_inner(new) } else { new };
            new.set_require_grad(old.is_require_grad())
        })
    }
}
