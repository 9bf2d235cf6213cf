//! An ONNX graph, put together node by node.

use models::weights::f32_bytes;

use crate::onnx_proto::{
    AttributeProto, Dimension, FLOAT, GraphProto, NodeProto, TensorProto, TensorShapeProto, TensorType, TypeProto,
    ValueInfoProto, attribute_type,
};

/// A graph under construction.
pub(crate) struct GraphBuilder {
    graph: GraphProto,
}

/// A tensor that flows through the graph: its input, or the output of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value(String);

impl GraphBuilder {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { graph: GraphProto { name: name.into(), ..GraphProto::default() } }
    }

    /// Declares an input; `doc` says what it holds.
    pub(crate) fn input(&mut self, name: &str, shape: &[usize], doc: &str) -> Value {
        self.graph.input.push(value_info(name, shape, doc));
        Value(name.to_owned())
    }

    /// Adds a constant tensor, which nodes refer to by `name`.
    pub(crate) fn initializer(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "tensor {name} of shape {shape:?}");
        self.graph.initializer.push(TensorProto {
            dims: numbers(shape),
            data_type: FLOAT,
            name: name.to_owned(),
            raw_data: f32_bytes(values),
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
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            attribute,
        });
        Value(name.to_owned())
    }

    /// The graph whose one output is `value`, which from now on is called `name`.
    pub(crate) fn finish(mut self, value: &Value, name: &str, shape: &[usize], doc: &str) -> GraphProto {
        for node in &mut self.graph.node {
            node.input.iter_mut().chain(&mut node.output).filter(|v| **v == value.0).for_each(|v| name.clone_into(v));
        }
        self.graph.output.push(value_info(name, shape, doc));
        self.graph
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

fn value_info(name: &str, shape: &[usize], doc: &str) -> ValueInfoProto {
    let dim = numbers(shape).into_iter().map(|dim_value| Dimension { dim_value }).collect();
    let tensor_type = TensorType { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
        doc_string: doc.to_owned(),
    }
}

fn numbers(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&v| v as i64).collect()
}
