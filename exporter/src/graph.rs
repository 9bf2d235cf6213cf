//! An ONNX graph, put together node by node.

use models::weights::f32_bytes;

use crate::{
    onnx_proto::{
        AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
        attribute_proto::AttributeType,
        tensor_proto::DataType,
        tensor_shape_proto::{Dimension, dimension},
        type_proto,
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
        Self { graph: GraphProto { name: Some(name.into()), ..GraphProto::default() }, batch }
    }

    /// Goes on with a graph; outputs that are still to come are for one image.
    pub(crate) fn resume(graph: GraphProto) -> Self {
        Self { graph, batch: Batch::Fixed(1) }
    }

    /// Declares an input of this element type, whose shape follows the batch; `doc` says what it holds.
    pub(crate) fn input(&mut self, name: &str, number: DataType, shape: &[usize], doc: &str) -> Value {
        let input = self.value_info(name, number, shape, doc);
        self.graph.input.push(input);
        Value(name.to_owned())
    }

    /// Adds a constant tensor, which nodes refer to by `name`.
    pub(crate) fn initializer(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "tensor {name} of shape {shape:?}");
        self.raw(name, DataType::Float, shape, f32_bytes(values));
    }

    /// Adds a kernel `[output, ...]` as it is stored; engines bring it to 32 bits once, when they load the graph.
    pub(crate) fn kernel(&mut self, name: &str, shape: &[usize], stored: Stored) {
        match stored {
            Stored::F32(values) => self.initializer(name, shape, &values),
            Stored::F16(values) => {
                let halves = format!("{name}.f16");
                self.raw(&halves, DataType::Float16, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect());
                self.node(name, "Cast", &[], &[halves], vec![int("to", DataType::Float as i64)]);
            }
            Stored::Int8(values, scales) => {
                let parts = ["int8", "scale", "zero"].map(|part| format!("{name}.{part}"));
                self.raw(&parts[0], DataType::Int8, shape, values.iter().map(|v| v.cast_unsigned()).collect());
                self.initializer(&parts[1], &[scales.len()], &scales);
                self.raw(&parts[2], DataType::Int8, &[scales.len()], vec![0; scales.len()]);
                self.node(name, "DequantizeLinear", &[], &parts, vec![int("axis", 0)]);
            }
        }
    }

    /// Adds the biases of a kernel in 8 bits, in 32 bits and with these scales.
    pub(crate) fn bias(&mut self, name: &str, values: &[f32], scales: &[f32]) {
        let parts = ["int32", "scale"].map(|part| format!("{name}.{part}"));
        let whole = values.iter().zip(scales).map(|(value, scale)| (value / scale).round_ties_even() as i32);
        self.raw(&parts[0], DataType::Int32, &[values.len()], whole.flat_map(i32::to_le_bytes).collect());
        self.initializer(&parts[1], &[scales.len()], scales);
        self.node(name, "DequantizeLinear", &[], &parts, vec![int("axis", 0)]);
    }

    /// Adds a constant tensor of any type, from its little-endian bytes.
    pub(crate) fn raw(&mut self, name: &str, data_type: DataType, shape: &[usize], raw_data: Vec<u8>) {
        self.graph.initializer.push(TensorProto {
            dims: numbers(shape),
            data_type: Some(data_type.into()),
            name: Some(name.to_owned()),
            raw_data: Some(raw_data),
            ..TensorProto::default()
        });
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
            name: Some(name.to_owned()),
            op_type: Some(op_type.to_owned()),
            attribute,
            ..NodeProto::default()
        });
        Value(name.to_owned())
    }

    /// Adds a node as it is.
    pub(crate) fn push(&mut self, node: NodeProto) {
        self.graph.node.push(node);
    }

    /// The graph as far as it is built.
    pub(crate) fn graph_mut(&mut self) -> &mut GraphProto {
        &mut self.graph
    }

    /// Makes a value an output, which from now on is called `name`; its shape follows the batch.
    pub(crate) fn output(&mut self, value: &Value, name: &str, shape: &[usize], doc: &str) -> Value {
        for node in &mut self.graph.node {
            node.input.iter_mut().chain(&mut node.output).filter(|v| **v == value.0).for_each(|v| name.clone_into(v));
        }
        let output = self.value_info(name, DataType::Float, shape, doc);
        self.graph.output.push(output);
        Value(name.to_owned())
    }

    pub(crate) fn finish(self) -> GraphProto {
        self.graph
    }

    fn value_info(&self, name: &str, number: DataType, shape: &[usize], doc: &str) -> ValueInfoProto {
        let dimension = |value| Dimension { denotation: None, value: Some(value) };
        let known = |size: usize| dimension(dimension::Value::DimValue(size as i64));
        let batch = match self.batch {
            Batch::Fixed(size) => known(size),
            Batch::Symbolic => dimension(dimension::Value::DimParam("batch".into())),
        };
        let dim = std::iter::once(batch).chain(shape.iter().copied().map(known)).collect();
        let tensor = type_proto::Tensor { elem_type: Some(number.into()), shape: Some(TensorShapeProto { dim }) };
        ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto { denotation: None, value: Some(type_proto::Value::TensorType(tensor)) }),
            doc_string: Some(doc.to_owned()),
            ..ValueInfoProto::default()
        }
    }
}

/// An attribute that is a number with a fraction.
pub(crate) fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto { f: Some(value as f32), ..attribute(name, AttributeType::Float) }
}

/// An attribute that is a whole number.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// An attribute that is a list of whole numbers.
pub(crate) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto { ints: numbers(values), ..attribute(name, AttributeType::Ints) }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind.into()), ..AttributeProto::default() }
}

fn numbers(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&v| v as i64).collect()
}
