//! The latest values of a broadcast's keys, as a subscriber or an observer has copied them.

use std::{slice, vec};

use crate::broadcast::track_reader::{self, TrackReader};
use crate::error::RecvError;
use crate::primitive::{AtomicU64, load_value_into};
use crate::types::{Shareable, Unchecked};

/// The latest value of each key of a broadcast, from
/// [`Subscriber::snapshot`](crate::broadcast::Subscriber::snapshot) or
/// [`Observer::snapshot`](crate::broadcast::Observer::snapshot).
///
/// It has an entry for each publisher that has published a key, in the order of the keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<T> {
    latest: Vec<Latest<T>>,
    published: Vec<u64>,
}

/// The latest value that one publisher has published of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latest<T> {
    /// The key.
    pub key: usize,
    /// The number of the publisher's place, from 0 on. A successor has the same place.
    pub publisher: usize,
    /// How many messages were published in that place before this one.
    pub sequence: u64,
    /// The value.
    pub value: T,
}

impl<T: Shareable> Snapshot<T> {
    /// Takes a snapshot. After an error the tracks are as before.
    pub(super) fn take<'a>(tracks: impl Iterator<Item = &'a mut TrackReader>) -> Result<Self, RecvError> {
        let mut latest = Vec::new();
        let copy = |words: &[AtomicU64]| {
            let mut value = Unchecked::<T>::zeroed();
            load_value_into(words, value.bits_mut());
            value
        };
        let add = |key, publisher, sequence, mut value: Unchecked<T>| {
            latest.try_reserve(1).map_err(|_| RecvError::OutOfMemory)?;
            latest.push(Latest { key: key as usize, publisher, sequence, value: value.check::<RecvError>()? });
            Ok(())
        };
        let mut tracks: Vec<&mut TrackReader> = tracks.collect();
        let published = track_reader::snapshot(&mut tracks, copy, add)?;
        Ok(Self { latest, published })
    }
}

impl<T> Snapshot<T> {
    /// Returns the latest value of a key. `None` if nobody has published it. If there can be
    /// several publishers, use [`of_key`](Self::of_key): this is the value of the first of them.
    pub fn get(&self, key: usize) -> Option<&T> {
        self.of_key(key).first().map(|latest| &latest.value)
    }

    /// Returns the entries of a key: one for each publisher that has published it.
    pub fn of_key(&self, key: usize) -> &[Latest<T>] {
        let start = self.latest.partition_point(|latest| latest.key < key);
        let rest = self.latest.get(start..).unwrap_or_default();
        let count = rest.partition_point(|latest| latest.key == key);
        rest.get(..count).unwrap_or_default()
    }

    /// Returns, for the place of each publisher, the sequence at which the snapshot began, and the
    /// stream goes on: the number of messages that were published before. The snapshot has the
    /// latest of all these, and may have later ones.
    pub fn sequences(&self) -> &[u64] {
        &self.published
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.latest.len()
    }

    /// Returns whether no key was published yet.
    pub fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }

    /// Returns an iterator over all entries.
    pub fn iter(&self) -> slice::Iter<'_, Latest<T>> {
        self.latest.iter()
    }
}

impl<T> IntoIterator for Snapshot<T> {
    type Item = Latest<T>;
    type IntoIter = vec::IntoIter<Latest<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.latest.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Snapshot<T> {
    type Item = &'a Latest<T>;
    type IntoIter = slice::Iter<'a, Latest<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
