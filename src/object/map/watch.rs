//! Following one key of a map.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use crate::error::MapError;
use crate::object::element::Element;
#[cfg(feature = "async")]
use crate::object::future::wait_for_async;
use crate::object::map::Map;
#[cfg(feature = "async")]
use crate::object::map::{attempt_of_wait, wait_error};
use crate::raw::event_count::EventCount;
use crate::region::words::Mapped;
use crate::wait::Attempt;
use crate::wait::source::{Source, sealed::Watch};

/// The values that a key has, one after the other, made by [`Map::watch`].
///
/// The first is the present one, and `None` stands for a key that is not there. Each next one is
/// the present one as soon as it is another than the last. So values that were there for a short
/// time are left out, and so is a value that was replaced by the same one. No value is ever stale.
///
/// It is an iterator that never ends by itself, and a [source](crate::select) that is ready when
/// there is another value. An error ends nothing: the next call looks again.
///
/// # Examples
/// ```
/// # use tombolo::collections::{Map, map};
/// let map = Map::new(&map::Options::<str, str>::new())?;
/// map.insert("state", "starting")?;
/// let writer = map.clone();
/// let thread = std::thread::spawn(move || writer.insert("state", "ready"));
/// for state in map.watch("state") {
///     if state?.as_deref() == Some("ready") {
///         break;
///     }
/// }
/// # thread.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a watcher looks at nothing until it is asked for a value"]
pub struct Watcher<K: Element + ?Sized, V: Element + ?Sized> {
    map: Map<K, V>,
    key: K::Owned,
    seen: Seen,
}

/// What was returned last.
struct Seen {
    bucket: usize,
    /// The version of the bucket when it was looked at last. `None`: nothing was returned yet.
    version: Option<u64>,
    /// The bytes of the value.
    value: Option<Vec<u8>>,
}

impl Seen {
    /// Returns what the key has, if that is another value.
    fn look<K: Element + ?Sized, V: Element + ?Sized>(
        &mut self,
        map: &Map<K, V>,
        key: &K,
    ) -> Result<Option<Option<V::Owned>>, MapError> {
        if !self.may_have_changed(map) {
            return Ok(None);
        }
        // Loaded before the value, so that it is not newer than that.
        let version = Some(map.inner.map.version(self.bucket));
        let found = map.get(key)?;
        let bytes = found.as_ref().map(|found| Borrow::<V>::borrow(found).bytes());
        let is_same = self.version.is_some() && bytes == self.value.as_deref();
        if is_same {
            self.version = version;
        }
        Ok((!is_same).then_some(found))
    }

    fn may_have_changed<K: Element + ?Sized, V: Element + ?Sized>(&self, map: &Map<K, V>) -> bool {
        self.version != Some(map.inner.map.version(self.bucket))
    }

    /// Returns another value, and remembers it.
    fn advance<K: Element + ?Sized, V: Element + ?Sized>(
        &mut self,
        map: &Map<K, V>,
        key: &K,
    ) -> Result<Option<Option<V::Owned>>, MapError> {
        let version = Some(map.inner.map.version(self.bucket));
        let found = self.look(map, key)?;
        if let Some(found) = &found {
            self.value = found.as_ref().map(|found| Borrow::<V>::borrow(found).bytes().to_vec());
            self.version = version;
        }
        Ok(found)
    }
}

impl<K: Element + ?Sized, V: Element + ?Sized> Map<K, V> {
    /// Returns the values that a key has, one after the other, from the present one on.
    pub fn watch(&self, key: &K) -> Watcher<K, V> {
        let bucket = self.inner.map.bucket_of(self.key(key).hash);
        Watcher { map: self.clone(), key: key.to_owned(), seen: Seen { bucket, version: None, value: None } }
    }

    #[cfg(feature = "async")]
    async fn wait_async<R>(
        &self,
        key: &K,
        mut attempt: impl FnMut() -> Result<Option<R>, MapError>,
    ) -> Result<R, MapError> {
        let event = self.event_of(key)?;
        let mut failed = None;
        let attempt = || attempt_of_wait(attempt(), &mut failed);
        let waited = wait_for_async(&self.handle, event, || None, attempt).await;
        waited.map_err(|error| wait_error(error, failed))
    }
}

impl<K: Element + ?Sized, V: Element + ?Sized> Watcher<K, V> {
    /// Returns the key.
    pub fn key(&self) -> &K {
        self.key.borrow()
    }

    /// Returns the next value. The first call returns the present one.
    ///
    /// # Blocking
    /// For at most `timeout`; not at all if that is zero. [`Duration::MAX`] means without limit.
    /// Sleeps as [`Map::wait_for`] does.
    ///
    /// # Errors
    /// Those of [`Map::wait_for`].
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tombolo::collections::{Map, MapError, map};
    /// let prices = Map::new(&map::Options::<str, f64>::new())?;
    /// let mut watcher = prices.watch("TMBL");
    /// assert_eq!(watcher.next_timeout(Duration::ZERO)?, None);
    /// assert_eq!(watcher.next_timeout(Duration::ZERO), Err(MapError::TimedOut));
    /// prices.insert("TMBL", &101.25)?;
    /// prices.insert("TMBL", &101.5)?;
    /// assert_eq!(watcher.next_timeout(Duration::ZERO)?, Some(101.5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<V::Owned>, MapError> {
        let Self { map, key, seen } = self;
        map.wait((*key).borrow(), timeout, || seen.advance(map, (*key).borrow()))
    }

    /// Waits for the next value without blocking the thread. The first one is there at once. A
    /// future that is dropped before it is ready has taken nothing. Works with any executor.
    ///
    /// # Errors
    /// Those of [`next_timeout`](Self::next_timeout), but for [`TimedOut`](MapError::TimedOut).
    ///
    /// # Examples
    /// ```
    /// # use tombolo::collections::{Map, MapError, map};
    /// let results = Map::new(&map::Options::<u64, f64>::new())?;
    /// let mut watcher = results.watch(&7);
    /// let worker = std::thread::spawn(move || results.insert(&7, &0.5));
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// while watcher.next_async().await?.is_none() {}
    /// # Ok::<(), MapError>(())
    /// # })?;
    /// # worker.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn next_async(&mut self) -> Result<Option<V::Owned>, MapError> {
        let Self { map, key, seen } = self;
        map.wait_async((*key).borrow(), || seen.advance(map, (*key).borrow())).await
    }
}

/// Each step is [`next_timeout`](Watcher::next_timeout) without limit.
impl<K: Element + ?Sized, V: Element + ?Sized> Iterator for Watcher<K, V> {
    type Item = Result<Option<V::Owned>, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_timeout(Duration::MAX))
    }
}

impl<K: Element + ?Sized, V: Element + ?Sized> Source for Watcher<K, V> {}

impl<K: Element + ?Sized, V: Element + ?Sized> Watch for Watcher<K, V> {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        let Self { map, key, seen } = self;
        match attempt {
            Attempt::Probe => seen.may_have_changed(map),
            // What fails is returned by the next call, unless others were only faster.
            Attempt::Full => {
                map.check_process().is_err()
                    || !matches!(seen.look(map, (*key).borrow()), Ok(None) | Err(MapError::Busy))
            }
        }
    }

    fn event(&self, index: usize) -> Option<&EventCount<Mapped>> {
        self.map.event(self.seen.bucket).filter(|_| index == 0)
    }
}

impl<K: Element + ?Sized, V: Element + ?Sized> fmt::Debug for Watcher<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("map", &self.map).finish_non_exhaustive()
    }
}
