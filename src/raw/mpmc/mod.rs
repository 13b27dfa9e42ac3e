//! What: a bounded first-in-first-out ring for any number of producers and consumers, of which none waits for
//! another. A participant that is slow in the middle of an operation costs the others one slot until it goes on; one
//! that dies there costs one slot until somebody repairs.
//!
//! Bytes: two indices, each on a line of its own; slots of one control word and the payload's words; a mark for each slot.
//!
//! ```text
//!  tail   63     62      55 54                                  0
//!        ┌────────┬──────────┬────────────────────────────────────┐
//!        │ CLOSED │ run      │ positions given to producers       │   at 10^8 a second they last for 11 years
//!        └────────┴──────────┴────────────────────────────────────┘
//!  head   positions given to consumers (or skipped)
//!  slot   63                    2 1      0
//!        ┌──────────────────────┬────────┐
//!        │ position             │ state  │ payload ...     the slot of position p is slot p mod capacity
//!        └──────────────────────┴────────┘
//!         state: 0 FREE    for the producer at that position
//!                1 READY   holds the message of that position
//!  mark   63                    2 1      0
//!        ┌──────────────────────┬────────┐
//!        │ key                  │ state  │    key: 2 p + 2 while position p waits for the slot's consumer, 2 p + 3 for its producer
//!        └──────────────────────┴────────┘
//!         state: 0 PASSING  somebody is about to pass over that position, and looks once more
//!                1 UNREAD   passed over: a consumer has claimed the slot's message and not finished
//!                2 UNSENT   passed over: a producer has claimed the slot and not finished
//!                3 CLEAR    settled: the slot is in service again, or was never out of it
//!  intent one word in each participant's lane: position + 1 << 6 | count of what is left of the claim it is at, 0 for none
//! ```
//!
//! The ring starts with slot i FREE for position i, and zeros for marks.
//!
//! Invariants
//! - I1: a position is claimed by one CAS of its index, so by one participant at most; its intent was there before, and names
//!   it until it is finished, and no longer than that: after each position of a batch it shrinks.
//! - I2: only the claimer writes to a claimed slot, control word and payload, and it does so by plain stores. Only when it is dead does the
//!   repairer do that in its place.
//! - I3: the word of a slot only grows, and so does a mark: no value comes twice. So a CAS of a mark that succeeds has missed
//!   nothing, and a control word that was read between two equal readings of its mark goes with it.
//! - I4: position p is passed over iff its slot's mark is UNREAD or UNSENT with p or a later one, or the slot serves a later lap. The
//!   mark is raised to tail's position before tail is helped past it.
//! - I5: while a mark is UNREAD or UNSENT nobody claims the slot, whatever its word says; its claimer, or repair, ends that with CLEAR.
//! - I6: of a claimer that finishes and one that passes over, exactly one prevails: E6 makes at least one of them see the other, and the
//!   mark's CAS from PASSING, to CLEAR or to one of the two, decides. Who takes a slot into use settles a PASSING first.
//! - I7: head <= tail. Empty is the answer only if no message is complete; Full only if no slot from tail's on is free, up to the
//!   first that waits for a consumer or is being sent. A slot that comes back behind tail serves from tail's next lap on. (A
//!   process without asymmetric fences passes over nobody: it may find Empty, or Full, behind one who is away.)
//! - I8: who passes over a slot has seen something gained by it: a free slot beyond, or a complete message behind. So tail does not
//!   run away from head, and a producer that is disturbed is disturbed by somebody's progress.
//! - I9: a claim of tail, and a change of the run, is one CAS of the whole word. So nothing is
//!   claimed for a run that is closed, and nobody closes a run that is not the present one. A
//!   number comes again only when no producer of that run is left.
//!
//! Edges
//! - E1: `finish` of a push stores READY (Release) · a consumer loads the slot (Acquire): the payload is visible.
//! - E2: `finish` of a pop, `put_back` or `count_loss` stores FREE (Release) · a producer loads the slot (Acquire): the payload was read.
//! - E3: the intent, then the claim's CAS of an index (Release) · load of the index (Acquire), then of the intents: who knows that a
//!   position is claimed sees whose it may be. Every write to an index reads it, so the edge reaches through later ones.
//! - E4: `finish`, then the intent cleared, or shrunk to the rest of the batch (Release) · `find_holders` loads it (Acquire), and then
//!   the slot is looked at again: who sees no claimant any more sees what it did. One who claims the slot meanwhile changes it first.
//! - E5: a repairer stores `count`, then `verdict` (Release) · the next one loads `verdict` (Acquire).
//! - E6: finisher: store slot, light fence, load mark · passer: mark PASSING, heavy fence, load slot. Likewise who reads the slot:
//!   load slot, light fence, load mark. So once a passer has looked in vain, whoever sees the slot finished sees the mark.
//! - E7: `put_back` stores the slot, then the mark CLEAR (Release) · load of the mark (Acquire), then of the slot.
//! - E8: `join`: the run announced, then tail CASed into it (Release) · `now` loads tail (Acquire),
//!   then looks at what was announced: who sees a run begun sees who began it.
//!
//! Crash, by step; "the claim" is exact because of E3
//! - (C1) intent stored: nothing claimed; repair clears it. One who is *stopped* here, until its CAS fails or succeeds, keeps the
//!   slots that it has in mind from being repaired after others.
//! - (C2) index moved: others pass over the position after a short patience. Repair puts a producer's slot back; a consumer's
//!   message is counted as lost, then put back.
//! - (C3) payload written or read: as C2.
//! - (C4) slot published or released: done, unless it had been passed over: then a message was not sent, or a slot is to be put back.
//!   Repair does that, and clears the intent. One who is stopped before its intent shrinks keeps that one slot from being repaired; the
//!   rest of its batch is its own.
//! - (C5) about to put a slot back, its word stored or not, the mark not CLEAR yet: repair puts it back.
//! - (N1) joining, its run announced: nobody's, or one that nothing was sent in. (N2) the run is
//!   begun: it is open, with nobody in it.
//! - (X1) closing, CLOSED set: done, but those who sleep are not told.
//! - (P1) passer, mark PASSING: whoever comes to that position looks once more itself, or settles it; so does repair, if the
//!   slot is finished.
//! - (R1) repairer: `verdict` names position and new count, (R2) the slot is released, (R3) the count is stored, (R4) the verdict is
//!   cleared, (R5) the slot is put back, if it was passed over. The next repairer finishes R3 if, and only if, R2 was done.
//!
//! Source: Vyukov's bounded queue (per-slot sequence); marks, intents and repair are our own. docs/decisions/0008-skip-marks.md tells why
//! marks are words of their own.

use crate::primitive::{
    AtomicU64, Ordering, fence, has_light_fence, heavy_fence, light_fence, prefetch_to_write, spin_loop,
};
use crate::raw::pacing::PositionPacer;
use crate::raw::{Corrupt, Memory};

const STATE: u64 = 0b11;
const FREE: u64 = 0;
const READY: u64 = 1;

const PASSING: u64 = 0;
const UNREAD: u64 = 1;
const UNSENT: u64 = 2;
const CLEAR: u64 = 3;

const CLOSED: u64 = 1 << 63;
const POSITION: u64 = (1 << RUN_SHIFT) - 1;
const RUN_SHIFT: u32 = 55;

/// Runs that can be told apart.
pub(crate) const RUNS: u64 = 1 << (63 - RUN_SHIFT);

/// Positions that one claim can take: what fits beside a position in an intent.
pub(crate) const BATCH: u64 = COUNT;
const COUNT_BITS: u32 = 6;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

const ROUNDS: u64 = 1 << 16;

/// Rounds without any index moving, of which an honest ring needs a few: a slot comes into service, is disputed, is passed over.
const STANDSTILL: u64 = 1 << 10;

/// Times that a repairer looks at a slot which keeps changing, before it leaves that to the next one.
const PATIENT: u64 = 64;

/// How many slots further on the one is whose lines are asked for while one is written.
const AHEAD: u64 = 8;

/// Slots of more words keep no distance.
const CLOSE: usize = 16;

/// A slot's word, or a mark.
#[inline]
fn word(position: u64, state: u64) -> u64 {
    position << 2 | state
}

/// What tail was like at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now(u64);

impl Now {
    pub(crate) fn read(tail: &AtomicU64) -> Self {
        Self(tail.load(Ordering::Acquire)) // E3, E8
    }

    /// The run that is open, or was last.
    pub(crate) fn run(self) -> u64 {
        (self.0 & !CLOSED) >> RUN_SHIFT
    }

    /// Nobody has begun a run since that one was closed.
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// The run and whether it is closed, as one number.
    pub(crate) fn phase(self) -> u64 {
        self.0 >> RUN_SHIFT
    }

    pub(crate) fn position(self) -> u64 {
        self.0 & POSITION
    }

    /// In that run, from here on.
    fn in_run(self, run: u64) -> u64 {
        (run % RUNS) << RUN_SHIFT | self.position()
    }
}

/// The key of a position whose slot its last consumer has not released.
#[inline]
fn unreleased(position: u64) -> u64 {
    position.wrapping_mul(2).wrapping_add(2)
}

/// The key of a position whose producer has not published.
#[inline]
fn unpublished(position: u64) -> u64 {
    position.wrapping_mul(2).wrapping_add(3)
}

/// The key that must be settled before a slot in that state can be claimed for that position.
#[inline]
fn key(position: u64, state: u64) -> u64 {
    if state == FREE { unreleased(position) } else { unpublished(position) }
}

/// One reading of a mark.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark(u64);

impl Mark {
    #[inline]
    fn key(self) -> u64 {
        self.0 >> 2
    }

    #[inline]
    fn state(self) -> u64 {
        self.0 & STATE
    }

    /// The latest position that it passes over, if it does.
    #[inline]
    fn position(self) -> u64 {
        (self.key() >> 1).wrapping_sub(1)
    }

    #[inline]
    fn is_out(self) -> bool {
        matches!(self.state(), UNREAD | UNSENT)
    }

    /// Says nothing about that key or a later one, and does not keep the slot.
    #[inline]
    fn is_quiet(self, key: u64) -> bool {
        self.key() < key && !self.is_out()
    }

    /// The same claim, passed over up to a later key.
    fn raised(self, key: u64) -> u64 {
        word(key, self.state())
    }
}

/// One reading of a slot's word, and of the mark that goes with it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    control: u64,
    mark: Mark,
}

impl Look {
    fn state(self) -> u64 {
        self.control & STATE
    }

    fn position(self) -> u64 {
        self.control >> 2
    }

    /// I4, for the position that an index is at.
    fn passes_over(self, position: u64) -> bool {
        if self.mark.is_out() { self.mark.position() >= position } else { self.position() > position }
    }

    /// Whether the slot is in that state for that position, and nobody disputes it.
    fn is_settled(self, position: u64, state: u64) -> bool {
        let (key, mark) = (key(position, state), self.mark);
        self.control == word(position, state) && (mark.is_quiet(key) || mark.0 == word(key, CLEAR))
    }

    /// As above, but for somebody who is about to pass over it, and will find that there is no need.
    fn is_disputed(self, position: u64, state: u64) -> bool {
        self.control == word(position, state) && self.mark.0 == word(key(position, state), PASSING)
    }
}

/// What a loop over lies may still take: many rounds if an index moves, which somebody has to do each time, few if none does.
struct Rounds {
    left: u64,
    standing: u64,
    index: Option<u64>,
}

impl Rounds {
    /// One more round, with the index where it is now.
    #[inline(always)]
    fn next(&mut self, index: u64) -> Result<(), Corrupt> {
        let stands = self.index.replace(index) == Some(index);
        self.standing = if stands { self.standing + 1 } else { 0 };
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || self.standing == STANDSTILL { Err(Corrupt) } else { Ok(()) }
    }
}

/// The words that all participants share.
pub(crate) struct Words<M: Memory> {
    pub(crate) tail: M::Word,
    pub(crate) head: M::Word,
    pub(crate) slots: M::Words,
    /// One for each slot, all zero at first.
    pub(crate) marks: M::Words,
    /// A power of two, at least 2.
    pub(crate) capacity: u64,
    /// Words of a slot, its control word included.
    pub(crate) stride: usize,
}

/// A slot and its mark.
#[derive(Clone, Copy)]
struct Slot<'a> {
    control: &'a AtomicU64,
    payload: &'a [AtomicU64],
    mark: &'a AtomicU64,
}

impl Slot<'_> {
    /// Whether it can be claimed, by the quickest look.
    #[inline(always)]
    fn is_claimable(&self, position: u64, state: u64) -> bool {
        if self.control.load(Ordering::Acquire) != word(position, state) {
            return false; // E1, E2
        }
        fence_against_passers(); // E6
        // Relaxed: a quiet mark says nothing that anything else would have to be seen with.
        Mark(self.mark.load(Ordering::Relaxed)).is_quiet(key(position, state))
    }

    /// Ends a claim. False: it may have been passed over meanwhile.
    #[inline(always)]
    fn finish(&self, done: u64, key: u64) -> bool {
        self.control.store(done, Ordering::Release); // E1, E2
        fence_against_passers(); // E6
        // Relaxed: whatever it says, nothing was seen through it.
        Mark(self.mark.load(Ordering::Relaxed)).is_quiet(key)
    }
}

/// The half of E6 that is not the passer's. A process without asymmetric fences pays for a real one, and passes over nobody.
#[inline(always)]
fn fence_against_passers() {
    if has_light_fence() { light_fence() } else { fence(Ordering::SeqCst) }
}

impl<M: Memory> Words<M> {
    /// Makes every slot of zeroed memory FREE for its first position. Nobody else is there yet.
    pub(crate) fn format(&self) {
        for position in 0..self.capacity {
            if let Ok(slot) = self.slot(position) {
                slot.control.store(word(position, FREE), Ordering::Relaxed);
            }
        }
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> Result<Slot<'_>, Corrupt> {
        debug_assert!(self.capacity.is_power_of_two());
        let index = (position & self.capacity.wrapping_sub(1)) as usize;
        let start = index * self.stride;
        let words = self.slots.get(start..start + self.stride).and_then(|slot| slot.split_first());
        let (Some((control, payload)), Some(mark)) = (words, self.marks.get(index)) else { return Err(Corrupt) };
        Ok(Slot { control, payload, mark })
    }

    /// Has the lines of a slot's first and last of so many words fetched, to be written. A locked instruction waits for all stores before
    /// it: a line that comes only when it is written holds up the next claim.
    #[inline(always)]
    fn prepare(&self, position: u64, words: usize) {
        let first = ((position & self.capacity.wrapping_sub(1)) as usize).wrapping_mul(self.stride);
        prefetch_to_write(&self.slots, first);
        prefetch_to_write(&self.slots, first.wrapping_add(words).wrapping_sub(1));
    }

    /// A slot's mark, and a word of it that is not older than that mark.
    fn look(&self, position: u64) -> Result<Look, Corrupt> {
        let Slot { control, mark, .. } = self.slot(position)?;
        let mut before = mark.load(Ordering::Acquire); // E7
        for _ in 0..ROUNDS {
            let control = control.load(Ordering::Acquire); // E1, E2
            fence_against_passers(); // E6
            let after = mark.load(Ordering::Acquire);
            if after == before {
                return Ok(Look { control, mark: Mark(after) });
            }
            before = after;
        }
        Err(Corrupt)
    }

    /// Changes a mark that was seen.
    fn swap(&self, position: u64, old: Mark, new: u64) -> Result<bool, Corrupt> {
        let outcome = self.slot(position)?.mark.compare_exchange(old.0, new, Ordering::AcqRel, Ordering::Relaxed); // E7
        Ok(outcome.is_ok())
    }

    /// Passes over a position whose slot is in the hands of a slow claimer, unless it has just finished.
    #[cold]
    fn pass(&self, position: u64, look: Look, key: u64, out: u64) -> Result<(), Corrupt> {
        let passing = Mark(word(key, PASSING));
        // P1
        if look.mark != passing && !(look.mark.is_quiet(key) && self.swap(position, look.mark, passing.0)?) {
            return Ok(());
        }
        if !heavy_fence() {
            return Ok(()); // E6 does not hold: let others see to it
        }
        let is_unchanged = self.slot(position)?.control.load(Ordering::Acquire) == look.control;
        self.swap(position, passing, word(key, if is_unchanged { out } else { CLEAR }))?;
        Ok(())
    }

    /// Ends a dispute over a slot that is finished.
    #[cold]
    fn settle_dispute(&self, position: u64, look: Look) -> Result<(), Corrupt> {
        self.swap(position, look.mark, word(look.mark.key(), CLEAR))?;
        Ok(())
    }

    /// Moves an index; fails only if it has moved already.
    #[inline(always)]
    fn advance(index: &AtomicU64, from: u64, by: u64) -> bool {
        index.compare_exchange(from, from.wrapping_add(by), Ordering::AcqRel, Ordering::Relaxed).is_ok() // E3
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.now().is_closed()
    }

    /// What tail is like, for a decision that other words, too, are looked at for.
    pub(crate) fn now(&self) -> Now {
        Now::read(&self.tail)
    }

    /// Positions given to producers.
    pub(crate) fn sent(&self) -> u64 {
        self.now().position()
    }

    /// Makes a producer one of the run that is open, or begins one, for which `next` is to choose a
    /// number after the last one's that no producer has; says which. `announce` tells the others,
    /// and whether it is a new one, before it is so. None: there is no number left.
    ///
    /// Nobody else joins meanwhile.
    pub(crate) fn join(
        &self,
        next: impl Fn(u64) -> Option<u64>,
        mut announce: impl FnMut(u64, bool),
    ) -> Result<Option<u64>, Corrupt> {
        for _ in 0..ROUNDS {
            let now = self.now();
            let run = if now.is_closed() { next(now.run()) } else { Some(now.run()) };
            let Some(run) = run else { return Ok(None) };
            announce(run, now.is_closed()); // N1
            let is_joined = if now.is_closed() {
                let begun = now.in_run(run);
                self.tail.compare_exchange(now.0, begun, Ordering::AcqRel, Ordering::Relaxed).is_ok() // N2, E8
            } else {
                self.now().phase() == now.phase()
            };
            if is_joined {
                return Ok(Some(run));
            }
        }
        Err(Corrupt)
    }

    /// Closes the run that is open: no position is given to its producers from now on. Says how
    /// many were; none: no run is open, or another than the one that was to be closed.
    pub(crate) fn close(&self, only: Option<u64>) -> Result<Option<u64>, Corrupt> {
        for _ in 0..ROUNDS {
            let now = self.now();
            if now.is_closed() || only.is_some_and(|run| run != now.run()) {
                return Ok(None);
            }
            if self.tail.compare_exchange(now.0, now.0 | CLOSED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Ok(Some(now.position())); // X1, E3 reaches through it
            }
        }
        Err(Corrupt)
    }

    /// Passes over what is being sent, for a consumer that knows of no producer whom to wait for.
    #[cold]
    pub(crate) fn drain(&self) -> Result<Drain, Corrupt> {
        let mut rounds = self.rounds();
        loop {
            let head = self.head.load(Ordering::Acquire); // E3
            rounds.next(head)?;
            if head >= self.sent() {
                return Ok(Drain::Done);
            }
            let look = self.look(head)?;
            if look.passes_over(head) {
                Self::advance(&self.head, head, 1);
            } else if look.is_settled(head, READY) || look.is_disputed(head, READY) {
                return Ok(Drain::Message);
            } else if look.control == word(head, FREE) && !look.mark.is_out() {
                if has_light_fence() {
                    self.pass(head, look, unpublished(head), UNSENT)?;
                }
                if self.look(head)? == look {
                    return Ok(Drain::Stuck);
                }
            }
        }
    }

    /// Whether a look at one slot is enough to know that there is a message: the cheapest poll, and no proof of the contrary.
    #[inline]
    pub(crate) fn seems_ready(&self) -> bool {
        self.seems(self.head.load(Ordering::Relaxed), READY)
    }

    /// Likewise, that a slot is free.
    #[inline]
    pub(crate) fn seems_free(&self) -> bool {
        self.seems(self.tail.load(Ordering::Relaxed) & POSITION, FREE)
    }

    #[inline]
    fn seems(&self, position: u64, state: u64) -> bool {
        self.slot(position).is_ok_and(|slot| slot.control.load(Ordering::Relaxed) == word(position, state))
    }

    /// Rounds of a loop that only liars can keep going: every honest round is somebody's progress, or passes over a slot.
    fn rounds(&self) -> Rounds {
        Rounds { left: ROUNDS + 4 * self.capacity, standing: 0, index: None }
    }

    /// Positions between the indices: messages, and what is being sent or passed over.
    pub(crate) fn len(&self) -> u64 {
        let head = self.head.load(Ordering::Acquire);
        let tail = self.sent();
        tail.saturating_sub(head).min(self.capacity)
    }

    /// Passes over, for a consumer that may not come soon, positions at which there will be no message any more: up to `most` of them.
    pub(crate) fn settle(&self, most: u64) {
        for _ in 0..self.capacity.min(most) {
            let head = self.head.load(Ordering::Acquire); // E3
            let is_settled = head >= self.sent()
                || !self.look(head).is_ok_and(|look| look.passes_over(head))
                || !Self::advance(&self.head, head, 1);
            if is_settled {
                return;
            }
        }
    }

    /// Whether something is true, and was so without any position being given to a producer meanwhile.
    pub(crate) fn is_unchanged_over(&self, is_true: impl FnOnce() -> bool) -> bool {
        let before = self.sent();
        is_true() && self.sent() == before
    }

    /// Slots out of service until their claimers go on or are repaired.
    pub(crate) fn quarantined(&self) -> u64 {
        (0..self.capacity).filter(|&at| self.look(at).is_ok_and(|look| look.mark.is_out())).count() as u64
    }

    /// Shows the payload of every message that is in the ring, taken or not. What changes meanwhile may be shown or not.
    pub(crate) fn for_each_message(&self, mut show: impl FnMut(&[AtomicU64])) -> Result<(), Corrupt> {
        for at in 0..self.capacity {
            let look = self.look(at)?;
            if look.state() == READY && look.mark.state() != UNSENT {
                show(self.slot(at)?.payload);
                fence(Ordering::Acquire); // who was shown a later user's words sees what the message's receiver did
            }
        }
        Ok(())
    }
}

/// What is left when nobody is there to send any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Nothing, nor will there be anything.
    Done,
    Message,
    /// A message may be on its way, and this process must not pass over it.
    Stuck,
}

/// What came of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// So many messages.
    Done(u64),
    Full,
    Closed,
}

/// What came of an attempt to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pop {
    /// So many messages.
    Done(u64),
    Empty,
    /// Empty, and nothing will be sent in the run that was open.
    Drained,
}

/// One participant's access to the ring.
pub(crate) struct Ring<M: Memory> {
    words: Words<M>,
    /// The producer's own, as it stands in tail.
    run: u64,
    intent: M::Word,
    /// Looks at an unfinished slot before it is quarantined.
    patience: u32,
    ahead: u64,
    /// About so many slots share a line, which need not be asked for each time: that number less 1, a mask.
    share: u64,
    /// A consumer's from the producers, a producer's from the consumers.
    to_tail: PositionPacer,
    to_head: PositionPacer,
}

impl<M: Memory> Ring<M> {
    /// `intent` is this participant's alone, and zero. Of `run` it may be a producer, if it has
    /// joined that.
    pub(crate) fn new(words: Words<M>, run: u64, intent: M::Word, patience: u32) -> Self {
        // In a ring that is hardly longer somebody is at that slot already.
        let ahead = if words.capacity > 4 * AHEAD { AHEAD } else { 0 };
        let share = match words.stride {
            ..=2 => 3,
            3..=4 => 1,
            _ => 0,
        };
        // Neighbours that share no line are not in each other's way, and large ones hardly.
        let keeps = words.stride <= CLOSE && !words.stride.is_multiple_of(8);
        let distance = || if keeps { PositionPacer::keep(words.capacity) } else { PositionPacer::none() };
        let (to_tail, to_head) = (distance(), distance());
        Self { words, run: (run % RUNS) << RUN_SHIFT, intent, patience, ahead, share, to_tail, to_head }
    }

    pub(crate) fn words(&self) -> &Words<M> {
        &self.words
    }

    /// Whether this producer's run is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_over(self.words.tail.load(Ordering::Relaxed))
    }

    /// Whether tail is of another run than this producer's, or closed.
    #[inline(always)]
    fn is_over(&self, tail: u64) -> bool {
        (tail ^ self.run) >> RUN_SHIFT != 0
    }

    /// Sends one message, which `fill` writes, if nothing is in the way. False: nothing was sent, and why is for
    /// [`push_many`](Self::push_many) to find out. `words`: how many of the payload the next ones, too, are likely to need.
    #[inline(always)]
    pub(crate) fn push_at_once(&mut self, words: usize, fill: impl FnOnce(&[AtomicU64])) -> Result<bool, Corrupt> {
        let mut tail = self.words.tail.load(Ordering::Acquire); // E3
        if self.to_head.is_used_up(tail ^ self.run) {
            tail = self.keep_off_head(tail);
        }
        let (slot, position) = (self.words.slot(tail)?, tail ^ self.run);
        if self.is_over(tail) || !slot.is_claimable(position, FREE) {
            return Ok(false);
        }
        if position & self.share == 0 {
            self.words.prepare(position.wrapping_add(self.ahead), words + 1);
        }
        let mut sent = false;
        if self.claim(&self.words.tail, self.run, position, 1) {
            fill(slot.payload); // C2
            sent = self.finish(slot, position, word(position, READY), unpublished(position), UNSENT)?; // C3
            self.intent.store(0, Ordering::Release); // C4, E4
        }
        Ok(sent)
    }

    /// Where tail is after the pause that a look at head may call for.
    #[cold]
    #[inline(never)]
    fn keep_off_head(&mut self, tail: u64) -> u64 {
        let end = self.words.head.load(Ordering::Relaxed).wrapping_add(self.words.capacity);
        (0..self.to_head.came_to(tail & POSITION, end)).for_each(|_| spin_loop());
        self.words.tail.load(Ordering::Acquire) // E3
    }

    /// Likewise, where head is.
    #[cold]
    #[inline(never)]
    fn keep_off_tail(&mut self, head: u64) -> u64 {
        let end = self.words.tail.load(Ordering::Relaxed) & POSITION;
        (0..self.to_tail.came_to(head, end)).for_each(|_| spin_loop());
        self.words.head.load(Ordering::Acquire) // E3
    }

    /// Sends one message, which `fill` writes; it is called again if the slot was passed over meanwhile.
    #[inline]
    #[allow(dead_code, reason = "used by models and fuzzers")]
    pub(crate) fn push(&mut self, mut fill: impl FnMut(&[AtomicU64])) -> Result<Push, Corrupt> {
        if self.push_at_once(0, &mut fill)? { Ok(Push::Done(1)) } else { self.push_many(1, |_, payload| fill(payload)) }
    }

    /// Sends up to `count` messages with one claim, in order.
    #[inline(always)]
    pub(crate) fn push_many(&mut self, count: u64, mut fill: impl FnMut(u64, &[AtomicU64])) -> Result<Push, Corrupt> {
        if count == 0 {
            return Ok(Push::Done(0));
        }
        for _ in 0..ROUNDS {
            let (first, claimed) = match self.claim_free(count)? {
                Ok(claim) => claim,
                Err(refused) => return Ok(refused),
            };
            let (mut sent, mut rest) = (0, intent(first, claimed));
            while sent < claimed {
                let position = first.wrapping_add(sent);
                let slot = self.words.slot(position)?;
                fill(sent, slot.payload); // C2
                if !self.finish(slot, position, word(position, READY), unpublished(position), UNSENT)? {
                    break; // C3
                }
                sent += 1;
                rest = self.shrink(rest); // C4
            }
            // One that was passed over must not be overtaken by those behind it: give them up too.
            for position in (first.wrapping_add(sent)..first.wrapping_add(claimed)).skip(1) {
                rest = self.shrink(rest); // C4
                self.words.give_up(position)?;
            }
            self.intent.store(0, Ordering::Release); // C4, E4
            if sent > 0 {
                return Ok(Push::Done(sent));
            }
        }
        Err(Corrupt)
    }

    /// Receives one message, of which `take` makes something, if nothing is in the way. None: nothing was received, and why is for
    /// [`pop_many`](Self::pop_many) to find out.
    #[inline(always)]
    pub(crate) fn pop_at_once<R>(&mut self, take: impl FnOnce(&[AtomicU64]) -> R) -> Result<Option<R>, Corrupt> {
        let mut head = self.words.head.load(Ordering::Acquire); // E3
        if self.to_tail.is_used_up(head) {
            head = self.keep_off_tail(head);
        }
        let slot = self.words.slot(head)?;
        if !slot.is_claimable(head, READY) {
            return Ok(None);
        }
        let next = head.wrapping_add(self.words.capacity);
        let mut taken = None;
        if self.claim(&self.words.head, 0, head, 1) {
            taken = Some(take(slot.payload)); // C2
            self.finish(slot, head, word(next, FREE), unreleased(next), UNREAD)?; // C3
            self.intent.store(0, Ordering::Release); // C4, E4
        }
        Ok(taken)
    }

    /// Receives one message, which `take` reads.
    #[inline]
    #[allow(dead_code, reason = "used by models and fuzzers")]
    pub(crate) fn pop(&mut self, mut take: impl FnMut(&[AtomicU64])) -> Result<Pop, Corrupt> {
        if self.pop_at_once(&mut take)?.is_some() {
            Ok(Pop::Done(1))
        } else {
            self.pop_many(1, |_, payload| take(payload))
        }
    }

    /// Receives up to `count` messages with one claim, in order.
    #[inline(always)]
    pub(crate) fn pop_many(&mut self, count: u64, take: impl FnMut(u64, &[AtomicU64])) -> Result<Pop, Corrupt> {
        self.pop_before(u64::MAX, count, take)
    }

    /// As [`pop_many`](Self::pop_many), and no message at that position or a later one.
    #[inline(always)]
    pub(crate) fn pop_before(
        &mut self,
        limit: u64,
        count: u64,
        mut take: impl FnMut(u64, &[AtomicU64]),
    ) -> Result<Pop, Corrupt> {
        if count == 0 {
            return Ok(Pop::Done(0));
        }
        let (first, claimed) = match self.claim_ready(limit, count)? {
            Ok(claim) => claim,
            Err(refused) => return Ok(refused),
        };
        let mut rest = intent(first, claimed);
        for index in 0..claimed {
            let position = first.wrapping_add(index);
            let slot = self.words.slot(position)?;
            take(index, slot.payload); // C2
            let next = position.wrapping_add(self.words.capacity);
            self.finish(slot, position, word(next, FREE), unreleased(next), UNREAD)?; // C3
            rest = self.shrink(rest); // C4
        }
        self.intent.store(0, Ordering::Release); // C4, E4
        Ok(Pop::Done(claimed))
    }

    /// Claims up to `count` free positions in a row.
    #[inline(always)]
    fn claim_free(&mut self, count: u64) -> Result<Result<(u64, u64), Push>, Corrupt> {
        let (mut rounds, mut beyond) = (self.words.rounds(), 0);
        loop {
            let tail = self.words.tail.load(Ordering::Acquire); // E3
            rounds.next(tail)?;
            if self.is_over(tail) {
                return Ok(Err(Push::Closed));
            }
            let tail = tail ^ self.run;
            if self.words.slot(tail)?.is_claimable(tail, FREE) || self.make_claimable(tail, FREE)? {
                let row = self.row(tail, FREE, count)?;
                if self.claim(&self.words.tail, self.run, tail, row) {
                    return Ok(Ok((tail, row)));
                }
            } else if !self.pass_free(tail, &mut beyond)? && self.words.tail.load(Ordering::Acquire) == tail | self.run
            {
                return Ok(Err(Push::Full));
            }
        }
    }

    /// A slot whose mark is not quiet may be claimable all the same.
    #[inline]
    fn make_claimable(&self, position: u64, state: u64) -> Result<bool, Corrupt> {
        let control = self.words.slot(position)?.control.load(Ordering::Relaxed);
        Ok(control == word(position, state) && self.make_quiet(position, state)?)
    }

    #[cold]
    fn make_quiet(&self, position: u64, state: u64) -> Result<bool, Corrupt> {
        let look = self.words.look(position)?;
        if look.is_disputed(position, state) {
            self.words.settle_dispute(position, look)?;
        }
        Ok(look.is_settled(position, state))
    }

    /// A producer at `tail` has found its slot in the use of an earlier lap, or tail outdated. If the claimer is away, and a slot
    /// beyond it is free, this position is passed over, and that is said before tail moves (I4). False: the ring is full.
    #[cold]
    fn pass_free(&self, tail: u64, beyond: &mut u64) -> Result<bool, Corrupt> {
        let look = self.words.look(tail)?;
        if look.passes_over(tail) {
            Words::<M>::advance(&self.words.tail, tail | self.run, 1);
        } else if look.mark.is_out() {
            if !self.is_free_beyond(tail, beyond)? {
                return Ok(false);
            }
            self.words.swap(tail, look.mark, look.mark.raised(unreleased(tail)))?;
        } else if look.position() != tail.wrapping_sub(self.words.capacity) {
            spin_loop(); // it has just come into service, tail was outdated, or this is a lie
        } else if look.state() != READY || !has_light_fence() || !self.is_free_beyond(tail, beyond)? {
            return Ok(false);
        } else if self.stays(tail, look)? {
            self.words.pass(tail, look, unreleased(tail), UNREAD)?;
        }
        Ok(true)
    }

    /// Whether a slot is free from `tail` on, before the first that waits for a consumer or is being sent. Where it is, is
    /// remembered: who passes over many positions must not look at all the others each time.
    fn is_free_beyond(&self, tail: u64, beyond: &mut u64) -> Result<bool, Corrupt> {
        if *beyond > tail && self.words.look(*beyond)?.is_settled(*beyond, FREE) {
            return Ok(true);
        }
        let head = self.words.head.load(Ordering::Acquire); // E3
        for position in tail..tail.wrapping_add(self.words.capacity) {
            let found = self.words.look(position)?;
            if found.is_settled(position, FREE) || found.is_disputed(position, FREE) {
                *beyond = position;
                return Ok(true);
            }
            let taken = found.state() == READY && found.position() < head;
            if !(taken || found.mark.is_out() || found.passes_over(position)) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Claims up to `count` messages in a row, before a position.
    #[inline(always)]
    fn claim_ready(&mut self, limit: u64, count: u64) -> Result<Result<(u64, u64), Pop>, Corrupt> {
        let (mut rounds, mut behind) = (self.words.rounds(), 0);
        loop {
            let head = self.words.head.load(Ordering::Acquire); // E3
            rounds.next(head)?;
            if head >= limit {
                return Ok(Err(Pop::Empty));
            }
            if self.words.slot(head)?.is_claimable(head, READY) || self.make_claimable(head, READY)? {
                let row = self.row(head, READY, count.min(limit.wrapping_sub(head)))?;
                if self.claim(&self.words.head, 0, head, row) {
                    return Ok(Ok((head, row)));
                }
                continue;
            }
            let tail = self.words.tail.load(Ordering::Acquire); // E3
            let (end, closed) = (tail & POSITION, tail & CLOSED != 0);
            if end <= head {
                let refused = if closed { Pop::Drained } else { Pop::Empty };
                return Ok(Err(refused));
            }
            let look = self.words.look(head)?;
            if look.passes_over(head) {
                Words::<M>::advance(&self.words.head, head, 1);
            } else if look.mark.is_out() || look.control != word(head, FREE) {
                spin_loop(); // it has just come into service, head was outdated, or this is a lie
            } else if has_light_fence() && (closed || self.is_behind(head, end, &mut behind)?) {
                if self.stays(head, look)? {
                    self.words.pass(head, look, unpublished(head), UNSENT)?;
                }
            } else if self.words.head.load(Ordering::Acquire) == head {
                // Nothing is complete yet: to pass over it would only take the slot from its producer.
                return Ok(Err(Pop::Empty));
            }
        }
    }

    /// Whether a message is complete behind the unfinished one at `head`; it is remembered where.
    #[cold]
    fn is_behind(&self, head: u64, end: u64, behind: &mut u64) -> Result<bool, Corrupt> {
        if *behind > head && self.words.look(*behind)?.is_settled(*behind, READY) {
            return Ok(true);
        }
        for position in head.wrapping_add(1)..end.min(head.wrapping_add(self.words.capacity)) {
            if self.words.look(position)?.is_settled(position, READY) {
                *behind = position;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many slots in a row, up to `count`, are in `state` for their positions. What is so cannot change while the
    /// index stays where it is: only a claim leads out of it.
    #[inline(always)]
    fn row(&self, first: u64, state: u64, count: u64) -> Result<u64, Corrupt> {
        let most = count.min(self.words.capacity).min(BATCH);
        let mut row = 1;
        while row < most {
            let position = first.wrapping_add(row);
            if !self.words.slot(position)?.is_claimable(position, state) {
                break;
            }
            row += 1;
        }
        Ok(row)
    }

    #[inline(always)]
    fn claim(&self, index: &AtomicU64, run: u64, first: u64, count: u64) -> bool {
        // Before the claim. Release, because it may stand in the place of a cleared one (E4).
        self.intent.store(intent(first, count), Ordering::Release); // C1, E3
        let claimed = Words::<M>::advance(index, run | first, count);
        if !claimed {
            // At once: one who is stopped on the way to its next attempt must not keep slots from being repaired.
            self.intent.store(0, Ordering::Release); // E4
        }
        claimed
    }

    /// The first of the positions that our intent names is finished: it names the others only, or none.
    #[inline(always)]
    fn shrink(&self, rest: u64) -> u64 {
        let rest = rest.wrapping_add(1 << COUNT_BITS).wrapping_sub(1); // the next position, and one less
        self.intent.store(rest, Ordering::Release); // E4
        rest
    }

    /// Waits a little for a slow claimer; true if it has not gone on.
    #[cold]
    fn stays(&self, position: u64, look: Look) -> Result<bool, Corrupt> {
        for _ in 0..self.patience {
            if self.words.look(position)? != look {
                return Ok(false);
            }
            spin_loop();
        }
        Ok(true)
    }

    /// Ends our claim of a position. False: it was passed over meanwhile; the slot is back in service.
    #[inline(always)]
    fn finish(&self, slot: Slot<'_>, position: u64, done: u64, key: u64, out: u64) -> Result<bool, Corrupt> {
        if slot.finish(done, key) {
            Ok(true)
        } else {
            self.words.was_passed_over(position, done, key, out).map(|out| !out)
        }
    }
}

impl<M: Memory> Words<M> {
    /// Whether a claim that has just been ended had been passed over; then the slot is put back.
    #[cold]
    fn was_passed_over(&self, position: u64, done: u64, key: u64, out: u64) -> Result<bool, Corrupt> {
        for _ in 0..ROUNDS {
            let look = self.look(position)?;
            if look.mark.is_out() {
                // Of ours nobody else touches the slot (I5). If it has gone on, this is about a later claim.
                let ours = look.mark.state() == out && look.control == done;
                if ours {
                    self.put_back(position, look.mark)?;
                }
                return Ok(ours);
            }
            if look.mark.0 != word(key, PASSING) || self.swap(position, look.mark, word(key, CLEAR))? {
                return Ok(false);
            }
        }
        Err(Corrupt)
    }

    /// The producer that claimed a position, or its repairer, does not publish: the slot is out of service for a moment.
    #[cold]
    fn give_up(&self, position: u64) -> Result<(), Corrupt> {
        let unsent = Mark(word(unpublished(position), UNSENT));
        for _ in 0..ROUNDS {
            let mark = self.look(position)?.mark;
            if mark.is_out() {
                return self.put_back(position, mark);
            }
            if mark.key() > unsent.key() || mark.0 == word(unsent.key(), CLEAR) {
                return Err(Corrupt);
            }
            if self.swap(position, mark, unsent.0)? {
                return self.put_back(position, unsent);
            }
        }
        Err(Corrupt)
    }

    /// Puts a slot back into service: its claimer goes on, or is dead.
    #[cold]
    fn put_back(&self, position: u64, mut mark: Mark) -> Result<(), Corrupt> {
        for _ in 0..ROUNDS {
            if !mark.is_out() || (mark.position() ^ position) & self.capacity.wrapping_sub(1) != 0 {
                return Err(Corrupt);
            }
            let next = mark.position().wrapping_add(self.capacity);
            self.slot(position)?.control.store(word(next, FREE), Ordering::Release); // E2, E7
            if self.swap(position, mark, word(mark.key(), CLEAR))? {
                return Ok(());
            }
            mark = self.look(position)?.mark; // raised
        }
        Err(Corrupt)
    }
}

/// Where repair keeps its books, all zero at first. Only the holder of the repair lock writes them.
pub(crate) struct Ledger<M: Memory> {
    /// Messages lost with those who had claimed them.
    pub(crate) lost: M::Word,
    /// The position over which a loss is being counted, plus 1.
    pub(crate) verdict: M::Word,
    /// The count after it.
    pub(crate) count: M::Word,
}

/// Puts right what the dead left behind. The caller holds the repair lock.
pub(crate) struct Repair<'a, M: Memory> {
    pub(crate) words: &'a Words<M>,
    pub(crate) ledger: &'a Ledger<M>,
    /// Every lane's intent.
    pub(crate) intents: &'a dyn Fn(usize) -> Option<M::Word>,
    /// Whether a lane's owner may still go on. None: there is no time left to find out.
    pub(crate) alive: &'a dyn Fn(usize) -> Option<bool>,
    /// Asked before so many more shared words are looked at. False: there is no time left.
    pub(crate) spend: &'a dyn Fn(usize) -> bool,
}

/// A position that a dead lane's intent names.
struct Claim {
    /// Which of the lanes that are being repaired.
    of: usize,
    position: u64,
    look: Look,
    held: Held,
}

/// Who is at a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    ByNobody,
    ByTheLiving,
    /// There was no time to find out.
    Unknown,
}

/// Lanes between two questions for more time.
const STRETCH: usize = 64;

/// Positions that are repaired together, if they are of more than one lane.
const GROUP: u64 = 4 * BATCH;

impl<M: Memory> Repair<'_, M> {
    /// Finishes what a repairer died over. Comes first.
    pub(crate) fn resume(&self) -> Result<(), Corrupt> {
        let verdict = self.ledger.verdict.load(Ordering::Acquire); // E5
        if let Some(position) = verdict.checked_sub(1) {
            if self.words.slot(position)?.control.load(Ordering::Acquire) != word(position, READY) {
                self.ledger.lost.store(self.ledger.count.load(Ordering::Relaxed), Ordering::Release); // R3
            }
            self.ledger.verdict.store(0, Ordering::Release); // R4, E5
        }
        Ok(())
    }

    /// Repairs what the dead owners of some lanes had claimed; `lose` is shown each message that is lost, again if a repairer
    /// dies over it. Says of which lanes nothing is left: of the others somebody who lives is busy at a slot, or there was no time.
    pub(crate) fn lanes(&self, lanes: &[usize], mut lose: impl FnMut(&[AtomicU64])) -> Vec<bool> {
        let mut whole = vec![true; lanes.len()];
        let mut claims = self.claims(lanes);
        for _ in 0..PATIENT {
            if claims.is_empty() || !(self.spend)(2 * claims.len()) {
                break;
            }
            claims.retain_mut(|claim| self.look(claim).unwrap_or_else(|Corrupt| give_up_on(claim, &mut whole)));
            self.find_holders(&mut claims);
            claims.retain(|claim| {
                if claim.held != Held::ByNobody {
                    return give_up_on(claim, &mut whole);
                }
                // E4: one who lives may just have finished and cleared its intent.
                match self.words.look(claim.position) {
                    Ok(look) if look != claim.look => true,
                    Ok(_) if self.end(claim, &mut lose).is_ok() => false,
                    _ => give_up_on(claim, &mut whole),
                }
            });
        }
        for claim in &claims {
            give_up_on(claim, &mut whole);
        }
        for (&lane, _) in lanes.iter().zip(&whole).filter(|(_, whole)| **whole) {
            if let Some(intent) = (self.intents)(lane) {
                intent.store(0, Ordering::Release); // E4
            }
        }
        whole
    }

    /// How many of these lanes, from the first on, are to be repaired together: one at least.
    pub(crate) fn group(&self, lanes: &[usize]) -> usize {
        let intent = |&lane: &usize| (self.intents)(lane).map_or(0, |intent| intent.load(Ordering::Acquire)); // E4
        let mut positions = 0;
        let fits = |lane: &&usize| {
            positions += range(intent(lane)).1;
            positions <= GROUP
        };
        lanes.iter().take_while(fits).count().max(1)
    }

    /// What the intents of some lanes name, as far as it can have been claimed at all.
    fn claims(&self, lanes: &[usize]) -> Vec<Claim> {
        let tail = self.words.sent(); // E3
        let mut claims = Vec::new();
        for (of, &lane) in lanes.iter().enumerate() {
            let Some(intent) = (self.intents)(lane) else { continue };
            let (first, count) = range(intent.load(Ordering::Acquire)); // E4
            for position in first..first.saturating_add(count).min(tail) {
                let look = Look { control: 0, mark: Mark(0) };
                claims.push(Claim { of, position, look, held: Held::ByNobody });
            }
        }
        let mask = self.words.capacity.wrapping_sub(1);
        claims.sort_unstable_by_key(|claim| claim.position & mask);
        claims
    }

    /// Looks at a position. False: there is nothing to be repaired.
    fn look(&self, claim: &mut Claim) -> Result<bool, Corrupt> {
        let (words, position) = (self.words, claim.position);
        for _ in 0..PATIENT {
            let look = words.look(position)?;
            if look.is_disputed(look.position(), look.state()) {
                // Or its passer, who may be asleep, puts out a slot that is nobody's.
                words.settle_dispute(position, look)?;
                continue;
            }
            (claim.look, claim.held) = (look, Held::ByNobody);
            return Ok(look.mark.is_out()
                || match look.state() {
                    // E3: an index beyond it means that somebody claimed it.
                    FREE => look.position() == position && words.sent() > position,
                    _ => look.position() == position && words.head.load(Ordering::Acquire) > position,
                });
        }
        Err(Corrupt)
    }

    /// Says of claims, which are in the order of their slots, whether anybody alive is there, on whatever lap. All intents are read after
    /// each of the looks, and before the next ones (E4): one reading of the intents does for all.
    fn find_holders(&self, claims: &mut [Claim]) {
        let mask = self.words.capacity.wrapping_sub(1);
        let mut open = claims.len();
        for lane in 0.. {
            let Some(intent) = (self.intents)(lane).filter(|_| open > 0) else { return };
            if lane % STRETCH == 0 && !(self.spend)(STRETCH) {
                let rest = claims.iter_mut().filter(|claim| claim.held == Held::ByNobody);
                return rest.for_each(|claim| claim.held = Held::Unknown);
            }
            let (first, count) = range(intent.load(Ordering::Acquire)); // E4
            let start = claims.partition_point(|claim| claim.position & mask < first & mask);
            let mut verdict = None;
            // From its first slot on, and once around.
            let (before, from) = claims.split_at_mut(start);
            for claim in from.iter_mut().chain(before) {
                if claim.position.wrapping_sub(first) & mask >= count {
                    break;
                }
                if claim.held != Held::ByNobody {
                    continue;
                }
                let held = *verdict.get_or_insert_with(|| match (self.alive)(lane) {
                    Some(true) => Held::ByTheLiving,
                    Some(false) => Held::ByNobody,
                    None => Held::Unknown,
                });
                if held == Held::ByNobody {
                    break;
                }
                claim.held = held;
                open -= 1;
            }
        }
    }

    /// Ends the claim of a dead one in its place.
    fn end(&self, claim: &Claim, lose: &mut impl FnMut(&[AtomicU64])) -> Result<(), Corrupt> {
        let Claim { position, look, .. } = *claim;
        match (look.mark.state(), look.state()) {
            // It had finished and not seen that it was passed over; or nothing was sent.
            (UNREAD, FREE) | (UNSENT, _) => self.words.put_back(position, look.mark),
            (_, FREE) => self.words.give_up(position),
            (_, _) => self.count_loss(look.position(), lose),
        }
    }

    /// Ends a dead consumer's claim in its place, and counts its message, once.
    fn count_loss(&self, position: u64, lose: &mut impl FnMut(&[AtomicU64])) -> Result<(), Corrupt> {
        let lost = self.ledger.lost.load(Ordering::Relaxed).wrapping_add(1);
        self.ledger.count.store(lost, Ordering::Relaxed);
        self.ledger.verdict.store(position.wrapping_add(1), Ordering::Release); // R1, E5
        let Slot { control, payload, .. } = self.words.slot(position)?;
        lose(payload);
        let next = position.wrapping_add(self.words.capacity);
        control.store(word(next, FREE), Ordering::Release); // R2, E2
        self.ledger.lost.store(lost, Ordering::Release); // R3
        self.ledger.verdict.store(0, Ordering::Release); // R4, E5
        fence_against_passers(); // E6
        self.words.was_passed_over(position, word(next, FREE), unreleased(next), UNREAD).map(drop) // R5
    }
}

/// Its lane is not whole; for the next repair. False: not in this one.
fn give_up_on(claim: &Claim, whole: &mut [bool]) -> bool {
    if let Some(whole) = whole.get_mut(claim.of) {
        *whole = false;
    }
    false
}

/// What names so many positions.
#[inline(always)]
fn intent(first: u64, count: u64) -> u64 {
    first.wrapping_add(1) << COUNT_BITS | count
}

/// The positions that an intent names.
fn range(intent: u64) -> (u64, u64) {
    match (intent >> COUNT_BITS).checked_sub(1) {
        Some(first) => (first, intent & COUNT),
        None => (0, 0),
    }
}
