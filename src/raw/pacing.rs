//! What: keeps one side of a stream off the other's heels.
//!
//! Who takes each message, or each free place, just as it comes, finds its lines on their way and waits for every one, and so does the other
//! side. With some messages in between, lines are asked for ahead of time. So who finds only a few new ones time after time, and never none,
//! pauses once. Where that brings no more, because the other side is slow, it is not tried again for long.
//!
//! Bytes: none that are shared.
//!
//! Invariants
//! - I1: a look that found nothing (a dialogue, a slow stream) or a lot ends a streak; only [`Pacer::SOON`] looks in a row lead to a pause,
//!   and [`Pacer::LATE`] where the last one brought nothing.
//! - I2: a pause is shorter than `few` spins, whatever a look claims to have found.
//!
//! Edges: none; what is loaded for it orders nothing.
//!
//! Crash: nothing of it outlives the process. A peer that lies about its index costs a pause, or the advantage of one.
//!
//! Source: our own; the figures are in docs/decisions/0011-single-message-path.md, 0012-hot-loops.md and 0014-mpmc-pacing.md.

/// What one side's looks have come to so far.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// Fewer than this is a little; 0: nothing is.
    few: u64,
    /// Looks in a row that found a little.
    streak: u32,
    /// How many of them make a reason to pause.
    enough: u32,
    paused: bool,
}

impl Pacer {
    pub(crate) const SOON: u32 = 8;
    pub(crate) const LATE: u32 = 4096;

    /// Fewer than `few` is a little.
    pub(crate) fn keep_off(few: u64) -> Self {
        Self { few, enough: Self::SOON, ..Self::default() }
    }

    /// How long to pause, in spins, after a look that found so many.
    #[inline]
    pub(crate) fn found(&mut self, count: u64) -> u32 {
        if self.paused {
            // Of what came during the pause.
            self.enough = if count < self.few { Self::LATE } else { Self::SOON };
            (self.paused, self.streak) = (false, 0);
        } else if (1..self.few).contains(&count) {
            self.streak += 1;
            self.paused = self.streak >= self.enough;
        } else {
            self.streak = 0;
        }
        // As a spin takes a little longer than a message, enough for more than a few.
        if self.paused { (self.few - self.few / 4) as u32 } else { 0 }
    }
}

/// What one side of a ring for many last saw of the other's index, so that it can tell when it has come up to it.
pub(crate) struct PositionPacer {
    seen: u64,
    heels: Pacer,
}

impl PositionPacer {
    /// In a ring of that capacity.
    pub(crate) fn keep(capacity: u64) -> Self {
        let few = (capacity / 4).min(256);
        // In a short ring nobody can keep off anybody.
        if few < 16 { Self::none() } else { Self { seen: 0, heels: Pacer::keep_off(few) } }
    }

    /// None is kept.
    pub(crate) fn none() -> Self {
        Self { seen: u64::MAX, heels: Pacer::default() }
    }

    /// Whether this position is as far as the other side had come.
    #[inline(always)]
    pub(crate) fn is_used_up(&self, position: u64) -> bool {
        position >= self.seen
    }

    /// How long to pause, in spins: by now the other side has come to `end`.
    pub(crate) fn came_to(&mut self, position: u64, end: u64) -> u32 {
        self.seen = end;
        self.heels.found(end.saturating_sub(position))
    }
}
