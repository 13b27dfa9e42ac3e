//! A map from keys to values that any number of processes read and change.
//!
//! The algorithm is in `raw/map.rs`, the words are in `words.rs`, long values in `extents.rs`.

mod counter;
mod extents;
mod hash;
mod iter;
mod nested;
mod options;
#[cfg(feature = "serde")]
mod serde;
mod set;
mod snapshot;
mod statistics;
mod watch;
pub(crate) mod words;
mod wrapper;

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

pub use self::counter::Counter;
use self::extents::MapExtents;
use self::hash::hash;
pub use self::iter::Iter;
pub use self::options::{Entries, Options};
pub use self::set::Set;
pub use self::statistics::{MapInfo, MapSizeInfo};
pub use self::watch::Watcher;
use self::words::{MapGeometry, WRITERS, events_of, map_of, seed};
use crate::error::{MapError, SyncError};
use crate::object::element::{Element, Stored, Unreadable, load_bytes_into};
use crate::object::fairness::wait_for;
use crate::object::kind::ObjectKind;
use crate::object::kind::ObjectWords;
use crate::object::spec::ObjectSpec;
use crate::object::writers::{Claim, Refusals, free_dead, pause, with_hints};
use crate::object::{Handle, object};
use crate::primitive::{AtomicU64, WORD};
use crate::raw::event_count::EventCount;
use crate::raw::map::{Entry, Key, Look, MAX_CLASSES, Map as RawMap, Refusal, Unread, Writer};
use crate::region::words::Mapped;
use crate::wait::Timeout;

/// A map in shared memory, from keys to values: a dictionary of several processes.
///
/// While there is room, no operation waits for another process: not for one that writes, is
/// stopped, or was killed in the middle of a change. In a full map a change may wait, for at most a
/// second, for memory that others have at this moment. A change is made by one compare-and-swap,
/// so after a kill it is made or it is not. Readers store nothing. Handles can be cloned, and
/// shared by threads.
///
/// ```
/// use tombolo::collections::{Map, map};
///
/// let prices = Map::new(&map::Options::<str, f64>::new().max_entries(10_000))?;
/// prices.insert("TMBL", &101.25)?;
/// prices.update("TMBL", |price| price.map(|price| price + 0.5))?;
/// assert_eq!(prices.get("TMBL")?, Some(101.75));
/// assert_eq!(prices.remove("TMBL")?, Some(101.75));
/// assert!(prices.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Keys and values are bytes (`[u8]`), text (`str`) or values of a type that can be
/// [shared](crate::Shareable), see [`Element`]. With the feature `serde` a map of bytes has any
/// value that serde can serialise (`insert_object`).
///
/// Other processes get the map as an argument (`process::Process`), open it by a name
/// ([`open_or_create`](Self::open_or_create)), or find it in a [`Namespace`](crate::Namespace).
///
/// # Limits
///
/// How many entries there can be, and how large, is decided when the map is made: see
/// [`map::Options`](Options). An insertion into a full map returns [`MapError::Full`]; no entry is
/// removed to make room.
///
/// Keys are spread over as many buckets as there can be entries, by a hash with a secret of this
/// map. A bucket has up to fifteen entries. That is enough for keys that do not depend on the
/// secret. Somebody that can read the map's memory can choose keys that do not fit.
///
/// # Threads
///
/// Eight threads of a process can change a map at the same time. Another one waits for one of
/// these.
///
/// A call that others overtake tries again, and lets other threads run before each attempt from the
/// seventeenth on. It gives up after 16384 attempts, with [`MapError::Busy`]. That can happen if
/// others change a bucket all the time while this call copies a long value of it.
///
/// # What a killed process leaves behind
///
/// If it was killed in the middle of a change, a few blocks of memory, which are free again when a
/// process joins, or needs them. A process that was stopped in the middle of a change to a full map
/// can keep others from inserting, replacing and removing some entries: they get
/// [`MapError::Busy`], and can try again.
///
/// Implementation: buckets of immutable lists, each behind one word, in `raw/map.rs`.
pub struct Map<K: Element + ?Sized, V: Element + ?Sized> {
    handle: Handle,
    inner: Arc<Inner>,
    types: PhantomData<fn(&K) -> Box<V>>,
}

struct Inner {
    map: RawMap<Mapped>,
    geometry: MapGeometry,
    seed: u64,
    /// Bytes of long values written since the last check for available memory.
    unchecked_bytes: AtomicU64,
    /// For each writer and class: a block that was free lately.
    hints: [[AtomicU64; MAX_CLASSES]; WRITERS],
    /// Where threads sleep that wait for a change. Each is for some of the buckets.
    events: Vec<EventCount<Mapped>>,
}

/// A copy of an entry.
type Owned<K, V> = (<K as ToOwned>::Owned, <V as ToOwned>::Owned);

/// What becomes of an entry.
enum Change<N, R> {
    Keep(R),
    Insert(N, R),
    Remove(R),
}

/// A call that others overtake gives up after that many attempts.
const MAX_ATTEMPTS: u32 = 1 << 14;

/// Attempts that find as many entries as there can be, while others change some.
const MAX_LOOKS_FULL: u32 = 12;

impl<K: Element + ?Sized, V: Element + ?Sized> Map<K, V> {
    fn key<'a>(&self, key: &'a K) -> Key<'a> {
        let bytes = key.bytes();
        Key { bytes, hash: hash(self.inner.seed, bytes) }
    }

    fn extents(&self) -> MapExtents<'_> {
        let Inner { geometry, unchecked_bytes, .. } = &*self.inner;
        let ObjectWords { region, extents: start, .. } = self.handle.object();
        MapExtents { region, geometry, start, unchecked_bytes }
    }

    /// Where the value of an entry is.
    #[inline]
    fn value<'a>(&'a self, entry: &Entry<'a>) -> Result<Stored<'a>, Unreadable> {
        let (length, words) = entry.value();
        match entry.extent() {
            None => Ok(Stored::Words { length, words }),
            Some(extent) => self.extents().value(extent, length),
        }
    }

    /// A copy of the value of an entry.
    #[inline]
    fn load<'a>(&'a self, entry: &Entry<'a>) -> Result<V::Owned, Unreadable> {
        V::load(&self.value(entry)?)
    }

    fn read<R>(&self, key: &K, copy: impl FnMut(&Entry<'_>) -> R) -> Result<Option<R>, MapError> {
        Ok(self.inner.map.read(self.key(key), copy, pause)?)
    }

    /// Returns a copy of the value of a key.
    ///
    /// # Blocking
    /// Never, and makes no system call, but one for a [long value](Options#long-values). Tries
    /// again while another process changes an entry of the same bucket.
    ///
    /// # Errors
    /// - [`InvalidValue`](MapError::InvalidValue), [`Busy`](MapError::Busy),
    ///   [`Corrupt`](MapError::Corrupt), [`OutOfMemory`](MapError::OutOfMemory).
    /// - [`Forked`](MapError::Forked) if it is a long value.
    #[inline]
    pub fn get(&self, key: &K) -> Result<Option<V::Owned>, MapError> {
        Ok(self.read(key, |entry| self.load(entry))?.transpose()?)
    }

    /// Returns whether there is that key.
    ///
    /// # Blocking
    /// As [`get`](Self::get).
    ///
    /// # Errors
    /// [`Busy`](MapError::Busy), [`Corrupt`](MapError::Corrupt).
    pub fn contains_key(&self, key: &K) -> Result<bool, MapError> {
        Ok(self.read(key, |_| ())?.is_some())
    }

    /// Gives a key a value, whatever it had before. Returns whether the key is new.
    ///
    /// # Blocking
    /// Tries again while another process changes an entry of the same bucket. Waits for at most a
    /// second for memory that others have in the middle of a change, if there is no other. Makes no
    /// system call, unless it waits, somebody waits for a change, or a value is
    /// [long](Options#long-values).
    ///
    /// # Errors
    /// - [`Full`](MapError::Full), [`TooLong`](MapError::TooLong), [`Busy`](MapError::Busy),
    ///   [`OutOfMemory`](MapError::OutOfMemory).
    /// - [`Forked`](MapError::Forked), [`Corrupt`](MapError::Corrupt).
    #[inline]
    pub fn insert(&self, key: &K, value: &V) -> Result<bool, MapError> {
        self.change(key, |_| (), |found| Ok(Change::Insert(value, found.is_none()))).map(|(is_new, _)| is_new)
    }

    /// Gives a key a value, and returns the one that it had before. Blocks and fails like
    /// [`insert`](Self::insert) and [`get`](Self::get).
    pub fn replace(&self, key: &K, value: &V) -> Result<Option<V::Owned>, MapError> {
        self.change(key, |entry| self.load(entry), |found| Ok(Change::Insert(value, found.transpose()?)))
            .map(|(before, _)| before)
    }

    /// Removes a key, and returns the value that it had. Blocks and fails like
    /// [`insert`](Self::insert) and [`get`](Self::get).
    pub fn remove(&self, key: &K) -> Result<Option<V::Owned>, MapError> {
        let removed = self.change::<&V, _, _>(
            key,
            |entry| self.load(entry),
            |found| {
                Ok(match found.transpose()? {
                    None => Change::Keep(None),
                    value => Change::Remove(value),
                })
            },
        );
        removed.map(|(value, _)| value)
    }

    /// Returns the value of a key. If there is none, inserts what the closure returns, unless
    /// another process is faster. Blocks and fails like [`insert`](Self::insert) and
    /// [`get`](Self::get).
    ///
    /// ```
    /// # use tombolo::collections::{Map, map};
    /// let ids = Map::new(&map::Options::<str, u64>::new())?;
    /// assert_eq!(ids.get_or_insert_with("Ada", || 1)?, 1);
    /// assert_eq!(ids.get_or_insert_with("Ada", || 2)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_or_insert_with(&self, key: &K, value: impl FnOnce() -> V::Owned) -> Result<V::Owned, MapError> {
        if let Some(found) = self.get(key)? {
            return Ok(found);
        }
        let value = value();
        let (found, _) = self.change(
            key,
            |entry| self.load(entry),
            |found| {
                Ok(match found.transpose()? {
                    None => Change::Insert(value.borrow(), None),
                    found => Change::Keep(found),
                })
            },
        )?;
        Ok(found.unwrap_or(value))
    }

    /// Changes the value of a key, as one step: no other change comes in between. The closure gets
    /// the value, if there is one, and returns what the key shall have: `None` removes it. Returns
    /// what the closure returned.
    ///
    /// The closure is called again if another process was faster. It may read this map. It should
    /// not change it: if both entries are in one bucket, its own change is the one that was faster,
    /// and it is called again. If it then does the same, the call returns
    /// [`Nested`](MapError::Nested).
    ///
    /// # Blocking
    /// As [`insert`](Self::insert).
    ///
    /// # Errors
    /// As [`insert`](Self::insert) and [`get`](Self::get), and [`Nested`](MapError::Nested).
    ///
    /// # Examples
    /// ```
    /// # use tombolo::collections::{Map, map};
    /// let words = Map::new(&map::Options::<str, u64>::new())?;
    /// for word in "to be or not to be".split(' ') {
    ///     words.update(word, |count| Some(count.unwrap_or(0) + 1))?;
    /// }
    /// assert_eq!((words.get("be")?, words.get("or")?), (Some(2), Some(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update(
        &self,
        key: &K,
        mut update: impl FnMut(Option<V::Owned>) -> Option<V::Owned>,
    ) -> Result<Option<V::Owned>, MapError> {
        let bucket = self.inner.map.bucket_of(self.key(key).hash);
        let mut was_overtaken = false;
        let changed = self.change(
            key,
            |entry| self.load(entry),
            |found| {
                let found = found.transpose()?;
                let was_there = found.is_some();
                let (new, is_overtaken) = nested::run(self.handle.local.id, bucket, || update(found));
                if was_overtaken && is_overtaken {
                    return Err(MapError::Nested);
                }
                was_overtaken |= is_overtaken;
                Ok(match new {
                    Some(value) => Change::Insert(value, ()),
                    None if was_there => Change::Remove(()),
                    None => Change::Keep(()),
                })
            },
        );
        changed.map(|((), value)| value)
    }

    /// Gives a key a new value, or removes it, if its value is `current`; `None` stands for a key
    /// that is not there. Returns the value that was found instead as the inner error. Values are
    /// compared as bytes.
    ///
    /// # Blocking
    /// As [`insert`](Self::insert).
    ///
    /// # Errors
    /// As [`insert`](Self::insert) and [`get`](Self::get).
    ///
    /// # Examples
    /// ```
    /// # use tombolo::collections::{Map, map};
    /// let leaders = Map::new(&map::Options::<str, str>::new())?;
    /// assert_eq!(leaders.compare_exchange("north", None, Some("Ada"))?, Ok(()));
    /// assert_eq!(leaders.compare_exchange("north", None, Some("Bob"))?, Err(Some("Ada".to_string())));
    /// assert_eq!(leaders.compare_exchange("north", Some("Ada"), None)?, Ok(()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compare_exchange(
        &self,
        key: &K,
        current: Option<&V>,
        new: Option<&V>,
    ) -> Result<Result<(), Option<V::Owned>>, MapError> {
        let exchanged = self.change(
            key,
            |entry| self.load(entry),
            |found| {
                let found = found.transpose()?;
                let found_bytes = found.as_ref().map(|found| Borrow::<V>::borrow(found).bytes());
                Ok(match (new, current) {
                    _ if found_bytes != current.map(V::bytes) => Change::Keep(Err(found)),
                    (Some(new), _) => Change::Insert(new, Ok(())),
                    (None, Some(_)) => Change::Remove(Ok(())),
                    (None, None) => Change::Keep(Ok(())),
                })
            },
        );
        exchanged.map(|(outcome, _)| outcome)
    }

    /// Removes all entries, bucket by bucket. Others may insert meanwhile.
    ///
    /// # Blocking
    /// As [`insert`](Self::insert).
    ///
    /// # Errors
    /// [`Busy`](MapError::Busy), [`Forked`](MapError::Forked), [`Corrupt`](MapError::Corrupt).
    pub fn clear(&self) -> Result<(), MapError> {
        self.check_process()?;
        let map = &self.inner.map;
        for bucket in 0..map.buckets() {
            self.until_committed(|| {
                let look = map.look_at_bucket(bucket, pause)?;
                if !look.has_found() {
                    return Ok(Attempt::Done(()));
                }
                let committed = self.write(|writer| map.remove(writer, &look));
                Ok(self.conclude(&look, committed, ()))
            })?;
        }
        Ok(())
    }

    /// Returns the number of entries. While others insert and remove, it is a number that there
    /// might have been. Takes the longer the more entries there can be: about a microsecond for
    /// each 4096.
    pub fn len(&self) -> usize {
        self.inner.map.len()
    }

    /// Returns whether there is no entry. Takes as long as [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many entries there can be, of all sizes.
    pub fn capacity(&self) -> usize {
        self.inner.geometry.entries() as usize
    }

    /// Returns an iterator over copies of all entries. Those of one bucket are of one moment. One
    /// that is inserted or removed meanwhile may be there or not. No key is there twice.
    ///
    /// # Blocking
    /// Never. Each step is as [`get`](Self::get).
    ///
    /// # Errors
    /// The items are the entries, or those errors of [`get`](Self::get).
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(self)
    }

    /// Blocks until there is that key, and returns its value.
    ///
    /// # Blocking
    /// For at most `timeout`. Sleeps as the [`WaitStrategy`](crate::WaitStrategy) of the handle
    /// says. A wake-up that dies with its process delays it by up to 90 ms.
    ///
    /// # Errors
    /// - [`TimedOut`](MapError::TimedOut), [`Interrupted`](MapError::Interrupted),
    ///   [`Forked`](MapError::Forked).
    /// - Those of [`get`](Self::get).
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tombolo::collections::{Map, map};
    /// let results = Map::new(&map::Options::<u64, f64>::new())?;
    /// let worker = results.clone();
    /// std::thread::spawn(move || worker.insert(&7, &0.5));
    /// assert_eq!(results.wait_for(&7, Duration::from_secs(60))?, 0.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for(&self, key: &K, timeout: Duration) -> Result<V::Owned, MapError> {
        self.wait(key, timeout, || self.get(key))
    }

    /// Blocks until the value of a key is another one than `current`, where `None` stands for a key
    /// that is not there. Returns what it is then. A value that comes and goes in between may be
    /// missed. Blocks and fails like [`wait_for`](Self::wait_for).
    pub fn wait_for_change(
        &self,
        key: &K,
        current: Option<&V>,
        timeout: Duration,
    ) -> Result<Option<V::Owned>, MapError> {
        self.wait(key, timeout, || {
            let found = self.get(key)?;
            let is_current = found.as_ref().map(|found| Borrow::<V>::borrow(found).bytes()) == current.map(V::bytes);
            Ok(if is_current { None } else { Some(found) })
        })
    }

    fn wait<R>(
        &self,
        key: &K,
        timeout: Duration,
        mut attempt: impl FnMut() -> Result<Option<R>, MapError>,
    ) -> Result<R, MapError> {
        self.check_process()?;
        let event = self.event_of(key)?;
        let mut failed = None;
        let attempt = || attempt_of_wait(attempt(), &mut failed);
        let waited = wait_for(&self.handle, event, Timeout::after(timeout), || None, attempt);
        waited.map_err(|error| wait_error(error, failed))
    }

    /// Where threads sleep that wait for a change of this key.
    fn event_of(&self, key: &K) -> Result<&EventCount<Mapped>, MapError> {
        self.event(self.inner.map.bucket_of(self.key(key).hash)).ok_or(MapError::Corrupt)
    }

    fn load_entry(&self, entry: &Entry<'_>) -> Result<Owned<K, V>, Unreadable> {
        let (length, words) = entry.key();
        Ok((K::load(&Stored::Words { length, words })?, self.load(entry)?))
    }

    fn event(&self, bucket: usize) -> Option<&EventCount<Mapped>> {
        let events = &self.inner.events;
        events.get(bucket & events.len().wrapping_sub(1)) // a power of two
    }

    /// Wakes those that wait for a change of this bucket.
    #[inline]
    fn notify(&self, bucket: usize) {
        if let Some(event) = self.event(bucket) {
            event.notify(u32::MAX);
        }
    }

    fn check_process(&self) -> Result<(), MapError> {
        if self.handle.is_from_this_process() { Ok(()) } else { Err(MapError::Forked) }
    }

    fn check_length(&self, key: Key<'_>, value: &[u8]) -> Result<(), MapError> {
        let padded = |length: usize| length.checked_next_multiple_of(WORD).unwrap_or(usize::MAX);
        let length = padded(key.bytes.len()).saturating_add(padded(value.len()));
        let limit = self.inner.geometry.max_entry_bytes(padded(key.bytes.len()));
        if length > limit { Err(MapError::TooLong { length, limit }) } else { Ok(()) }
    }

    /// Looks for a key and changes its entry, until nobody comes in between. `copy` copies from the
    /// entry, `change` decides. Returns also what was inserted.
    #[inline]
    fn change<N: Borrow<V>, C, R>(
        &self,
        key: &K,
        mut copy: impl FnMut(&Entry<'_>) -> C,
        mut change: impl FnMut(Option<C>) -> Result<Change<N, R>, MapError>,
    ) -> Result<(R, Option<N>), MapError> {
        self.check_process()?;
        let (key, map) = (self.key(key), &self.inner.map);
        let mut look = Look::EMPTY;
        self.until_committed(|| {
            let found = map.look(&mut look, key, &mut copy, pause)?;
            let (result, value) = match change(found)? {
                Change::Keep(result) => return Ok(Attempt::Done((result, None))),
                Change::Insert(value, result) => (result, Some(value)),
                Change::Remove(result) => (result, None),
            };
            let committed = match &value {
                Some(value) => {
                    let bytes = value.borrow().bytes();
                    self.check_length(key, bytes)?;
                    self.write(|writer| map.insert(writer, &look, key, bytes))
                }
                None => self.write(|writer| map.remove(writer, &look)),
            };
            Ok(self.conclude(&look, committed, (result, value)))
        })
    }

    /// What an attempt to commit has come to.
    fn conclude<R>(&self, look: &Look, committed: Result<bool, Refusal>, done: R) -> Attempt<R> {
        match committed {
            Ok(true) => {
                nested::note_change(self.handle.local.id, look.bucket());
                self.notify(look.bucket());
                Attempt::Done(done)
            }
            Ok(false) => Attempt::Overtaken,
            Err(refusal) => Attempt::Refused(refusal),
        }
    }

    /// The participants that are changing the map.
    fn in_progress(&self) -> impl Iterator<Item = usize> {
        self.inner.map.in_progress().map(|record| record / WRITERS)
    }

    #[inline]
    fn until_committed<R>(&self, mut attempt: impl FnMut() -> Result<Attempt<R>, MapError>) -> Result<R, MapError> {
        let (mut looked_full, mut has_freed) = (0, false);
        let mut refusals = Refusals::default();
        for number in 0..MAX_ATTEMPTS {
            match attempt()? {
                Attempt::Done(done) => return Ok(done),
                Attempt::Overtaken => pause(number),
                Attempt::Refused(Refusal::Full) => return Err(MapError::Full),
                Attempt::Refused(Refusal::OutOfMemory) if has_freed => return Err(MapError::OutOfMemory),
                Attempt::Refused(Refusal::OutOfMemory) => {
                    free_dead(&self.handle, self.in_progress());
                    has_freed = true;
                }
                Attempt::Refused(refusal) => {
                    looked_full = if refusal == Refusal::LooksFull { looked_full + 1 } else { 0 };
                    if looked_full >= MAX_LOOKS_FULL {
                        return Err(MapError::Full);
                    }
                    if !refusals.wait(&self.handle, self.in_progress()) {
                        return Err(MapError::Busy);
                    }
                }
            }
        }
        Err(MapError::Busy)
    }

    /// Calls `commit` with an intent record that no other thread uses meanwhile.
    #[inline]
    fn write<'a, R>(&'a self, commit: impl FnOnce(&mut Writer<MapExtents<'a>>) -> R) -> R {
        let claim = Claim::new(&self.handle.local.writers, WRITERS);
        let number = claim.number as usize;
        let (map, participant) = (&self.inner.map, self.handle.participant);
        let writer = map.writer(participant, participant * WRITERS + number, self.extents());
        let hints = self.inner.hints.get(number).map(|hints| hints.as_slice());
        with_hints(writer, hints, |writer| &mut writer.recent, commit)
    }
}

impl From<Unread> for MapError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Overtaken => Self::Busy,
            Unread::Corrupt => Self::Corrupt,
        }
    }
}

impl<K: Element + ?Sized> Map<K, [u8]> {
    /// Copies the value of a key into a buffer, in place of what it has. Returns whether there is
    /// that key; if not, the buffer is empty or unchanged. Saves the allocation that
    /// [`get`](Self::get) makes. Blocks and fails like that.
    pub fn get_into(&self, key: &K, value: &mut Vec<u8>) -> Result<bool, MapError> {
        let copied = self.read(key, |entry| load_bytes_into(&self.value(entry)?, value))?;
        Ok(copied.transpose()?.is_some())
    }
}

/// What a wait makes of an attempt. One that others overtook is followed by another.
fn attempt_of_wait<R>(
    outcome: Result<Option<R>, MapError>,
    failed: &mut Option<MapError>,
) -> Result<Option<R>, SyncError> {
    match outcome {
        Err(MapError::Busy) => Ok(None),
        outcome => outcome.map_err(|error| *failed.insert(error)).map_err(|_| SyncError::Corrupt),
    }
}

/// Why a wait ended. `failed` is why an attempt did.
fn wait_error(error: SyncError, failed: Option<MapError>) -> MapError {
    match error {
        SyncError::TimedOut | SyncError::WouldBlock => MapError::TimedOut,
        SyncError::Interrupted => MapError::Interrupted,
        SyncError::Forked => MapError::Forked,
        _ => failed.unwrap_or(MapError::Corrupt),
    }
}

/// What has become of one attempt to change something.
enum Attempt<R> {
    Done(R),
    /// Another writer was faster.
    Overtaken,
    Refused(Refusal),
}

impl<K: Element + ?Sized, V: Element + ?Sized> Map<K, V> {
    pub(crate) fn from_handle(handle: Handle) -> Self {
        let object = handle.object();
        let Some(((map, geometry), events)) = map_of(&object).zip(object.spec.map).zip(events_of(&object)) else {
            unreachable!("a handle of a map without its words");
        };
        let events = events.map(|event| handle.event(event)).collect();
        let (seed, hints) = (seed(&object), Default::default());
        let inner = Inner { map, geometry, seed, unchecked_bytes: AtomicU64::new(0), hints, events };
        Self { handle, inner: Arc::new(inner), types: PhantomData }
    }
}

object!(
    [K: Element + ?Sized, V: Element + ?Sized] Map<K, V>,
    // How many entries there are is as in the map that is found.
    Options::<K, V>::new().spec().unwrap_or(ObjectSpec::without_value(ObjectKind::Map, 0)),
    |this| &this.handle
);

impl<K: Element + ?Sized, V: Element + ?Sized> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), inner: Arc::clone(&self.inner), types: PhantomData }
    }
}
