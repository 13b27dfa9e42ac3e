//! An array whose elements any process may get and set whole.
//!
//! ```text
//! words
//!      0  state            the lock
//!      1  event
//!      2  backoff request
//!     16  elements         side by side, or a seqlock each: committed, writing, two buffers
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{self, SyncError};
use crate::object::kind::{Description, ELEMENTS_OFFSET, Kind, ObjectKind, ObjectWords, STATE};
use crate::object::lock::{self, LockGuard, ObjectLock};
use crate::object::mutex::{LockResult, with_history};
use crate::object::seq_cell::{self, BackoffRequest};
use crate::object::spec::{Buffers, InitialValue, ObjectSpec};
use crate::object::{Handle, object};
use crate::primitive::{AtomicU64, Ordering, WORD, load_bytes, load_value_into, store_bytes, store_value};
use crate::raw::Corrupt;
use crate::raw::robust_lock::History;
use crate::raw::seqlock::{CONTROL, SeqLockView};
use crate::region::layout::header::ElementType;
use crate::region::words::Words;
use crate::types::{Shareable, Unchecked, bits_of, load_checked, slice_bits_of, slice_bits_of_mut, zeroed_vec};
use crate::wait::Timeout;

/// An array in shared memory. Its length is fixed when it is created.
///
/// Each element is read and written whole. [`get`](Self::get) and [`set`](Self::set) concern one
/// element only. Change what belongs together under the [`lock`](Self::lock).
/// [`snapshot`](Self::snapshot) is atomic with respect to locked sections and to
/// [`store_from`](Self::store_from). If a process dies inside one, the next `lock` returns
/// [`OwnerDied`](crate::sync::LockError::OwnerDied).
///
/// Elements of 1, 2, 4 and 8 bytes lie side by side and are set without a lock. Elements of other
/// sizes take two buffers each, and setting one takes the lock for a moment.
///
/// ```
/// use tombolo::sync::{Array, LockError};
///
/// let levels = Array::<f64>::new(&[0.0; 10])?;
/// levels.set(3, 101.25)?;
/// levels.store_from(4, &[101.5, 101.75])?;
/// assert_eq!(levels.get(5)?, 101.75);
///
/// let mut section = levels.lock().or_else(LockError::into_guard)?;
/// let best = section.get(3)?;
/// section.set(3, best + 0.25)?;
/// drop(section);
/// assert_eq!(levels.snapshot()?[3..6], [101.5, 101.5, 101.75]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Implementation: atomic words for short elements, Boehm's seqlock with two buffers for others, in
/// `raw/seqlock.rs`.
#[derive(Clone)]
pub struct Array<T> {
    lock: ObjectLock,
    elements: Words,
    backoff: Arc<BackoffRequest>,
    length: usize,
    element: PhantomData<fn(T) -> T>,
}

impl<T: Shareable> Array<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let length = handle.spec.count as usize;
        let elements = handle.words(ELEMENTS_OFFSET, elements_words(&handle.spec).unwrap_or(0));
        let backoff = Arc::new(BackoffRequest::new(handle.word(words::BACKOFF)));
        Self { lock: ObjectLock::new(handle, STATE), elements, backoff, length, element: PhantomData }
    }

    /// Elements per word, if they are parts of words.
    const PER_WORD: Option<usize> = match size_of::<T>() {
        1 | 2 | 4 | 8 => Some(WORD / size_of::<T>()),
        _ => None,
    };

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns whether there are no elements, which is never so.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Checks that there are `count` elements from `start` on.
    fn check(&self, start: usize, count: usize) -> Result<(), SyncError> {
        match start.checked_add(count) {
            Some(end) if end <= self.length => Ok(()),
            end => Err(SyncError::OutOfBounds { index: end.unwrap_or(usize::MAX), length: self.length }),
        }
    }

    fn check_index(&self, index: usize) -> Result<(), SyncError> {
        if index < self.length { Ok(()) } else { Err(SyncError::OutOfBounds { index, length: self.length }) }
    }

    /// Returns one element. A large one is better loaded by [`load_into`](Self::load_into), and set
    /// by [`store_from`](Self::store_from), which do not put it on the stack.
    ///
    /// # Blocking
    ///
    /// Never, and makes no system call.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](SyncError::OutOfBounds), [`InvalidValue`](SyncError::InvalidValue),
    /// [`Corrupt`](SyncError::Corrupt).
    #[inline]
    pub fn get(&self, index: usize) -> Result<T, SyncError> {
        self.get_unchecked(index)?.check()
    }

    #[inline]
    fn get_unchecked(&self, index: usize) -> Result<Unchecked<T>, SyncError> {
        self.check_index(index)?;
        match Self::PER_WORD {
            Some(per_word) => {
                let word = self.elements.get(index / per_word).ok_or(Corrupt)?;
                let bytes = word.load(Ordering::Acquire).to_ne_bytes(); // edge: array-element
                let part = bytes.get(index % per_word * size_of::<T>()..).and_then(|rest| rest.get(..size_of::<T>()));
                Ok(Unchecked::from_bits(bytemuck::pod_read_unaligned(part.ok_or(Corrupt)?)))
            }
            None => self.get_wide(index),
        }
    }

    fn get_wide(&self, index: usize) -> Result<Unchecked<T>, SyncError> {
        let on_retry = |retries| self.backoff.on_retry(retries);
        Ok(self.seq_lock(index)?.read(seq_cell::load_unchecked, on_retry)?.0)
    }

    /// Copies a wide element, which may be too large for the stack.
    fn load_wide_into(&self, index: usize, value: &mut T) -> Result<(), SyncError> {
        let (seq_lock, on_retry) = (self.seq_lock(index)?, |retries| self.backoff.on_retry(retries));
        load_checked(value, |bits| {
            seq_lock.read(|words| load_value_into(words, bits), on_retry)?;
            Ok(())
        })
    }

    fn seq_lock(&self, index: usize) -> Result<SeqLockView<'_>, SyncError> {
        let value_words = size_of::<T>().div_ceil(WORD);
        let stride = cell_stride(value_words);
        let words = index.checked_mul(stride).and_then(|start| self.elements.get(start..)?.get(..stride));
        let (control, buffers) = words.and_then(|words| words.split_at_checked(CONTROL)).ok_or(Corrupt)?;
        SeqLockView::view(control, buffers, value_words, words::BUFFERS as u64).ok_or_else(|| Corrupt.into())
    }

    /// Replaces one element.
    ///
    /// # Blocking
    ///
    /// Never for elements of 1, 2, 4 or 8 bytes. Otherwise like [`lock`](Self::lock).
    ///
    /// # Errors
    ///
    /// - [`OutOfBounds`](SyncError::OutOfBounds).
    /// - For elements of other sizes also [`WouldDeadlock`](SyncError::WouldDeadlock) if this
    ///   thread holds the lock (use the guard), [`Forked`](SyncError::Forked),
    ///   [`Corrupt`](SyncError::Corrupt) and [`LockLost`](SyncError::LockLost).
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), SyncError> {
        self.check_index(index)?;
        if Self::PER_WORD.is_some() {
            return self.write_element(index, &value);
        }
        let _guard = self.lock_unreported()?;
        self.write_element(index, &value)
    }

    /// Writes an element that is there, with the lock held if that takes it.
    #[inline]
    fn write_element(&self, index: usize, value: &T) -> Result<(), SyncError> {
        match Self::PER_WORD {
            Some(1) => {
                let word = self.elements.get(index).ok_or(Corrupt)?;
                word.store(value_bits(value), Ordering::Release); // edge: array-element
            }
            Some(per_word) => {
                let word = self.elements.get(index / per_word).ok_or(Corrupt)?;
                write_subword(word, index % per_word, value);
            }
            None => {
                let version = self.seq_lock(index)?.write(|words| store_value(words, bits_of(value)));
                self.backoff.pause_if_requested(version, size_of::<T>());
            }
        }
        Ok(())
    }

    /// Replaces the elements from `start` on.
    ///
    /// [`snapshot`](Self::snapshot) and [`lock`](Self::lock) see all of them replaced, or none.
    /// [`get`](Self::get) sees them one by one. A process that is killed leaves some of them
    /// replaced, and the next `lock` reports its death.
    ///
    /// # Blocking
    ///
    /// Like [`lock`](Self::lock).
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), and [`OutOfBounds`](SyncError::OutOfBounds) before anything
    /// is replaced.
    pub fn store_from(&self, start: usize, values: &[T]) -> Result<(), SyncError> {
        self.check(start, values.len())?;
        let _guard = self.lock_unreported()?;
        self.write_range(start, values)
    }

    fn write_range(&self, start: usize, values: &[T]) -> Result<(), SyncError> {
        let Some(per_word) = Self::PER_WORD else {
            return (start..).zip(values).try_for_each(|(index, value)| self.write_element(index, value));
        };
        // Single elements up to the next whole word, then words, then what is left.
        let head = (start.next_multiple_of(per_word) - start).min(values.len());
        let (head, rest) = values.split_at_checked(head).unwrap_or((values, &[]));
        let whole = rest.len() / per_word * per_word;
        let (body, tail) = rest.split_at_checked(whole).unwrap_or((rest, &[]));
        (start..).zip(head).try_for_each(|(index, value)| self.write_element(index, value))?;
        let first = (start + head.len()) / per_word;
        let words = self.elements.get(first..).unwrap_or_default();
        for (word, part) in words.iter().zip(body.chunks_exact(per_word)) {
            let mut bytes = [0; WORD];
            bytes.copy_from_slice(bytemuck::cast_slice(slice_bits_of(part)));
            word.store(u64::from_ne_bytes(bytes), Ordering::Release); // edge: array-element
        }
        let after = start + head.len() + body.len();
        (after..).zip(tail).try_for_each(|(index, value)| self.write_element(index, value))
    }

    /// Copies elements from `start` on, each whole, until `values` is full.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get). `values` may have been written to in part then.
    pub fn load_into(&self, start: usize, values: &mut [T]) -> Result<(), SyncError> {
        self.check(start, values.len())?;
        let Some(per_word) = Self::PER_WORD else {
            return (start..).zip(values).try_for_each(|(index, value)| self.load_wide_into(index, value));
        };
        match slice_bits_of_mut(values) {
            Some(bits) => self.load_narrow_into(per_word, start, bits),
            None => (start..).zip(values).try_for_each(|(index, value)| {
                *value = self.get(index)?;
                Ok(())
            }),
        }
    }

    /// Copies parts of words, without checks.
    fn load_narrow_into(&self, per_word: usize, start: usize, values: &mut [T::Bits]) -> Result<(), SyncError> {
        let head = (start.next_multiple_of(per_word) - start).min(values.len());
        let (singles, rest) = values.split_at_mut_checked(head).ok_or(Corrupt)?;
        for (index, value) in (start..).zip(singles) {
            *value = *self.get_unchecked(index)?.bits_mut();
        }
        let words = self.elements.get((start + head) / per_word..).unwrap_or_default();
        let (body, tail) = rest.split_at_mut_checked(rest.len() / per_word * per_word).ok_or(Corrupt)?;
        for (part, word) in body.chunks_exact_mut(per_word).zip(words) {
            // edge: array-element
            bytemuck::cast_slice_mut(part).copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
        }
        for (index, value) in (start + head + body.len()..).zip(tail) {
            *value = *self.get_unchecked(index)?.bits_mut();
        }
        Ok(())
    }

    /// Returns all elements, each whole. Others may set some of them meanwhile.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    pub fn to_vec(&self) -> Result<Vec<T>, SyncError> {
        let Some(mut values) = zeroed_vec(self.length) else {
            return (0..self.length).map(|index| self.get(index)).collect();
        };
        self.load_into(0, &mut values)?;
        Ok(values)
    }

    /// Returns all elements as they are at one moment, which is not within a [`lock`](Self::lock)
    /// or a [`store_from`](Self::store_from). A [`set`](Self::set) of a short element takes no lock
    /// and may come in between.
    ///
    /// # Blocking
    ///
    /// Like [`lock`](Self::lock).
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock).
    pub fn snapshot(&self) -> Result<Vec<T>, SyncError> {
        let _guard = self.lock_unreported()?;
        self.to_vec()
    }

    /// Returns the elements one after another, each as it is when it is reached. Ends early if the
    /// region is corrupt, or an element invalid.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        (0..self.length).map_while(|index| self.get(index).ok())
    }

    /// Begins a critical section: until the guard is dropped there is no other.
    ///
    /// # Blocking
    ///
    /// While another thread or process is in such a section, without limit. Parks by `futex`. Does
    /// not wait for a process that was killed. Makes no system call if there is no other section.
    ///
    /// # Errors
    ///
    /// - With the guard: [`OwnerDied`](crate::sync::LockError::OwnerDied). Some elements may have
    ///   been set and others not.
    /// - Without: [`WouldDeadlock`](SyncError::WouldDeadlock), [`Forked`](SyncError::Forked),
    ///   [`Corrupt`](SyncError::Corrupt), [`LockLost`](SyncError::LockLost).
    ///
    /// For `?` add [`or_else(LockError::into_guard)`](crate::sync#lock-errors-and-).
    pub fn lock(&self) -> LockResult<ArrayGuard<'_, T>> {
        self.lock_until(Timeout::UNLIMITED)
    }

    /// Attempts to begin a critical section without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), and [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_lock(&self) -> LockResult<ArrayGuard<'_, T>> {
        self.lock_until(Timeout::NonBlocking)
    }

    /// Begins a critical section, and waits no longer than `timeout` for others to end.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), and [`TimedOut`](SyncError::TimedOut).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<ArrayGuard<'_, T>> {
        self.lock_until(Timeout::after(timeout))
    }

    /// Begins a critical section as [`lock`](Self::lock) does, without blocking the thread.
    ///
    /// The guard is the thread's, and the future is like that of
    /// [`Mutex::lock_async`](crate::sync::Mutex::lock_async).
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), without [`WouldDeadlock`](SyncError::WouldDeadlock).
    ///
    /// # Examples
    ///
    /// ```
    /// use tombolo::sync::{Array, LockError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let levels = Array::<f64>::new(&[0.0; 10])?;
    /// levels.lock_async().await.or_else(LockError::into_guard)?.set(3, 101.25)?;
    /// assert_eq!(levels.get(3)?, 101.25);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn lock_async(&self) -> LockResult<ArrayGuard<'_, T>> {
        self.guard(self.lock.lock_async().await?)
    }

    fn lock_until(&self, until: Timeout) -> LockResult<ArrayGuard<'_, T>> {
        self.guard(self.lock.lock(until)?)
    }

    /// The guard of a thread that has just locked.
    fn guard(&self, history: History) -> LockResult<ArrayGuard<'_, T>> {
        // An array cannot be poisoned.
        let guard = LockGuard::of_locked(&self.lock, History::default());
        with_history(ArrayGuard { array: self, _guard: guard }, History { poisoned: false, ..history })
    }

    /// Locks for an operation that does not report a death. The next [`lock`](Self::lock) does.
    fn lock_unreported(&self) -> Result<LockGuard<'_>, SyncError> {
        LockGuard::lock(&self.lock, Timeout::UNLIMITED)
    }
}

fn value_bits<T: Shareable>(value: &T) -> u64 {
    let mut bytes = [0; WORD];
    for (byte, own) in bytes.iter_mut().zip(bytemuck::bytes_of(bits_of(value))) {
        *byte = *own;
    }
    u64::from_ne_bytes(bytes)
}

/// Replaces one of several elements in a word.
fn write_subword<T: Shareable>(word: &AtomicU64, part: usize, value: &T) {
    let start = part * size_of::<T>();
    // edge: array-element
    let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |seen| {
        let mut bytes = seen.to_ne_bytes();
        bytes.get_mut(start..start + size_of::<T>())?.copy_from_slice(bytemuck::bytes_of(bits_of(value)));
        Some(u64::from_ne_bytes(bytes))
    });
}

object!(Array<T>, ObjectSpec::of::<T>(ObjectKind::Array, 0), |this| &this.lock.handle);

/// The critical section of an [`Array`], until this is dropped.
#[must_use = "bind it to a name such as `_section`: `let _` ends the section at once"]
pub struct ArrayGuard<'a, T> {
    array: &'a Array<T>,
    _guard: LockGuard<'a>,
}

impl<T: Shareable> ArrayGuard<'_, T> {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.array.length
    }

    /// Returns whether there are no elements, which is never so.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }

    /// Returns one element. Blocks and fails like [`Array::get`].
    pub fn get(&self, index: usize) -> Result<T, SyncError> {
        self.array.get(index)
    }

    /// Replaces one element.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](SyncError::OutOfBounds), [`Forked`](SyncError::Forked),
    /// [`Corrupt`](SyncError::Corrupt).
    pub fn set(&mut self, index: usize, value: T) -> Result<(), SyncError> {
        self.array.lock.handle.check_process()?;
        self.array.check_index(index)?;
        self.array.write_element(index, &value)
    }

    /// Copies elements from `start` on, until `values` is full. Blocks and fails like
    /// [`Array::load_into`].
    pub fn load_into(&self, start: usize, values: &mut [T]) -> Result<(), SyncError> {
        self.array.load_into(start, values)
    }

    /// Replaces the elements from `start` on. Blocks and fails like [`set`](Self::set).
    pub fn store_from(&mut self, start: usize, values: &[T]) -> Result<(), SyncError> {
        self.array.lock.handle.check_process()?;
        self.array.check(start, values.len())?;
        self.array.write_range(start, values)
    }

    /// Returns all elements. Blocks and fails like [`Array::to_vec`].
    pub fn to_vec(&self) -> Result<Vec<T>, SyncError> {
        self.array.to_vec()
    }
}

impl<T> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayGuard").field("length", &self.array.length).finish_non_exhaustive()
    }
}

/// The words of an array.
mod words {
    pub(super) const BACKOFF: usize = 2;
    /// Of each element that is no part of a word.
    pub(super) const BUFFERS: usize = 2;
}

const _: () = assert!(words::BACKOFF < ELEMENTS_OFFSET);

/// Elements that are shown.
const SHOWN: usize = 8;

/// Words of an element of that many words: a seqlock.
fn cell_stride(value_words: usize) -> usize {
    CONTROL + words::BUFFERS * value_words
}

/// Words of all elements. None: too many.
pub(crate) fn elements_words(spec: &ObjectSpec) -> Option<usize> {
    let words = if spec.is_word_sized() {
        spec.count.checked_mul(spec.size)?.div_ceil(WORD as u64)
    } else {
        spec.count.checked_mul(cell_stride(spec.value_words()) as u64)?
    };
    words.try_into().ok()
}

pub(super) struct ArrayKind;

impl Kind for ArrayKind {
    fn name(&self) -> &'static str {
        "array"
    }

    fn check(&self, spec: &ObjectSpec) -> error::Result<()> {
        spec.expect_value()?;
        spec.expect_count("length", u64::MAX >> 20, "give it an element at least")
    }

    fn footprint(&self, spec: &ObjectSpec, _: usize) -> Option<usize> {
        ELEMENTS_OFFSET.checked_add(elements_words(spec)?)
    }

    fn initialise(&self, object: &ObjectWords<'_>, initial: &InitialValue) -> error::Result<()> {
        let (spec, all) = (object.spec, object.all());
        let elements = all.get(ELEMENTS_OFFSET..).unwrap_or_default();
        match initial {
            InitialValue::Bytes(bytes) if spec.is_word_sized() => store_bytes(elements, bytes),
            InitialValue::Bytes(bytes) => {
                let cells = elements.chunks(cell_stride(spec.value_words()));
                for (cell, element) in cells.zip(bytes.chunks(spec.size as usize)) {
                    store_bytes(cell.get(CONTROL..).unwrap_or_default(), element);
                }
            }
            InitialValue::Zero | InitialValue::Word(_) => {}
        }
        Ok(())
    }

    fn release_dead(&self, object: &ObjectWords<'_>, participants: &[usize]) {
        lock::release_dead(object, STATE, participants);
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        Description { value: describe_elements(object), ..lock::describe(object, STATE) }
    }

    fn length(&self, spec: &ObjectSpec) -> Option<u64> {
        Some(spec.count)
    }

    fn type_name(&self, spec: &ObjectSpec, count: Option<u64>) -> String {
        let element = ElementType::Value { size: spec.size, align: spec.align, tag: spec.tag };
        match count {
            Some(count) => format!("an array of {count} {element}"),
            None => format!("an array of {element}"),
        }
    }
}

/// The first elements.
fn describe_elements(object: &ObjectWords<'_>) -> Option<String> {
    let (spec, all) = (object.spec, object.all());
    let (size, count) = (spec.size as usize, SHOWN.min(spec.count as usize));
    let elements = all.get(ELEMENTS_OFFSET..)?;
    let mut texts: Vec<String> = if spec.is_word_sized() {
        let mut bytes = vec![0; size * count];
        load_bytes(elements, &mut bytes);
        bytes.chunks(size).map(|element| spec.format_value(element)).collect()
    } else {
        let buffers = Buffers { offset: CONTROL, stride: spec.value_words(), count: words::BUFFERS };
        let cells = elements.chunks(cell_stride(spec.value_words())).take(count);
        cells.map(|cell| seq_cell::describe_words(spec, cell, 0, buffers).unwrap_or_else(|| "?".into())).collect()
    };
    if spec.count as usize > count {
        texts.push("..".into());
    }
    Some(format!("[{}]", texts.join(", ")))
}
