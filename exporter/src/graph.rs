//! An ONNX graph, put together node by node.

use models::weights::f32_bytes;

use crate::{
    onnx_proto::{
        AttributeProto, Dimension, FLOAT, FLOAT16, GraphProto, INT8, NodeProto, TensorProto, TensorShapeProto,
        TensorType, TypeProto, ValueInfoProto, attribute_type,
    },
    storage::Stored,
};

/// Images that a graph takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// So many: engines choose their operators for it.
    Fixed(usize),
    /// As many as come, in a dimension called `batch`.
    Symbolic,
}

/// A graph under construction.
pub(crate) struct GraphBuilder {
    graph: GraphProto,
    batch: Batch,
}

/// A tensor that flows through the graph: its input, or the output of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value(String);

impl GraphBuilder {
    pub(crate) fn new(name: impl Into<String>, batch: Batch) -> Self {
        Self { graph: GraphProto { name: name.into(), ..GraphProto::default() }, batch }
    }

    /// Declares an input of this element type, whose shape follows the batch; `doc` says what it holds.
    pub(crate) fn input(&mut self, name: &str, number: i32, shape: &[usize], doc: &str) -> Value {
        let input = self.value_info(name, number, shape, doc);
        self.graph.input.push(input);
        Value(name.to_owned())
    }

    /// Adds a constant tensor, which nodes refer to by `name`.
    pub(crate) fn initializer(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "tensor {name} of shape {shape:?}");
        self.raw(name, FLOAT, shape, f32_bytes(values));
    }

    /// Adds a kernel `[output, ...]` as it is stored; engines bring it to 32 bits once, when they load the graph.
    pub(crate) fn kernel(&mut self, name: &str, shape: &[usize], stored: Stored) {
        match stored {
            Stored::F32(values) => self.initializer(name, shape, &values),
            Stored::F16(values) => {
                let halves = format!("{name}.f16");
                self.raw(&halves, FLOAT16, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect());
                self.node(name, "Cast", &[], &[halves], vec![int("to", FLOAT.into())]);
            }
            Stored::Int8(values, scales) => {
                let parts = ["int8", "scale", "zero"].map(|part| format!("{name}.{part}"));
                self.raw(&parts[0], INT8, shape, values.iter().map(|v| v.cast_unsigned()).collect());
                self.initializer(&parts[1], &[scales.len()], &scales);
                self.raw(&parts[2], INT8, &[scales.len()], vec![0; scales.len()]);
                self.node(name, "DequantizeLinear", &[], &parts, vec![int("axis", 0)]);
            }
        }
    }

    fn raw(&mut self, name: &str, data_type: i32, shape: &[usize], raw_data: Vec<u8>) {
        self.graph.initializer.push(TensorProto { dims: numbers(shape), data_type, name: name.to_owned(), raw_data });
    }

    /// Adds a node over `inputs` and then `constants`; its output carries its name.
    pub(crate) fn node(
        &mut self,
        name: &str,
        op_type: &str,
        inputs: &[&Value],
        constants: &[String],
        attribute: Vec<AttributeProto>,
    ) -> Value {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|v| v.0.clone()).chain(constants.iter().cloned()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            attribute,
        });
        Value(name.to_owned())
    }

    /// Makes a value an output, which from now on is called `name`; its shape follows the batch.
    pub(crate) fn output(&mut self, value: &Value, name: &str, shape: &[usize], doc: &str) -> Value {
        for node in &mut self.graph.node {
            node.input.iter_mut().chain(&mut node.output).filter(|v| **v == value.0).for_each(|v| name.clone_into(v));
        }
        let output = self.value_info(name, FLOAT, shape, doc);
        self.graph.output.push(output);
        Value(name.to_owned())
    }

    pub(crate) fn finish(self) -> GraphProto {
        self.graph
    }

    fn value_info(&self, name: &str, number: i32, shape: &[usize], doc: &str) -> ValueInfoProto {
        let known = |size: usize| Dimension { dim_value: Some(size as i64), dim_param: None };
        let batch = match self.batch {
            Batch::Fixed(size) => known(size),
            Batch::Symbolic => Dimension { dim_value: None, dim_param: Some("batch".into()) },
        };
        let dim = std::iter::once(batch).chain(shape.iter().copied().map(known)).collect();
        let tensor_type = TensorType { elem_type: number, shape: Some(TensorShapeProto { dim }) };
        ValueInfoProto {
            name: name.to_owned(),
            r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
            doc_string: doc.to_owned(),
        }
    }
}

/// An attribute that is a number with a fraction.
pub(crate) fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        f: Some(value as f32),
        r#type: attribute_type::FLOAT,
        ..AttributeProto::default()
    }
}

/// An attribute that is a whole number.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: Some(value), r#type: attribute_type::INT, ..AttributeProto::default() }
}

/// An attribute that is a list of whole numbers.
pub(crate) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        ints: numbers(values),
        r#type: attribute_type::INTS,
        ..AttributeProto::default()
    }
}

fn numbers(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&v| v as i64).collect()
}
