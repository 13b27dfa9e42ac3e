//! A list that any number of processes read and change.
//!
//! The algorithm is in `raw/list.rs`, the words are in `words.rs`.

mod element;
mod options;
#[cfg(feature = "serde")]
mod serde;
pub(crate) mod words;

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};
use std::slice;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use self::element::{View, load, load_all, load_by, store};
pub use self::options::Options;
use self::words::{LIST_EVENT, WRITERS, list_of};
use crate::error::{ListError, SyncError};
use crate::object::element::{Element, Unreadable, load_bytes_into};
use crate::object::fairness::wait_for;
use crate::object::writers::{Claim, Refusals, pause, with_hints};
use crate::object::{Handle, object};
use crate::primitive::AtomicU64;
use crate::raw::Corrupt;
use crate::raw::event_count::EventCount;
use crate::raw::list::{List as RawList, Refused, Writer};
use crate::region::words::Mapped;
use crate::types::Shareable;
use crate::wait::Timeout;

/// A list in shared memory: a `Vec` of several processes, with a fixed limit.
///
/// No operation waits for another process: not for one that writes, is stopped, or was killed in
/// the middle of a change. There is one exception: if others have all of the free memory at this
/// moment, a change waits for it, for at most a second. A change is made by one compare-and-swap,
/// so after a kill it is made or it is not, however many elements it concerns. Readers store
/// nothing, and what one call copies is of one moment. Handles can be cloned, and shared by
/// threads.
///
/// ```
/// use tombolo::collections::{List, list};
///
/// let prices = List::new(&list::Options::<f64>::new().max_length(10_000))?;
/// prices.push(&101.25)?;
/// prices.extend_from_slice(&[101.5, 101.75])?;
/// prices.update(0, |price| price + 0.5)?;
/// assert_eq!(prices.remove(1)?, 101.5);
/// assert_eq!(prices.to_vec()?, [101.75, 101.75]);
/// assert_eq!(prices.get(2)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Elements are bytes (`[u8]`), text (`str`) or values of a type that can be
/// [shared](crate::Shareable), see [`Element`]. With the feature `serde` a list of bytes has any
/// value that serde can serialise (`push_object`).
///
/// Other processes get the list as an argument (`process::Process`), open it by a name
/// ([`open_or_create`](Self::open_or_create)), or find it in a [`Namespace`](crate::Namespace).
///
/// # Limits
///
/// How many elements there can be, and how long each, is decided when the list is made: see
/// [`list::Options`](Options). One more returns [`ListError::Full`], and one that is longer
/// [`ListError::TooLong`].
///
/// # Time
///
/// A change copies a part of the list: for `n` elements of one word about as many words as four
/// times the square root of the longest `n`. Elements of bytes and text are copied as if each had
/// the greatest length. Reading one element takes a binary search.
///
/// # Threads
///
/// Two threads of a process can change a list at the same time. Another one waits for one of these.
///
/// A call that others overtake tries again, and lets other threads run before each attempt from the
/// seventeenth on. It gives up after 16384 attempts, with [`ListError::Busy`]. That can happen if
/// others change a list all the time while this call reads all of a long one.
///
/// # What a killed process leaves behind
///
/// If it was killed in the middle of a change, a few blocks of memory, which are free again when a
/// process joins, or needs them. A change of one element never needs them. A process that was
/// stopped in the middle of a change of many elements can keep the memory that other changes of
/// many elements need: they get [`ListError::Busy`], and can try again.
///
/// Implementation: immutable chunks below a directory that each change replaces, in `raw/list.rs`.
pub struct List<E: Element + ?Sized> {
    handle: Handle,
    inner: Arc<Inner>,
    element: PhantomData<fn(&E) -> Box<E>>,
}

struct Inner {
    list: RawList<Mapped>,
    /// For each writer: a directory and a chunk that were free lately.
    hints: [[AtomicU64; 2]; WRITERS],
    /// Where threads sleep that wait for a change.
    event: EventCount<Mapped>,
}

/// Another writer that was faster this often leaves no room for others.
const MAX_ATTEMPTS: u32 = 1 << 14;

/// What takes the place of some elements, if anything is to change, and what the call returns.
type Plan<N, R> = Result<(Option<(Range<u64>, N)>, R), ListError>;

impl<E: Element + ?Sized> List<E> {
    fn read<R>(&self, copy: impl FnMut(&View<'_>) -> Result<R, Refused>) -> Result<R, ListError> {
        self.inner.list.read(copy, pause).map_err(error)
    }

    /// Returns a copy of an element, if there is one with that index.
    ///
    /// # Blocking
    /// Never, and makes no system call. Tries again while another process changes the list.
    ///
    /// # Errors
    /// [`InvalidValue`](ListError::InvalidValue), [`Busy`](ListError::Busy),
    /// [`Corrupt`](ListError::Corrupt), [`OutOfMemory`](ListError::OutOfMemory).
    #[inline]
    pub fn get(&self, index: usize) -> Result<Option<E::Owned>, ListError> {
        Ok(self.read(|view| load::<E>(view, index as u64))?.transpose()?)
    }

    /// Returns the number of elements. Blocks and fails like [`get`](Self::get).
    pub fn len(&self) -> Result<usize, ListError> {
        self.read(|view| Ok(view.len() as usize))
    }

    /// Returns whether there is no element. Blocks and fails like [`get`](Self::get).
    pub fn is_empty(&self) -> Result<bool, ListError> {
        Ok(self.len()? == 0)
    }

    /// Returns how many elements there can be.
    pub fn max_length(&self) -> usize {
        self.handle.spec.count as usize
    }

    /// Returns copies of all elements, as they are at one moment.
    ///
    /// # Blocking
    /// As [`get`](Self::get).
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn to_vec(&self) -> Result<Vec<E::Owned>, ListError> {
        self.range(..)
    }

    /// Returns copies of the elements of a range, as they are at one moment. Those that are not
    /// there are left out. Blocks and fails like [`to_vec`](Self::to_vec).
    ///
    /// ```
    /// # use tombolo::collections::{List, list};
    /// let list = List::new(&list::Options::<str>::new())?;
    /// list.extend_from_slice(&["a", "b", "c"])?;
    /// assert_eq!(list.range(..2)?, ["a", "b"]);
    /// assert_eq!(list.range(2..9)?, ["c"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range(&self, range: impl RangeBounds<usize>) -> Result<Vec<E::Owned>, ListError> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start as u64,
            Bound::Excluded(&before) => (before as u64).saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => (last as u64).saturating_add(1),
            Bound::Excluded(&end) => end as u64,
            Bound::Unbounded => u64::MAX,
        };
        let mut elements = Vec::new();
        let copied = self.read(|view| {
            let length = view.len();
            if length > self.max_length() as u64 {
                return Err(Refused::Corrupt);
            }
            let end = end.min(length);
            let range = start.min(end)..end;
            elements.clear();
            if elements.try_reserve((range.end - range.start) as usize).is_err() {
                return Ok(Err(Unreadable::OutOfMemory));
            }
            load_all::<E>(view, range, |element| elements.push(element))
        })?;
        copied?;
        Ok(elements)
    }

    /// Returns an iterator over the elements as they are at this moment: over what
    /// [`to_vec`](Self::to_vec) returns. Blocks and fails like that.
    ///
    /// ```
    /// # use tombolo::collections::{List, list};
    /// let list = List::new(&list::Options::<u8>::new())?;
    /// list.extend_from_slice(&[1, 2, 3])?;
    /// for element in list.iter()? {
    ///     list.push(&(10 * element))?;
    /// }
    /// assert_eq!(list.to_vec()?, [1, 2, 3, 10, 20, 30]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> Result<vec::IntoIter<E::Owned>, ListError> {
        Ok(self.to_vec()?.into_iter())
    }

    /// Appends an element.
    ///
    /// # Blocking
    /// Tries again while another process changes the list. Waits for at most a second if others
    /// have all of the free memory in the middle of a change. Makes no system call, unless it
    /// waits, or somebody waits for a change.
    ///
    /// # Errors
    /// - [`Full`](ListError::Full), [`TooLong`](ListError::TooLong).
    /// - [`Busy`](ListError::Busy), [`Forked`](ListError::Forked),
    ///   [`Corrupt`](ListError::Corrupt).
    #[inline]
    pub fn push(&self, value: &E) -> Result<(), ListError> {
        self.extend_from_slice(slice::from_ref(&value))
    }

    /// Appends elements, all or none: no other element comes in between. Blocks and fails like
    /// [`push`](Self::push).
    ///
    /// ```
    /// # use tombolo::collections::{List, list};
    /// let names = List::new(&list::Options::<str>::new())?;
    /// names.extend_from_slice(&["Ada", "Bob"])?;
    /// names.extend_from_slice(&names.to_vec()?)?;
    /// assert_eq!(names.to_vec()?, ["Ada", "Bob", "Ada", "Bob"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn extend_from_slice<B: Borrow<E>>(&self, values: &[B]) -> Result<(), ListError> {
        self.change(nothing, |length, ()| Ok((Some((length..length, values)), ())))
    }

    /// Removes the last element, and returns it. Blocks and fails like [`push`](Self::push) and
    /// [`get`](Self::get).
    pub fn pop(&self) -> Result<Option<E::Owned>, ListError> {
        self.pop_as(Ok)
    }

    /// Removes the last element, if it can be converted.
    fn pop_as<R>(&self, mut convert: impl FnMut(E::Owned) -> Result<R, ListError>) -> Result<Option<R>, ListError> {
        let last = |view: &View<'_>| view.len().checked_sub(1).map_or(Ok(None), |last| load::<E>(view, last));
        self.change::<_, &E, _, _>(last, |length, found| {
            Ok(match found.transpose()? {
                Some(found) => (Some((length.saturating_sub(1)..length, [])), Some(convert(found)?)),
                None => (None, None),
            })
        })
    }

    /// Replaces an element.
    ///
    /// # Blocking
    /// As [`push`](Self::push).
    ///
    /// # Errors
    /// Those of [`push`](Self::push), and [`OutOfBounds`](ListError::OutOfBounds).
    #[inline]
    pub fn set(&self, index: usize, value: &E) -> Result<(), ListError> {
        self.change(nothing, |length, ()| {
            let element = element_at(index, length)?;
            Ok((Some((element, [value])), ()))
        })
    }

    /// Changes an element, as one step: no other change comes in between. The closure gets the
    /// element, and returns what takes its place. It is called again if another process was faster.
    ///
    /// # Blocking
    /// As [`push`](Self::push).
    ///
    /// # Errors
    /// Those of [`set`](Self::set) and [`get`](Self::get).
    ///
    /// # Examples
    /// ```
    /// # use tombolo::collections::{List, list};
    /// let counts = List::new(&list::Options::<u64>::new())?;
    /// counts.push(&1)?;
    /// counts.update(0, |count| count + 1)?;
    /// assert_eq!(counts.get(0)?, Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update(&self, index: usize, mut update: impl FnMut(E::Owned) -> E::Owned) -> Result<(), ListError> {
        self.update_as(index, |found| Ok(update(found)))
    }

    /// Changes an element, unless that fails.
    fn update_as(
        &self,
        index: usize,
        mut update: impl FnMut(E::Owned) -> Result<E::Owned, ListError>,
    ) -> Result<(), ListError> {
        self.change(
            |view| load::<E>(view, index as u64),
            |length, found| {
                let element = element_at(index, length)?;
                Ok((Some((element, [update(found.ok_or(Corrupt)??)?])), ()))
            },
        )
    }

    /// Inserts an element. Those from `index` on follow it. Blocks and fails like
    /// [`set`](Self::set).
    pub fn insert(&self, index: usize, value: &E) -> Result<(), ListError> {
        self.change(nothing, |length, ()| {
            let at = index as u64;
            if at > length {
                return Err(ListError::OutOfBounds { index, length: length as usize });
            }
            Ok((Some((at..at, [value])), ()))
        })
    }

    /// Removes an element, and returns it. Those behind it move up. Blocks and fails like
    /// [`set`](Self::set) and [`get`](Self::get).
    pub fn remove(&self, index: usize) -> Result<E::Owned, ListError> {
        self.remove_as(index, Ok)
    }

    /// Removes an element, if it can be converted.
    fn remove_as<R>(
        &self,
        index: usize,
        mut convert: impl FnMut(E::Owned) -> Result<R, ListError>,
    ) -> Result<R, ListError> {
        self.change::<_, &E, _, _>(
            |view| load::<E>(view, index as u64),
            |length, found| {
                let element = element_at(index, length)?;
                Ok((Some((element, [])), convert(found.ok_or(Corrupt)??)?))
            },
        )
    }

    /// Removes all elements from `length` on, in one step. Blocks and fails like
    /// [`push`](Self::push).
    pub fn truncate(&self, length: usize) -> Result<(), ListError> {
        self.change::<_, &E, _, _>(nothing, |now, ()| {
            let length = length as u64;
            Ok(((length < now).then_some((length..now, [])), ()))
        })
    }

    /// Removes all elements, in one step. Blocks and fails like [`push`](Self::push).
    pub fn clear(&self) -> Result<(), ListError> {
        self.truncate(0)
    }

    /// Blocks until there is an element with that index, and returns it.
    ///
    /// # Blocking
    /// For at most `timeout`. Sleeps as the [`WaitStrategy`](crate::WaitStrategy) of the handle
    /// says. A wake-up that dies with its process delays it by up to 90 ms.
    ///
    /// # Errors
    /// - [`TimedOut`](ListError::TimedOut), [`Interrupted`](ListError::Interrupted),
    ///   [`Forked`](ListError::Forked).
    /// - Those of [`get`](Self::get).
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tombolo::collections::{List, list};
    /// let results = List::new(&list::Options::<f64>::new())?;
    /// let worker = results.clone();
    /// std::thread::spawn(move || worker.push(&0.5));
    /// assert_eq!(results.wait_for(0, Duration::from_secs(60))?, 0.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for(&self, index: usize, timeout: Duration) -> Result<E::Owned, ListError> {
        self.wait(timeout, || self.get(index))
    }

    /// Blocks until the element with that index is another one than `current`, where `None` stands
    /// for one that is not there. Returns what it is then. An element that comes and goes in
    /// between may be missed. Blocks and fails like [`wait_for`](Self::wait_for).
    pub fn wait_for_change(
        &self,
        index: usize,
        current: Option<&E>,
        timeout: Duration,
    ) -> Result<Option<E::Owned>, ListError> {
        self.wait(timeout, || {
            let found = self.get(index)?;
            let is_current = found.as_ref().map(|found| Borrow::<E>::borrow(found).bytes()) == current.map(E::bytes);
            Ok(if is_current { None } else { Some(found) })
        })
    }

    fn wait<R>(
        &self,
        timeout: Duration,
        mut attempt: impl FnMut() -> Result<Option<R>, ListError>,
    ) -> Result<R, ListError> {
        self.check_process()?;
        let mut failed = None;
        let attempt = || match attempt() {
            Err(ListError::Busy) => Ok(None), // so there will be another attempt
            outcome => outcome.map_err(|error| *failed.insert(error)).map_err(|_| SyncError::Corrupt),
        };
        let waited = wait_for(&self.handle, &self.inner.event, Timeout::after(timeout), || None, attempt);
        waited.map_err(|error| match error {
            SyncError::TimedOut | SyncError::WouldBlock => ListError::TimedOut,
            SyncError::Interrupted => ListError::Interrupted,
            SyncError::Forked => ListError::Forked,
            _ => failed.unwrap_or(ListError::Corrupt),
        })
    }

    fn check_process(&self) -> Result<(), ListError> {
        if self.handle.is_from_this_process() { Ok(()) } else { Err(ListError::Forked) }
    }

    /// Looks at the list and changes it, until nobody comes in between. `copy` copies from it,
    /// `plan` gets its length and that copy, and decides.
    #[inline]
    fn change<C, B: Borrow<E>, N: AsRef<[B]>, R>(
        &self,
        mut copy: impl FnMut(&View<'_>) -> Result<C, Refused>,
        mut plan: impl FnMut(u64, C) -> Plan<N, R>,
    ) -> Result<R, ListError> {
        self.check_process()?;
        let list = &self.inner.list;
        let mut refusals = Refusals::default();
        for attempt in 0..MAX_ATTEMPTS {
            let look = |view: &View<'_>| Ok((view.len(), copy(view)?));
            let (look, (length, copied)) = list.look(look, pause).map_err(error)?;
            let (change, result) = plan(length, copied)?;
            let Some((elements, new)) = change else { return Ok(result) };
            let new = new.as_ref();
            self.check_length(length, &elements, new.len())?;
            self.check_elements(new)?;
            let store = |nth: u64, words: &[AtomicU64]| {
                if let Some(element) = new.get(nth as usize) {
                    store::<E>(element.borrow(), words);
                }
            };
            match self.write(|writer| list.splice(writer, &look, elements, new.len() as u64, store)) {
                Ok(true) => {
                    self.inner.event.notify(u32::MAX);
                    return Ok(result);
                }
                Ok(false) => pause(attempt),
                Err(Refused::Full) => {
                    let in_progress = list.in_progress().map(|writer| writer / WRITERS);
                    if !refusals.wait(&self.handle, in_progress) {
                        return Err(ListError::Busy);
                    }
                }
                Err(refused) => return Err(error(refused)),
            }
        }
        Err(ListError::Busy)
    }

    /// Refuses a change after which there would be too many elements.
    fn check_length(&self, length: u64, replaced: &Range<u64>, new: usize) -> Result<(), ListError> {
        let kept = length.saturating_sub(replaced.end.saturating_sub(replaced.start)) as usize;
        let (length, limit) = (kept.saturating_add(new), self.max_length());
        if length > limit && new > 0 { Err(ListError::Full { length, limit }) } else { Ok(()) }
    }

    /// Refuses elements that are too long.
    #[inline]
    fn check_elements<B: Borrow<E>>(&self, new: &[B]) -> Result<(), ListError> {
        let limit = self.handle.spec.max_element_bytes as usize;
        let mut lengths = new.iter().map(|element| element.borrow().bytes().len());
        match lengths.find(|&length| E::SIZE.is_none() && length > limit) {
            Some(length) => Err(ListError::TooLong { length, limit }),
            None => Ok(()),
        }
    }

    /// Calls `commit` with an intent record that no other thread uses meanwhile.
    #[inline]
    fn write<R>(&self, commit: impl FnOnce(&mut Writer) -> R) -> R {
        let claim = Claim::new(&self.handle.local.writers, WRITERS);
        let number = claim.number as usize;
        let writer = self.inner.list.writer(self.handle.participant * WRITERS + number);
        let hints = self.inner.hints.get(number).map(|hints| hints.as_slice());
        with_hints(writer, hints, |writer| &mut writer.recent, commit)
    }

    pub(crate) fn from_handle(handle: Handle) -> Self {
        let Some(list) = list_of(&handle.object()) else {
            unreachable!("a handle of a list without its words");
        };
        let inner = Inner { list, hints: Default::default(), event: handle.event(LIST_EVENT) };
        Self { handle, inner: Arc::new(inner), element: PhantomData }
    }
}

impl<T: Shareable> List<T> {
    /// Copies elements from `start` on, until `values` is full or there are no more. Returns how
    /// many: all are of one moment.
    ///
    /// # Blocking
    /// As [`get`](Self::get).
    ///
    /// # Errors
    /// Those of [`get`](Self::get). `values` may have been written to in part then.
    ///
    /// # Examples
    /// ```
    /// # use tombolo::collections::{List, list};
    /// let list = List::new(&list::Options::<u8>::new())?;
    /// list.extend_from_slice(&[1, 2, 3])?;
    /// let mut last = [0; 2];
    /// assert_eq!((list.load_into(1, &mut last)?, last), (2, [2, 3]));
    /// assert_eq!((list.load_into(2, &mut last)?, last), (1, [3, 3]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_into(&self, start: usize, values: &mut [T]) -> Result<usize, ListError> {
        Ok(self.read(|view| {
            let start = start as u64;
            let count = view.len().saturating_sub(start).min(values.len() as u64);
            let mut places = values.iter_mut();
            let copied = load_all::<T>(view, start..start.saturating_add(count), |value| {
                if let Some(place) = places.next() {
                    *place = value;
                }
            })?;
            Ok(copied.map(|()| count as usize))
        })??)
    }
}

impl List<[u8]> {
    /// Copies an element into a buffer, in place of what it has. Returns whether there is one with
    /// that index; if not, the buffer is empty or unchanged. Saves the allocation that
    /// [`get`](Self::get) makes. Blocks and fails like that.
    pub fn get_into(&self, index: usize, element: &mut Vec<u8>) -> Result<bool, ListError> {
        let copied =
            self.read(|view| load_by::<[u8], _>(view, index as u64, |stored| load_bytes_into(stored, element)))?;
        Ok(copied.transpose()?.is_some())
    }
}

impl<E: Element + ?Sized> Clone for List<E> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), inner: Arc::clone(&self.inner), element: PhantomData }
    }
}

// How many elements there are is as in the list that is found.
object!([E: Element + ?Sized] List<E>, Options::<E>::new().spec(), |this| &this.handle);

/// For changes that follow from the length alone.
fn nothing(_: &View<'_>) -> Result<(), Refused> {
    Ok(())
}

fn element_at(index: usize, length: u64) -> Result<Range<u64>, ListError> {
    let at = index as u64;
    if at < length { Ok(at..at + 1) } else { Err(ListError::OutOfBounds { index, length: length as usize }) }
}

#[cold]
fn error(refused: Refused) -> ListError {
    match refused {
        Refused::Full | Refused::Overtaken => ListError::Busy,
        Refused::TooLarge | Refused::Corrupt => Corrupt.into(),
    }
}
