//! A graph of ONNX operators as it grows, and the file around it.
//!
//! Field numbers are those of `onnx.proto` (ONNX 1.8 and later; the format only ever adds to it).

use std::collections::BTreeSet;

use crate::protobuf::Message;

/// The version of the operators. 13 (ONNX 1.8, November 2020) is the first whose Softmax is along one axis, and has all that is
/// needed; what loads a later one loads it too.
const OPSET: i64 = 13;
/// The version of the file's format that came with it.
const IR_VERSION: i64 = 7;

/// The type of a tensor's elements: `TensorProto.DataType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Float = 1,
    Int64 = 7,
    Double = 11,
}

/// A size of an input or output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dim {
    /// Any, under this name.
    Any(&'static str),
    /// This one.
    Is(usize),
}

/// An attribute of a node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
}

impl Attribute<'_> {
    fn message(self) -> Message {
        const INT: i64 = 2;
        const INTS: i64 = 7;
        match self {
            Self::Int(name, value) => Message::new().string(1, name).int(3, value).int(20, INT),
            Self::Ints(name, values) => Message::new().string(1, name).ints(8, values.iter().copied()).int(20, INTS),
        }
    }
}

/// What the file says about itself.
#[derive(Debug)]
pub(super) struct About<'a> {
    pub version: &'a str,
    pub text: &'a str,
    pub metadata: &'a [(&'a str, String)],
}

/// Nodes, in an order in which each comes after those that it takes values of, and constants.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Message,
    constants: Message,
    ends: Message,
    known: BTreeSet<String>,
}

impl Graph {
    /// Adds a node that gives one value, `output`, which is also the node's name; returns that.
    pub fn node<'o>(&mut self, op: &str, inputs: &[&str], output: &'o str, attributes: &[Attribute]) -> &'o str {
        let node = inputs.iter().fold(Message::new(), |node, input| node.string(1, input));
        let node = node.string(2, output).string(3, output).string(4, op);
        let node = attributes.iter().fold(node, |node, attribute| node.message(5, &attribute.message()));
        self.nodes = std::mem::take(&mut self.nodes).message(1, &node);
        output
    }

    /// Adds a constant of float32.
    pub fn floats<'n>(&mut self, name: &'n str, dims: &[usize], values: &[f32]) -> &'n str {
        self.constant(name, Element::Float, dims, values, f32::to_le_bytes)
    }

    /// Adds a constant of float64.
    pub fn doubles<'n>(&mut self, name: &'n str, dims: &[usize], values: &[f64]) -> &'n str {
        self.constant(name, Element::Double, dims, values, f64::to_le_bytes)
    }

    /// Adds a constant of int64.
    pub fn ints<'n>(&mut self, name: &'n str, dims: &[usize], values: &[i64]) -> &'n str {
        self.constant(name, Element::Int64, dims, values, i64::to_le_bytes)
    }

    /// Adds a float32 without dimensions.
    pub fn number<'n>(&mut self, name: &'n str, value: f32) -> &'n str {
        self.floats(name, &[], &[value])
    }

    /// A constant of that name that is there already is not added again.
    fn constant<'n, T: Copy, const N: usize>(
        &mut self,
        name: &'n str,
        element: Element,
        dims: &[usize],
        values: &[T],
        to_bytes: fn(T) -> [u8; N],
    ) -> &'n str {
        if self.known.insert(name.to_owned()) {
            let tensor = Message::new()
                .ints(1, dims.iter().map(|&dim| dim as i64))
                .int(2, element as i64)
                .string(8, name)
                .numbers(9, values, to_bytes);
            self.constants = std::mem::take(&mut self.constants).message(5, &tensor);
        }
        name
    }

    /// Names a value as the graph's input.
    pub fn input(&mut self, name: &str, element: Element, dims: &[Dim], text: &str) {
        self.end(11, name, element, dims, text);
    }

    /// Names a value as one of the graph's outputs.
    pub fn output(&mut self, name: &str, element: Element, dims: &[Dim], text: &str) {
        self.end(12, name, element, dims, text);
    }

    fn end(&mut self, field: u32, name: &str, element: Element, dims: &[Dim], text: &str) {
        let dim = |dim: &Dim| match *dim {
            Dim::Any(name) => Message::new().string(2, name),
            Dim::Is(size) => Message::new().int(1, size as i64),
        };
        let shape = dims.iter().map(dim).fold(Message::new(), |shape, dim| shape.message(1, &dim));
        let tensor = Message::new().int(1, element as i64).message(2, &shape);
        let info = Message::new().string(1, name).message(2, &Message::new().message(1, &tensor)).string(3, text);
        self.ends = std::mem::take(&mut self.ends).message(field, &info);
    }

    /// The whole file.
    pub fn into_model(self, about: &About) -> Message {
        let Self { nodes, constants, ends, .. } = self;
        // Weights are the bulk of it: each copy of them is let go of before the next is made.
        let graph = nodes.string(2, "dec").then(&constants);
        drop(constants);
        let graph = graph.then(&ends);
        let model = Message::new()
            .int(1, IR_VERSION)
            .string(2, "dec")
            .string(3, about.version)
            .string(6, about.text)
            .message(8, &Message::new().string(1, "").int(2, OPSET));
        let property = |(name, value): &(&str, String)| Message::new().string(1, name).string(2, value);
        let model = about.metadata.iter().map(property).fold(model, |model, property| model.message(14, &property));
        model.message(7, &graph)
    }
}
