//! A counter: a map whose values are counts.

use crate::error::MapError;
use crate::object::element::Element;
use crate::object::map::Map;
use std::borrow::Borrow;

/// A count for each of many keys in shared memory, which any number of processes change.
///
/// It is a [`Map`] whose values are `i64`, and keeps all that a map promises.
/// [`as_map`](Self::as_map) has the rest of its methods. A [`Namespace`](crate::Namespace) creates
/// one by [`Spec::map`](crate::Spec::map), and opens it by [`counter`](crate::Namespace::counter).
///
/// # Examples
/// ```
/// use tombolo::collections::{Counter, counter};
///
/// let words = Counter::new(&counter::Options::<str>::new())?;
/// for word in "to be or not to be".split(' ') {
///     words.add(word, 1)?;
/// }
/// assert_eq!((words.get("be")?, words.get("and")?), (2, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Counter<K: Element + ?Sized> {
    pub(super) map: Map<K, i64>,
}

impl<K: Element + ?Sized> Counter<K> {
    /// Adds to the count of a key, from 0 on if there is none. Returns the new count. No addition
    /// of another process is lost. A count ends at the least and the greatest `i64`.
    ///
    /// A key stays there if its count becomes 0. [`remove`](Self::remove) removes it.
    ///
    /// # Blocking
    /// As [`Map::insert`].
    ///
    /// # Errors
    /// As [`Map::insert`].
    pub fn add(&self, key: &K, count: i64) -> Result<i64, MapError> {
        let sum = self.map.update(key, |found| Some(found.unwrap_or(0).saturating_add(count)))?;
        Ok(sum.unwrap_or(0))
    }

    /// Returns the count of a key, 0 if there is none. Blocks and fails like [`Map::get`].
    pub fn get(&self, key: &K) -> Result<i64, MapError> {
        Ok(self.map.get(key)?.unwrap_or(0))
    }

    /// Removes a key, and returns its last count. Blocks and fails like [`Map::remove`].
    pub fn remove(&self, key: &K) -> Result<i64, MapError> {
        Ok(self.map.remove(key)?.unwrap_or(0))
    }

    /// Returns an iterator over copies of all keys and counts, one bucket after the other: see
    /// [`Map::iter`].
    pub fn iter(&self) -> impl Iterator<Item = Result<(K::Owned, i64), MapError>> {
        self.map.iter()
    }

    /// Returns copies of all keys and counts, as they are at one moment. Blocks and fails like
    /// [`Map::snapshot`].
    pub fn snapshot(&self) -> Result<Vec<(K::Owned, i64)>, MapError> {
        self.map.snapshot()
    }

    /// Returns the keys with the greatest counts, at most `length` of them, the greatest first.
    /// Those with equal counts are in the order of their bytes. Copies all keys, as
    /// [`iter`](Self::iter) does, and fails like that.
    ///
    /// # Examples
    /// ```
    /// # use tombolo::collections::{Counter, counter};
    /// let words = Counter::new(&counter::Options::<str>::new())?;
    /// for (word, count) in [("and", 3), ("be", 2), ("to", 3)] {
    ///     words.add(word, count)?;
    /// }
    /// assert_eq!(words.most_common(2)?, [("and".to_string(), 3), ("to".to_string(), 3)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn most_common(&self, length: usize) -> Result<Vec<(K::Owned, i64)>, MapError> {
        let mut counts: Vec<_> = self.iter().collect::<Result<_, _>>()?;
        counts.sort_unstable_by(|(one, one_count), (other, other_count)| {
            let bytes = |key| <K::Owned as Borrow<K>>::borrow(key).bytes();
            other_count.cmp(one_count).then_with(|| bytes(one).cmp(bytes(other)))
        });
        counts.truncate(length);
        Ok(counts)
    }
}
