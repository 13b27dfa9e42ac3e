//! How a byte message lies in slots: it takes up as many as it needs, one behind another.
//!
//! Bytes: each slot begins with a header word. The rest is payload.
//!
//! ```text
//!             63      62      61               0
//!            ┌───────┬───────┬─────────────────┐
//! first slot │ 0     │ frame │ length          │   of the message, in bytes
//! the others │ 1     │ 0     │ number          │   of the slot: 1, 2, ...
//!            └───────┴───────┴─────────────────┘
//! ```
//!
//! A message that lies in a frame takes up one slot. Bit 62 of its header word is set, and the next
//! word is the number of the frame.
//!
//! The slots of a message are published together. Where a subscriber begins in the middle of a
//! message, because what was before is overwritten or no part of the history, it goes on to the
//! next first slot.

use crate::error::RecvError;
use crate::primitive::{AtomicU64, Ordering, WORD, load_bytes, store_bytes};
use crate::raw::Corrupt;
use crate::raw::broadcast::consumer::Published;
use crate::region::layout::broadcast::SLOT_HEADER_WORDS;
use crate::region::words::Mapped;
use crate::wait::Timeout;

const CONTINUED: u64 = 1 << 63;
const IN_FRAME: u64 = 1 << 62;

/// Slots of a rest that are passed over between two readings of the clock.
pub(super) const SLOTS_PER_CLOCK_CHECK: u64 = 1024;

/// Why a call whose time is up received nothing.
pub(super) fn timed_out(timeout: Timeout) -> RecvError {
    match timeout {
        Timeout::NonBlocking => RecvError::Empty,
        Timeout::At(_) => RecvError::TimedOut,
    }
}

/// Payload bytes of a slot.
fn room(slot: &[AtomicU64]) -> usize {
    (slot.len() - SLOT_HEADER_WORDS.min(slot.len())) * WORD
}

/// Writes the part of a message that belongs to its slot `number`.
pub(super) fn store_part(message: &[u8], number: u64, slot: &[AtomicU64]) {
    let Some((header, payload)) = slot.split_first() else { return };
    let value = if number == 0 { message.len() as u64 } else { CONTINUED | number };
    // Relaxed: published with the position.
    header.store(value, Ordering::Relaxed);
    let start = (number as usize).saturating_mul(room(slot)).min(message.len());
    let part = message.get(start..).unwrap_or_default();
    store_bytes(payload, part.get(..room(slot)).unwrap_or(part));
}

/// Writes the slot of a message that lies in a frame.
pub(super) fn store_frame(slot: &[AtomicU64], frame: u64, length: u64) {
    if let [header, number, ..] = slot {
        // Relaxed: published with the position.
        header.store(IN_FRAME | length, Ordering::Relaxed);
        number.store(frame, Ordering::Relaxed);
    }
}

/// The frame that a slot names. For its publisher, when it joins.
pub(super) fn frame_of(slot: &[AtomicU64]) -> Option<u64> {
    let [header, number, ..] = slot else { return None };
    // Relaxed: what the last publisher wrote came with the right to publish.
    let is_frame = header.load(Ordering::Relaxed) & (CONTINUED | IN_FRAME) == IN_FRAME;
    is_frame.then(|| number.load(Ordering::Relaxed))
}

/// What lies at the front of the published slots.
pub(super) enum Front {
    /// A message of that length, in a frame. It stays.
    Frame { frame: u64, length: usize },
    /// A message of that length was copied.
    Message(usize),
    /// The rest of a message whose beginning is not there.
    Rest,
    /// A message for which there is no memory.
    OutOfMemory,
    /// A message that is longer than the buffer.
    BufferTooSmall { needed: usize },
}

/// Where a message goes.
pub(super) trait Buffer {
    /// Makes room for a message. Returns the room, or why there is none.
    fn reserve(&mut self, length: usize) -> Result<&mut [u8], Front>;
}

impl Buffer for Vec<u8> {
    fn reserve(&mut self, length: usize) -> Result<&mut [u8], Front> {
        if self.try_reserve(length.saturating_sub(self.len())).is_err() {
            return Err(Front::OutOfMemory);
        }
        self.resize(length, 0);
        Ok(self)
    }
}

impl Buffer for &mut [u8] {
    fn reserve(&mut self, length: usize) -> Result<&mut [u8], Front> {
        self.get_mut(..length).ok_or(Front::BufferTooSmall { needed: length })
    }
}

/// Copies the first message. Returns how many slots that uses up, too.
pub(super) fn load_front(
    published: &Published<'_, Mapped>,
    max_length: u64,
    buffer: &mut impl Buffer,
) -> Result<(u64, Front), Corrupt> {
    let slot = published.slot(0).ok_or(Corrupt)?;
    let header = slot.first().ok_or(Corrupt)?.load(Ordering::Relaxed); // E2 of raw/broadcast
    if header & CONTINUED != 0 {
        return Ok((1, Front::Rest));
    }
    if header & !IN_FRAME > max_length {
        return Err(Corrupt);
    }
    if header & IN_FRAME != 0 {
        let frame = slot.get(SLOT_HEADER_WORDS).ok_or(Corrupt)?.load(Ordering::Relaxed); // E2 of raw/broadcast
        return Ok((0, Front::Frame { frame, length: (header & !IN_FRAME) as usize }));
    }
    let (length, room) = (header as usize, room(slot));
    let slots = length.div_ceil(room.max(1)).max(1) as u64;
    if slots > published.count() {
        return Err(Corrupt); // they are published together
    }
    let target = match buffer.reserve(length) {
        Ok(target) => target,
        Err(front @ Front::BufferTooSmall { .. }) => return Ok((0, front)), // it stays
        Err(front) => return Ok((slots, front)),
    };
    for (part, number) in target.chunks_mut(room.max(1)).zip(0..) {
        let payload = published.slot(number).and_then(|slot| slot.get(SLOT_HEADER_WORDS..)).ok_or(Corrupt)?;
        load_bytes(payload, part);
    }
    Ok((slots, Front::Message(length)))
}
