//! What: a pause for the side of a ring that runs close behind the other. If it does, every access
//! is a cache miss for both. With some messages in between, lines can be prefetched. So a side that
//! finds only a few new messages or free slots several times in a row, and never none, pauses once.
//! If the pause brings no more, the other side is slow, and the next pause is far off.
//!
//! Bytes: none that are shared.
//!
//! Invariants
//! - I1: a check that finds nothing (ping-pong, a slow stream) or a lot ends a streak. Only
//!   [`Pacer::MIN_STREAK`] checks in a row lead to a pause, and [`Pacer::BACKOFF_STREAK`] after a
//!   pause that brought nothing.
//! - I2: a pause is shorter than `threshold` spins, whatever a check claims to have found.
//!
//! Edges: none. What is loaded for pacing orders nothing.
//!
//! Crash: no state outlives the process. A peer with an invalid position costs a pause, or saves
//! one.
//!
//! Source: our own. The measurements are in docs/decisions/0011-single-message-path.md,
//! 0012-hot-loops.md and 0014-mpmc-pacing.md.

/// The checks of one side so far.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// A find of fewer than this is small. 0: no find is.
    threshold: u64,
    /// Small finds in a row.
    streak: u32,
    /// The length of a streak that leads to a pause.
    required: u32,
    paused: bool,
}

impl Pacer {
    pub(crate) const MIN_STREAK: u32 = 8;
    pub(crate) const BACKOFF_STREAK: u32 = 4096;

    /// A pacer for which a find of fewer than `threshold` is small.
    pub(crate) fn new(threshold: u64) -> Self {
        Self { threshold, required: Self::MIN_STREAK, ..Self::default() }
    }

    /// A pacer for a side of a ring of that capacity whose slots have that many words. The
    /// processor sees a longer value as a stream, and prefetches it.
    pub(crate) fn for_ring(capacity: u64, stride: usize) -> Self {
        if stride > 128 { Self::default() } else { Self::new((capacity / 16).min(64)) }
    }

    /// Records a find, and returns how long to pause, in spins.
    #[inline]
    pub(crate) fn observe(&mut self, count: u64) -> u32 {
        if self.paused {
            // This is what came during the pause.
            self.required = if count < self.threshold { Self::BACKOFF_STREAK } else { Self::MIN_STREAK };
            (self.paused, self.streak) = (false, 0);
        } else if (1..self.threshold).contains(&count) {
            self.streak += 1;
            self.paused = self.streak >= self.required;
        } else {
            self.streak = 0;
        }
        // A spin takes a little longer than a message, so this brings `threshold` messages and
        // more.
        if self.paused { (self.threshold - self.threshold / 4) as u32 } else { 0 }
    }
}

/// A [`Pacer`] by positions, for a side of an MPMC ring. It remembers the other side's position, so
/// that it knows when this side has caught up.
pub(crate) struct PositionPacer {
    observed_end: u64,
    pacer: Pacer,
}

impl PositionPacer {
    /// A pacer for a ring of that capacity.
    pub(crate) fn new(capacity: u64) -> Self {
        let threshold = (capacity / 4).min(256);
        // A short ring has no room for a distance.
        if threshold < 16 { Self::disabled() } else { Self { observed_end: 0, pacer: Pacer::new(threshold) } }
    }

    /// A pacer that is never due.
    pub(crate) fn disabled() -> Self {
        Self { observed_end: u64::MAX, pacer: Pacer::default() }
    }

    /// Returns whether this position is as far as the other side was last seen. Then call
    /// [`observe_end`](Self::observe_end).
    #[inline(always)]
    pub(crate) fn is_due(&self, position: u64) -> bool {
        position >= self.observed_end
    }

    /// Records how far the other side has come, and returns how long to pause, in spins.
    pub(crate) fn observe_end(&mut self, position: u64, end: u64) -> u32 {
        self.observed_end = end;
        self.pacer.observe(end.saturating_sub(position))
    }
}
