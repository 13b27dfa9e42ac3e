//! What keys and values of a map can be.

use std::os::fd::BorrowedFd;

use crate::error::MapError;
use crate::primitive::{AtomicU64, WORD, load_short, load_value_into};
use crate::region::layout::header::ElementType;
use crate::sys::file;
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

/// Where a key or a value is, and its length in bytes.
pub enum Stored<'a> {
    Words {
        length: usize,
        words: &'a [AtomicU64],
    },
    /// In a file, from that byte on.
    Extent {
        length: usize,
        file: BorrowedFd<'a>,
        at: u64,
    },
}

impl Stored<'_> {
    fn length(&self) -> usize {
        match self {
            Self::Words { length, .. } | Self::Extent { length, .. } => *length,
        }
    }

    /// Fills a buffer of its length.
    #[inline]
    fn load(&self, buffer: &mut [u8]) -> Result<(), MapError> {
        match self {
            Self::Words { length, words } if words.len() == length.div_ceil(WORD) => load_short(words, buffer),
            Self::Words { .. } => return Err(MapError::Corrupt),
            Self::Extent { file, at, .. } => {
                file::read_exact_at(file, buffer, *at).map_err(|_| MapError::Corrupt)?;
            }
        }
        Ok(())
    }
}

pub(crate) mod sealed {
    use super::*;

    pub trait Sealed: ToOwned {
        /// How a map's header describes it.
        fn element() -> ElementType;

        fn bytes(&self) -> &[u8];

        /// Copies it out of the map. What is there may be half of one and half of another: then the
        /// result is dropped.
        fn load(stored: &Stored<'_>) -> Result<Self::Owned, MapError>;
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
        fn load(stored: &Stored<'_>) -> Result<Vec<u8>, MapError> {
            let mut bytes = Vec::new();
            load_bytes_into(stored, &mut bytes)?;
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
        fn load(stored: &Stored<'_>) -> Result<String, MapError> {
            String::from_utf8(<[u8]>::load(stored)?).map_err(|_| MapError::InvalidValue)
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
        fn load(stored: &Stored<'_>) -> Result<T, MapError> {
            if stored.length() != size_of::<T>() {
                return Err(MapError::Corrupt);
            }
            let mut value = Unchecked::<T>::zeroed();
            match stored {
                Stored::Words { length, words } if words.len() == length.div_ceil(WORD) => {
                    load_value_into(words, value.bits_mut());
                }
                _ => stored.load(bytemuck::bytes_of_mut(value.bits_mut()))?,
            }
            value.check()
        }
    }
}

/// Replaces what the buffer has.
#[inline]
pub(super) fn load_bytes_into(stored: &Stored<'_>, bytes: &mut Vec<u8>) -> Result<(), MapError> {
    // What is there already need not be zeros.
    let length = stored.length();
    bytes.try_reserve(length.saturating_sub(bytes.len())).map_err(|_| MapError::OutOfMemory)?;
    bytes.resize(length, 0);
    stored.load(bytes)
}
