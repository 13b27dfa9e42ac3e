//! The entries of a map, one bucket after the other.

use std::iter::FusedIterator;
use std::vec;

use crate::error::MapError;
use crate::object::map::element::{Element, Stored};
use crate::object::map::{Map, pause};
use crate::raw::map::Entry;

/// Entries of a bucket, or why it cannot be read.
type Entries<K, V> = vec::IntoIter<Result<(<K as ToOwned>::Owned, <V as ToOwned>::Owned), MapError>>;

/// Copies of the entries of a [`Map`], made by [`Map::iter`].
#[must_use = "an iterator reads nothing until it is used"]
pub struct Iter<'a, K: Element + ?Sized, V: Element + ?Sized> {
    map: &'a Map<K, V>,
    /// The next one to be read.
    bucket: usize,
    /// What is left of the last one.
    entries: Entries<K, V>,
}

impl<'a, K: Element + ?Sized, V: Element + ?Sized> Iter<'a, K, V> {
    pub(super) fn new(map: &'a Map<K, V>) -> Self {
        Self { map, bucket: 0, entries: Vec::new().into_iter() }
    }
}

impl<K: Element + ?Sized, V: Element + ?Sized> Iterator for Iter<'_, K, V> {
    type Item = Result<(K::Owned, V::Owned), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        let map = &self.map.inner.map;
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(entry);
            }
            if self.bucket == map.buckets() {
                return None;
            }
            let copy = |entry: &Entry<'_>| {
                let (length, words) = entry.key();
                Ok((K::load(&Stored::Words { length, words })?, self.map.load(entry)?))
            };
            self.entries = match map.read_bucket(self.bucket, copy, pause) {
                Ok(entries) => entries.into_iter(),
                Err(error) => vec![Err(error.into())].into_iter(),
            };
            self.bucket += 1;
        }
    }
}

impl<K: Element + ?Sized, V: Element + ?Sized> FusedIterator for Iter<'_, K, V> {}

impl<'a, K: Element + ?Sized, V: Element + ?Sized> IntoIterator for &'a Map<K, V> {
    type Item = Result<(K::Owned, V::Owned), MapError>;
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}
