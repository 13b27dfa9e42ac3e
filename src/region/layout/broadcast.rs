//! The bytes of a broadcast's region.
//!
//! ```text
//! words
//!      0  header
//!     64  control       48 words: event count and counters
//!    112  participants  8 words each: publishers, then subscribers; rounded up to 16 words
//!    ...  tracks        32 words of control for each publisher
//!    ...  cursors       16 words for each track and subscriber: those of track 0 first
//!    ...  data          the slots of each track, a multiple of 16 words
//! ```
//!
//! Track i is the ring of participant i. The publishers are the first participants.

use super::header::{self, ElementType};
use super::{MAX_PARTICIPANTS, PADDING_WORDS, SIZE_MAX, bytes_of, invalid, participant};
use crate::error::Result;
use crate::primitive::WORD;

/// The words of the control block.
pub(crate) mod control {
    /// A 32-bit futex word. Never accessed as 64 bits.
    pub(crate) const PUBLISHED: usize = 0;
    /// Changes whenever a publisher joins or leaves.
    pub(crate) const MEMBERSHIP_EPOCH: usize = 16;
    /// How many publishers have joined.
    pub(crate) const PUBLISHERS_JOINED: usize = 17;
    /// Subscribers that were evicted because they lagged.
    pub(crate) const EVICTED: usize = 18;
    pub(crate) const WORDS: usize = 48;
}

/// The words of a track's control block: a pair of cache lines for the positions, and one for the
/// event count.
pub(crate) mod track {
    pub(crate) const TAIL: usize = 0;
    pub(crate) const BEGUN: usize = 1;
    /// A 32-bit futex word. Never accessed as 64 bits.
    pub(crate) const ROOM: usize = 16;
    pub(crate) const WORDS: usize = 32;
}

/// The words of a cursor, which has a pair of cache lines for itself.
pub(crate) mod cursor {
    pub(crate) const STATE: usize = 0;
    pub(crate) const NEXT: usize = 1;
    pub(crate) const WORDS: usize = 16;
}

const CONTROL_AT: usize = header::WORDS;
const PARTICIPANTS_AT: usize = CONTROL_AT + control::WORDS;

const _: () = {
    assert!(CONTROL_AT.is_multiple_of(PADDING_WORDS) && PARTICIPANTS_AT.is_multiple_of(PADDING_WORDS));
    assert!(control::MEMBERSHIP_EPOCH - control::PUBLISHED >= PADDING_WORDS);
    assert!(track::ROOM - track::TAIL >= PADDING_WORDS && track::WORDS - track::ROOM >= PADDING_WORDS);
    assert!(cursor::WORDS >= PADDING_WORDS);
};

/// What a slot of byte messages holds besides the payload: what part of which message it is.
pub(crate) const SLOT_HEADER_WORDS: usize = 1;

/// What publishers do about subscribers that do not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlowPolicy {
    Wait,
    Overwrite,
    Evict,
}

impl SlowPolicy {
    fn code(self) -> u64 {
        match self {
            Self::Wait => 1,
            Self::Overwrite => 2,
            Self::Evict => 3,
        }
    }

    pub(super) fn parse(code: u64) -> Option<Self> {
        [Self::Wait, Self::Overwrite, Self::Evict].into_iter().find(|policy| policy.code() == code)
    }
}

/// The sizes of a broadcast that its maker chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BroadcastGeometry {
    /// At most.
    pub(crate) publishers: u64,
    /// At most.
    pub(crate) subscribers: u64,
    /// Slots that are kept for newcomers.
    pub(crate) history: u64,
    pub(crate) policy: SlowPolicy,
    /// [`SlowPolicy::Evict`] only: slots that a subscriber may be behind.
    pub(crate) max_lag: u64,
    /// Payload bytes of a slot. Byte messages only.
    pub(crate) slot_bytes: u64,
}

/// A broadcast's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BroadcastLayout {
    pub(crate) element: ElementType,
    /// Slots of a track. A power of two.
    pub(crate) capacity: u64,
    /// The longest message, in bytes.
    pub(crate) max_message_bytes: u64,
    pub(crate) geometry: BroadcastGeometry,
    /// Bytes of the file.
    pub(super) size: u64,
}

impl BroadcastLayout {
    /// First word of the control block.
    pub(crate) const CONTROL: usize = CONTROL_AT;

    /// Capacity and lengths are rounded up to what there can be. The capacity is at least twice
    /// the history, and twice what the longest message takes up.
    pub(crate) fn new(
        element: ElementType,
        capacity: u64,
        max_message_bytes: u64,
        geometry: BroadcastGeometry,
    ) -> Result<Self> {
        let BroadcastGeometry { publishers, subscribers, history, policy, max_lag, slot_bytes } = geometry;
        let max_message_bytes = element.check("broadcast", capacity, max_message_bytes)?;
        for (what, found, least, most) in [
            ("number of publishers", publishers, 1, MAX_PARTICIPANTS),
            ("number of subscribers", subscribers, 1, MAX_PARTICIPANTS),
            ("history", history, 0, SIZE_MAX),
            ("slot length", slot_bytes, 0, SIZE_MAX),
        ] {
            if !(least..=most).contains(&found) {
                return Err(invalid("broadcast", what, found, format_args!("{least} to {most}"), "choose another"));
            }
        }
        let slot_bytes = match element {
            ElementType::Bytes => slot_bytes.max(1).next_multiple_of(WORD as u64),
            ElementType::Value { .. } => 0,
        };
        let longest = max_message_bytes.checked_div(slot_bytes).map_or(1, |slots| slots + 1);
        let least = (2 * history).max(2 * longest).max(2);
        let capacity = capacity.max(least).checked_next_power_of_two().unwrap_or(u64::MAX);
        let max_lag = if policy == SlowPolicy::Evict { max_lag.min(capacity - history) } else { 0 };
        if policy == SlowPolicy::Evict && max_lag <= history.max(longest) {
            let expected = format!("more than the history ({history}) and the longest message ({longest} slots)");
            return Err(invalid(
                "broadcast",
                "lag after which subscribers are evicted",
                max_lag,
                expected,
                "allow more",
            ));
        }
        let geometry = BroadcastGeometry { max_lag, slot_bytes, ..geometry };
        let layout = Self { element, capacity, max_message_bytes, geometry, size: 0 };
        match layout.words().and_then(bytes_of) {
            Some(size) => Ok(Self { size, ..layout }),
            None => Err(invalid("region", "capacity", capacity, "a region below 64 TiB", "choose a smaller capacity")),
        }
    }

    fn words(&self) -> Option<u64> {
        let data = self.data_words()?.checked_mul(self.geometry.publishers)?;
        data.checked_add(self.data_at() as u64)
    }

    fn data_words(&self) -> Option<u64> {
        self.capacity.checked_mul(self.stride() as u64)?.checked_next_multiple_of(PADDING_WORDS as u64)
    }

    pub(super) fn store(&self, words: &mut [u64; header::USED]) {
        words[header::KIND] = header::BROADCAST;
        words[header::DIRECTIONS] = 1;
        words[header::CAPACITY] = self.capacity;
        words[header::MAX_MESSAGE_BYTES] = self.max_message_bytes;
        words[header::PARTICIPANTS] = self.geometry.subscribers;
        words[header::INLINE_BYTES] = self.geometry.slot_bytes;
        words[header::PUBLISHERS] = self.geometry.publishers;
        words[header::HISTORY] = self.geometry.history;
        words[header::SLOW_POLICY] = self.geometry.policy.code();
        words[header::MAX_LAG] = self.geometry.max_lag;
        self.element.store(words);
    }

    pub(crate) fn publishers(&self) -> usize {
        self.geometry.publishers as usize
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.geometry.subscribers as usize
    }

    pub(super) fn participants(&self) -> usize {
        self.publishers() + self.subscribers()
    }

    /// First word of a participant's record.
    pub(super) fn participant(index: usize) -> usize {
        PARTICIPANTS_AT + index * participant::WORDS
    }

    /// First word of a track's control block.
    pub(crate) fn track(&self, index: usize) -> usize {
        Self::participant(self.participants()).next_multiple_of(PADDING_WORDS) + index * track::WORDS
    }

    /// First word of a subscriber's cursor in a track.
    pub(crate) fn cursor(&self, track: usize, subscriber: usize) -> usize {
        self.track(self.publishers()) + (track * self.subscribers() + subscriber) * cursor::WORDS
    }

    fn data_at(&self) -> usize {
        self.cursor(self.publishers(), 0)
    }

    /// First word and number of words of a track's slots, inside the region by construction.
    pub(crate) fn data(&self, track: usize) -> (usize, usize) {
        let words = self.data_words().unwrap_or(0) as usize;
        (self.data_at() + track * words, words)
    }

    /// Words of a slot.
    pub(crate) fn stride(&self) -> usize {
        match self.element {
            ElementType::Bytes => SLOT_HEADER_WORDS + self.geometry.slot_bytes as usize / WORD,
            ElementType::Value { size, .. } => size.div_ceil(WORD as u64) as usize,
        }
    }

    /// Slots that a byte message takes up.
    pub(crate) fn slots_of(&self, length: u64) -> u64 {
        length.div_ceil(self.geometry.slot_bytes.max(1)).max(1)
    }

    /// What the process at `index` does.
    pub(crate) fn role_name(&self, index: usize) -> &'static str {
        if index < self.publishers() { "publisher" } else { "subscriber" }
    }
}
