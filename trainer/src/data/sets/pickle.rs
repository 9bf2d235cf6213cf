//! As much of Python's pickle as CIFAR's files need: dictionaries, lists, numbers, texts, and numpy's byte arrays.
//!
//! There are crates for pickles, but they drop what an object is built from, and so an array's content. Nothing is ever
//! called: an array is recognised by how it is rebuilt, anything else that would need a call is an error.
//!
//! # Reference
//! CPython, `Lib/pickletools.py`: the operations and what each does to the stack.

use std::collections::BTreeMap;

use super::files::malformed;
use crate::Result;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Integer(i64),
    /// A text, or bytes.
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dictionary(Vec<(Value, Value)>),
    /// The name of a class or function.
    Global(String),
    /// The content of a numpy array of bytes.
    Array(Vec<u8>),
    /// Something whose content is of no interest, such as an array's type.
    Opaque,
}

impl Value {
    /// The entry of a dictionary, by its key.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Dictionary(entries) => entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value),
            _ => None,
        }
    }

    /// A text's characters.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

/// Reads a pickle of protocol 1 to 4; `name` is for errors.
pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Value> {
    let mut machine = Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: BTreeMap::new() };
    machine.run().ok_or_else(|| {
        malformed(
            name,
            "a pickle of lists, numbers, texts and byte arrays",
            format!("something else at byte {}", machine.at),
        )
    })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: BTreeMap<usize, Value>,
}

impl Machine<'_> {
    fn run(&mut self) -> Option<Value> {
        loop {
            let value = match self.take(1)?[0] {
                b'.' => return self.stack.pop(),
                // PROTO, FRAME
                0x80 => self.skip(1)?,
                0x95 => self.skip(8)?,
                b'(' => {
                    self.marks.push(self.stack.len());
                    None
                }
                b'N' => Some(Value::None),
                0x88 => Some(Value::Integer(1)),
                0x89 => Some(Value::Integer(0)),
                b'K' => Some(Value::Integer(self.number(1)? as i64)),
                b'M' => Some(Value::Integer(self.number(2)? as i64)),
                b'J' => Some(Value::Integer(i64::from(self.number(4)? as u32 as i32))),
                b'I' => Some(Value::Integer(self.line()?.parse().ok()?)),
                // LONG1: little-endian, two's complement.
                0x8a => {
                    let length = self.number(1)?;
                    let number = self.number(length.min(9))?;
                    (length < 8).then_some(Value::Integer(number as i64))?.into()
                }
                b'U' | b'C' | 0x8c => self.counted(1)?,
                b'T' | b'B' | b'X' => self.counted(4)?,
                0x8e | 0x8d => self.counted(8)?,
                b'c' => Some(Value::Global(format!("{}.{}", self.line()?, self.line()?))),
                0x93 => {
                    let (name, module) = (self.stack.pop()?, self.stack.pop()?);
                    Some(Value::Global(format!("{}.{}", module.text()?, name.text()?)))
                }
                b']' => Some(Value::List(Vec::new())),
                b'}' => Some(Value::Dictionary(Vec::new())),
                b')' => Some(Value::Tuple(Vec::new())),
                b't' => Some(Value::Tuple(self.marked()?)),
                b'l' => Some(Value::List(self.marked()?)),
                count @ 0x85..=0x87 => {
                    let start = self.stack.len().checked_sub(usize::from(count - 0x84))?;
                    Some(Value::Tuple(self.stack.split_off(start)))
                }
                b'a' => {
                    let value = self.stack.pop()?;
                    self.append(vec![value])?
                }
                b'e' => {
                    let values = self.marked()?;
                    self.append(values)?
                }
                b's' => {
                    let start = self.stack.len().checked_sub(2)?;
                    let entry = self.stack.split_off(start);
                    self.insert(entry)?
                }
                b'u' => {
                    let entries = self.marked()?;
                    self.insert(entries)?
                }
                b'q' => self.number(1).and_then(|key| self.remember(key))?,
                b'r' => self.number(4).and_then(|key| self.remember(key))?,
                b'p' => self.line()?.parse().ok().and_then(|key| self.remember(key))?,
                0x94 => self.remember(self.memo.len())?,
                b'h' => Some(self.number(1).and_then(|key| self.memo.get(&key).cloned())?),
                b'j' => Some(self.number(4).and_then(|key| self.memo.get(&key).cloned())?),
                b'g' => Some(self.line()?.parse().ok().and_then(|key: usize| self.memo.get(&key).cloned())?),
                b'R' => {
                    let (arguments, function) = (self.stack.pop()?, self.stack.pop()?);
                    Some(called(&function, arguments)?)
                }
                b'b' => {
                    let (state, object) = (self.stack.pop()?, self.stack.pop()?);
                    Some(built(object, state)?)
                }
                _ => return None,
            };
            self.stack.extend(value);
        }
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<Option<Value>> {
        self.take(count).map(|_| None)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        self.take(bytes)
            .filter(|bytes| bytes.len() <= 8)
            .map(|b| b.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    fn line(&mut self) -> Option<String> {
        let length = self.bytes.get(self.at..)?.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1)?;
        Some(line)
    }

    fn counted(&mut self, bytes: usize) -> Option<Option<Value>> {
        let length = self.number(bytes)?;
        self.take(length).map(|bytes| Some(Value::Bytes(bytes.to_vec())))
    }

    fn marked(&mut self) -> Option<Vec<Value>> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len())?;
        Some(self.stack.split_off(mark))
    }

    fn append(&mut self, values: Vec<Value>) -> Option<Option<Value>> {
        match self.stack.last_mut()? {
            Value::List(list) => list.extend(values),
            _ => return None,
        }
        Some(None)
    }

    fn insert(&mut self, entries: Vec<Value>) -> Option<Option<Value>> {
        let Value::Dictionary(dictionary) = self.stack.last_mut()? else { return None };
        let mut entries = entries.into_iter();
        while let Some(key) = entries.next() {
            dictionary.push((key, entries.next()?));
        }
        Some(None)
    }

    /// Lists and dictionaries are never referred to again in these files; keeping them would copy every image.
    fn remember(&mut self, key: usize) -> Option<Option<Value>> {
        let value = match self.stack.last()? {
            Value::List(_) | Value::Dictionary(_) | Value::Array(_) => Value::Opaque,
            value => value.clone(),
        };
        self.memo.insert(key, value);
        Some(None)
    }
}

/// What the calls in these files make: an empty array, its type, or bytes out of a text.
fn called(function: &Value, arguments: Value) -> Option<Value> {
    let Value::Global(name) = function else { return None };
    match (name.as_str(), arguments) {
        ("numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct", _) => {
            Some(Value::Array(Vec::new()))
        }
        ("numpy.dtype", _) => Some(Value::Opaque),
        // How Python 3 writes bytes in protocol 2: each as a character.
        ("_codecs.encode", Value::Tuple(arguments)) => {
            let bytes: Option<Vec<u8>> =
                arguments.first()?.text()?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
            bytes.map(Value::Bytes)
        }
        _ => None,
    }
}

/// An array's state is its version, shape, type, order and content.
fn built(object: Value, state: Value) -> Option<Value> {
    match (object, state) {
        (Value::Array(_), Value::Tuple(mut state)) => match (state.pop()?, state.pop()?) {
            (Value::Bytes(bytes), Value::Integer(0)) => Some(Value::Array(bytes)),
            _ => None,
        },
        (Value::Opaque, _) => Some(Value::Opaque),
        _ => None,
    }
}
