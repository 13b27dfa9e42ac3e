//! The bytes of a pipe's region.
//!
//! ```text
//! words
//!      0  header
//!     64  participants  8 records of 8 words, of which 2 are used
//!    128  ring 0        64 words of control
//!    192  ring 1        (duplex only)
//!    ...  data 0        a multiple of 16 words
//!    ...  data 1        (duplex only)
//! ```
//!
//! Ring 0 leads from participant 0 to participant 1, ring 1 back.

use super::header::{self, ElementType};
use super::{PADDING_WORDS, bytes_of, invalid, participant};
use crate::error::Result;
use crate::primitive::WORD;
use crate::raw::spsc::record_ring;

/// The words of a ring's control block: a pair of cache lines for each of the four.
pub(crate) mod ring {
    pub(crate) const TAIL: usize = 0;
    pub(crate) const PRODUCER_OWNER: usize = 1;
    /// And the word after it.
    pub(crate) const PRODUCER_START: usize = 2;
    pub(crate) const HEAD: usize = 16;
    pub(crate) const CONSUMER_OWNER: usize = 17;
    /// And the word after it.
    pub(crate) const CONSUMER_START: usize = 18;
    /// A 32-bit futex word. Never accessed as 64 bits.
    pub(crate) const READABLE: usize = 32;
    /// A 32-bit futex word. Never accessed as 64 bits.
    pub(crate) const WRITABLE: usize = 48;
    pub(crate) const WORDS: usize = 64;
}

const PARTICIPANTS_AT: usize = header::WORDS;
const PARTICIPANTS_MAX: usize = 8;
const RINGS_AT: usize = PARTICIPANTS_AT + PARTICIPANTS_MAX * participant::WORDS;

const _: () = {
    assert!(PARTICIPANTS_AT.is_multiple_of(PADDING_WORDS) && RINGS_AT.is_multiple_of(PADDING_WORDS));
    assert!(ring::HEAD - ring::TAIL >= PADDING_WORDS && ring::READABLE - ring::HEAD >= PADDING_WORDS);
    assert!(ring::WRITABLE - ring::READABLE >= PADDING_WORDS && ring::WORDS - ring::WRITABLE >= PADDING_WORDS);
    assert!(ring::PRODUCER_START + 1 < 8 && ring::CONSUMER_START + 1 < ring::HEAD + 8, "one cache line each");
};

/// A pipe's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PipeLayout {
    pub(crate) element: ElementType,
    /// The number of rings: 1 or 2.
    pub(crate) directions: u64,
    /// Slots of a value ring, bytes of a byte ring. A power of two.
    pub(crate) capacity: u64,
    /// The longest message, in bytes.
    pub(crate) max_message_bytes: u64,
    /// Bytes of the file.
    pub(super) size: u64,
}

impl PipeLayout {
    pub(super) const PARTICIPANTS: usize = 2;

    /// `capacity` is rounded up to what a ring can have.
    pub(super) fn new(element: ElementType, directions: u64, capacity: u64, max_message_bytes: u64) -> Result<Self> {
        let max_message_bytes = element.check("pipe", capacity, max_message_bytes)?;
        let least = match element {
            ElementType::Bytes => record_ring::MIN_WORDS * WORD as u64,
            ElementType::Value { .. } => 1,
        };
        let capacity = capacity.max(least).checked_next_power_of_two().unwrap_or(u64::MAX);
        let layout = Self { element, directions, capacity, max_message_bytes, size: 0 };
        match layout.words().and_then(bytes_of) {
            Some(size) => Ok(Self { size, ..layout }),
            None => Err(invalid("region", "capacity", capacity, "a region below 64 TiB", "choose a smaller capacity")),
        }
    }

    fn words(&self) -> Option<u64> {
        let data = self.data_words()?.checked_mul(self.directions)?;
        data.checked_add((RINGS_AT + ring::WORDS * self.directions as usize) as u64)
    }

    fn data_words(&self) -> Option<u64> {
        let words = match self.element {
            ElementType::Bytes => self.capacity / WORD as u64,
            ElementType::Value { size, .. } => self.capacity.checked_mul(size.div_ceil(WORD as u64))?,
        };
        words.checked_next_multiple_of(PADDING_WORDS as u64)
    }

    pub(super) fn store(&self, words: &mut [u64; header::USED]) {
        words[header::KIND] = header::PIPE;
        words[header::DIRECTIONS] = self.directions;
        words[header::CAPACITY] = self.capacity;
        words[header::MAX_MESSAGE_BYTES] = self.max_message_bytes;
        self.element.store(words);
    }

    /// First word of a participant's record.
    pub(super) fn participant(index: usize) -> usize {
        debug_assert!(index < Self::PARTICIPANTS);
        PARTICIPANTS_AT + index * participant::WORDS
    }

    /// First word of a ring's control block.
    pub(crate) fn ring(index: usize) -> usize {
        debug_assert!(index < 2);
        RINGS_AT + index * ring::WORDS
    }

    /// First word and number of words of a ring's data, inside the region by construction.
    pub(crate) fn data(&self, index: usize) -> (usize, usize) {
        let words = self.data_words().unwrap_or(0) as usize;
        (RINGS_AT + ring::WORDS * self.directions as usize + index * words, words)
    }

    /// What the process at `index` does: it sends, it receives, or both.
    pub(crate) fn role_name(&self, index: usize) -> &'static str {
        match (self.directions, index) {
            (1, 0) => "sender",
            (1, _) => "receiver",
            (_, 0) => "end 0",
            (_, _) => "end 1",
        }
    }
}
