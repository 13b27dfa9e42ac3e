//! How full a map is, and how its entries are spread, for inspection.

use crate::object::kind::ObjectWords;
use crate::object::map::words::{Class, map_of};
use crate::raw::map::HEADER;

/// How full a map is, and how its entries are spread over its buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapInfo {
    /// The sizes of entries, the smallest first.
    pub sizes: Vec<MapSizeInfo>,
    /// How many buckets have no entry, one, two, and so on, up to the most that a bucket has. An
    /// operation on a key looks at about half of the entries of its bucket. A bucket with fifteen
    /// entries takes no other.
    pub chains: Vec<u64>,
}

/// Entries of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapSizeInfo {
    /// How many bytes key and value can have together, each rounded up to a multiple of eight.
    pub bytes: u64,
    /// How many are used: by entries, and by changes in progress.
    pub used: u64,
    /// How many there can be.
    pub capacity: u64,
}

impl MapInfo {
    pub(super) fn of(object: &ObjectWords<'_>) -> Option<Self> {
        let (map, geometry) = map_of(object).zip(object.spec.map)?;
        let size = |(Class { words, entries, extent }, used): (_, u64)| MapSizeInfo {
            bytes: words.saturating_sub(HEADER as u64).saturating_mul(8).saturating_add(extent),
            used: used.min(entries),
            capacity: entries,
        };
        let sizes = geometry.classes().zip(map.allocated_by_class()).map(size).collect();
        let chains = map.chains();
        let length = chains.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
        Some(Self { sizes, chains: chains.into_iter().take(length).collect() })
    }

    /// How many entries a bucket has on average.
    pub fn load(&self) -> f64 {
        let entries: u64 = (0..).zip(&self.chains).map(|(length, count)| length * count).sum();
        entries as f64 / self.chains.iter().sum::<u64>().max(1) as f64
    }
}
