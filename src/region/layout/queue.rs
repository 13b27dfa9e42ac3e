//! The bytes of a queue: a region of its own, or the same words inside a namespace.
//!
//! ```text
//! words
//!      0  header
//!     64  control       112 words: head and tail, event counts, counters and repair log
//!    176  participants  16 words each: a record, then its owner's own words
//!    ...  owners        one word for each block and extent (not in plain queues of values)
//!    ...  deliveries    two words for each block and extent (queues that redeliver only)
//!    ...  skip marks    one word for each slot
//!    ...  slots
//!    ...  blocks        up to a page's end
//!    ...  extents       not mapped, and without memory until used
//! ```

use super::header::{self, ElementType};
use super::{MAX_PARTICIPANTS, PADDING_WORDS, SIZE_MAX, bytes_of, invalid, participant, round_to_page};
use crate::error::Result;
use crate::primitive::WORD;
use crate::raw::redelivery::MAX_DELIVERIES;

/// The words of a queue's control block: a pair of cache lines for each position and event count,
/// one for the counters.
pub(crate) mod control {
    pub(crate) const TAIL: usize = 0;
    pub(crate) const HEAD: usize = 16;
    /// Whether there are messages to deliver again (raw/redelivery.rs). On the line of `HEAD`,
    /// which receivers read anyway.
    pub(crate) const REQUEUED: usize = 17;
    /// A 32-bit futex word, like the three that follow. Never accessed as 64 bits.
    pub(crate) const READABLE: usize = 32;
    pub(crate) const WRITABLE: usize = 48;
    pub(crate) const BLOCKS_FREED: usize = 64;
    pub(crate) const TASKS_DONE: usize = 80;
    pub(crate) const LOST: usize = 96;
    /// The repair log, with the next word: docs/layout.md.
    pub(crate) const PENDING_POSITION: usize = 97;
    pub(crate) const PENDING_LOST: usize = 98;
    /// Losses that were reported to a receiver.
    pub(crate) const REPORTED: usize = 99;
    /// Messages thrown away, on request or for lack of memory.
    pub(crate) const DROPPED: usize = 100;
    /// Changes whenever a participant's state does.
    pub(crate) const MEMBERSHIP_EPOCH: usize = 101;
    /// How many senders have joined. Receivers: the next word.
    pub(crate) const JOINED: usize = 102;
    /// How the last sender ended, and in which run. Receivers: the next word.
    pub(crate) const LAST_EXIT: usize = 104;
    pub(crate) const WORDS: usize = 112;
}

/// The words of a queue's participant: a record, then the owner's own, on a line of their own.
pub(crate) mod own {
    pub(crate) const INTENT: usize = 8;
    /// Tasks received and not done.
    pub(crate) const UNFINISHED_TASKS: usize = 9;
    /// Tasks that participants with this record did not finish, all together.
    pub(crate) const TASKS_LOST: usize = 10;
    /// What that word is about to become, or 0: queue/tasks.rs.
    pub(crate) const PENDING_TASKS_LOST: usize = 11;
    pub(crate) const WORDS: usize = 16;
}

const CONTROL_AT: usize = header::WORDS;
const PARTICIPANTS_AT: usize = CONTROL_AT + control::WORDS;

const _: () = {
    assert!(PARTICIPANTS_AT.is_multiple_of(PADDING_WORDS) && own::WORDS.is_multiple_of(PADDING_WORDS));
    assert!(own::INTENT >= participant::WORDS);
    assert!(control::TASKS_DONE + PADDING_WORDS <= control::LOST && control::LAST_EXIT + 2 <= control::WORDS);
};

/// What a slot of a byte queue holds besides the payload: its length and where it lies.
pub(crate) const PAYLOAD_HEADER_WORDS: usize = 1;
/// The payload header of a message that lies in a block, and its reference.
const REFERENCE_WORDS: usize = PAYLOAD_HEADER_WORDS + 2;
/// The payload's part of a slot must be able to hold a reference to a block.
const MIN_INLINE_BYTES: u64 = 2 * WORD as u64;
/// Blocks and extents of one queue.
pub(crate) const MAX_BLOCKS: u64 = 1 << 32;

/// What a queue that redelivers knows of each block besides its owner.
pub(crate) mod delivery {
    /// Where the message was in the ring.
    pub(crate) const POSITION: usize = 0;
    /// Its length in bytes.
    pub(crate) const LENGTH: usize = 1;
    pub(crate) const WORDS: usize = 2;
}

/// The sizes of a queue that its maker chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueGeometry {
    /// Participants at most.
    pub(crate) participants: u64,
    /// Payload bytes in a slot. This and `extents`: byte queues only. `blocks` and `block_bytes`:
    /// byte queues, and queues that redeliver.
    pub(crate) inline_bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) block_bytes: u64,
    /// Unmapped blocks, each as long as the longest message.
    pub(crate) extents: u64,
    /// How often a message is delivered at most, if its receivers die. 0: it is lost.
    pub(crate) deliveries: u64,
}

/// A queue's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueLayout {
    pub(crate) element: ElementType,
    /// Slots. A power of two.
    pub(crate) capacity: u64,
    /// The longest message, in bytes.
    pub(crate) max_message_bytes: u64,
    pub(crate) geometry: QueueGeometry,
    /// Bytes of the file.
    pub(super) size: u64,
}

impl QueueLayout {
    /// First word of the control block.
    pub(crate) const CONTROL: usize = CONTROL_AT;

    /// Capacity and lengths are rounded up to what there can be.
    pub(crate) fn new(
        element: ElementType,
        capacity: u64,
        max_message_bytes: u64,
        geometry: QueueGeometry,
    ) -> Result<Self> {
        let QueueGeometry { participants, inline_bytes, blocks, block_bytes, extents, deliveries } = geometry;
        let max_message_bytes = element.check("queue", capacity, max_message_bytes)?;
        for (what, found, least, most) in [
            ("number of participants", participants, 1, MAX_PARTICIPANTS),
            ("number of blocks", blocks, 0, MAX_BLOCKS),
            ("number of extents", extents, 0, MAX_BLOCKS),
            ("length of a block", block_bytes, 0, SIZE_MAX),
            ("inline length", inline_bytes, 0, SIZE_MAX),
            ("limit of deliveries", deliveries, 0, MAX_DELIVERIES),
        ] {
            if !(least..=most).contains(&found) {
                return Err(invalid("queue", what, found, format_args!("{least} to {most}"), "choose another"));
            }
        }
        let round = |length: u64, least: u64| length.max(least).next_multiple_of(WORD as u64);
        let geometry = match element {
            ElementType::Value { .. } if deliveries == 0 => QueueGeometry { participants, ..QueueGeometry::default() },
            ElementType::Value { size, .. } => QueueGeometry {
                participants,
                blocks: blocks.max(1),
                block_bytes: round(size, 0),
                deliveries,
                ..QueueGeometry::default()
            },
            ElementType::Bytes => {
                // Every message of a queue that redelivers lies in the pool.
                let inline_bytes =
                    if deliveries == 0 { round(inline_bytes, MIN_INLINE_BYTES) } else { MIN_INLINE_BYTES };
                let block_bytes = if blocks == 0 { 0 } else { round(block_bytes, WORD as u64) };
                let needs_extents = match deliveries {
                    0 => max_message_bytes > inline_bytes.max(block_bytes),
                    _ => blocks == 0 || max_message_bytes > block_bytes,
                };
                if needs_extents && extents == 0 {
                    let expected = "at least 1, for messages that are longer than a block";
                    return Err(invalid(
                        "queue",
                        "number of extents",
                        0,
                        expected,
                        "allow extents, or lower the message limit",
                    ));
                }
                let extents = if needs_extents { extents } else { 0 };
                QueueGeometry { participants, inline_bytes, blocks, block_bytes, extents, deliveries }
            }
        };
        let capacity = capacity.max(2).checked_next_power_of_two().unwrap_or(u64::MAX);
        let layout = Self { element, capacity, max_message_bytes, geometry, size: 0 };
        match layout.footprint() {
            Some(size) => Ok(Self { size, ..layout }),
            None => Err(invalid("region", "capacity", capacity, "a region below 64 TiB", "choose a smaller capacity")),
        }
    }

    /// The bytes that such a queue needs, before rounding up to huge pages.
    fn footprint(&self) -> Option<u64> {
        let mapped = self.mapped_bytes()?;
        let size = self.extent_bytes()?.checked_mul(self.geometry.extents)?.checked_add(mapped)?;
        (size <= SIZE_MAX).then_some(size)
    }

    /// The part of it that has memory from the beginning.
    fn mapped_bytes(&self) -> Option<u64> {
        let blocks = self.geometry.blocks.checked_mul(self.geometry.block_bytes / WORD as u64)?;
        let marks = self.capacity.checked_next_multiple_of(PADDING_WORDS as u64)?;
        let fixed = (self.marks() as u64).checked_add(marks)?;
        bytes_of(fixed.checked_add(self.slot_words()?)?.checked_add(blocks)?)
    }

    fn extent_bytes(&self) -> Option<u64> {
        round_to_page(self.max_message_bytes)
    }

    fn slot_words(&self) -> Option<u64> {
        self.capacity.checked_mul(self.stride() as u64)?.checked_next_multiple_of(PADDING_WORDS as u64)
    }

    pub(super) fn store(&self, words: &mut [u64; header::USED]) {
        words[header::KIND] = header::QUEUE;
        words[header::DIRECTIONS] = 1;
        words[header::CAPACITY] = self.capacity;
        words[header::MAX_MESSAGE_BYTES] = self.max_message_bytes;
        words[header::PARTICIPANTS] = self.geometry.participants;
        words[header::INLINE_BYTES] = self.geometry.inline_bytes;
        words[header::BLOCKS] = self.geometry.blocks;
        words[header::BLOCK_BYTES] = self.geometry.block_bytes;
        words[header::EXTENTS] = self.geometry.extents;
        words[header::DELIVERIES] = self.geometry.deliveries;
        self.element.store(words);
    }

    /// Bytes to map.
    pub(crate) fn mapped(&self) -> u64 {
        match self.geometry.extents {
            0 => self.size,
            _ => self.mapped_bytes().unwrap_or(0),
        }
    }

    /// Words that one scan of everything visits, in repair and in statistics.
    pub(crate) fn steps(&self) -> u64 {
        self.capacity.saturating_add(self.all_blocks())
    }

    pub(crate) fn participants(&self) -> usize {
        self.geometry.participants as usize
    }

    /// First word of a participant.
    pub(crate) fn participant(index: usize) -> usize {
        PARTICIPANTS_AT + index * own::WORDS
    }

    /// Words of a slot: one of control, then the payload.
    pub(crate) fn stride(&self) -> usize {
        let payload = match self.element {
            ElementType::Value { .. } if self.redelivers() => REFERENCE_WORDS,
            ElementType::Bytes => PAYLOAD_HEADER_WORDS + self.geometry.inline_bytes as usize / WORD,
            ElementType::Value { size, .. } => size.div_ceil(WORD as u64) as usize,
        };
        1 + payload
    }

    /// Blocks first, then extents.
    pub(crate) fn all_blocks(&self) -> u64 {
        self.geometry.blocks + self.geometry.extents
    }

    /// First word and number of words of the pool's owners.
    pub(crate) fn owners(&self) -> (usize, usize) {
        (PARTICIPANTS_AT + self.participants() * own::WORDS, self.all_blocks() as usize)
    }

    /// Whether messages of the dead are delivered again.
    pub(crate) fn redelivers(&self) -> bool {
        self.geometry.deliveries > 0
    }

    /// First word and number of words of what is known of each delivery, [`delivery::WORDS`] for
    /// each block. None in a queue that does not redeliver.
    pub(crate) fn deliveries(&self) -> (usize, usize) {
        let (start, words) = self.owners();
        (start + words, if self.redelivers() { words * delivery::WORDS } else { 0 })
    }

    /// First word of the skip marks, of which there is one for each slot.
    pub(crate) fn marks(&self) -> usize {
        let (start, words) = self.deliveries();
        (start + words).next_multiple_of(PADDING_WORDS)
    }

    /// First word and number of words of the slots, inside the region by construction.
    pub(crate) fn slots(&self) -> (usize, usize) {
        let start = (self.marks() + self.capacity as usize).next_multiple_of(PADDING_WORDS);
        (start, self.slot_words().unwrap_or(0) as usize)
    }

    /// First word and number of words of all mapped blocks.
    pub(crate) fn blocks(&self) -> (usize, usize) {
        let (start, words) = self.slots();
        (start + words, (self.geometry.blocks * self.geometry.block_bytes) as usize / WORD)
    }

    /// Where in the file an extent begins.
    pub(crate) fn extent(&self, index: u64) -> u64 {
        debug_assert!(index < self.geometry.extents);
        self.mapped() + index * self.extent_bytes().unwrap_or(0)
    }
}
