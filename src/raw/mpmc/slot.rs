//! What: the two words of a slot, its control word and its skip mark, as typed values. No other
//! file knows their bits.
//!
//! The mark is how participants agree to go on without a claimer that does not. Its states:
//!
//! ```text
//!                skipper                  skipper: slot unchanged
//!  ┌─────────┐ proposes  ┌──────────┐                       ┌───────────────┐ skipper: raises it
//!  │ Settled │ ────────▶ │ Proposed │ ────────────────────▶ │ SkippedUnread │ ──────┐ for the
//!  └─────────┘           └──────────┘                       │ SkippedUnsent │ ◀─────┘ next lap
//!    ▲     ▲                  │                             └───────────────┘
//!    │     └──────────────────┘                                     │
//!    │       claimer: completes · skipper: slot changed · repairer  │
//!    └──────────────────────────────────────────────────────────────┘
//!            claimer or repairer: returns the slot
//! ```
//!
//! ```text
//!                 skipper              claimer, completing  repairer of a dead claimer
//!  Settled        proposes             -                    completes in its place
//!  (or older)     → Proposed
//!  Proposed       heavy fence; loads   → Settled            slot completed: → Settled;
//!                 the slot again                            if not: completes in its place
//!                 → Skipped… or Settled
//!  SkippedUnread  on a later lap:      returns the slot     counts the message as lost, if it is
//!                 raises it            → Settled            still in the slot; returns the slot
//!                                                           → Settled
//!  SkippedUnsent  on a later lap:      its message is not   returns the slot
//!                 raises it            sent; returns the    → Settled
//!                                      slot → Settled
//! ```
//!
//! A producer that abandons its position, or its repairer, goes from Settled or Proposed to
//! SkippedUnsent at once. A participant that wants to claim a completed slot, and finds Proposed,
//! goes to Settled itself.
//!
//! Edges: at the slot's words E1, E2, E6 and E7 of `mod.rs`.
//!
//! Crash: nothing is decided here; `repair.rs` has the steps.

use super::retry::SPIN_LIMIT;
use crate::primitive::{AtomicU64, Ordering, fence, has_light_fence, light_fence};
use crate::raw::Corrupt;

const STATE_BITS: u32 = 2;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;

/// What a slot is to its position.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    /// Free for the producer.
    Free = 0,
    /// Holds the message.
    Ready = 1,
}

/// One reading of a slot's control word: a position and a [`SlotState`], or an invalid one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Control(u64);

impl Control {
    #[inline(always)]
    pub(super) fn new(position: u64, state: SlotState) -> Self {
        Self(position << STATE_BITS | state as u64)
    }

    #[inline(always)]
    pub(super) fn free(position: u64) -> Self {
        Self::new(position, SlotState::Free)
    }

    #[inline(always)]
    pub(super) fn ready(position: u64) -> Self {
        Self::new(position, SlotState::Ready)
    }

    pub(super) fn position(self) -> u64 {
        self.0 >> STATE_BITS
    }

    pub(super) fn is_free(self) -> bool {
        self.0 & STATE_MASK == SlotState::Free as u64
    }

    pub(super) fn is_ready(self) -> bool {
        self.0 & STATE_MASK == SlotState::Ready as u64
    }

    /// What the mark says if others have skipped the claim that ends with this control word.
    pub(super) fn if_skipped(self) -> SkipState {
        if self.is_free() { SkipState::SkippedUnread } else { SkipState::SkippedUnsent }
    }
}

/// What a skip mark is about: one of the two waits that each position goes through, in the order in
/// which they come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(u64);

impl Generation {
    /// The position waits until its slot is released by the consumer of the lap before.
    #[inline(always)]
    pub(super) fn unreleased(position: u64) -> Self {
        Self(position.wrapping_mul(2).wrapping_add(2))
    }

    /// The position waits until its producer publishes.
    #[inline(always)]
    pub(super) fn unpublished(position: u64) -> Self {
        Self(position.wrapping_mul(2).wrapping_add(3))
    }

    /// The wait that is over when a slot is in `state` for `position`.
    #[inline(always)]
    pub(super) fn before(position: u64, state: SlotState) -> Self {
        match state {
            SlotState::Free => Self::unreleased(position),
            SlotState::Ready => Self::unpublished(position),
        }
    }

    /// The wait that is over once a slot has that control word.
    pub(super) fn before_control(control: Control) -> Self {
        let state = if control.is_free() { SlotState::Free } else { SlotState::Ready };
        Self::before(control.position(), state)
    }
}

/// What a skip mark says about its generation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SkipState {
    /// A skipper is about to skip the position, and checks the slot once more.
    Proposed = 0,
    /// Skipped: a consumer has claimed the slot's message and not completed.
    SkippedUnread = 1,
    /// Skipped: a producer has claimed the slot and not completed.
    SkippedUnsent = 2,
    /// Not skipped, or in service again.
    Settled = 3,
}

/// One reading of a slot's skip mark: a [`Generation`] and a [`SkipState`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SkipMark(u64);

impl SkipMark {
    /// The mark of a slot that was never proposed to be skipped.
    pub(super) const ZERO: Self = Self(0);

    pub(super) fn new(generation: Generation, state: SkipState) -> Self {
        Self(generation.0 << STATE_BITS | state as u64)
    }

    pub(super) fn proposed(generation: Generation) -> Self {
        Self::new(generation, SkipState::Proposed)
    }

    pub(super) fn settled(generation: Generation) -> Self {
        Self::new(generation, SkipState::Settled)
    }

    #[inline(always)]
    pub(super) fn generation(self) -> Generation {
        Generation(self.0 >> STATE_BITS)
    }

    #[inline(always)]
    pub(super) fn state(self) -> SkipState {
        match self.0 & STATE_MASK {
            0 => SkipState::Proposed,
            1 => SkipState::SkippedUnread,
            2 => SkipState::SkippedUnsent,
            _ => SkipState::Settled,
        }
    }

    /// The latest position that the mark is about.
    #[inline(always)]
    pub(super) fn position(self) -> u64 {
        (self.generation().0 >> 1).wrapping_sub(1)
    }

    /// Whether the slot is out of service.
    #[inline(always)]
    pub(super) fn is_quarantined(self) -> bool {
        matches!(self.state(), SkipState::SkippedUnread | SkipState::SkippedUnsent)
    }

    /// Whether the slot is not quarantined and nobody has proposed to skip `generation`, or a later
    /// one.
    #[inline(always)]
    pub(super) fn predates(self, generation: Generation) -> bool {
        self.generation() < generation && !self.is_quarantined()
    }

    /// The same claim, skipped up to a later generation.
    pub(super) fn raised(self, generation: Generation) -> Self {
        Self::new(generation, self.state())
    }
}

/// A control word and the skip mark that goes with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) control: Control,
    pub(super) mark: SkipMark,
}

impl Snapshot {
    /// Whether I4 lets head, or tail, that is at `position` go past it.
    pub(super) fn is_skipped_at(self, position: u64) -> bool {
        if self.mark.is_quarantined() { self.mark.position() >= position } else { self.control.position() > position }
    }

    /// Whether the slot has a message, which a consumer may have claimed.
    pub(super) fn holds_message(self) -> bool {
        self.control.is_ready() && self.mark.state() != SkipState::SkippedUnsent
    }

    /// Whether the slot is in `state` for `position`, and nobody proposes to skip it.
    pub(super) fn is_claimable(self, position: u64, state: SlotState) -> bool {
        let (generation, mark) = (Generation::before(position, state), self.mark);
        self.control == Control::new(position, state)
            && (mark.predates(generation) || mark == SkipMark::settled(generation))
    }

    /// Whether the slot is in `state` for `position`, and a skipper that does not know it yet
    /// proposes to skip it.
    pub(super) fn is_proposed(self, position: u64, state: SlotState) -> bool {
        self.control == Control::new(position, state)
            && self.mark == SkipMark::proposed(Generation::before(position, state))
    }
}

/// A slot and its mark.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    pub(super) control: &'a AtomicU64,
    pub(super) payload: &'a [AtomicU64],
    pub(super) mark: &'a AtomicU64,
}

impl Slot<'_> {
    /// Makes the slot free for its first position.
    pub(super) fn format(self, position: u64) {
        // Relaxed: nobody else is there yet.
        self.control.store(Control::free(position).0, Ordering::Relaxed);
    }

    /// Whether the control word has that value: one load, which proves nothing.
    #[inline(always)]
    pub(super) fn probe(self, position: u64, state: SlotState) -> bool {
        // Relaxed: only a hint. A full attempt loads it again.
        self.control.load(Ordering::Relaxed) == Control::new(position, state).0
    }

    /// Whether the slot can be claimed for `position`. False is not final: see
    /// [`Snapshot::is_claimable`].
    #[inline(always)]
    pub(super) fn is_claimable(self, position: u64, state: SlotState) -> bool {
        if self.load_control() != Control::new(position, state) {
            return false;
        }
        fence_against_skippers(); // E6
        // Relaxed: a mark that predates the claim tells nothing that other words would have to
        // agree with.
        SkipMark(self.mark.load(Ordering::Relaxed)).predates(Generation::before(position, state))
    }

    /// Ends a claim: the slot is in `state` for `position` now. False: the claimer may have been
    /// skipped meanwhile.
    #[inline(always)]
    pub(super) fn finish(self, position: u64, state: SlotState) -> bool {
        self.store_control(Control::new(position, state));
        fence_against_skippers(); // E6
        // Relaxed: whatever it says, nothing is read through it.
        SkipMark(self.mark.load(Ordering::Relaxed)).predates(Generation::before(position, state))
    }

    #[inline(always)]
    pub(super) fn load_control(self) -> Control {
        Control(self.control.load(Ordering::Acquire)) // E1, E2
    }

    #[inline(always)]
    pub(super) fn store_control(self, control: Control) {
        self.control.store(control.0, Ordering::Release); // E1, E2, E7
    }

    /// The mark, and a control word that is not older than that mark.
    pub(super) fn snapshot(self) -> Result<Snapshot, Corrupt> {
        let mut before = self.mark.load(Ordering::Acquire); // E7
        for _ in 0..SPIN_LIMIT {
            let control = self.load_control();
            fence_against_skippers(); // E6
            let after = self.mark.load(Ordering::Acquire); // E7
            if after == before {
                return Ok(Snapshot { control, mark: SkipMark(after) });
            }
            before = after;
        }
        Err(Corrupt)
    }

    /// Changes a mark that was seen. False: it has changed already.
    pub(super) fn swap_mark(self, seen: SkipMark, new: SkipMark) -> bool {
        // Relaxed if it fails: then the mark is read again.
        self.mark.compare_exchange(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() // E7
    }
}

/// The half of E6 that is not the skipper's. A process without asymmetric fences uses a full fence,
/// and skips nobody.
#[inline(always)]
pub(super) fn fence_against_skippers() {
    if has_light_fence() { light_fence() } else { fence(Ordering::SeqCst) }
}
