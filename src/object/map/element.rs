//! What keys and values of a map can be.

use crate::error::MapError;
use crate::primitive::{AtomicU64, WORD, load_short, load_value_into};
use crate::region::layout::header::ElementType;
use crate::types::{Shareable, Unchecked, bits_of};

/// A key or a value of a [`Map`](crate::collections::Map): bytes (`[u8]`), text (`str`), or a type
/// that is [`Shareable`]. A map returns it owned: a `Vec<u8>`, a `String`, or the type itself.
///
/// Keys are compared as bytes. So 0.0 and -0.0 are two keys.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key or a value of a map",
    label = "it is neither bytes (`[u8]`), nor text (`str`), nor a type that implements `tombolo::Shareable`",
    note = "for a `String` write `str`, for a `Vec<u8>` write `[u8]`",
    note = "with the feature `serde` a map of bytes takes any value that serde can serialise (`insert_object`)"
)]
pub trait Element: sealed::Sealed {}

impl Element for [u8] {}
impl Element for str {}

#[diagnostic::do_not_recommend]
impl<T: Shareable> Element for T {}

pub(crate) mod sealed {
    use super::*;

    pub trait Sealed: ToOwned {
        /// How a map's header describes it.
        fn element() -> ElementType;

        fn bytes(&self) -> &[u8];

        /// Copies it out of the map. What is there may be half of one and half of another: then the
        /// result is dropped.
        fn load(length: usize, words: &[AtomicU64]) -> Result<Self::Owned, MapError>;
    }

    impl Sealed for [u8] {
        fn element() -> ElementType {
            ElementType::Bytes
        }

        #[inline]
        fn bytes(&self) -> &[u8] {
            self
        }

        #[inline]
        fn load(length: usize, words: &[AtomicU64]) -> Result<Vec<u8>, MapError> {
            let mut bytes = Vec::new();
            load_bytes_into(length, words, &mut bytes)?;
            Ok(bytes)
        }
    }

    impl Sealed for str {
        fn element() -> ElementType {
            ElementType::Bytes
        }

        #[inline]
        fn bytes(&self) -> &[u8] {
            self.as_bytes()
        }

        #[inline]
        fn load(length: usize, words: &[AtomicU64]) -> Result<String, MapError> {
            String::from_utf8(<[u8]>::load(length, words)?).map_err(|_| MapError::InvalidValue)
        }
    }

    impl<T: Shareable> Sealed for T {
        fn element() -> ElementType {
            ElementType::Value { size: size_of::<T>() as u64, align: align_of::<T>() as u64, tag: T::SHAPE.tag() }
        }

        #[inline]
        fn bytes(&self) -> &[u8] {
            bytemuck::bytes_of(bits_of(self))
        }

        #[inline]
        fn load(length: usize, words: &[AtomicU64]) -> Result<T, MapError> {
            if length != size_of::<T>() || words.len() != length.div_ceil(WORD) {
                return Err(MapError::Corrupt);
            }
            let mut value = Unchecked::<T>::zeroed();
            load_value_into(words, value.bits_mut());
            value.check()
        }
    }
}

/// Replaces what the buffer has.
#[inline]
pub(super) fn load_bytes_into(length: usize, words: &[AtomicU64], bytes: &mut Vec<u8>) -> Result<(), MapError> {
    // The words are there, so the length is no more than the region has.
    if words.len() != length.div_ceil(WORD) {
        return Err(MapError::Corrupt);
    }
    bytes.clear();
    bytes.try_reserve(length).map_err(|_| MapError::OutOfMemory)?;
    bytes.resize(length, 0);
    load_short(words, bytes);
    Ok(())
}
