//! What: a byte ring: length-prefixed records, each contiguous. A message that is longer than half the ring goes
//! as an announcement and parts, which stream through.
//!
//! Bytes: the unit is the word; a record is one header word and its payload, padded to a whole word.
//!
//! ```text
//!  63     56 55                              0
//! ┌─────────┬─────────────────────────────────┐
//! │ kind    │ length                          │ payload ..
//! └─────────┴─────────────────────────────────┘
//!  1 MESSAGE  length = bytes that follow: a whole message
//!  2 LARGE    length = bytes of the message whose PARTs follow; no payload of its own
//!  3 PART     length = bytes that follow, at least 1: a piece of the last LARGE
//!  4 SKIP     length = words to skip, this one included: to the end of the ring
//! ```
//!
//! Invariants: those of `spsc.rs`, the unit being a word, and
//! - I1: no record crosses the end of the ring; a SKIP fills what is left before it.
//! - I2: a record is published whole, together with the SKIP before it.
//! - I3: a MESSAGE takes at most half the ring, so that with its SKIP it fits into an empty one.
//! - I4: any record but a PART or a SKIP ends an unfinished LARGE message: it was given up, or its sender died.
//! - I5: the reader believes no header that points past what is published, past the end, or past the limit.
//!
//! Edges: those of `spsc.rs`; headers and payload are Relaxed between them.
//!
//! Crash
//! - producer dies within a LARGE message: what arrived of it is dropped (I4) when the successor's messages or the end come.
//! - consumer dies within one: its successor finds PARTs without their LARGE and skips them.
//!
//! Source: the layout of Aeron's ring buffers (header, padding record), with bytes in place of frames of terms.

use crate::primitive::{AtomicU64, Ordering, WORD, load_bytes, prefetch_to_read, store_bytes, stream_bytes};
use crate::raw::spsc::value_ring::StoreKind;
use crate::raw::spsc::{Consumer, Producer};
use crate::raw::{Corrupt, Memory};

const KIND_SHIFT: u32 = 56;
const MESSAGE: u64 = 1;
const LARGE: u64 = 2;
const PART: u64 = 3;
const SKIP: u64 = 4;

/// The longest length that a header can say.
pub(crate) const LENGTH_MAX: u64 = (1 << KIND_SHIFT) - 1;

/// A ring needs room for a header and some payload, twice.
pub(crate) const MIN_WORDS: u64 = 16;

const fn header(kind: u64, length: u64) -> u64 {
    kind << KIND_SHIFT | length & LENGTH_MAX
}

/// The words of a record with `length` bytes of payload.
#[inline]
const fn words_for(length: u64) -> u64 {
    1 + length.div_ceil(WORD as u64)
}

/// The longest message, in bytes, that goes as one record.
pub(crate) const fn inline_max(capacity: u64) -> u64 {
    (capacity / 2 - 1) * WORD as u64
}

/// Parts small enough that both sides work at the same time, large enough that their headers do not matter.
const fn part_max(capacity: u64) -> u64 {
    let words = capacity / 8;
    if words < 1 << 15 { words } else { 1 << 15 }
}

/// Where a record may start, and how many words are left from there to the end of the ring.
#[inline]
fn place(position: u64, capacity: u64) -> (usize, u64) {
    let offset = position & capacity.wrapping_sub(1);
    (offset as usize, capacity.wrapping_sub(offset))
}

pub struct RecordWriter<M: Memory> {
    pub(crate) ring: Producer<M>,
    data: M::Words,
}

/// A record to be filled in: its payload begins at word `start`, `skip` words come before its header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) start: usize,
    skip: u64,
}

impl<M: Memory> RecordWriter<M> {
    pub(crate) fn new(ring: Producer<M>, data: M::Words) -> Self {
        Self { ring, data }
    }

    /// The words of the ring, for in-place access.
    pub(crate) fn data(&self) -> &M::Words {
        &self.data
    }

    pub(crate) fn inline_max(&self) -> u64 {
        inline_max(self.ring.capacity())
    }

    /// Room for a MESSAGE of `length` bytes behind `ahead` words that are written but not yet published; None: full.
    #[inline]
    pub(crate) fn reserve(&mut self, ahead: u64, length: u64) -> Result<Option<Slot>, Corrupt> {
        let (offset, left) = place(self.ring.position().wrapping_add(ahead), self.ring.capacity());
        let words = words_for(length);
        let skip = if left < words { left } else { 0 };
        if self.ring.room(ahead + skip + words)? < ahead + skip + words {
            return Ok(None);
        }
        let start = if skip == 0 { offset + 1 } else { 1 };
        Ok(Some(Slot { start, skip }))
    }

    /// Writes the headers around a filled-in slot; returns the words that it takes up.
    #[inline]
    pub(crate) fn seal(&self, ahead: u64, slot: Slot, length: u64) -> u64 {
        if slot.skip > 0 {
            self.mark(self.ring.position().wrapping_add(ahead), header(SKIP, slot.skip));
        }
        self.mark(self.ring.position().wrapping_add(ahead + slot.skip), header(MESSAGE, length));
        slot.skip + words_for(length)
    }

    #[inline]
    fn mark(&self, position: u64, header: u64) {
        let (offset, _) = place(position, self.ring.capacity());
        if let Some(word) = self.data.get(offset) {
            word.store(header, Ordering::Relaxed); // ordered by publish
        }
    }

    /// Writes a message without publishing it; returns the words that it takes up, None: full.
    #[inline]
    pub(crate) fn write(&mut self, ahead: u64, message: &[u8], how: StoreKind) -> Result<Option<u64>, Corrupt> {
        let length = message.len() as u64;
        let Some(slot) = self.reserve(ahead, length)? else { return Ok(None) };
        self.fill(slot.start, message, how)?;
        Ok(Some(self.seal(ahead, slot, length)))
    }

    #[inline]
    fn fill(&self, start: usize, bytes: &[u8], how: StoreKind) -> Result<(), Corrupt> {
        let payload = self.data.get(start..).ok_or(Corrupt)?;
        match how {
            StoreKind::Temporal => store_bytes(payload, bytes),
            StoreKind::NonTemporal => stream_bytes(payload, bytes),
        }
        Ok(())
    }

    /// False: full.
    #[inline]
    pub(crate) fn push(&mut self, message: &[u8], how: StoreKind) -> Result<bool, Corrupt> {
        let written = self.write(0, message, how)?;
        if let Some(words) = written {
            self.ring.publish(words);
        }
        Ok(written.is_some())
    }

    /// Announces a message that is to follow in parts. False: full.
    pub(crate) fn begin_large(&mut self, length: u64) -> Result<bool, Corrupt> {
        if self.ring.room(1)? == 0 {
            return Ok(false);
        }
        self.mark(self.ring.position(), header(LARGE, length));
        self.ring.publish(1);
        Ok(true)
    }

    /// Sends a piece from the front of `rest`; says how many bytes. None: full.
    pub(crate) fn push_part(&mut self, rest: &[u8], how: StoreKind) -> Result<Option<usize>, Corrupt> {
        let capacity = self.ring.capacity();
        let (offset, left) = place(self.ring.position(), capacity);
        if left == 1 && !rest.is_empty() {
            return self.skip_last_word();
        }
        let words = self.part_words(rest.len());
        if self.ring.room(words)? < words {
            return Ok(None);
        }
        let length = rest.len().min((words as usize - 1) * WORD);
        let (part, _) = rest.split_at_checked(length).ok_or(Corrupt)?;
        self.fill(offset + 1, part, how)?;
        self.mark(self.ring.position(), header(PART, length as u64));
        self.ring.publish(words);
        Ok(Some(length))
    }

    /// The words that the next part of a message with `rest` bytes to go takes up.
    pub(crate) fn part_words(&self, rest: usize) -> u64 {
        let (_, left) = place(self.ring.position(), self.ring.capacity());
        words_for(rest as u64).min(1 + part_max(self.ring.capacity())).min(left)
    }

    fn skip_last_word(&mut self) -> Result<Option<usize>, Corrupt> {
        if self.ring.room(1)? == 0 {
            return Ok(None);
        }
        self.mark(self.ring.position(), header(SKIP, 1));
        self.ring.publish(1);
        Ok(Some(0))
    }
}

/// What the reader finds next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Empty,
    /// `length` bytes from word `start` on.
    Message {
        start: usize,
        length: usize,
    },
    /// The announcement of so many bytes.
    Large {
        length: u64,
    },
    Part {
        start: usize,
        length: usize,
    },
}

pub struct RecordReader<M: Memory> {
    pub(crate) ring: Consumer<M>,
    data: M::Words,
    /// The longest message that we are ready to receive.
    limit: u64,
}

impl<M: Memory> RecordReader<M> {
    pub(crate) fn new(ring: Consumer<M>, data: M::Words, limit: u64) -> Self {
        Self { ring, data, limit }
    }

    /// The words of the ring, for in-place access.
    pub(crate) fn data(&self) -> &M::Words {
        &self.data
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether there is anything, if only a SKIP, by the quickest look, for who polls. Asks for its line as well, so that it comes together with the index.
    #[inline(always)]
    pub(crate) fn glance(&mut self) -> bool {
        let (offset, _) = place(self.ring.position(), self.ring.capacity());
        prefetch_to_read(&self.data, offset);
        self.ring.glance()
    }

    /// Looks at the next record and leaves it in place.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Next, Corrupt> {
        // A SKIP ends at the start of the ring, where every record fits: a second one in a row is a lie, and
        // following it could keep us here for ever.
        for skips in 0..2 {
            let ready = self.ring.ready(1)?;
            if ready == 0 {
                return Ok(Next::Empty);
            }
            let (offset, left) = place(self.ring.position(), self.ring.capacity());
            let word = self.data.get(offset).ok_or(Corrupt)?.load(Ordering::Relaxed); // ordered by ready
            let (kind, length) = (word >> KIND_SHIFT, word & LENGTH_MAX);
            match kind {
                MESSAGE | PART => {
                    let empty_part = kind == PART && length == 0;
                    if length > self.limit || words_for(length) > left.min(ready) || empty_part {
                        return Err(Corrupt); // I5
                    }
                    let (start, length) = (offset + 1, length as usize);
                    return Ok(if kind == MESSAGE {
                        Next::Message { start, length }
                    } else {
                        Next::Part { start, length }
                    });
                }
                LARGE if length <= self.limit => return Ok(Next::Large { length }),
                SKIP if skips == 0 && length == left && length <= ready => self.ring.release(length),
                _ => return Err(Corrupt), // I5
            }
        }
        Err(Corrupt)
    }

    /// The payload words of the record just seen.
    #[inline]
    pub(crate) fn copy_out(&self, start: usize, target: &mut [u8]) -> Result<(), Corrupt> {
        let source: &[AtomicU64] = self.data.get(start..).ok_or(Corrupt)?;
        load_bytes(source, target);
        Ok(())
    }

    /// Gives back the record just seen, whose payload was `length` bytes (0 for an announcement).
    #[inline]
    pub(crate) fn release(&mut self, length: usize) {
        self.ring.release(words_for(length as u64));
    }
}
