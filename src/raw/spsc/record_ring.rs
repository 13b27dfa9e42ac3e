//! What: a ring of bytes: records with a length, each contiguous. A message that is longer than
//! half the ring goes as a BEGIN record and fragments, which stream through.
//!
//! Bytes: the unit is the word. A record is one header word and its payload, padded to a whole
//! word.
//!
//! ```text
//!  63     56 55                              0
//! ┌─────────┬─────────────────────────────────┐
//! │ kind    │ length                          │ payload ..
//! └─────────┴─────────────────────────────────┘
//!  1 MESSAGE   length = bytes that follow: a whole message
//!  2 BEGIN     length = bytes of the message whose FRAGMENTs follow; no payload of its own
//!  3 FRAGMENT  length = bytes that follow, at least 1: a part of the last message begun
//!  4 PADDING   length = words to skip, this one included: to the end of the ring
//! ```
//!
//! Invariants: those of `spsc/mod.rs`, the unit being a word, and
//! - I1: no record crosses the end of the ring. PADDING fills what is left before it.
//! - I2: a record is published whole, together with the PADDING before it.
//! - I3: a MESSAGE takes at most half the ring, so that it fits into an empty ring with its
//!   PADDING.
//! - I4: any record but FRAGMENT and PADDING ends an unfinished fragmented message: its sender gave
//!   up or died.
//! - I5: the reader rejects a header that points past what is published, past the end of the ring,
//!   or past the limit.
//!
//! Edges: those of `spsc/mod.rs`. Headers and payload are Relaxed between them.
//!
//! Crash
//! - producer, within a fragmented message: what arrived of it is dropped (I4) when the successor's
//!   messages or the end come.
//! - consumer, within one: its successor finds FRAGMENTs without their BEGIN, and skips them.
//!
//! Source: the layout of Aeron's ring buffers (header, padding record), for bytes in place of
//! frames.

use crate::primitive::{AtomicU64, Ordering, WORD, load_bytes, prefetch_to_read, store_bytes, store_nontemporal};
use crate::raw::spsc::value_ring::StoreKind;
use crate::raw::spsc::{Consumer, Producer};
use crate::raw::{Corrupt, Memory};

const KIND_SHIFT: u32 = 56;
const MESSAGE: u64 = 1;
const BEGIN: u64 = 2;
const FRAGMENT: u64 = 3;
const PADDING: u64 = 4;

/// The longest length that fits into a header.
pub(crate) const MAX_LENGTH: u64 = (1 << KIND_SHIFT) - 1;

/// The smallest ring: a header and some payload, twice.
pub(crate) const MIN_WORDS: u64 = 16;

const fn header(kind: u64, length: u64) -> u64 {
    debug_assert!(kind <= PADDING);
    kind << KIND_SHIFT | length & MAX_LENGTH
}

/// The words of a record with `length` bytes of payload.
#[inline]
const fn words_for(length: u64) -> u64 {
    1 + length.div_ceil(WORD as u64)
}

/// The longest message, in bytes, that goes as one record (I3).
pub(crate) const fn max_inline_bytes(capacity: u64) -> u64 {
    (capacity / 2 - 1) * WORD as u64
}

/// The words of payload of the longest fragment: short enough that both sides work at the same
/// time, long enough that headers do not matter.
const fn max_fragment_words(capacity: u64) -> u64 {
    let words = capacity / 8;
    if words < 1 << 15 { words } else { 1 << 15 }
}

/// The word of a position, and how many words are left from there to the end of the ring.
#[inline]
fn locate(position: u64, capacity: u64) -> (usize, u64) {
    debug_assert!(capacity.is_power_of_two());
    let offset = position & capacity.wrapping_sub(1);
    (offset as usize, capacity.wrapping_sub(offset))
}

pub struct RecordWriter<M: Memory> {
    pub(crate) ring: Producer<M>,
    data: M::Words,
}

/// A reserved record: its payload begins at word `start`, and `padding` words come before its
/// header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    pub(crate) start: usize,
    padding: u64,
}

impl<M: Memory> RecordWriter<M> {
    pub(crate) fn new(ring: Producer<M>, data: M::Words) -> Self {
        Self { ring, data }
    }

    /// The words of the ring, for access in place.
    pub(crate) fn data(&self) -> &M::Words {
        &self.data
    }

    pub(crate) fn max_inline_bytes(&self) -> u64 {
        max_inline_bytes(self.ring.capacity())
    }

    /// Reserves a MESSAGE of `length` bytes behind `ahead` words that are written but not
    /// published. Returns `None` if the ring is full.
    #[inline]
    pub(crate) fn reserve(&mut self, ahead: u64, length: u64) -> Result<Option<Reservation>, Corrupt> {
        let (offset, left) = locate(self.ring.position().wrapping_add(ahead), self.ring.capacity());
        let words = words_for(length);
        let padding = if left < words { left } else { 0 };
        if self.ring.writable(ahead + padding + words)? < ahead + padding + words {
            return Ok(None);
        }
        let start = if padding == 0 { offset + 1 } else { 1 };
        Ok(Some(Reservation { start, padding }))
    }

    /// Writes the headers of a filled reservation. Returns the words that it takes up.
    #[inline]
    pub(crate) fn write_headers(&self, ahead: u64, reserved: Reservation, length: u64) -> u64 {
        if reserved.padding > 0 {
            self.write_header(self.ring.position().wrapping_add(ahead), header(PADDING, reserved.padding));
        }
        self.write_header(self.ring.position().wrapping_add(ahead + reserved.padding), header(MESSAGE, length));
        reserved.padding + words_for(length)
    }

    #[inline]
    fn write_header(&self, position: u64, header: u64) {
        let (offset, _) = locate(position, self.ring.capacity());
        if let Some(word) = self.data.get(offset) {
            word.store(header, Ordering::Relaxed); // ordered by `publish`
        }
    }

    /// Writes a message without publishing it. Returns the words that it takes up, or `None` if the
    /// ring is full.
    #[inline]
    pub(crate) fn write(&mut self, ahead: u64, message: &[u8], kind: StoreKind) -> Result<Option<u64>, Corrupt> {
        let length = message.len() as u64;
        let Some(reserved) = self.reserve(ahead, length)? else { return Ok(None) };
        self.fill(reserved.start, message, kind)?;
        Ok(Some(self.write_headers(ahead, reserved, length)))
    }

    #[inline]
    fn fill(&self, start: usize, bytes: &[u8], kind: StoreKind) -> Result<(), Corrupt> {
        let payload = self.data.get(start..).ok_or(Corrupt)?;
        match kind {
            StoreKind::Temporal => store_bytes(payload, bytes),
            StoreKind::NonTemporal => store_nontemporal(payload, bytes),
        }
        Ok(())
    }

    /// Pushes a message. Returns false if the ring is full.
    #[inline]
    pub(crate) fn push(&mut self, message: &[u8], kind: StoreKind) -> Result<bool, Corrupt> {
        let written = self.write(0, message, kind)?;
        if let Some(words) = written {
            self.ring.publish(words);
        }
        Ok(written.is_some())
    }

    /// Begins a message of `length` bytes that is to follow in fragments. Returns false if the ring
    /// is full.
    pub(crate) fn begin_fragmented(&mut self, length: u64) -> Result<bool, Corrupt> {
        if self.ring.writable(1)? == 0 {
            return Ok(false);
        }
        self.write_header(self.ring.position(), header(BEGIN, length));
        self.ring.publish(1);
        Ok(true)
    }

    /// Pushes a fragment from the front of `rest`. Returns its length, or `None` if the ring is
    /// full.
    pub(crate) fn push_fragment(&mut self, rest: &[u8], kind: StoreKind) -> Result<Option<usize>, Corrupt> {
        let capacity = self.ring.capacity();
        let (offset, left) = locate(self.ring.position(), capacity);
        if left == 1 && !rest.is_empty() {
            return self.skip_last_word();
        }
        let words = self.fragment_words(rest.len());
        if self.ring.writable(words)? < words {
            return Ok(None);
        }
        let length = rest.len().min((words as usize - 1) * WORD);
        let (fragment, _) = rest.split_at_checked(length).ok_or(Corrupt)?;
        self.fill(offset + 1, fragment, kind)?;
        self.write_header(self.ring.position(), header(FRAGMENT, length as u64));
        self.ring.publish(words);
        Ok(Some(length))
    }

    /// The words that the next fragment takes up, of a message with `rest` bytes to go.
    pub(crate) fn fragment_words(&self, rest: usize) -> u64 {
        let (_, left) = locate(self.ring.position(), self.ring.capacity());
        words_for(rest as u64).min(1 + max_fragment_words(self.ring.capacity())).min(left)
    }

    fn skip_last_word(&mut self) -> Result<Option<usize>, Corrupt> {
        if self.ring.writable(1)? == 0 {
            return Ok(None);
        }
        self.write_header(self.ring.position(), header(PADDING, 1));
        self.ring.publish(1);
        Ok(Some(0))
    }
}

/// The next record of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Empty,
    /// A message of `length` bytes from word `start` on.
    Message {
        start: usize,
        length: usize,
    },
    /// The beginning of a fragmented message of `length` bytes.
    Begin {
        length: u64,
    },
    Fragment {
        start: usize,
        length: usize,
    },
}

pub struct RecordReader<M: Memory> {
    pub(crate) ring: Consumer<M>,
    data: M::Words,
    /// The longest message, in bytes, that is accepted.
    limit: u64,
}

impl<M: Memory> RecordReader<M> {
    pub(crate) fn new(ring: Consumer<M>, data: M::Words, limit: u64) -> Self {
        Self { ring, data, limit }
    }

    /// The words of the ring, for access in place.
    pub(crate) fn data(&self) -> &M::Words {
        &self.data
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns whether there is any record, if only PADDING. The cheapest check, for polling: it
    /// prefetches the record, so that its line arrives together with the position.
    #[inline(always)]
    pub(crate) fn probe(&mut self) -> bool {
        let (offset, _) = locate(self.ring.position(), self.ring.capacity());
        prefetch_to_read(&self.data, offset);
        self.ring.probe()
    }

    /// Returns the next record, and leaves it in place.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Record, Corrupt> {
        // PADDING ends at the start of the ring, where every record fits. A second one in a row is
        // invalid, and following it could keep us here endlessly.
        for paddings in 0..2 {
            let readable = self.ring.readable(1)?;
            if readable == 0 {
                return Ok(Record::Empty);
            }
            let (offset, left) = locate(self.ring.position(), self.ring.capacity());
            let word = self.data.get(offset).ok_or(Corrupt)?.load(Ordering::Relaxed); // ordered by `readable`
            let (kind, length) = (word >> KIND_SHIFT, word & MAX_LENGTH);
            match kind {
                MESSAGE | FRAGMENT => {
                    let is_empty_fragment = kind == FRAGMENT && length == 0;
                    if length > self.limit || words_for(length) > left.min(readable) || is_empty_fragment {
                        return Err(Corrupt); // I5
                    }
                    let (start, length) = (offset + 1, length as usize);
                    return Ok(if kind == MESSAGE {
                        Record::Message { start, length }
                    } else {
                        Record::Fragment { start, length }
                    });
                }
                BEGIN if length <= self.limit => return Ok(Record::Begin { length }),
                PADDING if paddings == 0 && length == left && length <= readable => self.ring.release(length),
                _ => return Err(Corrupt), // I5
            }
        }
        Err(Corrupt)
    }

    /// Copies payload of the record just returned.
    #[inline]
    pub(crate) fn copy_out(&self, start: usize, target: &mut [u8]) -> Result<(), Corrupt> {
        let source: &[AtomicU64] = self.data.get(start..).ok_or(Corrupt)?;
        load_bytes(source, target);
        Ok(())
    }

    /// Releases the record just returned, whose payload was `length` bytes (0 for BEGIN).
    #[inline]
    pub(crate) fn release(&mut self, length: usize) {
        self.ring.release(words_for(length as u64));
    }
}
