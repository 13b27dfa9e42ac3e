//! What: requests and replies between callers and responders. Each caller has a cell, which holds
//! one request at a time, and for each responder a buffer that can hold its reply. Any responder
//! takes the request and writes the reply into the buffer that the caller chose.
//!
//! Bytes: for each caller a cell, and as many buffers as there can be responders; after all of them
//! a bit for each caller that may have a request.
//!
//! ```text
//!          0        1        2                           63      19 18    11 10       3 2     0
//!  cell   │ claim  │ length │ request ...          claim │ id      │ buffer │ responder │ state │
//!
//!          0        1        2        3           4              63          8 7              0
//!  buffer │ answer │ event  │ length │ abandoned │ reply  answer │ id         │ outcome         │
//! ```
//!
//! ```text
//!                  ┌──────────────── give up ◄───────────────┐
//!                  ▼                 │                       │
//!  Free, Died, ─ publish ─► Pending ─┴─ take ─► Taken ───────┴─ begin_reply ─► Replying
//!  or Replying and answered                       │ its responder died            │
//!                                                 └─────────► Died ◄──────────────┘
//! ```
//!
//! The event is the layer's above. `abandoned` is the claim word of the request whose responder may
//! still write into the buffer, or 0.
//!
//! Invariants
//! - I1: a request has an id that no other request of the cell has: they come again after 2^45. So
//!   a CAS of the claim word succeeds only for the request that it is about.
//! - I2: only the caller leaves Free, Died, and Replying once it is answered. Only the responder
//!   that the claim word names makes Taken Replying. Only the caller makes Pending, Taken or
//!   Replying Free. Repair makes Taken, and Replying without an answer, Died.
//! - I3: a buffer has one writer: the responder that the claim word names, while that is Replying
//!   and not answered, or the one that `abandoned` names. The caller chooses no buffer that is
//!   abandoned, until its responder has answered or is dead. A responder writes one reply at a
//!   time, so with as many buffers as responders there is one that a live responder can use.
//! - I4: a responder uses a request that it has copied only if the claim word was still its own
//!   after that. So it is whole.
//! - I5: the bits are a hint. That of a request that is published while a responder clears it may
//!   be lost. A responder looks at all claim words before it sleeps, and once in a while.
//!
//! Edges
//! - E1: `publish`: request, then claim Pending, Release · `take`: CAS, Acquire. Also: the caller
//!   has read the last reply before another one is written.
//! - E2: `give_up`: CAS, then fence(Release), before the next request is written · `is_current`:
//!   request copied, then fence(Acquire), load claim, Relaxed. A responder that copied a part of a
//!   later request sees that its own was given up.
//! - E3: `finish`: reply, then answer, Release · `answer`, `find_buffer`: load, Acquire. The reply
//!   is there, and nobody writes into that buffer any more.
//! - E4: repair: CAS to Died, or `abandoned` cleared, Release · `state`, `find_buffer`: load,
//!   Acquire. What the dead responder wrote into the buffer comes before what the next one writes.
//! - E5: `give_up`: `abandoned` stored, then CAS to Free, Release · `settle`: load or CAS of the
//!   claim word, Acquire, then load `abandoned`. Either `settle` makes the request Died, or it sees
//!   what the caller has abandoned.
//!
//! Crash
//! - caller, before it stores Pending: there is no request. After it: the request is executed, and
//!   nobody reads the reply. A newcomer in its place, a responder that joins, or repair withdraws
//!   it (`reset`).
//! - caller that gives up a request in state Replying, after it stored `abandoned`: the newcomer
//!   stores the same again.
//! - responder, before it takes a request: another one takes it. After it, until it has answered:
//!   the caller, a newcomer in the responder's place, or repair makes it Died (`settle`). Nobody
//!   executes it again. After it has answered: the caller gets the reply.
//! - a process that settles or resets: the next one does the rest.
//!
//! Source: our own. The claim by a compare-and-swap is Vyukov's. The check after a copy is that of
//! a seqlock (Boehm, MSPC 2012).

use std::ops::Range;

use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::{Corrupt, Memory};

/// The words of a cell before the request.
pub(crate) mod cell {
    pub(crate) const CLAIM: usize = 0;
    pub(crate) const LENGTH: usize = 1;
    pub(crate) const REQUEST: usize = 2;
}

/// The words of a buffer before the reply.
pub(crate) mod buffer {
    pub(crate) const ANSWER: usize = 0;
    /// A 32-bit futex word. Never accessed as 64 bits.
    pub(crate) const EVENT: usize = 1;
    pub(crate) const LENGTH: usize = 2;
    pub(crate) const ABANDONED: usize = 3;
    pub(crate) const REPLY: usize = 4;
}

/// The most responders: the claim word has eight bits for one, and for a buffer.
pub(crate) const MAX_RESPONDERS: usize = 1 << 8;

const FREE: u64 = 0;
const PENDING: u64 = 1;
const TAKEN: u64 = 2;
const REPLYING: u64 = 3;
const DIED: u64 = 4;

const RESPONDER_SHIFT: u32 = 3;
const BUFFER_SHIFT: u32 = 11;
const ID_SHIFT: u32 = 19;
const ID_BITS: u32 = u64::BITS - ID_SHIFT;

/// The bits of a word.
const BITS: usize = u64::BITS as usize;

/// A claim word. It may be invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim(u64);

impl Claim {
    fn new(state: u64, id: u64, buffer: usize, responder: usize) -> Self {
        Self(id << ID_SHIFT | (buffer as u64) << BUFFER_SHIFT | (responder as u64) << RESPONDER_SHIFT | state)
    }

    fn with_state(self, state: u64) -> Self {
        Self(self.0 & !0b111 | state)
    }

    fn taken_by(self, responder: usize) -> Self {
        Self::new(TAKEN, self.id(), self.buffer(), responder)
    }

    fn state(self) -> u64 {
        self.0 & 0b111
    }

    pub(crate) fn id(self) -> u64 {
        self.0 >> ID_SHIFT
    }

    pub(crate) fn buffer(self) -> usize {
        (self.0 >> BUFFER_SHIFT) as usize % MAX_RESPONDERS
    }

    pub(crate) fn responder(self) -> usize {
        (self.0 >> RESPONDER_SHIFT) as usize % MAX_RESPONDERS
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The reply is in the buffer.
    Replied,
    /// The responder gave the request up.
    Dropped,
    /// The reply was longer than a buffer.
    TooLarge,
}

impl Outcome {
    fn code(self) -> u64 {
        match self {
            Self::Replied => 1,
            Self::Dropped => 2,
            Self::TooLarge => 3,
        }
    }

    fn parse(code: u64) -> Result<Self, Corrupt> {
        [Self::Replied, Self::Dropped, Self::TooLarge].into_iter().find(|outcome| outcome.code() == code).ok_or(Corrupt)
    }
}

fn answer_word(id: u64, outcome: Outcome) -> u64 {
    id << 8 | outcome.code()
}

/// The id of the request that an answer is to. As many bits as a claim word has for it.
fn answered_id(answer: u64) -> u64 {
    answer << (BITS as u32 - ID_BITS - 8) >> (BITS as u32 - ID_BITS)
}

/// The cells and buffers of all callers.
pub(crate) struct CallTable<M: Memory> {
    pub(crate) cells: M::Words,
    /// Words of a cell.
    pub(crate) cell_stride: usize,
    pub(crate) buffers: M::Words,
    /// Words of a buffer.
    pub(crate) buffer_stride: usize,
    /// A bit for each caller.
    pub(crate) active: M::Words,
    pub(crate) callers: usize,
    /// Also the buffers of a caller.
    pub(crate) responders: usize,
}

impl<M: Memory> CallTable<M> {
    #[inline]
    fn cell_word(&self, caller: usize, word: usize) -> Option<&AtomicU64> {
        self.cells.get(caller.checked_mul(self.cell_stride)?.checked_add(word)?)
    }

    #[inline]
    fn claim(&self, caller: usize) -> Option<&AtomicU64> {
        self.cell_word(caller, cell::CLAIM)
    }

    fn buffer_start(&self, caller: usize, buffer: usize) -> usize {
        debug_assert!(caller < self.callers && buffer < self.responders);
        (caller * self.responders + buffer) * self.buffer_stride
    }

    #[inline]
    fn buffer_word(&self, caller: usize, buffer: usize, word: usize) -> Option<&AtomicU64> {
        if caller >= self.callers || buffer >= self.responders {
            return None;
        }
        self.buffers.get(self.buffer_start(caller, buffer) + word)
    }

    /// The length and the payload of a request.
    #[inline]
    pub(crate) fn request(&self, caller: usize) -> &[AtomicU64] {
        let start = caller.saturating_mul(self.cell_stride);
        self.cells.get(start + cell::LENGTH..start.saturating_add(self.cell_stride)).unwrap_or_default()
    }

    /// The words of a reply, without its length.
    #[inline]
    pub(crate) fn reply(&self, caller: usize, buffer: usize) -> &[AtomicU64] {
        if caller >= self.callers || buffer >= self.responders {
            return Default::default();
        }
        let start = self.buffer_start(caller, buffer);
        self.buffers.get(start + buffer::REPLY..start + self.buffer_stride).unwrap_or_default()
    }

    /// The length of a reply of bytes.
    #[inline]
    pub(crate) fn reply_length(&self, caller: usize, buffer: usize) -> Option<&AtomicU64> {
        self.buffer_word(caller, buffer, buffer::LENGTH)
    }

    /// The claim word of a caller, for a look at it.
    pub(crate) fn load_claim(&self, caller: usize) -> Claim {
        Claim(self.claim(caller).map_or(0, |claim| claim.load(Ordering::Acquire))) // E4
    }

    fn is_answered(&self, caller: usize, claim: Claim) -> bool {
        // E3
        let answer =
            self.buffer_word(caller, claim.buffer(), buffer::ANSWER).map(|answer| answer.load(Ordering::Acquire));
        answer.is_some_and(|answer| answered_id(answer) == claim.id())
    }

    /// Whether a caller has a request that no responder has taken.
    pub(crate) fn is_pending(&self, caller: usize) -> bool {
        self.load_claim(caller).state() == PENDING
    }

    /// Which responder has a request of this caller.
    pub(crate) fn responder_of(&self, caller: usize) -> Option<usize> {
        let claim = self.load_claim(caller);
        let is_held = match claim.state() {
            TAKEN => true,
            REPLYING => !self.is_answered(caller, claim),
            _ => false,
        };
        is_held.then(|| claim.responder())
    }

    /// How many requests a caller's place has had.
    pub(crate) fn requests(&self, caller: usize) -> u64 {
        self.load_claim(caller).id()
    }

    // ---- responders ----------------------------------------------------------------------------

    /// The next caller from `from` on, before `end`, whose bit is set.
    #[inline]
    pub(crate) fn next_active(&self, from: usize, end: usize) -> Option<usize> {
        let mut at = from;
        while at < end {
            // Relaxed: a hint (I5).
            let bits = self.active.get(at / BITS)?.load(Ordering::Relaxed) >> (at % BITS);
            if bits != 0 {
                return Some(at + bits.trailing_zeros() as usize).filter(|&found| found < end);
            }
            at = (at / BITS + 1) * BITS;
        }
        None
    }

    /// Sets the bit of a caller, unless it is set.
    #[inline]
    pub(crate) fn set_active(&self, caller: usize) {
        let Some(word) = self.active.get(caller / BITS) else { return };
        let bit = 1 << (caller % BITS);
        // Relaxed: a hint (I5).
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed); // a hint (I5)
        }
    }

    /// Clears the bits of those that have no request now.
    pub(crate) fn clear_idle(&self) {
        for (index, word) in self.active.iter().enumerate() {
            let pending_of = |bits: u64| {
                let is_pending = |bit: &usize| bits >> bit & 1 != 0 && self.is_pending(index * BITS + bit);
                (0..BITS).filter(is_pending).fold(0, |pending, bit| pending | 1 << bit)
            };
            let bits = word.load(Ordering::Relaxed); // a hint (I5)
            let idle = bits & !pending_of(bits);
            if idle == 0 {
                continue;
            }
            word.fetch_and(!idle, Ordering::Relaxed); // a hint (I5)
            // Those that have published one meanwhile may have found their bits set. Without a
            // fence on both sides one may still be missed, until its store is visible.
            let again = pending_of(idle);
            if again != 0 {
                word.fetch_or(again, Ordering::Relaxed); // a hint (I5)
            }
        }
    }

    /// Takes the request of a caller, if there is one, for a responder.
    #[inline]
    pub(crate) fn take(&self, caller: usize, responder: usize) -> Option<Taken> {
        let claim = self.claim(caller)?;
        let found = Claim(claim.load(Ordering::Relaxed)); // the CAS decides
        if found.state() != PENDING || found.buffer() >= self.responders {
            return None;
        }
        let taken = found.taken_by(responder);
        // E1. Relaxed on failure: the caller has given up, or another responder was faster.
        claim.compare_exchange(found.0, taken.0, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(Taken { caller, claim: taken })
    }

    /// Whether a request is still this responder's, after it has copied it (I4).
    #[inline]
    pub(crate) fn is_current(&self, taken: &Taken) -> bool {
        fence(Ordering::Acquire); // E2
        self.claim(taken.caller).is_some_and(|claim| claim.load(Ordering::Relaxed) == taken.claim.0) // E2
    }

    /// Begins to answer. Returns false if the caller has given up.
    #[inline]
    pub(crate) fn begin_reply(&self, taken: &Taken) -> bool {
        let Some(claim) = self.claim(taken.caller) else { return false };
        let replying = taken.claim.with_state(REPLYING);
        // Relaxed: what the caller did with the buffer came before E1, and the answer publishes the
        // rest.
        claim.compare_exchange(taken.claim.0, replying.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Answers, after [`begin_reply`](Self::begin_reply) and after the reply was written.
    #[inline]
    pub(crate) fn finish(&self, taken: &Taken, outcome: Outcome) {
        if let Some(answer) = self.buffer_word(taken.caller, taken.buffer(), buffer::ANSWER) {
            answer.store(answer_word(taken.claim.id(), outcome), Ordering::Release); // E3
        }
    }

    // ---- repair --------------------------------------------------------------------------------

    /// Marks the request of a caller as that of a dead responder, if it is. The caller of this
    /// knows that the responder is dead. Returns the buffer at which to wake the caller.
    pub(crate) fn settle(&self, caller: usize, responder: usize) -> Option<usize> {
        let claim = self.claim(caller)?;
        let found = Claim(claim.load(Ordering::Acquire)); // E5
        let is_held = match found.state() {
            TAKEN => true,
            REPLYING => !self.is_answered(caller, found),
            _ => false,
        };
        let is_settled = is_held && found.responder() == responder && {
            let died = found.with_state(DIED);
            // E4. E5: Acquire on failure, since the caller has given up.
            claim.compare_exchange(found.0, died.0, Ordering::Release, Ordering::Acquire).is_ok()
        };
        for buffer in 0..self.responders {
            let Some(abandoned) = self.buffer_word(caller, buffer, buffer::ABANDONED) else { continue };
            let found = Claim(abandoned.load(Ordering::Relaxed)); // E5
            if found.0 != 0 && found.responder() == responder {
                // E4. Relaxed on failure: the caller was faster.
                let _ = abandoned.compare_exchange(found.0, 0, Ordering::Release, Ordering::Relaxed);
            }
        }
        Some(found.buffer()).filter(|&buffer| is_settled && buffer < self.responders)
    }

    /// Withdraws the request of a caller that is gone. The caller of this holds its place.
    pub(crate) fn reset(&self, caller: usize) {
        CallerCell::attach(self, caller).give_up(self);
    }
}

/// A request that a responder has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) caller: usize,
    claim: Claim,
}

impl Taken {
    #[inline]
    pub(crate) fn buffer(&self) -> usize {
        self.claim.buffer()
    }
}

/// What became of a request, as its caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    /// No responder has taken it.
    Pending,
    /// This responder has it.
    Taken(usize),
    /// The responder that had it died.
    Died,
}

/// What a caller that gives up finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// It was not taken, and will not be executed.
    NotTaken,
    /// A responder has it, and may have executed it.
    Taken,
    /// It was answered in the last moment.
    Answered,
    /// The responder that had it died.
    Died,
}

/// The cell of a caller, as it sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallerCell {
    caller: usize,
    /// Of the last request, as published.
    pending: Claim,
    /// Whether the buffer may be that of an abandoned request.
    must_choose: bool,
}

impl CallerCell {
    /// Goes on where the last caller in this place stopped.
    pub(crate) fn attach<M: Memory>(table: &CallTable<M>, caller: usize) -> Self {
        let found = table.load_claim(caller);
        let pending = Claim::new(PENDING, found.id(), found.buffer() % table.responders.max(1), 0);
        Self { caller, pending, must_choose: true }
    }

    #[inline]
    pub(crate) fn buffer(&self) -> usize {
        self.pending.buffer()
    }

    /// Whether the next reply has a buffer. Otherwise [`find_buffer`](Self::find_buffer) looks for
    /// one.
    #[inline]
    pub(crate) fn has_buffer(&self) -> bool {
        !self.must_choose
    }

    /// Chooses a buffer for the next reply. Returns false if each is one of an abandoned request
    /// whose responder is neither done nor dead.
    #[cold]
    pub(crate) fn find_buffer<M: Memory>(
        &mut self,
        table: &CallTable<M>,
        mut is_gone: impl FnMut(usize) -> bool,
    ) -> bool {
        for buffer in 0..table.responders {
            let Some(abandoned) = table.buffer_word(self.caller, buffer, buffer::ABANDONED) else { continue };
            let found = Claim(abandoned.load(Ordering::Acquire)); // E4
            let is_over = |found| table.is_answered(self.caller, found); // E3
            // One that names another buffer is nothing that a caller stores.
            if found.0 != 0 && found.buffer() == buffer && !is_over(found) && !is_gone(found.responder()) {
                continue;
            }
            if found.0 != 0 {
                // Relaxed: for this caller and its successors, and published by E1.
                abandoned.store(0, Ordering::Relaxed);
            }
            self.pending = Claim::new(PENDING, self.pending.id(), buffer, 0);
            self.must_choose = false;
            return true;
        }
        false
    }

    /// Publishes a request, which `fill` writes, its length and its payload, unless it is in the
    /// cell already. There is none of this caller, and it has a buffer.
    #[inline]
    pub(crate) fn publish<M: Memory>(&mut self, table: &CallTable<M>, fill: impl FnOnce(&[AtomicU64])) {
        debug_assert!(!self.must_choose);
        // The id has no bits beyond its own.
        self.pending = Claim(self.pending.0.wrapping_add(1 << ID_SHIFT));
        fill(table.request(self.caller));
        if let Some(claim) = table.claim(self.caller) {
            claim.store(self.pending.0, Ordering::Release); // E1
        }
    }

    /// Whether there is an answer: a cheap check.
    #[inline]
    pub(crate) fn probe<M: Memory>(&self, table: &CallTable<M>) -> bool {
        table.is_answered(self.caller, self.pending)
    }

    /// The answer to the last request, if there is one.
    #[inline]
    pub(crate) fn answer<M: Memory>(&self, table: &CallTable<M>) -> Result<Option<Outcome>, Corrupt> {
        let answer = table.buffer_word(self.caller, self.buffer(), buffer::ANSWER).ok_or(Corrupt)?;
        let found = answer.load(Ordering::Acquire); // E3
        if answered_id(found) != self.pending.id() {
            return Ok(None);
        }
        Outcome::parse(found & 0xff).map(Some)
    }

    /// What became of the last request, which is not answered.
    pub(crate) fn state<M: Memory>(&self, table: &CallTable<M>) -> Result<CallState, Corrupt> {
        let claim = table.load_claim(self.caller);
        if claim.id() != self.pending.id() || claim.buffer() != self.buffer() || claim.responder() >= table.responders {
            return Err(Corrupt);
        }
        match claim.state() {
            PENDING => Ok(CallState::Pending),
            TAKEN | REPLYING => Ok(CallState::Taken(claim.responder())),
            DIED => Ok(CallState::Died),
            _ => Err(Corrupt),
        }
    }

    /// Gives the last request up.
    pub(crate) fn give_up<M: Memory>(&mut self, table: &CallTable<M>) -> GivenUp {
        let Some(claim) = table.claim(self.caller) else { return GivenUp::NotTaken };
        let free = self.pending.with_state(FREE);
        let mut found = Claim(claim.load(Ordering::Acquire)); // E4
        // Each failure is a change of the state, and there are three.
        for _ in 0..4 {
            let abandoned = table.buffer_word(self.caller, found.buffer(), buffer::ABANDONED);
            let abandoned = abandoned.filter(|_| found.state() == REPLYING);
            let given_up = match found.state() {
                PENDING => GivenUp::NotTaken,
                REPLYING if table.is_answered(self.caller, found) => return GivenUp::Answered, // E3
                TAKEN | REPLYING => GivenUp::Taken,
                DIED => return GivenUp::Died,
                _ => return GivenUp::NotTaken,
            };
            if let Some(abandoned) = abandoned {
                // Relaxed: published by the CAS, E5.
                abandoned.store(found.0, Ordering::Relaxed);
                self.must_choose = true;
            }
            // E5. Acquire on failure: as the load above.
            match claim.compare_exchange(found.0, free.0, Ordering::Release, Ordering::Acquire) {
                Ok(_) => {
                    fence(Ordering::Release); // E2
                    return given_up;
                }
                Err(now) => {
                    found = Claim(now);
                    if let Some(abandoned) = abandoned {
                        abandoned.store(0, Ordering::Relaxed); // it was settled
                    }
                }
            }
        }
        // A peer changes it without end. What it writes there is not ours to understand.
        claim.store(free.0, Ordering::Release);
        self.must_choose = true;
        GivenUp::Taken
    }
}

/// The order in which a responder looks at the callers: from the one after the last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rotation {
    next: usize,
}

impl Rotation {
    /// Takes the next request of those whose bits are set.
    #[inline]
    pub(crate) fn take_active<M: Memory>(&mut self, table: &CallTable<M>, responder: usize) -> Option<Taken> {
        let start = self.next;
        self.take_active_in(table, responder, start..table.callers)
            .or_else(|| self.take_active_in(table, responder, 0..start))
    }

    #[inline]
    fn take_active_in<M: Memory>(
        &mut self,
        table: &CallTable<M>,
        responder: usize,
        range: Range<usize>,
    ) -> Option<Taken> {
        let mut at = range.start;
        while let Some(caller) = table.next_active(at, range.end) {
            if let Some(taken) = table.take(caller, responder) {
                self.next = caller + 1;
                return Some(taken);
            }
            at = caller + 1;
        }
        None
    }

    /// Takes the next request of the first `callers` callers, whatever the bits say.
    pub(crate) fn take_any<M: Memory>(
        &mut self,
        table: &CallTable<M>,
        responder: usize,
        callers: usize,
    ) -> Option<Taken> {
        let callers = callers.min(table.callers);
        let start = self.next.min(callers);
        let taken = (start..callers).chain(0..start).find_map(|caller| table.take(caller, responder))?;
        self.next = taken.caller + 1;
        Some(taken)
    }
}
