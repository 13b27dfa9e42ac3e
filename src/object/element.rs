//! What maps and lists can hold.

use std::os::fd::BorrowedFd;

use crate::error::{ListError, MapError};
use crate::primitive::{AtomicU64, WORD, load_short, load_value_into};
use crate::raw::Corrupt;
use crate::region::layout::header::ElementType;
use crate::sys::file;
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
    Forked,
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
                    Unreadable::Forked => Self::Forked,
                }
            }
        }
    )* };
}

from_unreadable!(MapError, ListError);

/// Where an element is, and its length in bytes.
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
    fn load(&self, buffer: &mut [u8]) -> Result<(), Unreadable> {
        match self {
            Self::Words { length, words } if words.len() == length.div_ceil(WORD) => load_short(words, buffer),
            Self::Words { .. } => return Err(Unreadable::Corrupt),
            Self::Extent { file, at, .. } => {
                file::read_exact_at(file, buffer, *at).map_err(|_| Unreadable::Corrupt)?;
            }
        }
        Ok(())
    }
}

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
        fn load(stored: &Stored<'_>) -> Result<Self::Owned, Unreadable>;
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
        fn load(stored: &Stored<'_>) -> Result<Vec<u8>, Unreadable> {
            let mut bytes = Vec::new();
            load_bytes_into(stored, &mut bytes)?;
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
        fn load(stored: &Stored<'_>) -> Result<String, Unreadable> {
            String::from_utf8(<[u8]>::load(stored)?).map_err(|_| Unreadable::InvalidValue)
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
        fn load(stored: &Stored<'_>) -> Result<T, Unreadable> {
            if stored.length() != size_of::<T>() {
                return Err(Unreadable::Corrupt);
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
pub(crate) fn load_bytes_into(stored: &Stored<'_>, bytes: &mut Vec<u8>) -> Result<(), Unreadable> {
    // What is there already need not be zeros.
    let length = stored.length();
    bytes.try_reserve(length.saturating_sub(bytes.len())).map_err(|_| Unreadable::OutOfMemory)?;
    bytes.resize(length, 0);
    stored.load(bytes)
}
