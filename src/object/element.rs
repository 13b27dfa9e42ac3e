//! What maps and lists can hold.

use crate::error::{ListError, MapError};
use crate::primitive::{AtomicU64, WORD, load_short, load_value_into};
use crate::raw::Corrupt;
use crate::region::layout::header::ElementType;
use crate::types::{InvalidValue, Shape, Shareable, Unchecked, bits_of};

/// A key or a value of a [`Map`](crate::collections::Map), or an element of a
/// [`List`](crate::collections::List): bytes (`[u8]`), text (`str`), or a type that is
/// [`Shareable`]. It is returned owned: a `Vec<u8>`, a `String`, or the type itself.
///
/// Elements are compared as bytes. So 0.0 and -0.0 are two keys of a map.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be in a map or a list",
    label = "it is neither bytes (`[u8]`), nor text (`str`), nor a type that implements `tombolo::Shareable`",
    note = "for a `String` write `str`, for a `Vec<u8>` write `[u8]`",
    note = "with the feature `serde` maps and lists of bytes take any value that serde can serialise (`insert_object`)"
)]
pub trait Element: sealed::Sealed {}

impl Element for [u8] {}
impl Element for str {}

#[diagnostic::do_not_recommend]
impl<T: Shareable> Element for T {}

/// Why there is no copy of an element. While it may be half of one and half of another, that means
/// nothing.
#[derive(Clone, Copy, Debug)]
pub enum Unreadable {
    InvalidValue,
    Corrupt,
    OutOfMemory,
}

impl From<InvalidValue> for Unreadable {
    fn from(_: InvalidValue) -> Self {
        Self::InvalidValue
    }
}

macro_rules! from_unreadable {
    ($($Error:ident),*) => { $(
        impl From<Unreadable> for $Error {
            #[cold]
            fn from(unreadable: Unreadable) -> Self {
                match unreadable {
                    Unreadable::InvalidValue => Self::InvalidValue,
                    Unreadable::Corrupt => Corrupt.into(),
                    Unreadable::OutOfMemory => Self::OutOfMemory,
                }
            }
        }
    )* };
}

from_unreadable!(MapError, ListError);

pub(crate) mod sealed {
    use super::*;

    pub trait Sealed: ToOwned {
        /// What its type is. None: bytes.
        const SHAPE: Option<&'static Shape>;
        /// Bytes of each. None: they have several lengths.
        const SIZE: Option<usize>;

        /// How a region describes it.
        fn element() -> ElementType;

        fn bytes(&self) -> &[u8];

        /// Copies it out of the region. What is there may be half of one and half of another: then
        /// the result is dropped.
        fn load(length: usize, words: &[AtomicU64]) -> Result<Self::Owned, Unreadable>;
    }

    impl Sealed for [u8] {
        const SHAPE: Option<&'static Shape> = None;
        const SIZE: Option<usize> = None;

        fn element() -> ElementType {
            ElementType::Bytes
        }

        #[inline]
        fn bytes(&self) -> &[u8] {
            self
        }

        #[inline]
        fn load(length: usize, words: &[AtomicU64]) -> Result<Vec<u8>, Unreadable> {
            let mut bytes = Vec::new();
            load_bytes_into(length, words, &mut bytes)?;
            Ok(bytes)
        }
    }

    impl Sealed for str {
        const SHAPE: Option<&'static Shape> = None;
        const SIZE: Option<usize> = None;

        fn element() -> ElementType {
            ElementType::Bytes
        }

        #[inline]
        fn bytes(&self) -> &[u8] {
            self.as_bytes()
        }

        #[inline]
        fn load(length: usize, words: &[AtomicU64]) -> Result<String, Unreadable> {
            String::from_utf8(<[u8]>::load(length, words)?).map_err(|_| Unreadable::InvalidValue)
        }
    }

    impl<T: Shareable> Sealed for T {
        const SHAPE: Option<&'static Shape> = Some(T::SHAPE);
        const SIZE: Option<usize> = Some(size_of::<T>());

        fn element() -> ElementType {
            ElementType::Value { size: size_of::<T>() as u64, align: align_of::<T>() as u64, tag: T::SHAPE.tag() }
        }

        #[inline]
        fn bytes(&self) -> &[u8] {
            bytemuck::bytes_of(bits_of(self))
        }

        #[inline]
        fn load(length: usize, words: &[AtomicU64]) -> Result<T, Unreadable> {
            if length != size_of::<T>() || words.len() != length.div_ceil(WORD) {
                return Err(Unreadable::Corrupt);
            }
            let mut value = Unchecked::<T>::zeroed();
            load_value_into(words, value.bits_mut());
            value.check()
        }
    }
}

/// Replaces what the buffer has.
#[inline]
pub(crate) fn load_bytes_into(length: usize, words: &[AtomicU64], bytes: &mut Vec<u8>) -> Result<(), Unreadable> {
    // The words are there, so the length is no more than the region has.
    if words.len() != length.div_ceil(WORD) {
        return Err(Unreadable::Corrupt);
    }
    bytes.clear();
    bytes.try_reserve(length).map_err(|_| Unreadable::OutOfMemory)?;
    bytes.resize(length, 0);
    load_short(words, bytes);
    Ok(())
}
