//! A number that any process may change in one step.
//!
//! ```text
//! words
//!      0  value  in its lower bytes
//! ```

use std::marker::PhantomData;

use crate::error;
use crate::object::kind::{Description, Kind, ObjectKind, ObjectWords};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, object};
use crate::primitive::{Ordering, WORD, load_bytes};
use crate::region::words::Word;
use crate::types::Shareable;

/// An integer or a float in shared memory that is changed in single steps, without a lock.
///
/// All operations are sequentially consistent. None of them blocks, fails or makes a system call. A
/// forked child may use the handle of its parent, and so may a signal handler. Integers wrap.
///
/// ```
/// use tombolo::sync::AtomicValue;
///
/// let hits = AtomicValue::new(0_u32)?;
/// assert_eq!(hits.fetch_add(2), 0);
/// assert_eq!(hits.compare_exchange(2, 7), Ok(2));
/// assert_eq!(hits.load(), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AtomicValue<T> {
    handle: Handle,
    word: Word,
    number: PhantomData<fn(T) -> T>,
}

/// A number of at most 64 bits.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a number that an `AtomicValue` can hold",
    label = "not an integer or a float of at most 64 bits",
    note = "for a `bool` use a `u8`, for any other type a `Value` or a `Mutex`"
)]
pub trait Number: Shareable + PartialOrd + sealed::Bits {}

/// An integer of at most 64 bits.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an integer that an `AtomicValue` can hold",
    label = "not an integer of at most 64 bits"
)]
pub trait Integer: Number {}

mod sealed {
    use crate::region::words::Word;

    pub trait Bits {
        fn to_bits(self) -> u64;
        /// Ignores the bits that the type does not have.
        fn from_bits(bits: u64) -> Self;
        fn fetch_add(word: &Word, delta: Self) -> Self;
        fn fetch_sub(word: &Word, delta: Self) -> Self;
    }
}

use sealed::Bits;

macro_rules! integers {
    ($($integer:ident)*) => { $(
        impl Bits for $integer {
            fn to_bits(self) -> u64 {
                self as u64
            }

            fn from_bits(bits: u64) -> Self {
                bits as Self
            }

            // The upper bits of a short one count along, and are of no interest.
            #[inline]
            fn fetch_add(word: &Word, delta: Self) -> Self {
                word.fetch_add(delta as u64, Ordering::SeqCst) as Self // edge: atomic-value
            }

            #[inline]
            fn fetch_sub(word: &Word, delta: Self) -> Self {
                word.fetch_sub(delta as u64, Ordering::SeqCst) as Self // edge: atomic-value
            }
        }

        impl Number for $integer {}
        impl Integer for $integer {}
    )* };
}

integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

macro_rules! floats {
    ($($float:ident)*) => { $(
        impl Bits for $float {
            fn to_bits(self) -> u64 {
                self.to_bits().into()
            }

            fn from_bits(bits: u64) -> Self {
                Self::from_bits(bits as _)
            }

            fn fetch_add(word: &Word, delta: Self) -> Self {
                update_bits(word, |value: Self| Some(value + delta)).unwrap_or_else(|value| value)
            }

            fn fetch_sub(word: &Word, delta: Self) -> Self {
                update_bits(word, |value: Self| Some(value - delta)).unwrap_or_else(|value| value)
            }
        }

        impl Number for $float {}
    )* };
}

floats!(f32 f64);

/// Replaces the number by what `update` returns, until no other process interferes. Returns the one
/// before, as an error if `update` returned None.
fn update_bits<T: Bits + Copy>(word: &Word, mut update: impl FnMut(T) -> Option<T>) -> Result<T, T> {
    let mut seen = word.load(Ordering::SeqCst); // edge: atomic-value
    loop {
        let before = T::from_bits(seen);
        let after = update(before).ok_or(before)?;
        // edge: atomic-value
        match word.compare_exchange_weak(seen, after.to_bits(), Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return Ok(before),
            Err(now) => seen = now,
        }
    }
}

impl<T: Number> AtomicValue<T> {
    /// Returns the value.
    #[inline]
    pub fn load(&self) -> T {
        T::from_bits(self.word.load(Ordering::SeqCst)) // edge: atomic-value
    }

    /// Replaces the value.
    #[inline]
    pub fn store(&self, value: T) {
        self.word.store(value.to_bits(), Ordering::SeqCst); // edge: atomic-value
    }

    /// Replaces the value. Returns the previous value.
    #[inline]
    pub fn swap(&self, value: T) -> T {
        T::from_bits(self.word.swap(value.to_bits(), Ordering::SeqCst)) // edge: atomic-value
    }

    /// Replaces the value if it equals `current`. Returns the previous value, as an error if it was
    /// another.
    ///
    /// The bits are compared. So a NaN can be equal, and zeros of different sign are not.
    #[inline]
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        let expected = T::from_bits(current.to_bits()).to_bits();
        update_bits(&self.word, |value: T| (value.to_bits() == expected).then_some(new))
    }

    /// Adds to the value. Returns the previous value.
    #[inline]
    pub fn fetch_add(&self, delta: T) -> T {
        T::fetch_add(&self.word, delta)
    }

    /// Subtracts from the value. Returns the previous value.
    #[inline]
    pub fn fetch_sub(&self, delta: T) -> T {
        T::fetch_sub(&self.word, delta)
    }

    /// Replaces the value with `other` if that is larger. Returns the previous value.
    pub fn fetch_max(&self, other: T) -> T {
        self.fetch_update(|value| (other > value).then_some(other)).unwrap_or_else(|value| value)
    }

    /// Replaces the value with `other` if that is smaller. Returns the previous value.
    pub fn fetch_min(&self, other: T) -> T {
        self.fetch_update(|value| (other < value).then_some(other)).unwrap_or_else(|value| value)
    }

    /// Replaces the value with what `update` returns for it. If others change it meanwhile,
    /// `update` is called again. Returns the previous value, as an error if `update` returned
    /// `None`.
    pub fn fetch_update(&self, update: impl FnMut(T) -> Option<T>) -> Result<T, T> {
        update_bits(&self.word, update)
    }
}

impl<T: Integer> AtomicValue<T> {
    /// Replaces the value with its bitwise "and" with `mask`. Returns the previous value.
    #[inline]
    pub fn fetch_and(&self, mask: T) -> T {
        T::from_bits(self.word.fetch_and(mask.to_bits(), Ordering::SeqCst)) // edge: atomic-value
    }

    /// Replaces the value with its bitwise "or" with `mask`. Returns the previous value.
    #[inline]
    pub fn fetch_or(&self, mask: T) -> T {
        T::from_bits(self.word.fetch_or(mask.to_bits(), Ordering::SeqCst)) // edge: atomic-value
    }

    /// Replaces the value with its bitwise "xor" with `mask`. Returns the previous value.
    #[inline]
    pub fn fetch_xor(&self, mask: T) -> T {
        T::from_bits(self.word.fetch_xor(mask.to_bits(), Ordering::SeqCst)) // edge: atomic-value
    }
}

impl<T: Shareable> AtomicValue<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        Self { word: handle.word(0), handle, number: PhantomData }
    }
}

object!(AtomicValue<T>, ObjectSpec::of::<T>(ObjectKind::Atomic, 0), |this| &this.handle);

pub(super) struct AtomicKind;

impl Kind for AtomicKind {
    fn name(&self) -> &'static str {
        "atomic"
    }

    fn check(&self, spec: &ObjectSpec) -> error::Result<()> {
        spec.expect_value()?;
        if !spec.is_word_sized() {
            return spec.refuse("size of a number", spec.size, "1, 2, 4 or 8 bytes", "use a value");
        }
        spec.expect_no_count()
    }

    fn footprint(&self, _: &ObjectSpec, _: usize) -> Option<usize> {
        Some(1)
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        let mut bytes = vec![0; (object.spec.size as usize).min(WORD)];
        load_bytes(&object.words(0, 1), &mut bytes);
        Description { value: Some(object.spec.format_value(&bytes)), ..Description::default() }
    }
}

const _: () = assert!(WORD == 8, "a number lies at the front of its word");
