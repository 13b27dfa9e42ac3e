//! How long to leave the other side alone before polling again.
//!
//! What: a side that consumes a stream faster than the other fills it would read the other's cache
//! line after every message, and the two would pass that line, and the message's, back and forth.
//! Left alone for a moment, the other side gets ahead, and the next poll finds a burst of messages.
//! In request-response traffic there is nothing to gain, and no time to lose. So the pause grows
//! only while it pays, and begins only when a message was there at the first poll. `raw/pacing.rs`
//! is the counterpart: it pauses after messages were found, this one before a poll.
//!
//! docs/decisions/0005 has the measurements.

use crate::primitive::{WORD, spin_loop};
use crate::region::Region;
use crate::region::layout::header::{ElementType, RegionKind};

/// Words of a typical small record: byte messages are counted by these.
pub(crate) const TYPICAL_RECORD_WORDS: u64 = 8;

/// The pause before a poll, in spins.
#[derive(Debug)]
pub(crate) struct PollBackoff {
    /// Messages that the ring holds, roughly.
    capacity: u64,
    pause: u32,
    position: u64,
    /// Whether the last message was not there at the first poll.
    pub(crate) last_was_late: bool,
}

impl PollBackoff {
    const FIRST: u32 = 4;
    const MAX: u32 = 128;
    /// A burst of fewer messages does not pay.
    const MIN_BURST: u64 = 4;

    pub(crate) fn new(region: &Region) -> Self {
        let layout = region.layout();
        let capacity = match (layout.kind(), layout.element()) {
            // Of a pipe's bytes the capacity is in bytes.
            (RegionKind::Pipe, ElementType::Bytes) => layout.capacity() / (TYPICAL_RECORD_WORDS * WORD as u64),
            _ => layout.capacity(),
        };
        Self { capacity, pause: 0, position: 0, last_was_late: false }
    }

    /// No pauses at all.
    pub(crate) fn disabled() -> Self {
        Self { capacity: 0, pause: 0, position: 0, last_was_late: true }
    }

    /// Whether any message has passed since the last pause.
    pub(crate) fn has_progressed(&self, position: u64) -> bool {
        self.position != position
    }

    /// Call before polling, with the number of messages that this side has passed so far.
    pub(crate) fn pause(&mut self, position: u64) {
        let burst = position.wrapping_sub(self.position);
        self.position = position;
        self.pause = match self.pause {
            0 if self.last_was_late => 0,
            0 => Self::FIRST,
            _ if burst < Self::MIN_BURST => 0,
            // The other side must not reach the end of the ring meanwhile.
            pause if burst > self.capacity / 4 => pause / 2,
            pause if burst < self.capacity / 8 => (2 * pause).min(Self::MAX),
            pause => pause,
        };
        for _ in 0..self.pause {
            spin_loop();
        }
    }
}
