//! The header: the first 64 words of every region, by which a region describes itself.
//!
//! ```text
//!  0 magic        4 directions     8 capacity            12 inline bytes   16 persistent
//!  1 version      5 element size   9 longest message     13 blocks         17 publishers
//!  2 size         6 element align  10 state              14 block bytes    18 history
//!  3 kind         7 element tag    11 participants       15 extents        19 slow policy
//!                                                                          20 max lag
//!                                                                          21 keys
//!                                                                          22 frames
//!                                                                          23 frame bytes
//!                                                                          24 deliveries
//!                                                                          25 reply size
//!                                                                          26 reply align
//!                                                                          27 reply tag
//!                                                                          28 longest reply
//!                                                                          29 identity
//!                                                                          30 .. 63 zero
//! ```
//!
//! A header is read from the file once, into private memory.
//! [`Layout::parse`](super::Layout::parse) checks every word against the file's real size. Nothing
//! else takes a length or an offset from shared memory.

use std::fmt;

use super::invalid;
use crate::error::{Error, ErrorKind, Result};
use crate::primitive::WORD;
use crate::raw::spsc::record_ring;
use crate::types::tags_match;

pub(crate) const MAGIC_NUMBER: u64 = u64::from_le_bytes(*b"tombolo\0");

/// Changes whenever the meaning of a byte does. Independent of the package's version.
pub const LAYOUT_VERSION: u64 = 2;

// The words, by position. In every version the magic number, the version, `REGION_STATE` and
// `PERSISTENT` keep their places: other versions read them before they replace a stale region.
pub(crate) const MAGIC: usize = 0;
pub(crate) const VERSION: usize = 1;
pub(crate) const SIZE: usize = 2;
pub(crate) const KIND: usize = 3;
pub(crate) const DIRECTIONS: usize = 4;
pub(crate) const ELEMENT_SIZE: usize = 5;
pub(crate) const ELEMENT_ALIGN: usize = 6;
pub(crate) const ELEMENT_TAG: usize = 7;
pub(crate) const CAPACITY: usize = 8;
pub(crate) const MAX_MESSAGE_BYTES: usize = 9;
/// The only word of the header that changes more than once: [`ACTIVE`] or [`RETIRED`].
pub(crate) const REGION_STATE: usize = 10;
// Queues only, but for PARTICIPANTS and EXTENTS, which a namespace has, too. There EXTENTS counts
// bytes.
pub(crate) const PARTICIPANTS: usize = 11;
pub(crate) const INLINE_BYTES: usize = 12;
pub(crate) const BLOCKS: usize = 13;
pub(crate) const BLOCK_BYTES: usize = 14;
pub(crate) const EXTENTS: usize = 15;
// Namespaces only.
/// 1: the name stays when the last participant has left.
pub(crate) const PERSISTENT: usize = 16;
// Broadcasts only. There PARTICIPANTS counts the subscribers, and INLINE_BYTES is that of a slot.
pub(crate) const PUBLISHERS: usize = 17;
pub(crate) const HISTORY: usize = 18;
pub(crate) const SLOW_POLICY: usize = 19;
pub(crate) const MAX_LAG: usize = 20;
pub(crate) const KEYS: usize = 21;
pub(crate) const FRAMES: usize = 22;
pub(crate) const FRAME_BYTES: usize = 23;
// Queues only.
/// How often a message is delivered at most, if its receivers die. 0: once, and it is lost then.
pub(crate) const DELIVERIES: usize = 24;
// Requests only. There CAPACITY counts the callers, and PARTICIPANTS the responders.
pub(crate) const REPLY_SIZE: usize = 25;
pub(crate) const REPLY_ALIGN: usize = 26;
pub(crate) const REPLY_TAG: usize = 27;
pub(crate) const MAX_REPLY_BYTES: usize = 28;
// Namespaces only.
/// What tells it from others that have or had its name. 0 until it is needed.
pub(crate) const IDENTITY: usize = 29;
pub(crate) const USED: usize = 30;
pub(crate) const WORDS: usize = 64;

/// The part of a file that [`Layout::parse`](super::Layout::parse) needs.
pub(crate) const BYTES: usize = WORDS * WORD;

const _: () = assert!(IDENTITY + 1 == USED && USED <= WORDS);

pub(crate) const ACTIVE: u64 = 1;
/// About to lose its name. A process that has opened it must look the name up again.
pub(crate) const RETIRED: u64 = 2;

pub(super) const PIPE: u64 = 1;
pub(super) const QUEUE: u64 = 2;
pub(super) const NAMESPACE: u64 = 3;
pub(super) const BROADCAST: u64 = 4;
pub(super) const RPC: u64 = 5;

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
    /// A broadcast: a ring for each publisher, which all subscribers read.
    Broadcast,
    /// Requests and replies, between callers and responders.
    Rpc,
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pipe => "a pipe",
            Self::Queue => "a queue",
            Self::Namespace => "a namespace",
            Self::Broadcast => "a broadcast",
            Self::Rpc => "a place for requests",
        })
    }
}

/// What a message is made of. Both sides must agree on it.
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
        /// Eight bytes that stand for the type, see [`Shape::tag`](crate::types::Shape::tag).
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
            Self::Value { size, align, tag } if tag.is_ascii() => {
                write!(f, "values of {size} bytes aligned to {align} tagged \"{}\"", tag_name(tag))
            }
            // A hash.
            Self::Value { size, align, tag } => {
                let tag = u64::from_le_bytes(*tag);
                write!(f, "values of {size} bytes aligned to {align} tagged {tag:#018x}")
            }
        }
    }
}

/// A tag, without the zeros behind it.
pub(crate) fn tag_name(tag: &[u8; 8]) -> impl fmt::Display {
    let zeros = tag.iter().rev().take_while(|&&byte| byte == 0).count();
    tag.get(..tag.len() - zeros).unwrap_or_default().escape_ascii()
}

impl ElementType {
    /// Whether both can be of one type.
    pub(crate) fn matches(self, other: Self) -> bool {
        match (self, other) {
            (Self::Value { size, align, tag }, Self::Value { size: other_size, align: other_align, tag: other }) => {
                (size, align) == (other_size, other_align) && tags_match(tag, other)
            }
            _ => self == other,
        }
    }

    /// Checks what pipes and queues have in common. Returns the longest message, in bytes.
    pub(super) fn check(self, kind: &str, capacity: u64, max_message_bytes: u64) -> Result<u64> {
        match self {
            Self::Value { size: 0, .. } => {
                Err(invalid(kind, "element size", 0, "at least 1 byte", "send byte messages instead"))
            }
            _ => self.check_or_empty(kind, capacity, max_message_bytes),
        }
    }

    /// The same, where values may have no bytes.
    pub(super) fn check_or_empty(self, kind: &str, capacity: u64, max_message_bytes: u64) -> Result<u64> {
        if capacity == 0 {
            return Err(invalid(kind, "capacity", 0, "at least 1", "ask for the number of messages that may wait"));
        }
        match self {
            Self::Value { align, .. } if align > (super::PADDING_WORDS * WORD) as u64 => {
                Err(invalid(kind, "element alignment", align, "at most 128", "align the type to a cache line"))
            }
            Self::Value { size, .. } => Ok(size),
            Self::Bytes if max_message_bytes > record_ring::MAX_LENGTH => {
                Err(invalid(kind, "message limit", max_message_bytes, "less than 2^56", "choose a smaller limit"))
            }
            Self::Bytes => Ok(max_message_bytes),
        }
    }

    /// Reads the three words of an element. None: no element has these.
    pub(crate) fn parse(size: u64, align: u64, tag: u64) -> Option<Self> {
        match (size, align) {
            (0, 0) if tag == 0 => Some(Self::Bytes),
            (size, align) if align.is_power_of_two() && size.is_multiple_of(align) => {
                Some(Self::Value { size, align, tag: tag.to_le_bytes() })
            }
            _ => None,
        }
    }

    /// Writes the three words of an element.
    pub(super) fn store(self, words: &mut [u64; USED]) {
        if let Self::Value { size, align, tag } = self {
            words[ELEMENT_SIZE] = size;
            words[ELEMENT_ALIGN] = align;
            words[ELEMENT_TAG] = u64::from_le_bytes(tag);
        }
    }
}

/// What every layout's header must have, whatever the region is for.
pub(super) fn check(words: &[u64; WORDS], length: u64, action: &str) -> Result<()> {
    let bad = |kind, found: String, expected: String, remedy| Err(Error::new(kind, action, found, expected, remedy));
    if words[MAGIC] != MAGIC_NUMBER {
        let found = match words[MAGIC] {
            0 => "no magic number".to_string(),
            other => format!("the magic number {other:#018x}"),
        };
        let remedy = "this is not a region of ours: choose another name or move the file away";
        return bad(ErrorKind::NotARegion, found, format!("{MAGIC_NUMBER:#018x}"), remedy);
    }
    if words[VERSION] != LAYOUT_VERSION {
        let found = format!("layout version {}", words[VERSION]);
        let remedy = "use the same version of tombolo on both sides, or remove the region when nobody uses it";
        return bad(ErrorKind::WrongVersion, found, format!("version {LAYOUT_VERSION}"), remedy);
    }
    if words[SIZE] != length {
        let remedy = "the file was cut or grown: remove it when nobody uses it";
        return bad(ErrorKind::NotARegion, format!("{length} bytes"), format!("{}", words[SIZE]), remedy);
    }
    Ok(())
}
