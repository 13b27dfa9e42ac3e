//! The bytes of a broadcast's region.
//!
//! ```text
//! words
//!      0  header
//!     64  control       48 words: event count and counters
//!    112  participants  8 words each: publishers, then subscribers; rounded up to 16 words
//!    ...  tracks        32 words of control for each publisher
//!    ...  cursors       16 words for each track and subscriber: those of track 0 first
//!    ...  latest        a seqlock for each track and key: those of track 0 first
//!    ...  leases        a bit for each subscriber, in whole words, for each track and frame
//!    ...  data          the slots of each track, a multiple of 16 words
//!    ...  frames        from the next page on: those of track 0 first
//! ```
//!
//! Track i is the ring of participant i. The publishers are the first participants.

use super::header::{self, ElementType};
use super::{MAX_PARTICIPANTS, PADDING_WORDS, SIZE_MAX, bytes_of, invalid, participant};
use crate::error::Result;
use crate::primitive::WORD;
use crate::raw::broadcast::latest::{self, KEY_WORDS};
use crate::sys::mapping::PAGE;

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
    /// On a line of its own: it is stored seldom, and loaded after each message.
    pub(crate) const BEGUN: usize = 24;
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

/// Keys, and frames of a track, at most.
const MAX_COUNT: u64 = 1 << 24;

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
    /// Keys of which the latest value is kept. Values only.
    pub(crate) keys: u64,
    /// Frames of each track. Byte messages only.
    pub(crate) frames: u64,
    /// Bytes of a frame.
    pub(crate) frame_bytes: u64,
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
        let BroadcastGeometry { publishers, subscribers, history, policy, max_lag, slot_bytes, .. } = geometry;
        let max_message_bytes = element.check("broadcast", capacity, max_message_bytes)?;
        for (what, found, least, most) in [
            ("number of publishers", publishers, 1, MAX_PARTICIPANTS),
            ("number of subscribers", subscribers, 1, MAX_PARTICIPANTS),
            ("history", history, 0, SIZE_MAX),
            ("slot length", slot_bytes, 0, SIZE_MAX),
            ("number of keys", geometry.keys, 0, MAX_COUNT),
            ("number of frames", geometry.frames, 0, MAX_COUNT),
            ("length of a frame", geometry.frame_bytes, 0, SIZE_MAX),
        ] {
            if !(least..=most).contains(&found) {
                return Err(invalid("broadcast", what, found, format_args!("{least} to {most}"), "choose another"));
            }
        }
        let (slot_bytes, keys, frames) = match element {
            ElementType::Bytes => (slot_bytes.max(1).next_multiple_of(WORD as u64), 0, geometry.frames),
            ElementType::Value { .. } => (0, geometry.keys, 0),
        };
        let frame_bytes = match (frames, geometry.frame_bytes) {
            (0, _) => 0,
            (_, 0) => return Err(invalid("broadcast", "length of a frame", 0, "at least 1", "choose another")),
            (_, bytes) => bytes.next_multiple_of((PADDING_WORDS * WORD) as u64),
        };
        if frames > 0 && frames <= history {
            let expected = format_args!("more than the history ({history})");
            return Err(invalid("broadcast", "number of frames", frames, expected, "choose more"));
        }
        // A message that is longer than a slot lies in a frame, if there are frames.
        let max_message_bytes = if frames > 0 { frame_bytes } else { max_message_bytes };
        let longest = match (frames, slot_bytes) {
            (0, 1..) => max_message_bytes / slot_bytes + 1,
            _ => 1,
        };
        let least = (2 * history).max(2 * longest).max(2);
        let capacity = capacity.max(least).checked_next_power_of_two().unwrap_or(u64::MAX);
        // One frame more, or the publisher would wait for the slowest instead of evicting it.
        let most_lag = if frames > 0 { frames - 1 } else { u64::MAX };
        let max_lag = if policy == SlowPolicy::Evict { max_lag.min(capacity - history).min(most_lag) } else { 0 };
        if policy == SlowPolicy::Evict && max_lag <= history + longest {
            // A newcomer with all of the history must not be evicted by the next message.
            let expected = format!("more than the history and the longest message ({} slots)", history + longest);
            return Err(invalid(
                "broadcast",
                "lag after which subscribers are evicted",
                max_lag,
                expected,
                "allow more",
            ));
        }
        let geometry = BroadcastGeometry { max_lag, slot_bytes, keys, frames, frame_bytes, ..geometry };
        let layout = Self { element, capacity, max_message_bytes, geometry, size: 0 };
        match layout.words().and_then(bytes_of) {
            Some(size) => Ok(Self { size, ..layout }),
            None => Err(invalid("region", "capacity", capacity, "a region below 64 TiB", "choose a smaller capacity")),
        }
    }

    fn words(&self) -> Option<u64> {
        let data = self.data_words()?.checked_mul(self.geometry.publishers)?.checked_add(self.data_at()? as u64)?;
        if self.geometry.frames == 0 {
            return Some(data);
        }
        let frames = self.geometry.frames.checked_mul(self.geometry.publishers)?;
        let frames = frames.checked_mul(self.geometry.frame_bytes / WORD as u64)?;
        data.checked_next_multiple_of(PAGE / WORD as u64)?.checked_add(frames)
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
        words[header::KEYS] = self.geometry.keys;
        words[header::FRAMES] = self.geometry.frames;
        words[header::FRAME_BYTES] = self.geometry.frame_bytes;
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

    /// Words that a publisher that needs a frame looks at.
    pub(super) fn steps(&self) -> u64 {
        self.geometry.frames * self.lease_words() as u64
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

    fn latest_at(&self) -> usize {
        self.cursor(self.publishers(), 0)
    }

    /// First word of the latest values of a track, and the number of words.
    pub(crate) fn latest(&self, track: usize) -> (usize, usize) {
        let words = self.geometry.keys as usize * latest::words_of_key(self.value_words());
        (self.latest_at() + track * words, words)
    }

    fn leases_at(&self) -> Option<usize> {
        let words_of_key = latest::words_of_key(self.value_words()) as u64;
        let latest = self.geometry.keys.checked_mul(self.geometry.publishers)?.checked_mul(words_of_key)?;
        (self.latest_at() as u64)
            .checked_add(latest)?
            .checked_next_multiple_of(PADDING_WORDS as u64)
            .map(|at| at as usize)
    }

    /// Words of a frame's leases.
    pub(crate) fn lease_words(&self) -> usize {
        self.subscribers().div_ceil(u64::BITS as usize)
    }

    /// First word of the leases of a track's frames, and the number of words.
    pub(crate) fn leases(&self, track: usize) -> (usize, usize) {
        let words = self.geometry.frames as usize * self.lease_words();
        (self.leases_at().unwrap_or(0) + track * words, words)
    }

    fn data_at(&self) -> Option<usize> {
        let leases =
            self.geometry.frames.checked_mul(self.geometry.publishers)?.checked_mul(self.lease_words() as u64)?;
        let end = (self.leases_at()? as u64).checked_add(leases)?;
        end.checked_next_multiple_of(PADDING_WORDS as u64).map(|at| at as usize)
    }

    /// First word and number of words of a track's slots, inside the region by construction.
    pub(crate) fn data(&self, track: usize) -> (usize, usize) {
        let words = self.data_words().unwrap_or(0) as usize;
        (self.data_at().unwrap_or(0) + track * words, words)
    }

    /// First word and number of words of a track's frames, inside the region by construction.
    pub(crate) fn frames(&self, track: usize) -> (usize, usize) {
        let start = self.data(self.publishers()).0.next_multiple_of(PAGE as usize / WORD);
        let words = (self.geometry.frames * self.geometry.frame_bytes) as usize / WORD;
        (start + track * words, words)
    }

    /// First word and number of words of one frame. `None` if there is no such frame.
    pub(crate) fn frame(&self, track: usize, frame: u64) -> Option<(usize, usize)> {
        let words = self.geometry.frame_bytes as usize / WORD;
        (frame < self.geometry.frames).then(|| (self.frames(track).0 + frame as usize * words, words))
    }

    /// Words of a slot.
    pub(crate) fn stride(&self) -> usize {
        match self.element {
            ElementType::Bytes => SLOT_HEADER_WORDS + self.geometry.slot_bytes as usize / WORD,
            ElementType::Value { .. } => self.key_words() + self.value_words(),
        }
    }

    /// Words of a slot before the value.
    pub(crate) fn key_words(&self) -> usize {
        if self.geometry.keys > 0 { KEY_WORDS } else { 0 }
    }

    pub(crate) fn value_words(&self) -> usize {
        match self.element {
            ElementType::Bytes => 0,
            ElementType::Value { size, .. } => size.div_ceil(WORD as u64) as usize,
        }
    }

    /// Slots that a byte message takes up.
    pub(crate) fn slots_of(&self, length: u64) -> u64 {
        length.div_ceil(self.geometry.slot_bytes.max(1)).max(1)
    }

    /// Slots that a call passes at most before it finds the beginning of a message: a rest in each
    /// track.
    pub(crate) fn max_rest(&self) -> u64 {
        (self.slots_of(self.max_message_bytes) - 1).saturating_mul(self.geometry.publishers)
    }

    /// What the process at `index` does.
    pub(crate) fn role_name(&self, index: usize) -> &'static str {
        if index < self.publishers() { "publisher" } else { "subscriber" }
    }
}
