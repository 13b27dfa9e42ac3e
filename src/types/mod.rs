//! Types whose values processes can share: which they are, what they are called, and how bytes that
//! another process wrote become a value.
//!
//! Two processes must mean the same by the bytes of a region. So a region holds the **tag** of its
//! type, eight bytes that follow from a type's name and fields ([`Shape`]). A process with another
//! type is refused when it opens the region.
//!
//! A tag cannot keep a hostile process from writing what it likes. So bytes are read as
//! [`Shareable::Bits`], a type of which every bit pattern is a value, and are checked before they
//! become a `bool`, a `char` or an enum.

#![allow(unsafe_code)]

mod layout;
mod shape;

use std::mem::MaybeUninit;
use std::ptr;

use bytemuck::{Pod, Zeroable};

use crate::error::{CallError, RecvError, SyncError};

pub use self::layout::check_layout;
pub use self::shape::Shape;
pub(crate) use self::shape::{hashed_name, tags_match, type_tag};

/// A type whose values pipes, queues and objects carry.
///
/// Numbers, `bool`, `char`, `()` and arrays of such types are `Shareable`. Derive it for structs
/// and enums of your own:
///
/// ```
/// use tombolo::{Shareable, pipe};
///
/// #[derive(Clone, Copy, Debug, PartialEq, Shareable)]
/// #[repr(u8)]
/// enum Side {
///     Buy,
///     Sell,
/// }
///
/// #[derive(Clone, Copy, Debug, PartialEq, Shareable)]
/// #[repr(C)]
/// struct Order {
///     price: f64,
///     volume: u32,
///     side: Side,
///     is_hidden: bool,
///     reserved: [u8; 2], // in the place of padding
/// }
///
/// let (mut tx, mut rx) = pipe::Options::<Order>::new().create()?;
/// let order = Order { price: 101.25, volume: 300, side: Side::Sell, is_hidden: false, reserved: [0; 2] };
/// tx.send(order)?;
/// assert_eq!(rx.recv()?, order);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The derive takes structs with `#[repr(C)]` or `#[repr(transparent)]` whose fields are
/// `Shareable`, and enums without fields with a representation such as `#[repr(u8)]`. They need
/// `Clone` and `Copy`. Padding is refused when you compile, and the message says where it is:
///
/// ```compile_fail,E0080
/// #[derive(Clone, Copy, tombolo::Shareable)]
/// #[repr(C)]
/// struct Order {
///     side: u8,
///     price: f64, // padding in `Order`: 7 bytes before the field `price`
/// }
/// ```
///
/// So is the padding of an enum:
///
/// ```compile_fail,E0080
/// #[derive(Clone, Copy, tombolo::Shareable)]
/// #[repr(u8, align(4))] // an enum with `align` has padding
/// enum Side {
///     Buy,
///     Sell,
/// }
/// ```
///
/// What cannot be shared is refused, too, with what to do instead:
///
/// ```compile_fail
/// #[derive(Clone, Copy, tombolo::Shareable)]
/// #[repr(C)]
/// struct Order {
///     volume: usize, // use a `u64`
/// }
/// ```
///
/// That goes by the last name of a field's type: a type of yours that is called `Box`, `Rc`, `Arc`,
/// `Vec`, `String` or `Option` is refused like the one of std. Give it another name.
///
/// A type of another crate that is [`Pod`] can be shared inside of [`Untagged`].
///
/// A crate that has tombolo from another crate says where, as for serde:
///
/// ```
/// # mod exchange { pub use tombolo; }
/// use exchange::tombolo::Shareable;
///
/// #[derive(Clone, Copy, Shareable)]
/// #[repr(C)]
/// #[shareable(crate = "exchange::tombolo")]
/// struct Tick {
///     price: f64,
///     volume: u64,
/// }
/// # fn main() {}
/// ```
///
/// # Invalid values
///
/// A process that is hostile, or that ignores the type, can write bytes that are no value of it: a
/// 2 where a `bool` is. The receiver gets [`RecvError::InvalidValue`] then, and the reader of an
/// object [`SyncError::InvalidValue`]. Types without such bytes, [`ANY_BITS`](Self::ANY_BITS), are
/// not checked.
///
/// # Safety
///
/// Use the derive, which keeps these rules:
///
/// - A value has no padding, no pointers and nothing that is not initialised.
/// - `Bits` is of the same size, and of the same or a smaller alignment.
/// - If `is_valid` returns true for some bits, these bits are a value.
/// - `ANY_BITS` is true only if `is_valid` always returns true.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be shared with other processes as it is",
    label = "this type does not implement `tombolo::Shareable`",
    note = "for a struct of your own, write `#[derive(Clone, Copy, tombolo::Shareable)]` and `#[repr(C)]` above it; for an enum without fields the same with `#[repr(u8)]`",
    note = "instead of a tuple use such a struct, instead of an `Option` such a struct with a `bool`, instead of a reference the value itself",
    note = "send a `String` or a `Vec` as a byte message (`Options::bytes()`); in a struct and in an object use a length and an array such as `[u8; 64]`",
    note = "for a type of another crate that implements `bytemuck::Pod` use `tombolo::types::Untagged`",
    note = "\"Types that can be shared\" in the documentation of `tombolo` has a table"
)]
pub unsafe trait Shareable: Copy + 'static {
    /// The same bytes, as a type of which every bit pattern is a value.
    type Bits: Pod;

    /// The name and the fields, from which the tag follows.
    const SHAPE: &'static Shape;

    /// Whether all bits are a value, so that nothing needs to be checked.
    const ANY_BITS: bool;

    /// Returns whether the bits are a value.
    fn is_valid(bits: &Self::Bits) -> bool;
}

macro_rules! primitives {
    ($($name:ty),*) => { $(
        // SAFETY: it has no padding, and every bit pattern is a value.
        unsafe impl Shareable for $name {
            type Bits = Self;

            const SHAPE: &'static Shape = &Shape::Primitive(stringify!($name));
            const ANY_BITS: bool = true;

            #[inline(always)]
            fn is_valid(_: &Self) -> bool {
                true
            }
        }
    )* };
}

primitives!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, ());

// SAFETY: a byte that is 0 or 1.
unsafe impl Shareable for bool {
    type Bits = u8;

    const SHAPE: &'static Shape = &Shape::Primitive("bool");
    const ANY_BITS: bool = false;

    #[inline]
    fn is_valid(bits: &u8) -> bool {
        *bits <= 1
    }
}

// SAFETY: a word of 32 bits that is a Unicode scalar value.
unsafe impl Shareable for char {
    type Bits = u32;

    const SHAPE: &'static Shape = &Shape::Primitive("char");
    const ANY_BITS: bool = false;

    #[inline]
    fn is_valid(bits: &u32) -> bool {
        char::from_u32(*bits).is_some()
    }
}

// SAFETY: elements one behind another, without padding.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {
    type Bits = [T::Bits; N];

    const SHAPE: &'static Shape = &Shape::Array { element: T::SHAPE, length: N };
    const ANY_BITS: bool = T::ANY_BITS;

    #[inline]
    fn is_valid(bits: &Self::Bits) -> bool {
        T::ANY_BITS || bits.iter().all(T::is_valid)
    }
}

/// A value of a type that implements [`Pod`] and is not compared with what other processes have:
/// for types of other crates.
///
/// It matches any type of the same size and alignment. An array of `Untagged` matches arrays of
/// that length only.
///
/// ```
/// use tombolo::sync::Value;
/// use tombolo::types::Untagged;
///
/// // Stands for a type that you cannot derive `Shareable` for.
/// type Vector = std::num::Wrapping<u64>;
///
/// let position = Value::new(Untagged(Vector::default()))?;
/// assert_eq!(position.load()?.0, Vector::default());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Untagged<T>(pub T);

// SAFETY: it is a `T`.
unsafe impl<T: Zeroable> Zeroable for Untagged<T> {}

// SAFETY: it is a `T`.
unsafe impl<T: Pod> Pod for Untagged<T> {}

// SAFETY: `Pod` says that it has no padding, and that every bit pattern is a value.
unsafe impl<T: Pod> Shareable for Untagged<T> {
    type Bits = T;

    const SHAPE: &'static Shape = &Shape::Any;
    const ANY_BITS: bool = true;

    #[inline(always)]
    fn is_valid(_: &T) -> bool {
        true
    }
}

/// Returns whether the bytes from `offset` on are a `T`. For the derive.
#[inline]
pub fn is_field_valid<T: Shareable>(bytes: &[u8], offset: usize) -> bool {
    const { assert!(bits_fit::<T>()) };
    let field = || bytes.get(offset..)?.get(..size_of::<T>());
    T::ANY_BITS || field().is_some_and(|field| T::is_valid(&bytemuck::pod_read_unaligned(field)))
}

/// The bytes are no value of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidValue;

impl From<InvalidValue> for CallError {
    fn from(_: InvalidValue) -> Self {
        Self::InvalidValue
    }
}

impl From<InvalidValue> for RecvError {
    fn from(_: InvalidValue) -> Self {
        Self::InvalidValue
    }
}

impl From<InvalidValue> for SyncError {
    fn from(_: InvalidValue) -> Self {
        Self::InvalidValue
    }
}

/// Room for a value, with bytes in it that are not checked yet.
pub(crate) struct Unchecked<T: Shareable>(MaybeUninit<T>);

impl<T: Shareable> Unchecked<T> {
    #[inline(always)]
    pub(crate) fn zeroed() -> Self {
        Self(MaybeUninit::zeroed())
    }

    #[inline(always)]
    pub(crate) fn from_bits(bits: T::Bits) -> Self {
        let mut value = Self::zeroed();
        *value.bits_mut() = bits;
        value
    }

    #[inline(always)]
    pub(crate) fn bits_mut(&mut self) -> &mut T::Bits {
        const { assert!(bits_fit::<T>()) };
        // SAFETY: `Bits` fits, and all bytes are initialised: they were zeros, and nothing but
        // `Bits` was stored since.
        unsafe { &mut *self.0.as_mut_ptr().cast() }
    }

    #[inline(always)]
    pub(crate) fn is_valid(&mut self) -> bool {
        T::ANY_BITS || T::is_valid(self.bits_mut())
    }

    /// Returns the value, or the error of the caller. By reference, and without an error to
    /// convert: each move of a large value is a copy.
    #[inline(always)]
    pub(crate) fn check<E: From<InvalidValue>>(&mut self) -> Result<T, E> {
        if !self.is_valid() {
            return Err(InvalidValue.into());
        }
        // SAFETY: these bits are a value.
        Ok(unsafe { self.0.as_ptr().read() })
    }
}

/// Whether `T::Bits` can lie where a `T` does.
const fn bits_fit<T: Shareable>() -> bool {
    size_of::<T>() == size_of::<T::Bits>() && align_of::<T>() >= align_of::<T::Bits>()
}

/// The bits of a value.
#[inline(always)]
pub(crate) fn bits_of<T: Shareable>(value: &T) -> &T::Bits {
    const { assert!(bits_fit::<T>()) };
    // SAFETY: `Bits` fits, and a value has no padding.
    unsafe { &*ptr::from_ref(value).cast() }
}

/// The bits of values.
#[inline(always)]
pub(crate) fn slice_bits_of<T: Shareable>(values: &[T]) -> &[T::Bits] {
    const { assert!(bits_fit::<T>()) };
    // SAFETY: `Bits` fits, and a value has no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}

/// The bits of values, to be replaced by any others. None: not all bits are a value.
#[inline(always)]
pub(crate) fn slice_bits_of_mut<T: Shareable>(values: &mut [T]) -> Option<&mut [T::Bits]> {
    const { assert!(bits_fit::<T>()) };
    // SAFETY: `Bits` fits, a value has no padding, and whatever is stored is a value.
    T::ANY_BITS.then(|| unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) })
}

/// Zeros, which never lie on the stack. None: not all bits are a value.
pub(crate) fn zeroed_vec<T: Shareable>(length: usize) -> Option<Vec<T>> {
    T::ANY_BITS.then(|| {
        let mut values = Vec::<T>::with_capacity(length);
        // SAFETY: there is room for them, and zeros are a value.
        unsafe {
            values.as_mut_ptr().write_bytes(0, length);
            values.set_len(length);
        }
        values
    })
}

/// Replaces a value by the bits that `load` stores. If they are no value, or `load` fails, a value
/// of a type that needs checks stays as it is.
#[inline(always)]
pub(crate) fn load_checked<T: Shareable, R, E: From<InvalidValue>>(
    value: &mut T,
    load: impl FnOnce(&mut T::Bits) -> Result<R, E>,
) -> Result<R, E> {
    if let Some([bits]) = slice_bits_of_mut(std::slice::from_mut(value)) {
        return load(bits);
    }
    load_and_check(value, load)
}

/// In a function of its own: a value of any bits may be too large for its stack.
#[inline]
fn load_and_check<T: Shareable, R, E: From<InvalidValue>>(
    value: &mut T,
    load: impl FnOnce(&mut T::Bits) -> Result<R, E>,
) -> Result<R, E> {
    let mut unchecked = Unchecked::<T>::zeroed();
    let done = load(unchecked.bits_mut())?;
    *value = unchecked.check::<E>()?;
    Ok(done)
}
