//! All entries of a map, as they are at one moment.

use crate::error::MapError;
use crate::object::element::Element;
use crate::object::map::{Map, Owned};
use crate::object::writers::pause;
use crate::raw::map::snapshot::NoSnapshot;

impl<K: Element + ?Sized, V: Element + ?Sized> Map<K, V> {
    /// Returns copies of all entries, as they are at one moment of this call, in no order.
    ///
    /// Copies the map, then looks for changes, and copies what has changed, until a look finds no
    /// change. A look takes about a microsecond for each 2048 entries that there can be, so the map
    /// has to be unchanged for that long once. If it is changed all the time, use
    /// [`iter`](Self::iter), or let the writers pause. Takes 32 bytes of memory for each entry that
    /// there can be, besides the copies.
    ///
    /// # Blocking
    /// Never, and makes no system call, but yields. Looks 256 times at most.
    ///
    /// # Errors
    /// - [`Busy`](MapError::Busy).
    /// - Those of [`get`](Self::get).
    ///
    /// # Examples
    /// ```
    /// # use tombolo::collections::{Map, map};
    /// let accounts = Map::new(&map::Options::<str, i64>::new())?;
    /// accounts.insert("Ada", &70)?;
    /// accounts.insert("Bob", &30)?;
    /// let total: i64 = accounts.snapshot()?.iter().map(|(_, amount)| amount).sum();
    /// assert_eq!(total, 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&self) -> Result<Vec<Owned<K, V>>, MapError> {
        let copied = self.inner.map.snapshot(|entry| self.load_entry(entry), pause).map_err(|reason| match reason {
            NoSnapshot::Overtaken => MapError::Busy,
            NoSnapshot::OutOfMemory => MapError::OutOfMemory,
            NoSnapshot::Corrupt => MapError::Corrupt,
        })?;
        copied.into_iter().map(|entry| entry.map_err(MapError::from)).collect()
    }
}
