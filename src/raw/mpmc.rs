//! What: a bounded first-in-first-out ring for any number of producers and consumers, of which none waits for
//! another. A participant that is slow in the middle of an operation costs the others one slot until it goes on; one
//! that dies there costs one slot until somebody repairs.
//!
//! Bytes: two indices, each on a line of its own, and slots of one control word and the payload's words.
//!
//! ```text
//!  tail   63: CLOSED · 62..0: positions given to producers, never wraps
//!  head   positions given to consumers (or skipped)
//!  slot   63                    2 1      0
//!        ┌──────────────────────┬────────┐
//!        │ position             │ state  │ payload ...     the slot of position p is slot p mod capacity
//!        └──────────────────────┴────────┘
//!         state: 0 FREE    for the producer at that position
//!                1 READY   holds the message of that position
//!                2 UNREAD  quarantined: a consumer has claimed its message and not finished; this position is passed over
//!                3 UNSENT  quarantined: likewise a producer
//!  intent one word in each participant's lane: position + 1 << 6 | count of the claim it is at, 0 for none
//! ```
//!
//! The ring starts with slot i FREE for position i.
//!
//! Invariants
//! - I1: a position is claimed by one CAS of its index, so by one participant at most; its intent was there before.
//! - I2: only the claimer touches the payload of a claimed slot, quarantined or not, and only it (or the repair of a dead one)
//!   takes the slot out of the claim, by CAS.
//! - I3: the word of a slot only grows: no value comes twice, so a CAS that succeeds has missed nothing.
//! - I4: position p is passed over iff its slot shows a quarantine of p or later, or service of a later lap while the index is
//!   still at p. A quarantine is raised to tail's position before tail is helped past it.
//! - I5: a slot that is FREE for p has no user left of an earlier lap, so a producer never asks for head.
//! - I6: head <= tail. Empty is the answer only if no message is complete; Full only if no slot from tail's on is free, up to the
//!   first that waits for a consumer or is being sent. A slot that comes back from quarantine behind tail serves from
//!   tail's next lap on.
//! - I7: who quarantines a slot has seen something gained by it: a free slot beyond, or a complete message behind. So tail does not
//!   run away from head, and a producer that is disturbed is disturbed by somebody's progress.
//!
//! Edges
//! - E1: `finish` of a push stores READY (Release) · a consumer loads the slot (Acquire): the payload is visible.
//! - E2: `finish` of a pop, or `put_back`, stores FREE (Release) · a producer loads the slot (Acquire): the payload was read.
//! - E3: the intent, then the claim's CAS of an index (Release) · load of the index (Acquire), then of the intents: who knows that a
//!   position is claimed sees whose it may be. All writes to an index are CASes, so the edge reaches through later ones.
//! - E4: `finish`, then the intent cleared (Release) · `claimants` loads it (Acquire), and then the slot again: who sees no
//!   claimant any more sees what it did.
//! - E5: a repairer stores `count`, then `verdict` (Release) · the next one loads `verdict` (Acquire).
//!
//! Crash, by step; "the claim" is exact because of E3, and repair is one CAS on a value that comes once (I3)
//! - (C1) intent stored: nothing claimed; repair clears it.
//! - (C2) index moved: others pass over the position after a short patience. Repair puts a producer's slot back; a consumer's
//!   message is counted as lost, then put back.
//! - (C3) payload written or read: as C2.
//! - (C4) slot published or released, intent still there: done; repair finds nothing and clears the intent.
//! - (R1) repairer: `verdict` names slot and new count, (R2) the slot becomes UNSENT, (R3) the count is stored, (R4) the verdict is
//!   cleared, (R5) the slot is put back. The next repairer finishes R3 if, and only if, R2 was done.
//!
//! Source: Vyukov's bounded queue (per-slot sequence); quarantine, intents and repair are our own.

use crate::raw::{Corrupt, Memory};
use crate::sync::{AtomicU64, Ordering, spin_loop};

const STATE: u64 = 0b11;
const FREE: u64 = 0;
const READY: u64 = 1;
const UNREAD: u64 = 2;
const UNSENT: u64 = 3;

const CLOSED: u64 = 1 << 63;

/// Positions that one claim can take: what fits beside a position in an intent.
pub(crate) const BATCH: u64 = COUNT;
const COUNT_BITS: u32 = 6;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

const ROUNDS: u64 = 1 << 16;

#[inline]
fn word(position: u64, state: u64) -> u64 {
    position << 2 | state
}

/// One reading of a slot's control word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look(u64);

impl Look {
    fn state(self) -> u64 {
        self.0 & STATE
    }

    fn position(self) -> u64 {
        self.0 >> 2
    }

    fn is_quarantined(self) -> bool {
        self.state() >= UNREAD
    }

    /// I4, for the position that an index is at.
    fn passes_over(self, position: u64) -> bool {
        match self.state() {
            FREE | READY => self.position() > position,
            _ => self.position() >= position,
        }
    }
}

/// The words that all participants share.
pub(crate) struct Words<M: Memory> {
    pub(crate) tail: M::Word,
    pub(crate) head: M::Word,
    pub(crate) slots: M::Words,
    /// A power of two, at least 2.
    pub(crate) capacity: u64,
    /// Words of a slot, its control word included.
    pub(crate) stride: usize,
}

impl<M: Memory> Words<M> {
    /// Makes every slot of zeroed memory FREE for its first position. Nobody else is there yet.
    pub(crate) fn format(&self) {
        for position in 0..self.capacity {
            if let Ok((control, _)) = self.slot(position) {
                control.store(word(position, FREE), Ordering::Relaxed);
            }
        }
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> Result<(&AtomicU64, &[AtomicU64]), Corrupt> {
        debug_assert!(self.capacity.is_power_of_two());
        let start = (position & self.capacity.wrapping_sub(1)) as usize * self.stride;
        self.slots.get(start..start + self.stride).and_then(|slot| slot.split_first()).ok_or(Corrupt)
    }

    #[inline(always)]
    fn look(&self, position: u64) -> Result<Look, Corrupt> {
        Ok(Look(self.slot(position)?.0.load(Ordering::Acquire))) // E1, E2
    }

    #[inline(always)]
    fn swap(&self, position: u64, old: Look, new: u64) -> Result<Result<(), Look>, Corrupt> {
        let control = self.slot(position)?.0;
        // E1, E2
        let outcome = control.compare_exchange(old.0, new, Ordering::AcqRel, Ordering::Acquire);
        Ok(outcome.map(drop).map_err(Look))
    }

    /// Moves an index; fails only if it has moved already.
    #[inline(always)]
    fn advance(index: &AtomicU64, from: u64, by: u64) -> bool {
        index.compare_exchange(from, from.wrapping_add(by), Ordering::AcqRel, Ordering::Relaxed).is_ok() // E3
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.tail.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// From now on no position is given to a producer. False: it was closed.
    pub(crate) fn close(&self) -> bool {
        self.tail.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED == 0 // E3 reaches through it
    }

    /// Rounds of a loop that only liars can keep going: every honest round is somebody's progress, or passes over a slot.
    fn rounds(&self) -> u64 {
        ROUNDS + 4 * self.capacity
    }

    /// Positions between the indices: messages, and what is being sent or passed over.
    pub(crate) fn len(&self) -> u64 {
        let head = self.head.load(Ordering::Acquire);
        let tail = self.tail.load(Ordering::Acquire) & !CLOSED;
        tail.saturating_sub(head).min(self.capacity)
    }

    /// Passes over, for a consumer that may not come soon, positions at which there will be no message any more.
    pub(crate) fn settle(&self) {
        for _ in 0..self.capacity {
            let head = self.head.load(Ordering::Acquire); // E3
            let is_settled = head >= self.tail.load(Ordering::Acquire) & !CLOSED // E3
                || !self.look(head).is_ok_and(|look| look.passes_over(head))
                || !Self::advance(&self.head, head, 1);
            if is_settled {
                return;
            }
        }
    }

    /// Whether something is true, and was so without any position being given to a producer meanwhile.
    pub(crate) fn is_unchanged_over(&self, is_true: impl FnOnce() -> bool) -> bool {
        let tail = || self.tail.load(Ordering::Acquire) & !CLOSED; // E3
        let before = tail();
        is_true() && tail() == before
    }

    /// Slots out of service until their claimers go on or are repaired.
    pub(crate) fn quarantined(&self) -> u64 {
        (0..self.capacity).filter(|&at| self.look(at).is_ok_and(Look::is_quarantined)).count() as u64
    }

    /// Shows the payload of every message that is in the ring, taken or not. What changes meanwhile may be shown or not.
    pub(crate) fn for_each_message(&self, mut show: impl FnMut(&[AtomicU64])) -> Result<(), Corrupt> {
        for at in 0..self.capacity {
            if matches!(self.look(at)?.state(), READY | UNREAD) {
                show(self.slot(at)?.1);
            }
        }
        Ok(())
    }
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
    /// Empty, and nothing will be sent any more.
    Drained,
}

/// One participant's access to the ring.
pub(crate) struct Ring<M: Memory> {
    words: Words<M>,
    intent: M::Word,
    /// Looks at an unfinished slot before it is quarantined.
    patience: u32,
}

impl<M: Memory> Ring<M> {
    /// `intent` is this participant's alone, and zero.
    pub(crate) fn new(words: Words<M>, intent: M::Word, patience: u32) -> Self {
        Self { words, intent, patience }
    }

    pub(crate) fn words(&self) -> &Words<M> {
        &self.words
    }

    /// Sends one message, which `fill` writes; it is called again if the slot was taken away meanwhile.
    #[inline]
    pub(crate) fn push(&mut self, mut fill: impl FnMut(&[AtomicU64])) -> Result<Push, Corrupt> {
        self.push_many(1, |_, payload| fill(payload))
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
            let mut sent = 0;
            while sent < claimed {
                let position = first.wrapping_add(sent);
                fill(sent, self.words.slot(position)?.1); // C2
                if !self.finish(position, FREE, word(position, READY))? {
                    break; // C3
                }
                sent += 1;
            }
            // One that was taken away must not be overtaken by those behind it: give them up too.
            for position in (first.wrapping_add(sent)..first.wrapping_add(claimed)).skip(1) {
                self.finish(position, FREE, word(position.wrapping_add(self.words.capacity), FREE))?;
            }
            self.intent.store(0, Ordering::Release); // C4, E4
            if sent > 0 {
                return Ok(Push::Done(sent));
            }
        }
        Err(Corrupt)
    }

    /// Receives one message, which `take` reads.
    #[inline]
    pub(crate) fn pop(&mut self, mut take: impl FnMut(&[AtomicU64])) -> Result<Pop, Corrupt> {
        self.pop_many(1, |_, payload| take(payload))
    }

    /// Receives up to `count` messages with one claim, in order.
    #[inline(always)]
    pub(crate) fn pop_many(&mut self, count: u64, mut take: impl FnMut(u64, &[AtomicU64])) -> Result<Pop, Corrupt> {
        if count == 0 {
            return Ok(Pop::Done(0));
        }
        let (first, claimed) = match self.claim_ready(count)? {
            Ok(claim) => claim,
            Err(refused) => return Ok(refused),
        };
        for index in 0..claimed {
            let position = first.wrapping_add(index);
            take(index, self.words.slot(position)?.1); // C2
            self.finish(position, READY, word(position.wrapping_add(self.words.capacity), FREE))?; // C3
        }
        self.intent.store(0, Ordering::Release); // C4, E4
        Ok(Pop::Done(claimed))
    }

    /// Whether a look at one slot is enough to know that there is a message: the cheapest poll, and no proof of the contrary.
    #[inline]
    pub(crate) fn seems_ready(&self) -> bool {
        let head = self.words.head.load(Ordering::Relaxed);
        self.words.slot(head).is_ok_and(|(control, _)| control.load(Ordering::Relaxed) == word(head, READY))
    }

    /// Claims up to `count` free positions in a row.
    #[inline(always)]
    fn claim_free(&mut self, count: u64) -> Result<Result<(u64, u64), Push>, Corrupt> {
        let mut contended = false;
        for _ in 0..self.words.rounds() {
            let tail = self.words.tail.load(Ordering::Acquire); // E3
            if tail & CLOSED != 0 {
                return Ok(Err(self.refuse(contended, Push::Closed)));
            }
            let look = self.words.look(tail)?;
            if look.0 == word(tail, FREE) {
                let run = self.run(tail, FREE, count)?;
                if self.claim(&self.words.tail, tail, run) {
                    return Ok(Ok((tail, run)));
                }
                contended = true;
            } else if look.passes_over(tail) {
                Words::<M>::advance(&self.words.tail, tail, 1);
            } else if !self.pass_over(tail, look)? {
                return Ok(Err(self.refuse(contended, Push::Full)));
            }
        }
        Err(Corrupt)
    }

    /// A producer at `tail` has found its slot in the use of an earlier lap. If its claimer is away, and a slot beyond it is
    /// free, this position is passed over, and that is said before tail moves (I4). False: the ring is full.
    #[cold]
    fn pass_over(&self, tail: u64, look: Look) -> Result<bool, Corrupt> {
        if !look.is_quarantined() && look.position() != tail.wrapping_sub(self.words.capacity) {
            spin_loop(); // tail was outdated, or this is a lie
            return Ok(true);
        }
        if !self.is_free_beyond(tail)? {
            return Ok(false);
        }
        if look.is_quarantined() {
            let _ = self.words.swap(tail, look, word(tail, look.state()))?;
        } else if self.stays(tail, look)? {
            let _ = self.words.swap(tail, look, word(tail, UNREAD))?;
        }
        Ok(true)
    }

    /// Whether a slot is free from `tail` on, before the first that waits for a consumer or is being sent.
    fn is_free_beyond(&self, tail: u64) -> Result<bool, Corrupt> {
        let head = self.words.head.load(Ordering::Acquire); // E3
        for position in tail..tail.wrapping_add(self.words.capacity) {
            let found = self.words.look(position)?;
            if found.0 == word(position, FREE) {
                return Ok(true);
            }
            let taken = found.state() == READY && found.position() < head;
            if !(taken || found.is_quarantined() || found.passes_over(position)) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Claims up to `count` messages in a row.
    #[inline(always)]
    fn claim_ready(&mut self, count: u64) -> Result<Result<(u64, u64), Pop>, Corrupt> {
        let mut contended = false;
        for _ in 0..self.words.rounds() {
            let head = self.words.head.load(Ordering::Acquire); // E3
            let look = self.words.look(head)?;
            if look.0 == word(head, READY) {
                let run = self.run(head, READY, count)?;
                if self.claim(&self.words.head, head, run) {
                    return Ok(Ok((head, run)));
                }
                contended = true;
                continue;
            }
            let tail = self.words.tail.load(Ordering::Acquire); // E3
            let (end, closed) = (tail & !CLOSED, tail & CLOSED != 0);
            if end <= head {
                let refused = if closed { Pop::Drained } else { Pop::Empty };
                return Ok(Err(self.refuse(contended, refused)));
            }
            if look.passes_over(head) {
                Words::<M>::advance(&self.words.head, head, 1);
            } else if look.0 != word(head, FREE) {
                spin_loop(); // head was outdated, or this is a lie
            } else if closed || self.is_behind(head, end)? {
                if self.stays(head, look)? {
                    let _ = self.words.swap(head, look, word(head, UNSENT))?;
                }
            } else if self.words.head.load(Ordering::Acquire) == head {
                // Nothing is complete yet: a quarantine would only take the slot from its producer.
                return Ok(Err(self.refuse(contended, Pop::Empty)));
            }
        }
        Err(Corrupt)
    }

    /// Whether a message is complete behind the unfinished one at `head`.
    #[cold]
    fn is_behind(&self, head: u64, end: u64) -> Result<bool, Corrupt> {
        for position in head.wrapping_add(1)..end.min(head.wrapping_add(self.words.capacity)) {
            if self.words.look(position)?.0 == word(position, READY) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many slots in a row, up to `count`, are in `state` for their positions. What is so cannot change while the
    /// index stays where it is: only a claim leads out of it.
    #[inline(always)]
    fn run(&self, first: u64, state: u64, count: u64) -> Result<u64, Corrupt> {
        let most = count.min(self.words.capacity).min(BATCH);
        let mut run = 1;
        while run < most {
            let position = first.wrapping_add(run);
            if self.words.look(position)?.0 != word(position, state) {
                break;
            }
            run += 1;
        }
        Ok(run)
    }

    #[inline(always)]
    fn claim(&self, index: &AtomicU64, first: u64, count: u64) -> bool {
        // Before the claim. Release, because it may stand in the place of a cleared one (E4).
        self.intent.store(first.wrapping_add(1) << COUNT_BITS | count, Ordering::Release); // C1, E3
        Words::<M>::advance(index, first, count)
    }

    /// Takes back the intent of a claim that failed, on the way out: it would keep a slot from being repaired.
    #[inline]
    fn refuse<R>(&self, contended: bool, refused: R) -> R {
        if contended {
            self.intent.store(0, Ordering::Release); // E4
        }
        refused
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
    fn finish(&self, position: u64, state: u64, done: u64) -> Result<bool, Corrupt> {
        match self.words.swap(position, Look(word(position, state)), done)? {
            Ok(()) => Ok(true),
            Err(found) => {
                let quarantine = if state == READY { UNREAD } else { UNSENT };
                self.words.put_back(position, found, quarantine).map(|()| false)
            }
        }
    }
}

impl<M: Memory> Words<M> {
    /// Ends a quarantine: its claimer goes on, or is dead.
    #[cold]
    fn put_back(&self, position: u64, mut found: Look, state: u64) -> Result<(), Corrupt> {
        for _ in 0..ROUNDS {
            if found.state() != state || (found.position() ^ position) & self.capacity.wrapping_sub(1) != 0 {
                return Err(Corrupt);
            }
            match self.swap(position, found, word(found.position().wrapping_add(self.capacity), FREE))? {
                Ok(()) => return Ok(()),
                Err(raised) => found = raised,
            }
        }
        Err(Corrupt)
    }
}

/// Where repair keeps its books, all zero at first. Only the holder of the repair lock writes them.
pub(crate) struct Ledger<M: Memory> {
    /// Messages lost with those who had claimed them.
    pub(crate) lost: M::Word,
    /// The slot over which a loss is being counted, plus 1.
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
    /// Whether a lane's owner may still go on.
    pub(crate) alive: &'a dyn Fn(usize) -> bool,
}

impl<M: Memory> Repair<'_, M> {
    /// Finishes what a repairer died over. Comes first; `lose` as for [`lane`](Self::lane).
    pub(crate) fn resume(&self, mut lose: impl FnMut(&[AtomicU64])) -> Result<(), Corrupt> {
        let verdict = self.ledger.verdict.load(Ordering::Acquire); // E5
        if let Some(slot) = verdict.checked_sub(1) {
            if slot < self.words.capacity && self.words.look(slot)?.state() == UNSENT {
                lose(self.words.slot(slot)?.1);
                self.ledger.lost.store(self.ledger.count.load(Ordering::Relaxed), Ordering::Release); // R3
            }
            self.ledger.verdict.store(0, Ordering::Release); // R4, E5
        }
        Ok(())
    }

    /// Repairs what the dead owner of a lane had claimed; `lose` is shown each message that is lost, again if a repairer
    /// dies over it. False: somebody who lives is busy at one of its slots; try again later.
    pub(crate) fn lane(&self, lane: usize, mut lose: impl FnMut(&[AtomicU64])) -> Result<bool, Corrupt> {
        let Some(intent) = (self.intents)(lane) else { return Ok(true) };
        let (first, count) = range(intent.load(Ordering::Acquire)); // E4
        let mut whole = true;
        for position in first..first.saturating_add(count) {
            whole &= self.position(position, &mut lose)?;
        }
        if whole {
            intent.store(0, Ordering::Release); // E4
        }
        Ok(whole)
    }

    fn position(&self, position: u64, lose: &mut impl FnMut(&[AtomicU64])) -> Result<bool, Corrupt> {
        let words = self.words;
        for _ in 0..ROUNDS {
            let look = words.look(position)?;
            let claimed = match look.state() {
                // E3: an index beyond it means that somebody claimed it.
                FREE => look.position() == position && words.tail.load(Ordering::Acquire) & !CLOSED > position,
                READY => look.position() == position && words.head.load(Ordering::Acquire) > position,
                _ => true,
            };
            if !claimed {
                return Ok(true);
            }
            if self.has_live_claimant(position)? {
                return Ok(false);
            }
            // E4: one who lives may just have finished and cleared its intent.
            if words.look(position)? != look {
                continue;
            }
            match look.state() {
                FREE => {
                    if words.swap(position, look, word(position.wrapping_add(words.capacity), FREE))?.is_ok() {
                        return Ok(true);
                    }
                }
                UNSENT => return words.put_back(position, look, UNSENT).map(|()| true),
                _ => self.count_loss(position, look, lose)?,
            }
        }
        Err(Corrupt)
    }

    /// Makes a dead consumer's message a dead producer's claim, and counts it, once.
    fn count_loss(&self, position: u64, look: Look, lose: &mut impl FnMut(&[AtomicU64])) -> Result<(), Corrupt> {
        let lost = self.ledger.lost.load(Ordering::Relaxed).wrapping_add(1);
        self.ledger.count.store(lost, Ordering::Relaxed);
        self.ledger.verdict.store((position & self.words.capacity.wrapping_sub(1)) + 1, Ordering::Release); // R1, E5
        if self.words.swap(position, look, word(look.position(), UNSENT))?.is_ok() {
            lose(self.words.slot(position)?.1); // R2
            self.ledger.lost.store(lost, Ordering::Release); // R3
        }
        self.ledger.verdict.store(0, Ordering::Release); // R4, E5
        Ok(())
    }

    /// Whether anybody alive is at this slot, on whatever lap.
    fn has_live_claimant(&self, position: u64) -> Result<bool, Corrupt> {
        for lane in 0.. {
            let Some(intent) = (self.intents)(lane) else { break };
            let (first, count) = range(intent.load(Ordering::Acquire)); // E4
            let behind = position.wrapping_sub(first) & self.words.capacity.wrapping_sub(1);
            if behind < count && (self.alive)(lane) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The positions that an intent names.
fn range(intent: u64) -> (u64, u64) {
    match (intent >> COUNT_BITS).checked_sub(1) {
        Some(first) => (first, intent & COUNT),
        None => (0, 0),
    }
}
