//! What a list is to be like.

use std::fmt;
use std::marker::PhantomData;

use crate::object::kind::ObjectKind;
use crate::object::spec::ObjectSpec;
use crate::types::Shareable;

/// Elements unless the options say how many.
const DEFAULT_LENGTH: usize = 1024;

/// What a [`List`](crate::collections::List) is to be like: the type of its elements, and how many
/// there can be.
///
/// # Memory
///
/// A list has all of its memory from the beginning: about twice what its elements need, and some
/// for each process that can use it. The system provides it when it is first written.
///
/// # Examples
/// ```
/// use tombolo::collections::{List, list};
///
/// let squares = List::new(&list::Options::<u64>::new().max_length(100))?;
/// squares.extend_from_slice(&[0, 1, 4, 9])?;
/// assert_eq!((squares.len()?, squares.max_length()), (4, 100));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "options make nothing until they are given to a list or a namespace"]
pub struct Options<T: Shareable> {
    max_length: usize,
    element: PhantomData<fn(T) -> T>,
}

impl<T: Shareable> Options<T> {
    /// Options for a list of elements of the type `T`, at most 1024 of them.
    pub fn new() -> Self {
        Self { max_length: DEFAULT_LENGTH, element: PhantomData }
    }

    /// How many elements there can be. 1024 unless set.
    pub fn max_length(mut self, length: usize) -> Self {
        self.max_length = length;
        self
    }

    pub(crate) fn spec(&self) -> ObjectSpec {
        ObjectSpec::of::<T>(ObjectKind::List, self.max_length as u64)
    }
}

impl<T: Shareable> Default for Options<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Shareable> Clone for Options<T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<T: Shareable> fmt::Debug for Options<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("max_length", &self.max_length).finish_non_exhaustive()
    }
}
