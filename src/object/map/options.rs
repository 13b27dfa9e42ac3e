//! What a map is to be like.

use std::fmt;
use std::marker::PhantomData;

use crate::error::Result;
use crate::object::element::Element;
use crate::object::kind::ObjectKind;
use crate::object::map::words::{Class, MapGeometry, fixed_bytes};
use crate::object::spec::ObjectSpec;
use crate::raw::map::HEADER;
use crate::region::layout::header::ElementType;

/// Entries unless the options say how many.
const DEFAULT_ENTRIES: usize = 1024;
/// Bytes of an entry of bytes or of text, unless the options say how many.
const DEFAULT_BYTES: usize = 240;

/// Values that can be longer are in memory of their own. It takes a few system calls to write one.
const MAX_SHORT_VALUE: u64 = 64 << 10;

/// Entries of one size, for [`Options::entries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries {
    /// How many there can be.
    pub count: usize,
    /// How many bytes key and value can have together, each rounded up to a multiple of eight. If
    /// that is more than 64 KiB, the value alone can have that many: see
    /// [long values](Options#long-values).
    pub bytes: usize,
}

/// What a [`Map`](crate::collections::Map) is to be like: the types of its keys and values, and how
/// many entries of which sizes it has room for.
///
/// # Memory
///
/// A map has all of its memory from the beginning: for each entry its bytes, 16 more, and 24 for
/// finding it. Fifteen more entries of each size are spare: they are used for a moment when an
/// entry of a full map is replaced or removed.
///
/// # Long values
///
/// That is different for entries whose values can have more than 64 KiB: those values have memory
/// only while they are there, and as much as they need, in whole pages. From the beginning such an
/// entry has 88 bytes and those of its key: up to 240 of a key without a fixed size, unless
/// [`max_key_bytes`](Self::max_key_bytes) says another number. So thousands of entries that could
/// be long cost little. The map's file has a length of which only a part exists, and `ulimit -f`
/// must allow that length.
///
/// To write a long value, or to remove one, takes a few system calls; to read one takes one. Where
/// there is no memory left, writing returns
/// [`OutOfMemory`](crate::collections::MapError::OutOfMemory). In rare cases changing an entry
/// needs memory for a copy of another one.
///
/// # Examples
/// ```
/// use tombolo::collections::map::{Entries, Options};
/// use tombolo::collections::Map;
///
/// // Many short texts, and a few long ones.
/// let options = Options::<str, str>::new()
///     .entries(Entries { count: 10_000, bytes: 112 })
///     .entries(Entries { count: 10, bytes: 64 << 10 });
/// let map = Map::new(&options)?;
/// map.insert("motto", &"festina lente ".repeat(1000))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "options make nothing until they are given to a map or a namespace"]
pub struct Options<K: Element + ?Sized, V: Element + ?Sized> {
    sizes: Vec<Entries>,
    max_entries: Option<usize>,
    max_key_bytes: usize,
    types: PhantomData<fn(&K) -> Box<V>>,
}

impl<K: Element + ?Sized, V: Element + ?Sized> Options<K, V> {
    /// Options for a map with keys of the type `K` and values of the type `V`. Either can be `[u8]`
    /// or `str`.
    ///
    /// It has room for 1024 entries. If keys or values have no fixed size, an entry has up to 240
    /// bytes.
    pub fn new() -> Self {
        Self { sizes: Vec::new(), max_entries: None, max_key_bytes: DEFAULT_BYTES, types: PhantomData }
    }

    /// How many entries there can be, of the usual size. 1024 unless set, or unless there are
    /// [`entries`](Self::entries) of other sizes.
    pub fn max_entries(mut self, count: usize) -> Self {
        self.max_entries = Some(count);
        self
    }

    /// Adds room for entries of one size. There can be four sizes. An entry takes the smallest that
    /// has room, which may be larger than it needs.
    ///
    /// Without any, entries have the size of `K` and `V`, or up to 240 bytes.
    pub fn entries(mut self, entries: Entries) -> Self {
        self.sizes.push(entries);
        self
    }

    /// How many bytes the key of an entry with a [long value](Self#long-values) can have, if keys
    /// have no fixed size. 240 unless set. Other entries have no such limit.
    ///
    /// ```
    /// use tombolo::collections::map::{Entries, Options};
    /// use tombolo::collections::Map;
    ///
    /// let options = Options::<str, [u8]>::new().entries(Entries { count: 100, bytes: 1 << 20 }).max_key_bytes(2000);
    /// let pages = Map::new(&options)?;
    /// pages.insert(&format!("https://example.org/?{}", "q".repeat(1900)), &[0; 500_000])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.max_key_bytes = bytes;
        self
    }

    /// The blocks for entries of one size.
    fn class(&self, Entries { count, bytes }: Entries) -> Class {
        let (key, value) = (K::element(), V::element());
        let (bytes, entries) = (bytes as u64, count as u64);
        let longest_value = if value == ElementType::Bytes { bytes } else { fixed_bytes(value) };
        let extent = if longest_value > MAX_SHORT_VALUE { longest_value } else { 0 };
        let block_bytes = match key {
            _ if extent == 0 => bytes.max(fixed_bytes(key) + fixed_bytes(value)),
            ElementType::Bytes => bytes.min(self.max_key_bytes as u64),
            _ => fixed_bytes(key),
        };
        let words = HEADER as u64 + block_bytes.div_ceil(8);
        // Short blocks do not lie across cache lines.
        let words = if words <= 8 { words.next_power_of_two() } else { words };
        Class { words, entries, extent }
    }

    pub(crate) fn spec(&self) -> Result<ObjectSpec> {
        let (key, value) = (K::element(), V::element());
        let is_fixed = key != ElementType::Bytes && value != ElementType::Bytes;
        let usual = |count| Entries { count, bytes: if is_fixed { 0 } else { DEFAULT_BYTES } };
        let default = self.sizes.is_empty().then_some(DEFAULT_ENTRIES);
        let sizes = self.sizes.iter().copied().chain(self.max_entries.or(default).map(usual));
        let mut classes: Vec<Class> = sizes.map(|entries| self.class(entries)).collect();
        classes.sort_by_key(|class| (class.extent, class.words));
        let map = Some(MapGeometry::new(key, value, &classes)?);
        Ok(ObjectSpec { map, ..ObjectSpec::without_value(ObjectKind::Map, 0) })
    }
}

impl<K: Element + ?Sized, V: Element + ?Sized> Default for Options<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Element + ?Sized, V: Element + ?Sized> Clone for Options<K, V> {
    fn clone(&self) -> Self {
        Self {
            sizes: self.sizes.clone(),
            max_entries: self.max_entries,
            max_key_bytes: self.max_key_bytes,
            types: PhantomData,
        }
    }
}

impl<K: Element + ?Sized, V: Element + ?Sized> fmt::Debug for Options<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("key", &K::element())
            .field("value", &V::element())
            .field("sizes", &self.sizes)
            .field("max_entries", &self.max_entries)
            .field("max_key_bytes", &self.max_key_bytes)
            .finish()
    }
}
