//! An array whose elements any process may get and set whole.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Pod;

use crate::error::SyncError;
use crate::object::lock::{Handle, Held, ObjectLock};
use crate::object::mutex::{LockResult, told};
use crate::object::object;
use crate::object::seq_cell::BackoffRequest;
use crate::object::table::{MANY, ObjectKind, ObjectSpec, STATE, array, mutex};
use crate::primitive::{AtomicU64, Ordering, WORD, load_value, store_value};
use crate::raw::robust_lock::History;
use crate::raw::seqlock::{CONTROL, SeqLock};
use crate::region::words::Words;
use crate::wait::Timeout;

/// An array of a plain type, in shared memory. Its length is fixed when it is made.
///
/// Each element is read and written whole. [`get`](Self::get) and [`set`](Self::set) go by themselves; what belongs together is done
/// under the array's [`lock`](Self::lock), and [`snapshot`](Self::snapshot) sees such sections, and each
/// [`store_from`](Self::store_from), in full or not at all, unless a process was killed in the middle of one: of that the next `lock` tells.
///
/// Elements of 1, 2, 4 and 8 bytes lie side by side and are set without a lock; others take two buffers each, and the lock for the
/// moment of setting.
///
/// ```
/// let levels = tombolo::Array::<f64>::new(&[0.0; 10])?;
/// levels.set(3, 101.25)?;
/// levels.store_from(4, &[101.5, 101.75])?;
/// assert_eq!(levels.get(5)?, 101.75);
///
/// let mut section = levels.lock().unwrap();
/// let best = section.get(3)?;
/// section.set(3, best + 0.25)?;
/// drop(section);
/// assert_eq!(levels.snapshot()?[3..6], [101.5, 101.5, 101.75]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Source**: words for short elements, Boehm's seqlock with two buffers for others, see `raw/cell.rs`.
#[derive(Clone)]
pub struct Array<T> {
    latch: ObjectLock,
    elements: Words,
    plea: Arc<BackoffRequest>,
    length: usize,
    content: PhantomData<fn(T) -> T>,
}

impl<T: Pod> Array<T> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let length = handle.plan.count as usize;
        let elements = handle.words(MANY, handle.plan.elements().unwrap_or(0));
        let plea = Arc::new(BackoffRequest::new(handle.word(array::PLEA)));
        Self { latch: ObjectLock::new(handle, STATE), elements, plea, length, content: PhantomData }
    }

    /// Elements per word, if they are parts of words.
    const PER_WORD: Option<usize> = match size_of::<T>() {
        1 | 2 | 4 | 8 => Some(WORD / size_of::<T>()),
        _ => None,
    };

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: an array has an element at least.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The first of `count` elements from `start` on, if there are so many.
    fn check(&self, start: usize, count: usize) -> Result<(), SyncError> {
        match start.checked_add(count) {
            Some(end) if end <= self.length => Ok(()),
            end => Err(SyncError::OutOfBounds { index: end.unwrap_or(usize::MAX), length: self.length }),
        }
    }

    fn check_index(&self, index: usize) -> Result<(), SyncError> {
        if index < self.length { Ok(()) } else { Err(SyncError::OutOfBounds { index, length: self.length }) }
    }

    /// One element.
    ///
    /// **Blocking**: never, no system call. **Errors**: [`OutOfBounds`](SyncError::OutOfBounds), [`Corrupt`](SyncError::Corrupt).
    #[inline]
    pub fn get(&self, index: usize) -> Result<T, SyncError> {
        self.check_index(index)?;
        match Self::PER_WORD {
            Some(per_word) => {
                let word = self.elements.get(index / per_word).ok_or(SyncError::Corrupt)?;
                let bytes = word.load(Ordering::Acquire).to_ne_bytes();
                let part = bytes.get(index % per_word * size_of::<T>()..).and_then(|rest| rest.get(..size_of::<T>()));
                Ok(bytemuck::pod_read_unaligned(part.ok_or(SyncError::Corrupt)?))
            }
            None => self.get_wide(index),
        }
    }

    fn get_wide(&self, index: usize) -> Result<T, SyncError> {
        let (value, _) = self.cell(index)?.read(load_value, |laps| self.plea.lapped(laps))?;
        Ok(value)
    }

    fn cell(&self, index: usize) -> Result<SeqLock<'_>, SyncError> {
        let content = size_of::<T>().div_ceil(WORD);
        let stride = CONTROL + mutex::BUFFERS * content;
        let words = index.checked_mul(stride).and_then(|start| self.elements.get(start..)?.get(..stride));
        let (control, buffers) = words.and_then(|words| words.split_at_checked(CONTROL)).ok_or(SyncError::Corrupt)?;
        SeqLock::new(control, buffers, content, mutex::BUFFERS as u64).ok_or(SyncError::Corrupt)
    }

    /// Replaces one element.
    ///
    /// **Blocking**: never for elements of 1, 2, 4 or 8 bytes; for others as [`lock`](Self::lock). **Errors**:
    /// [`OutOfBounds`](SyncError::OutOfBounds); for others than those also [`WouldDeadlock`](SyncError::WouldDeadlock) (this thread holds the
    /// lock: use the guard), [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt), [`LockLost`](SyncError::LockLost).
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), SyncError> {
        self.check_index(index)?;
        if Self::PER_WORD.is_some() {
            return self.put(index, &value);
        }
        let _held = self.hold(Timeout::NEVER)?;
        self.put(index, &value)
    }

    /// Writes an element that is there, with the lock held if that takes it.
    #[inline]
    fn put(&self, index: usize, value: &T) -> Result<(), SyncError> {
        match Self::PER_WORD {
            Some(1) => {
                let word = self.elements.get(index).ok_or(SyncError::Corrupt)?;
                word.store(value_bits(value), Ordering::Release);
            }
            Some(per_word) => {
                let word = self.elements.get(index / per_word).ok_or(SyncError::Corrupt)?;
                put_part(word, index % per_word, value);
            }
            None => {
                let version = self.cell(index)?.write(|words| store_value(words, value));
                self.plea.heed(version, size_of::<T>());
            }
        }
        Ok(())
    }

    /// Replaces the elements from `start` on. All at once for [`snapshot`](Self::snapshot) and [`lock`](Self::lock), one by one for
    /// [`get`](Self::get); a process that is killed leaves some replaced, and the next `lock` says so.
    ///
    /// **Blocking** and **Errors**: as [`lock`](Self::lock), and [`OutOfBounds`](SyncError::OutOfBounds) before anything is replaced.
    pub fn store_from(&self, start: usize, values: &[T]) -> Result<(), SyncError> {
        self.check(start, values.len())?;
        let _held = self.hold(Timeout::NEVER)?;
        self.put_all(start, values)
    }

    fn put_all(&self, start: usize, values: &[T]) -> Result<(), SyncError> {
        let Some(per_word) = Self::PER_WORD else {
            return (start..).zip(values).try_for_each(|(index, value)| self.put(index, value));
        };
        // Single elements up to the next whole word, then words, then what is left.
        let head = (start.next_multiple_of(per_word) - start).min(values.len());
        let (head, rest) = values.split_at_checked(head).unwrap_or((values, &[]));
        let whole = rest.len() / per_word * per_word;
        let (body, tail) = rest.split_at_checked(whole).unwrap_or((rest, &[]));
        (start..).zip(head).try_for_each(|(index, value)| self.put(index, value))?;
        let first = (start + head.len()) / per_word;
        let words = self.elements.get(first..).unwrap_or_default();
        for (word, part) in words.iter().zip(body.chunks_exact(per_word)) {
            let mut bytes = [0; WORD];
            bytes.copy_from_slice(bytemuck::cast_slice(part));
            word.store(u64::from_ne_bytes(bytes), Ordering::Release);
        }
        let after = start + head.len() + body.len();
        (after..).zip(tail).try_for_each(|(index, value)| self.put(index, value))
    }

    /// Copies the elements from `start` on, as many as `values` has, each whole.
    ///
    /// **Blocking**: never. **Errors**: as [`get`](Self::get); then `values` may have been written to in part.
    pub fn load_into(&self, start: usize, values: &mut [T]) -> Result<(), SyncError> {
        self.check(start, values.len())?;
        let mut rest = values;
        let mut index = start;
        if let Some(per_word) = Self::PER_WORD {
            let head = (start.next_multiple_of(per_word) - start).min(rest.len());
            let (singles, more) = rest.split_at_mut_checked(head).ok_or(SyncError::Corrupt)?;
            for value in singles {
                *value = self.get(index)?;
                index += 1;
            }
            let words = self.elements.get(index / per_word..).unwrap_or_default();
            let (body, tail) = more.split_at_mut_checked(more.len() / per_word * per_word).ok_or(SyncError::Corrupt)?;
            for (part, word) in body.chunks_exact_mut(per_word).zip(words) {
                bytemuck::cast_slice_mut(part).copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
            }
            index += body.len();
            rest = tail;
        }
        for value in rest {
            *value = self.get(index)?;
            index += 1;
        }
        Ok(())
    }

    /// All elements, each whole; others may set some in between.
    ///
    /// **Blocking**: never. **Errors**: as [`get`](Self::get).
    pub fn to_vec(&self) -> Result<Vec<T>, SyncError> {
        let mut values = vec![T::zeroed(); self.length];
        self.load_into(0, &mut values)?;
        Ok(values)
    }

    /// All elements at one moment: between two sections under the [`lock`](Self::lock), and two [`store_from`](Self::store_from). (A bare
    /// [`set`](Self::set) of a short element is a moment of its own.)
    ///
    /// **Blocking** and **Errors**: as [`lock`](Self::lock).
    pub fn snapshot(&self) -> Result<Vec<T>, SyncError> {
        let _held = self.hold(Timeout::NEVER)?;
        self.to_vec()
    }

    /// The elements one after another, each as it is when its turn comes. Ends early if somebody corrupted the region.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        (0..self.length).map_while(|index| self.get(index).ok())
    }

    /// Keeps out all other sections, until the guard is dropped.
    ///
    /// **Blocking**: while another process is in such a section, without end; parks by `futex`. One that was killed does not count.
    /// Uncontended: no system call. **Errors**: [`OwnerDied`](crate::sync::LockError::OwnerDied) with the guard: some elements may have been set and
    /// others not; [`WouldDeadlock`](SyncError::WouldDeadlock), [`Forked`](SyncError::Forked), [`Corrupt`](SyncError::Corrupt),
    /// [`LockLost`](SyncError::LockLost).
    pub fn lock(&self) -> LockResult<ArrayGuard<'_, T>> {
        self.lock_until(Timeout::NEVER)
    }

    /// Like [`lock`](Self::lock), but never waits: [`WouldBlock`](SyncError::WouldBlock).
    pub fn try_lock(&self) -> LockResult<ArrayGuard<'_, T>> {
        self.lock_until(Timeout::NonBlocking)
    }

    /// Like [`lock`](Self::lock), but waits no longer than `timeout`, then [`TimedOut`](SyncError::TimedOut).
    pub fn lock_timeout(&self, timeout: Duration) -> LockResult<ArrayGuard<'_, T>> {
        self.lock_until(Timeout::after(timeout))
    }

    fn lock_until(&self, until: Timeout) -> LockResult<ArrayGuard<'_, T>> {
        let (mut held, past, ()) = Held::acquire_and(&self.latch, until, || Ok(()))?;
        held.past = History::default(); // nobody poisons an array
        told(ArrayGuard { array: self, _held: held }, History { poisoned: false, ..past })
    }

    /// For the moment of an operation of ours: what is to be told to the next section stays so.
    fn hold(&self, until: Timeout) -> Result<Held<'_>, SyncError> {
        Held::acquire(&self.latch, until)
    }
}

fn value_bits<T: Pod>(value: &T) -> u64 {
    let mut bytes = [0; WORD];
    for (byte, own) in bytes.iter_mut().zip(bytemuck::bytes_of(value)) {
        *byte = *own;
    }
    u64::from_ne_bytes(bytes)
}

/// Replaces one of several elements in a word.
fn put_part<T: Pod>(word: &AtomicU64, part: usize, value: &T) {
    let start = part * size_of::<T>();
    let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |seen| {
        let mut bytes = seen.to_ne_bytes();
        bytes.get_mut(start..start + size_of::<T>())?.copy_from_slice(bytemuck::bytes_of(value));
        Some(u64::from_ne_bytes(bytes))
    });
}

object!(Array<T>, ObjectSpec::of::<T>(ObjectKind::Array, 0), |this| &this.latch.handle);

/// A section of an array's own, until dropped.
pub struct ArrayGuard<'a, T> {
    array: &'a Array<T>,
    _held: Held<'a>,
}

impl<T: Pod> ArrayGuard<'_, T> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.array.length
    }

    /// Never: an array has an element at least.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }

    /// See [`Array::get`].
    pub fn get(&self, index: usize) -> Result<T, SyncError> {
        self.array.get(index)
    }

    /// See [`Array::set`]; never blocks.
    pub fn set(&mut self, index: usize, value: T) -> Result<(), SyncError> {
        self.array.latch.handle.check_ours()?;
        self.array.check_index(index)?;
        self.array.put(index, &value)
    }

    /// See [`Array::load_into`].
    pub fn load_into(&self, start: usize, values: &mut [T]) -> Result<(), SyncError> {
        self.array.load_into(start, values)
    }

    /// See [`Array::store_from`]; never blocks.
    pub fn store_from(&mut self, start: usize, values: &[T]) -> Result<(), SyncError> {
        self.array.latch.handle.check_ours()?;
        self.array.check(start, values.len())?;
        self.array.put_all(start, values)
    }

    /// All elements.
    pub fn to_vec(&self) -> Result<Vec<T>, SyncError> {
        self.array.to_vec()
    }
}

impl<T> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayGuard").field("length", &self.array.length).finish_non_exhaustive()
    }
}
