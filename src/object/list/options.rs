//! What a list is to be like.

use std::fmt;
use std::marker::PhantomData;

use crate::object::element::Element;
use crate::object::kind::ObjectKind;
use crate::object::spec::ObjectSpec;
use crate::region::layout::header::ElementType;

/// Elements unless the options say how many.
const DEFAULT_LENGTH: usize = 1024;
/// Bytes of an element of bytes or of text, unless the options say how many. With its length it is
/// four cache lines long.
const DEFAULT_BYTES: u64 = 248;

/// What a [`List`](crate::collections::List) is to be like: the type of its elements, how many
/// there can be, and how long they can be if they are bytes or text.
///
/// # Memory
///
/// A list has all of its memory from the beginning: about twice what its elements need if all have
/// the greatest length, and some for each process that can use it. For 10,000 numbers of 8 bytes
/// that is 1.3 MB, of which 1.1 MB are for the 64 processes that can use a list unless its
/// namespace says
/// [otherwise](crate::NamespaceBuilder::max_participants). The system provides it when it is first
/// written.
///
/// # Examples
/// ```
/// use tombolo::collections::{List, list};
///
/// let squares = List::new(&list::Options::<u64>::new().max_length(100))?;
/// squares.extend_from_slice(&[0, 1, 4, 9])?;
/// assert_eq!((squares.len()?, squares.max_length()), (4, 100));
///
/// let names = List::new(&list::Options::<str>::new().max_element_bytes(40))?;
/// names.push("Ada")?;
/// assert!(names.push(&"x".repeat(41)).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "options make nothing until they are given to a list or a namespace"]
pub struct Options<E: Element + ?Sized> {
    max_length: usize,
    max_element_bytes: Option<usize>,
    element: PhantomData<fn(&E) -> Box<E>>,
}

impl<E: Element + ?Sized> Options<E> {
    /// Options for a list of elements of the type `E`, at most 1024 of them. If that is `[u8]` or
    /// `str`, each has up to 248 bytes.
    pub fn new() -> Self {
        Self { max_length: DEFAULT_LENGTH, max_element_bytes: None, element: PhantomData }
    }

    /// How many elements there can be. 1024 unless set.
    pub fn max_length(mut self, length: usize) -> Self {
        self.max_length = length;
        self
    }

    /// How many bytes an element of bytes or text can have. 248 unless set. Creating a list of
    /// another type with it is an error: its elements have the size of their type.
    pub fn max_element_bytes(mut self, bytes: usize) -> Self {
        self.max_element_bytes = Some(bytes);
        self
    }

    pub(crate) fn spec(&self) -> ObjectSpec {
        let (default, size, align) = match E::element() {
            ElementType::Bytes => (DEFAULT_BYTES, 0, 1),
            ElementType::Value { size, align, .. } => (0, size, align),
        };
        let max_element_bytes = self.max_element_bytes.map_or(default, |bytes| bytes as u64);
        let spec = ObjectSpec::without_value(ObjectKind::List, self.max_length as u64);
        ObjectSpec { size, align, max_element_bytes, ..spec }.with_shape(E::SHAPE)
    }
}

impl<E: Element + ?Sized> Default for Options<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Element + ?Sized> Clone for Options<E> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<E: Element + ?Sized> fmt::Debug for Options<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("element", &E::element())
            .field("max_length", &self.max_length)
            .field("max_element_bytes", &self.max_element_bytes)
            .finish()
    }
}
