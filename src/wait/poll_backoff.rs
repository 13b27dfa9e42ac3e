//! How long to leave the other side alone before looking again.
//!
//! A side that works through a stream faster than the other fills it would ask for the other's line after every message, and the
//! two would hand that line, and the message's, back and forth. Left alone for a moment the other gets ahead, and the
//! next look brings a run of messages. In a dialogue there is nothing to gain, and it must not wait: so the
//! pause grows only while it is rewarded, and begins only when a message was there without any wait.
//!
//! docs/decisions/0005-patience.md has the figures.

use crate::primitive::{WORD, spin_loop};
use crate::region::Region;
use crate::region::layout::header::{ElementType, RegionKind};

/// Words of a typical small record: byte messages are counted by these.
pub(crate) const RECORD: u64 = 8;

#[derive(Debug)]
pub(crate) struct PollBackoff {
    /// Messages that the ring holds, roughly.
    capacity: u64,
    pause: u32,
    position: u64,
    /// Whether the last message had not been there at the first look.
    pub(crate) had_to_wait: bool,
}

impl PollBackoff {
    const FIRST: u32 = 4;
    const MOST: u32 = 128;
    /// Fewer messages than this are no reward.
    const REWARD: u64 = 4;

    pub(crate) fn new(region: &Region) -> Self {
        let layout = region.layout();
        let capacity = match (layout.kind(), layout.element()) {
            // Of a pipe's bytes the capacity is in bytes.
            (RegionKind::Pipe, ElementType::Bytes) => layout.capacity() / (RECORD * WORD as u64),
            _ => layout.capacity(),
        };
        Self { capacity, pause: 0, position: 0, had_to_wait: false }
    }

    /// No pauses at all.
    pub(crate) fn none() -> Self {
        Self { capacity: 0, pause: 0, position: 0, had_to_wait: true }
    }

    /// Whether anything was dealt with since the last pause.
    pub(crate) fn has_moved(&self, position: u64) -> bool {
        self.position != position
    }

    /// Call before looking, with how many messages this side has dealt with so far.
    pub(crate) fn pause(&mut self, position: u64) {
        let run = position.wrapping_sub(self.position);
        self.position = position;
        self.pause = match self.pause {
            0 if self.had_to_wait => 0,
            0 => Self::FIRST,
            _ if run < Self::REWARD => 0,
            // The other side must not run into the end of the ring meanwhile.
            pause if run > self.capacity / 4 => pause / 2,
            pause if run < self.capacity / 8 => (2 * pause).min(Self::MOST),
            pause => pause,
        };
        for _ in 0..self.pause {
            spin_loop();
        }
    }
}
