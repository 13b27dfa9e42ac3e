//! The bytes of a region: docs/layout.md has the picture, tests/golden the proof.
//!
//! One page or more, all offsets in 8-byte words, native byte order (a region never leaves its machine):
//!
//! ```text
//!      0  header     magic, version, size, kind, directions, element, capacity, limit, life
//!     64  seats      8 records of 8 words: who plays which part
//!    128  ring 0     64 words of control: two index lines, two event lines
//!    192  ring 1     (duplex only)
//!    ...  data 0     a multiple of 16 words
//!    ...  data 1     (duplex only)
//! ```
//!
//! A header is read from the file once, into private memory; [`Layout::parse`] checks every word against the file's
//! real size, and nothing else in the crate takes a length or an offset from shared memory.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::raw::records;
use crate::sync::WORD;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"tombolo\0");

/// Moves whenever the meaning of any byte does; independent of the package's version.
pub const LAYOUT_VERSION: u64 = 1;

/// The words of the header, by position.
pub(crate) mod header {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 1;
    pub(crate) const SIZE: usize = 2;
    pub(crate) const KIND: usize = 3;
    pub(crate) const DIRECTIONS: usize = 4;
    pub(crate) const ELEMENT_SIZE: usize = 5;
    pub(crate) const ELEMENT_ALIGN: usize = 6;
    pub(crate) const ELEMENT_TAG: usize = 7;
    pub(crate) const CAPACITY: usize = 8;
    pub(crate) const LIMIT: usize = 9;
    /// The only word of the header that changes: [`super::ACTIVE`] or [`super::RETIRED`].
    pub(crate) const LIFE: usize = 10;
    pub(crate) const USED: usize = 11;
    pub(crate) const WORDS: usize = 64;
}

pub(crate) const ACTIVE: u64 = 1;
/// About to lose its name: whoever opened it must look the name up again.
pub(crate) const RETIRED: u64 = 2;

/// The words of a seat's record.
pub(crate) mod seat {
    pub(crate) const PID: usize = 0;
    pub(crate) const STARTED: usize = 1;
    pub(crate) const NAMESPACE: usize = 2;
    pub(crate) const STATE: usize = 3;
    pub(crate) const JOINS: usize = 4;
    pub(crate) const WORDS: usize = 8;
}

/// The words of a ring's control block: one pair of cache lines for each of the four.
pub(crate) mod ring {
    pub(crate) const TAIL: usize = 0;
    pub(crate) const PRODUCER_ROLE: usize = 1;
    /// And the word after it.
    pub(crate) const PRODUCER_FROM: usize = 2;
    pub(crate) const HEAD: usize = 16;
    pub(crate) const CONSUMER_ROLE: usize = 17;
    /// And the word after it.
    pub(crate) const CONSUMER_FROM: usize = 18;
    /// A 32-bit futex word; never touched as 64.
    pub(crate) const READABLE: usize = 32;
    /// A 32-bit futex word; never touched as 64.
    pub(crate) const WRITABLE: usize = 48;
    pub(crate) const WORDS: usize = 64;
}

const SEATS_AT: usize = header::WORDS;
const SEATS_MAX: usize = 8;
const RINGS_AT: usize = SEATS_AT + SEATS_MAX * seat::WORDS;
/// Adjacent-line prefetchers fetch pairs of 64-byte lines.
const LINE_PAIR: usize = 128 / WORD;

const _: () = {
    assert!(header::USED <= header::WORDS);
    assert!(SEATS_AT.is_multiple_of(LINE_PAIR) && RINGS_AT.is_multiple_of(LINE_PAIR));
    assert!(ring::HEAD - ring::TAIL >= LINE_PAIR && ring::READABLE - ring::HEAD >= LINE_PAIR);
    assert!(ring::WRITABLE - ring::READABLE >= LINE_PAIR && ring::WORDS - ring::WRITABLE >= LINE_PAIR);
    assert!(ring::PRODUCER_FROM + 1 < 8 && ring::CONSUMER_FROM + 1 < ring::HEAD + 8, "one cache line each");
};

/// The part of a file that [`Layout::parse`] wants to see.
pub(crate) const HEADER_LEN: usize = header::WORDS * WORD;

/// More than any machine's memory, and far from overflowing any sum in here.
const SIZE_MAX: u64 = 1 << 46;

/// What a region is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A one-way or duplex pipe: one ring for each direction.
    Pipe,
}

const PIPE: u64 = 1;

/// What a message is made of, as both sides must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Messages of any length.
    Bytes,
    /// Values of one type.
    Value {
        /// `size_of` the type, in bytes.
        size: u64,
        /// `align_of` the type, in bytes.
        align: u64,
        /// Eight bytes of the user's choice that name the type, zeros if not chosen.
        tag: [u8; 8],
    },
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("byte messages"),
            Self::Value { size, align, tag: [0, 0, 0, 0, 0, 0, 0, 0] } => {
                write!(f, "values of {size} bytes aligned to {align}")
            }
            Self::Value { size, align, tag } => {
                write!(f, "values of {size} bytes aligned to {align} tagged \"{}\"", tag.escape_ascii())
            }
        }
    }
}

/// A region's description of itself, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) kind: Kind,
    pub(crate) element: Element,
    /// 1 or 2: the number of rings.
    pub(crate) directions: u64,
    /// Slots of a value ring, bytes of a byte ring; a power of two.
    pub(crate) capacity: u64,
    /// The longest message in bytes.
    pub(crate) limit: u64,
    /// Bytes of the file.
    pub(crate) size: u64,
}

impl Layout {
    /// A pipe's layout; `capacity` is rounded up to what a ring can have.
    pub(crate) fn pipe(element: Element, directions: u64, capacity: u64, limit: u64) -> Result<Self> {
        let invalid = |what: &str, found: u64, expected: &str, remedy: &str| {
            Error::new(
                ErrorKind::InvalidOptions,
                format_args!("lay out a pipe with this {what}"),
                found,
                expected,
                remedy,
            )
        };
        if capacity == 0 {
            return Err(invalid("capacity", 0, "at least 1", "ask for the number of messages that may wait"));
        }
        let limit = match element {
            Element::Value { size: 0, .. } => {
                return Err(invalid("element size", 0, "at least 1 byte", "send byte messages instead"));
            }
            Element::Value { align, .. } if align > (LINE_PAIR * WORD) as u64 => {
                return Err(invalid("element alignment", align, "at most 128", "align the type to a cache line"));
            }
            Element::Value { size, .. } => size,
            Element::Bytes if limit > records::LENGTH_MAX => {
                return Err(invalid("message limit", limit, "less than 2^56", "choose a smaller limit"));
            }
            Element::Bytes => limit,
        };
        let floor = match element {
            Element::Bytes => records::MIN_WORDS * WORD as u64,
            Element::Value { .. } => 1,
        };
        let absurd = || invalid("capacity", capacity, "a region below 64 TiB", "choose a smaller capacity");
        let capacity = capacity.max(floor).checked_next_power_of_two().ok_or_else(absurd)?;
        let mut layout = Self { kind: Kind::Pipe, element, directions, capacity, limit, size: 0 };
        layout.size = layout.footprint().ok_or_else(absurd)?;
        Ok(layout)
    }

    /// The bytes that such a region needs, before rounding up to pages.
    fn footprint(&self) -> Option<u64> {
        let data = self.data_words()?.checked_mul(self.directions)?;
        let words = data.checked_add((RINGS_AT + ring::WORDS * self.directions as usize) as u64)?;
        let size = words.checked_mul(WORD as u64)?.checked_next_multiple_of(crate::sys::memory::PAGE)?;
        (size <= SIZE_MAX).then_some(size)
    }

    fn data_words(&self) -> Option<u64> {
        let words = match self.element {
            Element::Bytes => self.capacity / WORD as u64,
            Element::Value { size, .. } => self.capacity.checked_mul(size.div_ceil(WORD as u64))?,
        };
        words.checked_next_multiple_of(LINE_PAIR as u64)
    }

    /// The header as it goes into a fresh region, all but the magic number.
    pub(crate) fn header(&self) -> [u64; header::USED] {
        let mut words = [0; header::USED];
        let (size, align, tag) = match self.element {
            Element::Bytes => (0, 0, [0; 8]),
            Element::Value { size, align, tag } => (size, align, tag),
        };
        words[header::VERSION] = LAYOUT_VERSION;
        words[header::SIZE] = self.size;
        words[header::KIND] = match self.kind {
            Kind::Pipe => PIPE,
        };
        words[header::DIRECTIONS] = self.directions;
        words[header::ELEMENT_SIZE] = size;
        words[header::ELEMENT_ALIGN] = align;
        words[header::ELEMENT_TAG] = u64::from_le_bytes(tag);
        words[header::CAPACITY] = self.capacity;
        words[header::LIMIT] = self.limit;
        words[header::LIFE] = ACTIVE;
        words
    }

    /// Believes a header only if a region made by this library could have it, in a file of `length` bytes.
    pub(crate) fn parse(words: &[u64; header::WORDS], length: u64, what: &str) -> Result<Self> {
        let doing = format!("open {what}");
        let bad =
            |kind, found: String, expected: String, remedy| Err(Error::new(kind, &doing, found, expected, remedy));
        if words[header::MAGIC] != MAGIC {
            let found = match words[header::MAGIC] {
                0 => "no magic number".to_string(),
                other => format!("the magic number {other:#018x}"),
            };
            let remedy = "this is not a region of ours: choose another name or move the file away";
            return bad(ErrorKind::NotARegion, found, format!("{MAGIC:#018x}"), remedy);
        }
        if words[header::VERSION] != LAYOUT_VERSION {
            let found = format!("layout version {}", words[header::VERSION]);
            let remedy = "use the same version of tombolo on both sides, or remove the region when nobody uses it";
            return bad(ErrorKind::WrongVersion, found, format!("version {LAYOUT_VERSION}"), remedy);
        }
        if words[header::SIZE] != length {
            let remedy = "the file was cut or grown: remove it when nobody uses it";
            return bad(ErrorKind::NotARegion, format!("{length} bytes"), format!("{}", words[header::SIZE]), remedy);
        }
        let corrupt = |found: String| {
            let remedy = "the header is damaged: remove the region when nobody uses it";
            bad(ErrorKind::Corrupt, found, "a header that tombolo writes".into(), remedy)
        };
        if words[header::KIND] != PIPE || !matches!(words[header::DIRECTIONS], 1 | 2) {
            return corrupt(format!("kind {} with {} directions", words[header::KIND], words[header::DIRECTIONS]));
        }
        if !matches!(words[header::LIFE], ACTIVE | RETIRED) || words[header::USED..].iter().any(|&word| word != 0) {
            return corrupt("words that have no meaning".into());
        }
        let element = match (words[header::ELEMENT_SIZE], words[header::ELEMENT_ALIGN]) {
            (0, 0) if words[header::ELEMENT_TAG] == 0 => Element::Bytes,
            (size, align) if size > 0 && align.is_power_of_two() && size.is_multiple_of(align) => {
                Element::Value { size, align, tag: words[header::ELEMENT_TAG].to_le_bytes() }
            }
            (size, align) => return corrupt(format!("an element of {size} bytes aligned to {align}")),
        };
        let (capacity, limit) = (words[header::CAPACITY], words[header::LIMIT]);
        match Self::pipe(element, words[header::DIRECTIONS], capacity, limit) {
            Ok(layout) if layout.capacity == capacity && layout.limit == limit && layout.fits(length) => {
                Ok(Self { size: length, ..layout })
            }
            _ => corrupt(format!("capacity {capacity} and limit {limit} in {length} bytes")),
        }
    }

    /// Rounding up to huge pages may have made the file longer than need be.
    fn fits(&self, length: u64) -> bool {
        length >= self.size && length - self.size < crate::sys::memory::HUGE_PAGE
    }

    /// First word of a seat's record.
    pub(crate) fn seat(&self, index: usize) -> usize {
        debug_assert!(index < self.seats());
        SEATS_AT + index * seat::WORDS
    }

    pub(crate) fn seats(&self) -> usize {
        match self.kind {
            Kind::Pipe => 2,
        }
    }

    /// First word of a ring's control block.
    pub(crate) fn ring(&self, index: usize) -> usize {
        debug_assert!((index as u64) < self.directions);
        RINGS_AT + index * ring::WORDS
    }

    /// First word and number of words of a ring's data. Checked at construction to be inside the region.
    pub(crate) fn data(&self, index: usize) -> (usize, usize) {
        let words = self.data_words().unwrap_or(0) as usize;
        (RINGS_AT + ring::WORDS * self.directions as usize + index * words, words)
    }
}
