//! The bytes of a region: docs/layout.md has the picture, tests/golden the proof.
//!
//! One page or more, all offsets in 8-byte words, native byte order (a region never leaves its machine):
//!
//! ```text
//!         a pipe                                         a queue
//!      0  header   magic, version, size, kind, ..        header
//!     64  seats    8 records of 8 words                  control  112 words: indices, events, books
//!    128  ring 0   64 words of control
//!    176                                                 lanes    16 words each: a seat's record, an intent
//!    192  ring 1   (duplex only)
//!    ...  data 0   a multiple of 16 words                owners   one word for each place of the pool (bytes only)
//!    ...  data 1   (duplex only)
//!    ...                                                 marks    one word for each slot
//!    ...                                                 slots
//!    ...                                                 blocks   places of the pool, up to a page's end
//!    ...                                                 extents  more places, not mapped and without memory until used
//! ```
//!
//! A namespace has lanes at 64, then a table of its objects, then those, each a multiple of 16 words (`table.rs`). A queue in there is
//! the same words as a queue's region.
//!
//! A header is read from the file once, into private memory; [`Layout::parse`] checks every word against the file's
//! real size, and nothing else in the crate takes a length or an offset from shared memory.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::primitive::WORD;
use crate::raw::spsc::record_ring;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"tombolo\0");

/// Moves whenever the meaning of any byte does; independent of the package's version.
pub const LAYOUT_VERSION: u64 = 2;

/// The words of the header, by position. In every version the magic number, the version, [`LIFE`](header::LIFE) and
/// [`PERSISTENT`](header::PERSISTENT) keep their places: other versions look there before they replace an abandoned
/// region.
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
    // Queues only.
    pub(crate) const LANES: usize = 11;
    pub(crate) const INLINE_LEN: usize = 12;
    pub(crate) const BLOCKS: usize = 13;
    pub(crate) const BLOCK_LEN: usize = 14;
    pub(crate) const EXTENTS: usize = 15;
    // Namespaces only.
    /// 1: the name stays when the last participant has left.
    pub(crate) const PERSISTENT: usize = 16;
    pub(crate) const USED: usize = 17;
    pub(crate) const WORDS: usize = 64;
}

pub(crate) const ACTIVE: u64 = 1;
/// About to lose its name: whoever opened it must look the name up again.
pub(crate) const RETIRED: u64 = 2;

/// The words of a seat's record.
pub(crate) mod seat {
    pub(crate) const PID: usize = 0;
    pub(crate) const STARTED: usize = 1;
    /// The lower half; in the upper half the page from which on it has the region mapped.
    pub(crate) const NAMESPACE: usize = 2;
    pub(crate) const STATE: usize = 3;
    pub(crate) const JOINS: usize = 4;
    /// In a queue: sender or receiver. Zero in a pipe, where the seat says it.
    pub(crate) const PART: usize = 5;
    /// In a queue: a sender's run. Of a receiver, the one that was open or closed last when it
    /// came.
    pub(crate) const RUN: usize = 6;
    /// In a queue, if nobody of the other part was there: how many of them had come by then, plus
    /// 1.
    pub(crate) const SINCE: usize = 7;
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

/// The words of a queue's control block: one pair of cache lines for each index and event, one for the books.
pub(crate) mod queue {
    pub(crate) const TAIL: usize = 0;
    pub(crate) const HEAD: usize = 16;
    /// A 32-bit futex word, like the three that follow; never touched as 64.
    pub(crate) const READABLE: usize = 32;
    pub(crate) const WRITABLE: usize = 48;
    /// A place of the pool was given back.
    pub(crate) const ROOMY: usize = 64;
    /// A task was finished.
    pub(crate) const IDLE: usize = 80;
    pub(crate) const LOST: usize = 96;
    pub(crate) const VERDICT: usize = 97;
    pub(crate) const COUNT: usize = 98;
    /// Losses that a receiver was told of.
    pub(crate) const REPORTED: usize = 99;
    /// Messages thrown away, on request or for lack of memory.
    pub(crate) const DROPPED: usize = 100;
    /// Moves whenever a lane's state does.
    pub(crate) const CHANGES: usize = 101;
    /// How many have come: senders here, receivers in the next word.
    pub(crate) const CAME: usize = 102;
    /// How the last one ended, likewise; of the senders, the run as well.
    pub(crate) const ENDED: usize = 104;
    pub(crate) const WORDS: usize = 112;
}

/// The words of a lane: a seat's record, then its owner's own. (In a namespace all of it is a seat's record.)
pub(crate) mod lane {
    /// On the owner's own line.
    pub(crate) const INTENT: usize = 8;
    /// Tasks received and not done.
    pub(crate) const OPEN: usize = 9;
    pub(crate) const WORDS: usize = 16;
}

const SEATS_AT: usize = header::WORDS;
const QUEUE_AT: usize = header::WORDS;
const LANES_AT: usize = QUEUE_AT + queue::WORDS;
const MEMBERS_AT: usize = header::WORDS;
const SEATS_MAX: usize = 8;
const RINGS_AT: usize = SEATS_AT + SEATS_MAX * seat::WORDS;
/// Adjacent-line prefetchers fetch pairs of 64-byte lines.
pub(crate) const LINE_PAIR: usize = 128 / WORD;

/// Words of an object's entry in a namespace's table.
pub(crate) const ENTRY_WORDS: usize = LINE_PAIR;

const _: () = {
    assert!(header::USED <= header::WORDS);
    assert!(SEATS_AT.is_multiple_of(LINE_PAIR) && RINGS_AT.is_multiple_of(LINE_PAIR));
    assert!(ring::HEAD - ring::TAIL >= LINE_PAIR && ring::READABLE - ring::HEAD >= LINE_PAIR);
    assert!(ring::WRITABLE - ring::READABLE >= LINE_PAIR && ring::WORDS - ring::WRITABLE >= LINE_PAIR);
    assert!(LANES_AT.is_multiple_of(LINE_PAIR) && lane::WORDS.is_multiple_of(LINE_PAIR) && lane::INTENT >= 8);
    assert!(queue::IDLE + LINE_PAIR <= queue::LOST && queue::ENDED + 2 <= queue::WORDS);
    assert!(ring::PRODUCER_FROM + 1 < 8 && ring::CONSUMER_FROM + 1 < ring::HEAD + 8, "one cache line each");
};

/// The part of a file that [`Layout::parse`] wants to see.
pub(crate) const HEADER_LEN: usize = header::WORDS * WORD;

/// More than any machine's memory, and far from overflowing any sum in here.
const SIZE_MAX: u64 = 1 << 46;

/// What a region is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegionKind {
    /// A one-way or duplex pipe: one ring for each direction.
    Pipe,
    /// A queue: one ring for any number of senders and receivers.
    Queue,
    /// A namespace: values, locks and other objects, each with a name.
    Namespace,
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pipe => "a pipe",
            Self::Queue => "a queue",
            Self::Namespace => "a namespace",
        })
    }
}

const PIPE: u64 = 1;
const QUEUE: u64 = 2;
const NAMESPACE: u64 = 3;

/// Objects that a namespace can have.
const OBJECTS_MAX: u64 = 1 << 16;

/// Participants that a queue can have: a place in the pool has 16 bits for its owner.
pub(crate) const LANES_MAX: u64 = 4096;

/// What a slot of a byte queue holds besides the payload: its length and where it is.
pub(crate) const LABEL_WORDS: usize = 1;
/// The payload's part of a slot must be able to hold the name of a place.
const INLINE_MIN: u64 = 2 * WORD as u64;
pub(crate) const PLACES_MAX: u64 = 1 << 32;

/// What a message is made of, as both sides must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
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

impl fmt::Display for ElementType {
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

fn invalid(kind: &str, what: &str, found: u64, expected: impl fmt::Display, remedy: impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOptions, format_args!("lay out a {kind} with this {what}"), found, expected, remedy)
}

/// What pipes and queues have in common; says the longest message.
fn check(kind: &str, element: ElementType, capacity: u64, limit: u64) -> Result<u64> {
    if capacity == 0 {
        return Err(invalid(kind, "capacity", 0, "at least 1", "ask for the number of messages that may wait"));
    }
    match element {
        ElementType::Value { size: 0, .. } => {
            Err(invalid(kind, "element size", 0, "at least 1 byte", "send byte messages instead"))
        }
        ElementType::Value { align, .. } if align > (LINE_PAIR * WORD) as u64 => {
            Err(invalid(kind, "element alignment", align, "at most 128", "align the type to a cache line"))
        }
        ElementType::Value { size, .. } => Ok(size),
        ElementType::Bytes if limit > record_ring::LENGTH_MAX => {
            Err(invalid(kind, "message limit", limit, "less than 2^56", "choose a smaller limit"))
        }
        ElementType::Bytes => Ok(limit),
    }
}

/// A region's description of itself, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) kind: RegionKind,
    pub(crate) element: ElementType,
    /// The number of rings: 1 or 2, 0 in a namespace.
    pub(crate) directions: u64,
    /// Slots of a value ring, bytes of a byte ring; a power of two. Objects of a namespace.
    pub(crate) capacity: u64,
    /// The longest message in bytes; of a namespace, the bytes of all objects.
    pub(crate) limit: u64,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// Zeros for a pipe.
    pub(crate) shape: QueueGeometry,
    /// Whether the name is to stay when the last participant has left.
    pub(crate) persistent: bool,
}

/// What only a queue has; a namespace has its number of lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueGeometry {
    /// Participants at most.
    pub(crate) lanes: u64,
    /// Payload bytes in a slot; the rest is for byte queues only.
    pub(crate) inline_bytes: u64,
    /// Places of the pool that are mapped.
    pub(crate) blocks: u64,
    pub(crate) block_len: u64,
    /// Places of the pool that are not, each as long as the longest message.
    pub(crate) extents: u64,
}

impl Layout {
    /// A pipe's layout; `capacity` is rounded up to what a ring can have.
    pub(crate) fn pipe(element: ElementType, directions: u64, capacity: u64, limit: u64) -> Result<Self> {
        let limit = check("pipe", element, capacity, limit)?;
        let floor = match element {
            ElementType::Bytes => record_ring::MIN_WORDS * WORD as u64,
            ElementType::Value { .. } => 1,
        };
        let capacity = capacity.max(floor).checked_next_power_of_two();
        Self {
            kind: RegionKind::Pipe,
            element,
            directions,
            capacity: 0,
            limit,
            size: 0,
            shape: QueueGeometry::default(),
            persistent: false,
        }
        .sized(capacity)
    }

    /// A queue's layout; capacity and lengths are rounded up to what there can be.
    pub(crate) fn queue(element: ElementType, capacity: u64, limit: u64, shape: QueueGeometry) -> Result<Self> {
        let QueueGeometry { lanes, inline_bytes, blocks, block_len, extents } = shape;
        let limit = check("queue", element, capacity, limit)?;
        for (what, found, least, most) in [
            ("number of participants", lanes, 1, LANES_MAX),
            ("number of blocks", blocks, 0, PLACES_MAX),
            ("number of extents", extents, 0, PLACES_MAX),
            ("length of a block", block_len, 0, SIZE_MAX),
            ("inline length", inline_bytes, 0, SIZE_MAX),
        ] {
            if !(least..=most).contains(&found) {
                return Err(invalid("queue", what, found, format_args!("{least} to {most}"), "choose another"));
            }
        }
        let round = |length: u64, least: u64| length.max(least).next_multiple_of(WORD as u64);
        let shape = match element {
            ElementType::Value { .. } => QueueGeometry { lanes, ..QueueGeometry::default() },
            ElementType::Bytes => {
                let inline_bytes = round(inline_bytes, INLINE_MIN);
                let block_len = if blocks == 0 { 0 } else { round(block_len, WORD as u64) };
                let needs_extents = limit > inline_bytes.max(block_len);
                if needs_extents && extents == 0 {
                    let expected = "at least 1, for messages that are longer than a block";
                    return Err(invalid("queue", "number of extents", 0, expected, "or lower the message limit"));
                }
                QueueGeometry {
                    lanes,
                    inline_bytes,
                    blocks,
                    block_len,
                    extents: if needs_extents { extents } else { 0 },
                }
            }
        };
        let capacity = capacity.max(2).checked_next_power_of_two();
        Self { kind: RegionKind::Queue, element, directions: 1, capacity: 0, limit, size: 0, shape, persistent: false }
            .sized(capacity)
    }

    /// The layout of a namespace of so many objects, which take so many words.
    pub(crate) fn namespace(objects: u64, words: u64, lanes: u64, persistent: bool) -> Result<Self> {
        for (what, found, least, most) in [
            ("number of objects", objects, 1, OBJECTS_MAX),
            ("number of participants", lanes, 1, LANES_MAX),
            ("number of words", words, 1, SIZE_MAX / WORD as u64),
        ] {
            if !(least..=most).contains(&found) {
                return Err(invalid("namespace", what, found, format_args!("{least} to {most}"), "choose another"));
            }
        }
        let shape = QueueGeometry { lanes, ..QueueGeometry::default() };
        let (kind, element, limit) = (RegionKind::Namespace, ElementType::Bytes, words * WORD as u64);
        Self { kind, element, directions: 0, capacity: 0, limit, size: 0, shape, persistent }.sized(Some(objects))
    }

    fn sized(mut self, capacity: Option<u64>) -> Result<Self> {
        self.capacity = capacity.unwrap_or(u64::MAX);
        match self.footprint() {
            Some(size) => Ok(Self { size, ..self }),
            None => {
                Err(invalid("region", "capacity", self.capacity, "a region below 64 TiB", "choose a smaller capacity"))
            }
        }
    }

    /// The bytes that such a region needs, before rounding up to huge pages.
    fn footprint(&self) -> Option<u64> {
        let mapped = self.mapped_len()?;
        let size = self.extent_len()?.checked_mul(self.shape.extents)?.checked_add(mapped)?;
        (size <= SIZE_MAX).then_some(size)
    }

    /// The part of it that is memory from the beginning.
    fn mapped_len(&self) -> Option<u64> {
        let words = match self.kind {
            RegionKind::Pipe => {
                let data = self.data_words()?.checked_mul(self.directions)?;
                data.checked_add((RINGS_AT + ring::WORDS * self.directions as usize) as u64)?
            }
            RegionKind::Queue => {
                let blocks = self.shape.blocks.checked_mul(self.shape.block_len / WORD as u64)?;
                let marks = self.capacity.checked_next_multiple_of(LINE_PAIR as u64)?;
                let fixed = (self.marks() as u64).checked_add(marks)?;
                fixed.checked_add(self.data_words()?)?.checked_add(blocks)?
            }
            RegionKind::Namespace => (self.objects() as u64).checked_add(self.limit / WORD as u64)?,
        };
        words.checked_mul(WORD as u64)?.checked_next_multiple_of(crate::sys::memory::PAGE)
    }

    fn extent_len(&self) -> Option<u64> {
        self.limit.checked_next_multiple_of(crate::sys::memory::PAGE)
    }

    fn data_words(&self) -> Option<u64> {
        let words = match (self.kind, self.element) {
            (RegionKind::Pipe, ElementType::Bytes) => self.capacity / WORD as u64,
            (RegionKind::Pipe, ElementType::Value { size, .. }) => {
                self.capacity.checked_mul(size.div_ceil(WORD as u64))?
            }
            (RegionKind::Queue, _) => self.capacity.checked_mul(self.stride() as u64)?,
            (RegionKind::Namespace, _) => 0,
        };
        words.checked_next_multiple_of(LINE_PAIR as u64)
    }

    /// The header as it goes into a fresh region, all but the magic number.
    pub(crate) fn header(&self) -> [u64; header::USED] {
        let mut words = [0; header::USED];
        let (size, align, tag) = match self.element {
            ElementType::Bytes => (0, 0, [0; 8]),
            ElementType::Value { size, align, tag } => (size, align, tag),
        };
        words[header::VERSION] = LAYOUT_VERSION;
        words[header::SIZE] = self.size;
        words[header::KIND] = match self.kind {
            RegionKind::Pipe => PIPE,
            RegionKind::Queue => QUEUE,
            RegionKind::Namespace => NAMESPACE,
        };
        words[header::DIRECTIONS] = self.directions;
        words[header::ELEMENT_SIZE] = size;
        words[header::ELEMENT_ALIGN] = align;
        words[header::ELEMENT_TAG] = u64::from_le_bytes(tag);
        words[header::CAPACITY] = self.capacity;
        words[header::LIMIT] = self.limit;
        words[header::LIFE] = ACTIVE;
        words[header::LANES] = self.shape.lanes;
        words[header::INLINE_LEN] = self.shape.inline_bytes;
        words[header::BLOCKS] = self.shape.blocks;
        words[header::BLOCK_LEN] = self.shape.block_len;
        words[header::EXTENTS] = self.shape.extents;
        words[header::PERSISTENT] = u64::from(self.persistent);
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
        let kind = match (words[header::KIND], words[header::DIRECTIONS]) {
            (PIPE, 1 | 2) => RegionKind::Pipe,
            (QUEUE, 1) => RegionKind::Queue,
            (NAMESPACE, 0) => RegionKind::Namespace,
            (kind, directions) => return corrupt(format!("kind {kind} with {directions} directions")),
        };
        if !matches!(words[header::LIFE], ACTIVE | RETIRED) || words[header::USED..].iter().any(|&word| word != 0) {
            return corrupt("words that have no meaning".into());
        }
        let element = match (words[header::ELEMENT_SIZE], words[header::ELEMENT_ALIGN]) {
            (0, 0) if words[header::ELEMENT_TAG] == 0 => ElementType::Bytes,
            (size, align) if size > 0 && align.is_power_of_two() && size.is_multiple_of(align) => {
                ElementType::Value { size, align, tag: words[header::ELEMENT_TAG].to_le_bytes() }
            }
            (size, align) => return corrupt(format!("an element of {size} bytes aligned to {align}")),
        };
        let (capacity, limit) = (words[header::CAPACITY], words[header::LIMIT]);
        let shape = QueueGeometry {
            lanes: words[header::LANES],
            inline_bytes: words[header::INLINE_LEN],
            blocks: words[header::BLOCKS],
            block_len: words[header::BLOCK_LEN],
            extents: words[header::EXTENTS],
        };
        let persistent = words[header::PERSISTENT] == 1;
        let layout = match kind {
            RegionKind::Pipe => Self::pipe(element, words[header::DIRECTIONS], capacity, limit),
            RegionKind::Queue => Self::queue(element, capacity, limit, shape),
            RegionKind::Namespace => Self::namespace(capacity, limit / WORD as u64, shape.lanes, persistent),
        };
        match layout {
            Ok(layout)
                if layout.capacity == capacity
                    && layout.element == element
                    && layout.limit == limit
                    && u64::from(layout.persistent) == words[header::PERSISTENT]
                    && layout.shape == shape
                    && layout.fits(length) =>
            {
                Ok(Self { size: length, ..layout })
            }
            _ => corrupt(format!("capacity {capacity} and limit {limit} in {length} bytes")),
        }
    }

    /// Rounding up to huge pages may have made the file longer than need be.
    fn fits(&self, length: u64) -> bool {
        length >= self.size && length - self.size < crate::sys::memory::HUGE_PAGE
    }

    /// Bytes to map.
    pub(crate) fn mapped(&self) -> u64 {
        match self.shape.extents {
            0 => self.size,
            _ => self.mapped_len().unwrap_or(0),
        }
    }

    /// Words that a look at everything visits, in repair and in statistics: a queue's slots and places.
    pub(crate) fn steps(&self) -> u64 {
        match self.kind {
            RegionKind::Queue => self.capacity.saturating_add(self.places()),
            RegionKind::Pipe | RegionKind::Namespace => 0,
        }
    }

    /// First word of a seat's record.
    pub(crate) fn seat(&self, index: usize) -> usize {
        debug_assert!(index < self.seats());
        match self.kind {
            RegionKind::Pipe => SEATS_AT + index * seat::WORDS,
            RegionKind::Queue => LANES_AT + index * lane::WORDS,
            RegionKind::Namespace => MEMBERS_AT + index * lane::WORDS,
        }
    }

    pub(crate) fn seats(&self) -> usize {
        match self.kind {
            RegionKind::Pipe => 2,
            RegionKind::Queue | RegionKind::Namespace => self.shape.lanes as usize,
        }
    }

    /// First word of a ring's control block.
    pub(crate) fn ring(&self, index: usize) -> usize {
        debug_assert!((index as u64) < self.directions);
        RINGS_AT + index * ring::WORDS
    }

    /// First word of a queue's control block.
    pub(crate) fn queue_at(&self) -> usize {
        QUEUE_AT
    }

    /// First word and number of words of a ring's data. Checked at construction to be inside the region.
    pub(crate) fn data(&self, index: usize) -> (usize, usize) {
        let words = self.data_words().unwrap_or(0) as usize;
        let start = match self.kind {
            RegionKind::Pipe => RINGS_AT + ring::WORDS * self.directions as usize + index * words,
            RegionKind::Queue => (self.marks() + self.capacity as usize).next_multiple_of(LINE_PAIR),
            RegionKind::Namespace => self.objects(),
        };
        (start, words)
    }

    /// Words of a queue's slot: one of control, then the payload.
    pub(crate) fn stride(&self) -> usize {
        let payload = match self.element {
            ElementType::Bytes => LABEL_WORDS + self.shape.inline_bytes as usize / WORD,
            ElementType::Value { size, .. } => size.div_ceil(WORD as u64) as usize,
        };
        1 + payload
    }

    /// Places in the pool: blocks first, then extents.
    pub(crate) fn places(&self) -> u64 {
        self.shape.blocks + self.shape.extents
    }

    /// First word and number of words of the pool's owners.
    pub(crate) fn owners(&self) -> (usize, usize) {
        (LANES_AT + self.seats() * lane::WORDS, self.places() as usize)
    }

    /// First word of a queue's marks, of which there is one for each slot.
    pub(crate) fn marks(&self) -> usize {
        let (start, words) = self.owners();
        (start + words).next_multiple_of(LINE_PAIR)
    }

    /// First word and number of words of all blocks.
    pub(crate) fn blocks(&self) -> (usize, usize) {
        let (start, words) = self.data(0);
        (start + words, (self.shape.blocks * self.shape.block_len) as usize / WORD)
    }

    /// First word of a namespace's table.
    pub(crate) fn table(&self) -> usize {
        MEMBERS_AT + self.seats() * lane::WORDS
    }

    /// First word of a namespace's first object.
    pub(crate) fn objects(&self) -> usize {
        self.table() + self.capacity as usize * ENTRY_WORDS
    }

    /// Where in the file an extent begins.
    pub(crate) fn extent(&self, index: u64) -> u64 {
        debug_assert!(index < self.shape.extents);
        self.mapped() + index * self.extent_len().unwrap_or(0)
    }
}
