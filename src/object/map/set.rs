//! A set: a map whose keys have nothing.

use crate::error::MapError;
use crate::object::element::Element;
use crate::object::map::Map;

/// A set in shared memory, which any number of processes read and change.
///
/// It is a [`Map`] whose values are `()`, and keeps all that a map promises.
/// [`as_map`](Self::as_map) has the rest of its methods: waiting for a key, watching one. A
/// [`Namespace`](crate::Namespace) creates one by [`Spec::map`](crate::Spec::map), and opens it by
/// [`set`](crate::Namespace::set).
///
/// # Examples
/// ```
/// use tombolo::collections::{Set, set};
///
/// let seen = Set::new(&set::Options::<str>::new().max_entries(10_000))?;
/// assert!(seen.insert("http://example.org/")?);
/// assert!(!seen.insert("http://example.org/")?);
/// assert!(seen.contains("http://example.org/")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Set<K: Element + ?Sized> {
    pub(super) map: Map<K, ()>,
}

impl<K: Element + ?Sized> Set<K> {
    /// Inserts a key. Returns whether it is new. Of several processes that insert the same key, one
    /// gets `true`. Blocks and fails like [`Map::insert`].
    pub fn insert(&self, key: &K) -> Result<bool, MapError> {
        Ok(self.map.compare_exchange(key, None, Some(&()))?.is_ok())
    }

    /// Returns whether a key is there. Blocks and fails like [`Map::contains_key`].
    pub fn contains(&self, key: &K) -> Result<bool, MapError> {
        self.map.contains_key(key)
    }

    /// Removes a key. Returns whether it was there. Of several processes that remove the same key,
    /// one gets `true`. Blocks and fails like [`Map::remove`].
    pub fn remove(&self, key: &K) -> Result<bool, MapError> {
        Ok(self.map.remove(key)?.is_some())
    }

    /// Returns an iterator over copies of all keys, one bucket after the other: see [`Map::iter`].
    pub fn iter(&self) -> impl Iterator<Item = Result<K::Owned, MapError>> {
        self.map.iter().map(|entry| Ok(entry?.0))
    }

    /// Returns copies of all keys, as they are at one moment. Blocks and fails like
    /// [`Map::snapshot`].
    pub fn snapshot(&self) -> Result<Vec<K::Owned>, MapError> {
        Ok(self.map.snapshot()?.into_iter().map(|(key, ())| key).collect())
    }
}
