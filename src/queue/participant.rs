//! A queue as one of its participants lives it: a lane of its own, waiting for those of the other part, noticing who died
//! and putting right what they left behind, leaving. What moves through the ring is not this file's business.
//!
//! Crash, by step
//! - join: as in liveness.rs; J3 makes the lane PRESENT, J4 is (J4a) what it found before J3, (J4b) a
//!   sender's run announced, then begun (`raw/mpmc.rs` N1, N2), (J4c) the part's count goes up,
//!   before it is looked whether an open run still is. Before J3 nobody notices a death, from J3 on
//!   it is repaired like any.
//! - close: (X1) CLOSED (`raw/mpmc.rs`), (X2) the change counted, (X3) everybody woken. From X1 on
//!   nothing is sent in that run; before X3 who sleeps learns it at the end of a slice.
//! - leave: (L1) how the part's last one ended, (L2) LEFT, (L3) the change counted, (L4) everybody
//!   woken. Before L2 the others see a death, after it a leaving, of which they learn at the end of a
//!   slice.
//! - repair: (R1) the claims (`raw/mpmc.rs`), (R2) the pool (`raw/pool.rs`), (R3) how the part's last one ended, (R4) REPAIRED, (R5)
//!   the change counted, everybody woken. The lane is nobody's before R4; each step may be done again by another repairer.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result, SendError};
use crate::primitive::Ordering;
use crate::queue::payload::PayloadPool;
use crate::raw::event_count::EventCount;
use crate::raw::mpmc::{Drain, Ledger, Now, RUNS, Repair, Ring, Words};
use crate::region::layout::{self, lane, queue, seat};
use crate::region::participant::{LEAVING, LEFT, PRESENT, ParticipantStatus, RECEIVER, REPAIRED, Registration, SENDER};
use crate::region::repair::{Budget, Patrol, QUESTIONS, Tended};
use crate::region::{Mapped, Region, Word, shown};
use crate::sys::{Deadline, membarrier};
use crate::wait::{Attempt, WaitEnd, WaitState, WaitStrategy, Waiter};

/// Looks at an unfinished slot before it is passed over: longer than an undisturbed operation takes.
const PATIENCE: u32 = 100;

/// Dead lanes that are repaired together at most: all intents are read once for all of them.
const SWEEP: usize = 64;

/// Positions that are passed over at once for consumers who may not come.
const SETTLED: u64 = 4096;

/// What a participant does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Sender,
    Receiver,
}

impl Part {
    fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }

    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Sender => SENDER,
            Self::Receiver => RECEIVER,
        }
    }

    /// How one of them ended, as noted.
    fn end(self, now: Now, how: u64) -> u64 {
        match self {
            Self::Sender => now.run() << 8 | how,
            Self::Receiver => how,
        }
    }

    /// The part's own among two words.
    fn of(self, words: usize) -> usize {
        match self {
            Self::Sender => words,
            Self::Receiver => words + 1,
        }
    }
}

/// How somebody comes to take part.
#[derive(Clone, Copy)]
pub(crate) enum Arrival {
    /// As anybody who finds the queue. The same handle's other lane may be there already.
    Found { twin: Option<usize> },
    /// As a clone of a handle with that past.
    Cloned(History),
    /// Through a handle of the other part.
    Called,
}

/// What a participant found when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// A sender's run. A receiver's: which was open, or which was closed last.
    phase: u64,
    /// Nobody of the other part was there, nor anything of theirs; so many had come before.
    since: Option<u64>,
}

/// What an answer about the other part rests on: it stands while this is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Basis {
    came: u64,
    now: Now,
}

impl Region {
    pub(crate) fn queue_word(&self, index: usize) -> Word {
        self.word(self.layout().queue_at() + index)
    }

    fn queue_event(&self, index: usize) -> EventCount<Mapped> {
        EventCount::new(self.futex(self.layout().queue_at() + index))
    }

    fn count_up(&self, index: usize) {
        self.queue_word(index).fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn ring_words(&self) -> Words<Mapped> {
        let layout = self.layout();
        let (start, length) = layout.data(0);
        Words {
            tail: self.queue_word(queue::TAIL),
            head: self.queue_word(queue::HEAD),
            slots: self.words(start, length),
            marks: self.words(layout.marks(), layout.capacity as usize),
            capacity: layout.capacity,
            stride: layout.stride(),
        }
    }

    pub(crate) fn lane_word(&self, index: usize, word: usize) -> Word {
        self.word(self.layout().seat(index) + word)
    }

    fn part(&self, index: usize) -> Part {
        let code = self.lane_word(index, seat::PART).load(Ordering::Relaxed);
        if code == SENDER { Part::Sender } else { Part::Receiver }
    }

    /// The lanes that were taken by that part and not given up, dead or alive.
    pub(crate) fn lanes_of(&self, part: Part) -> impl Iterator<Item = usize> {
        self.present().filter(move |&index| self.part(index) == part)
    }

    fn run(&self, index: usize) -> u64 {
        self.lane_word(index, seat::RUN).load(Ordering::Acquire) % RUNS
    }

    /// Of the senders, those of the run that is open.
    fn lanes_in(&self, part: Part, now: Now) -> impl Iterator<Item = usize> {
        let is_in = move |index: &usize| part == Part::Receiver || !now.is_closed() && self.run(*index) == now.run();
        self.lanes_of(part).filter(is_in)
    }

    fn basis(&self, part: Part) -> Basis {
        let came = self.queue_word(part.of(queue::CAME)).load(Ordering::Acquire);
        Basis { came, now: Now::read(&self.queue_word(queue::TAIL)) }
    }

    /// Everybody of that part as one: alive if any is, else how the last one ended; vacant if none has come.
    pub(crate) fn standing_of(&self, part: Part) -> ParticipantStatus {
        let came = self.queue_word(part.of(queue::CAME)).load(Ordering::Acquire);
        let ended = self.queue_word(part.of(queue::ENDED)).load(Ordering::Acquire);
        let standing = self.standing_among(self.lanes_of(part), |index| Some(self.standing(index)));
        standing.unwrap_or(match ended & 0xff {
            _ if came == 0 => ParticipantStatus::Vacant,
            REPAIRED => ParticipantStatus::Dead,
            _ => ParticipantStatus::Left,
        })
    }

    /// Those lanes as one, if any is somebody's. A lane that there is no time to ask about counts as
    /// alive.
    fn standing_among(
        &self,
        lanes: impl Iterator<Item = usize>,
        mut ask: impl FnMut(usize) -> Option<ParticipantStatus>,
    ) -> Option<ParticipantStatus> {
        let mut found = None;
        for index in lanes {
            match ask(index) {
                Some(ParticipantStatus::Alive) | None => return Some(ParticipantStatus::Alive),
                Some(ParticipantStatus::LockLost) => found = Some(ParticipantStatus::LockLost),
                Some(ParticipantStatus::Dead) if found.is_none() => found = Some(ParticipantStatus::Dead),
                _ => {}
            }
        }
        found
    }

    /// As [`standing_of`](Self::standing_of), of all who can still send, or receive, but one.
    fn standing_beside(
        &self,
        part: Part,
        own: Option<usize>,
        ask: impl FnMut(usize) -> Option<ParticipantStatus>,
        basis: Basis,
    ) -> ParticipantStatus {
        let others = self.lanes_in(part, basis.now).filter(|&index| Some(index) != own);
        let found = self.standing_among(others, ask);
        if found == Some(ParticipantStatus::Alive) || self.basis(part).came != basis.came {
            return ParticipantStatus::Alive; // in a lane that we had passed, perhaps
        }
        found.unwrap_or_else(|| {
            let ended = self.queue_word(part.of(queue::ENDED)).load(Ordering::Acquire);
            if ended == part.end(basis.now, REPAIRED) { ParticipantStatus::Dead } else { ParticipantStatus::Left }
        })
    }

    /// Notes how one ended, for those who wait for its part. How one of an earlier run did is of no
    /// interest.
    fn note_end(&self, index: usize, how: u64) {
        let (part, now) = (self.part(index), Now::read(&self.queue_word(queue::TAIL)));
        if part == Part::Receiver || !now.is_closed() && self.run(index) == now.run() {
            self.queue_word(part.of(queue::ENDED)).store(part.end(now, how), Ordering::Release);
        }
    }

    /// Takes a lane. Those of the dead are repaired first, with many lanes some of them.
    pub(crate) fn join_lane(self, part: Part, arrival: Arrival) -> Result<Option<Registration>> {
        // Each newcomer looks at the next ones, so that somebody comes to all of them.
        let came = self.queue_word(part.of(queue::CAME)).load(Ordering::Relaxed) as usize; // any place will do
        let mut patrol = Patrol { cursor: came.wrapping_mul(QUESTIONS) % self.layout().seats(), ..Patrol::default() };
        self.tend(&mut patrol, None, &Budget::few_questions());
        let past = Cell::new(None);
        let free = |region: &Self| {
            let free = region.free_seats(|| {
                region.repair(None);
            });
            // Before anybody can see the newcomer: one who saw it, and has left since, was there.
            let words = region.ring_words();
            past.set(Some(match arrival {
                Arrival::Cloned(past) => past,
                Arrival::Called => History { phase: words.now().phase(), since: None },
                Arrival::Found { twin } => region.found(&words, part.other(), twin),
            }));
            free
        };
        Registration::join(self, free, part.code(), farewell, |region, index| {
            region.lane_word(index, lane::OPEN).store(0, Ordering::Relaxed);
            let words = region.ring_words();
            let past = past.take().unwrap_or(History { phase: words.now().phase(), since: None });
            region
                .lane_word(index, seat::SINCE)
                .store(past.since.map_or(0, |came| came.wrapping_add(1)), Ordering::Relaxed); // J4a
            match arrival {
                Arrival::Cloned(_) if part == Part::Sender => {
                    region.lane_word(index, seat::RUN).store(past.phase, Ordering::Release);
                    if words.now().phase() == past.phase {
                        region.count_up(part.of(queue::CAME)); // J4c
                    }
                }
                _ if part == Part::Sender => {
                    region.join_run(&words, index).inspect_err(|_| region.set_state(index, LEFT))?
                }
                _ => {
                    region.lane_word(index, seat::RUN).store(past.phase, Ordering::Release);
                    region.count_up(part.of(queue::CAME)); // J4c
                }
            }
            region.count_up(queue::CHANGES);
            Ok(())
        })
    }

    /// What a newcomer finds of the other part, beside the lane that its handle has already.
    fn found(&self, words: &Words<Mapped>, other: Part, twin: Option<usize>) -> History {
        let basis @ Basis { came, now } = self.basis(other);
        let is_alone = !self.lanes_in(other, now).any(|index| Some(index) != twin);
        words.settle(SETTLED);
        // Whoever sent something and has left meanwhile was there.
        let is_over = is_alone && (other == Part::Receiver || words.len() == 0 && self.basis(other) == basis);
        let twins = u64::from(twin.is_some());
        History { phase: now.phase(), since: is_over.then(|| came.wrapping_sub(twins)) }
    }

    /// Makes a sender one of the run that is open, or begins the next.
    fn join_run(&self, words: &Words<Mapped>, index: usize) -> Result<()> {
        let came = Part::Sender.of(queue::CAME);
        let next = |last: u64| {
            let mut is_used = [false; RUNS as usize];
            // A thread of a process that ends may still be sending.
            let is_sender = |&lane: &usize| self.is_occupied(lane) && self.part(lane) == Part::Sender;
            for lane in (0..self.layout().seats()).filter(is_sender).filter(|&lane| lane != index) {
                is_used[self.run(lane) as usize] = true;
            }
            (1..RUNS).map(|ahead| (last + ahead) % RUNS).find(|&run| !is_used[run as usize])
        };
        let mut begins = false;
        let joined = words.join(next, |run, is_new| {
            begins = is_new;
            self.lane_word(index, seat::RUN).store(run, Ordering::Release); // J4b
            if !is_new {
                self.count_up(came); // J4c
            }
        });
        let doing = format_args!("join {}", shown(self.place())).to_string();
        match joined {
            // Not earlier: a receiver that waits for this run would hear the end of the last one.
            Ok(Some(_)) if begins => self.count_up(came), // J4c
            Ok(Some(_)) => {}
            Ok(None) => {
                let found = format_args!("senders of {} closed runs, all still there", RUNS - 1).to_string();
                let remedy = "drop senders that were closed: each run whose senders are there takes up a number";
                return Err(Error::new(
                    ErrorKind::TooManyParticipants,
                    doing,
                    found,
                    "a free number for the next run",
                    remedy,
                ));
            }
            Err(_) => {
                let found = "a run that changes without end";
                return Err(Error::new(ErrorKind::Corrupt, doing, found, "one that lasts", "make the queue anew"));
            }
        }
        Ok(())
    }

    /// Repairs the dead if nobody else is there: what they left unsent must not keep the name. The
    /// number of questions bounds it, not the clock, so a pause of this thread changes nothing.
    fn clear_up_as_last(&self, patrol: &mut Patrol, own: usize, words: &Words<Mapped>) {
        if !self.has_others(own) {
            self.tend(patrol, Some(own), &Budget::few_questions());
        }
        words.settle(SETTLED);
    }

    fn wake_everybody(&self) {
        for event in [queue::READABLE, queue::WRITABLE, queue::ROOMY, queue::IDLE] {
            self.queue_event(event).wake(u32::MAX);
        }
    }

    /// Whether no message is queued or being received, and no task of a live process open.
    pub(crate) fn is_idle(&self, words: &Words<Mapped>) -> bool {
        words.settle(SETTLED);
        // If nothing is sent meanwhile, nothing can move from a lane that is still to be looked at into one that was.
        words.is_unchanged_over(|| {
            words.len() == 0
                // One who sends has not sent: its intent is nobody's message.
                && self.lanes_of(Part::Receiver).all(|index| {
                    let word = |at| self.lane_word(index, at).load(Ordering::Acquire);
                    word(lane::INTENT) == 0 && word(lane::OPEN) == 0
                })
        })
    }

    /// Puts right all that dead participants left behind; says how many lanes serve again. `own` is the lane that this
    /// description holds, about which the kernel would not tell us.
    pub(crate) fn repair(&self, own: Option<usize>) -> usize {
        let mut patrol = Patrol::default();
        let (mut repaired, mut passed) = (0, 0);
        while passed < self.layout().seats() {
            let tended = self.tend(&mut patrol, own, &Budget::unlimited());
            repaired += tended.repaired;
            passed += tended.passed;
            if tended.passed == 0 {
                break; // somebody else repairs
            }
        }
        repaired
    }

    /// As [`repair`](Self::repair), from where the last look has got, as far as the budget allows.
    fn tend(&self, patrol: &mut Patrol, own: Option<usize>, budget: &Budget) -> Tended {
        let (mut dead, passed) = patrol.find(self, own, SWEEP, budget);
        let verdict = self.queue_word(queue::VERDICT);
        if dead.is_empty() && verdict.load(Ordering::Relaxed) == 0 {
            patrol.pass(self, passed);
            return Tended { repaired: 0, passed };
        }
        let Some(_held) = self.try_repairing() else { return Tended::default() };
        let words = self.ring_words();
        let ledger = Ledger { lost: self.queue_word(queue::LOST), verdict, count: self.queue_word(queue::COUNT) };
        let (found, budget) = (patrol.verdicts.found, budget.again());
        let verdicts = RefCell::new(&mut patrol.verdicts);
        let standing = |index| verdicts.borrow_mut().standing(self, index, &budget);
        let granted = Cell::new(2 * self.layout().seats() + 4 * SWEEP);
        let repair = Repair {
            words: &words,
            ledger: &ledger,
            intents: &|index| (index < self.layout().seats()).then(|| self.lane_word(index, lane::INTENT)),
            alive: &|index| match Some(index) == own {
                true => Some(true),
                false => standing(index)
                    .map(|standing| matches!(standing, ParticipantStatus::Alive | ParticipantStatus::LockLost)),
            },
            // One pass over all lanes is had in any case: otherwise repair would never get on where that
            // takes longer than the budget.
            spend: &|words| {
                let left = granted.get();
                granted.set(left.saturating_sub(words));
                budget.visit(words) || left >= words
            },
        };
        // A region so damaged that it cannot be repaired stays as it is; whoever meets the damage says so.
        if repair.resume().is_err() {
            patrol.pass(self, passed);
            return Tended { repaired: 0, passed };
        }
        // Again, with the right to: somebody may have repaired some of them meanwhile, and others have come. It is no question any more.
        dead.retain(|&index| standing(index) == Some(ParticipantStatus::Dead));
        let parcels = PayloadPool::new(self, 0);
        budget.visit(self.layout().places() as usize); // once for all of them
        let (mut repaired, mut rest) = (0, &*dead);
        // Where to go on next time, if this takes too long.
        let mut next = None;
        while !rest.is_empty() && next.is_none() {
            let (group, later) = rest.split_at(repair.group(rest).min(rest.len()));
            let whole = repair.lanes(group, |payload| parcels.lose(self, payload)); // R1
            for (&index, whole) in group.iter().zip(whole) {
                if next.is_some() || repaired > 0 && !budget.visit(1) {
                    next = next.or(Some(index));
                    continue;
                }
                parcels.reclaim(self, &words, index); // R2
                if whole {
                    // One that was LEAVING has said itself how it ended.
                    if self.state(index) == PRESENT {
                        self.note_end(index, REPAIRED); // R3
                    }
                    self.set_state(index, REPAIRED); // R4
                    repaired += 1;
                }
            }
            if budget.is_spent() {
                // Once more the same ones, as long as each time something new is found out; else the ones after them.
                let gets_on = repaired > 0 || verdicts.borrow().found > found;
                next = next.or(if gets_on { group.first() } else { later.first() }.copied());
                break;
            }
            rest = later;
        }
        if repaired > 0 {
            words.settle(SETTLED);
            self.count_up(queue::CHANGES); // R5
            self.wake_everybody();
        }
        let lanes = self.layout().seats();
        let passed = next.map_or(passed, |next| (next + lanes - patrol.cursor) % lanes);
        patrol.pass(self, passed);
        Tended { repaired, passed }
    }
}

/// What a blocked participant sleeps on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitFor {
    Message,
    WriteMessage,
    NamedPath,
    Done,
}

impl WaitFor {
    /// Whether an attempt is worth its while, by the quickest look.
    #[inline]
    pub(crate) fn glance(self, words: &Words<Mapped>) -> bool {
        match self {
            Self::Message => words.seems_ready(),
            Self::WriteMessage => words.seems_free(),
            Self::NamedPath | Self::Done => true,
        }
    }
}

/// A lane of a queue, held by one handle.
pub(crate) struct QueueParticipant {
    seat: Arc<Registration>,
    part: Part,
    /// The lane of the same handle's other part.
    twin: Option<usize>,
    readable: EventCount<Mapped>,
    writable: EventCount<Mapped>,
    roomy: EventCount<Mapped>,
    idle: EventCount<Mapped>,
    ear: WaitFor,
    words: Words<Mapped>,
    past: History,
    changes: Word,
    /// Messages sent or received.
    passed: u64,
    /// Where the next look for the dead begins, and what is known of them.
    patrol: Patrol,
    /// The changes, and the run, that `gone` takes into account.
    seen: Option<(u64, u64)>,
    gone: Option<WaitEnd>,
    /// What the last answer rests on.
    basis: Option<Basis>,
    pace: WaitState,
}

impl QueueParticipant {
    pub(crate) fn new(seat: Arc<Registration>, part: Part, wait: WaitStrategy) -> Self {
        let region = seat.region();
        let event = |index| region.queue_event(index);
        let word = |at| region.lane_word(seat.index(), at).load(Ordering::Acquire);
        let past = History { phase: word(layout::seat::RUN), since: word(layout::seat::SINCE).checked_sub(1) };
        let lane = Self {
            part,
            twin: None,
            readable: event(queue::READABLE),
            writable: event(queue::WRITABLE),
            roomy: event(queue::ROOMY),
            idle: event(queue::IDLE),
            ear: WaitFor::Message,
            changes: region.queue_word(queue::CHANGES),
            passed: 0,
            words: region.ring_words(),
            patrol: Patrol { cursor: seat.index(), ..Patrol::default() },
            past,
            seen: None,
            gone: None,
            basis: None,
            pace: WaitState::new(wait, region),
            seat,
        };
        lane.seat.attend();
        if !membarrier::register() {
            for event in [&lane.readable, &lane.writable, &lane.roomy, &lane.idle] {
                event.require_fences();
            }
        }
        lane
    }

    pub(crate) fn seat(&self) -> &Arc<Registration> {
        &self.seat
    }

    pub(crate) fn region(&self) -> &Region {
        self.seat.region()
    }

    pub(crate) fn index(&self) -> usize {
        self.seat.index()
    }

    /// The same handle's other lane does not count as somebody to wait for.
    pub(crate) fn pair_with(&mut self, twin: Option<usize>) {
        self.twin = twin;
        self.seat.pair(twin.is_some());
        self.seen = None;
    }

    pub(crate) fn part(&self) -> Part {
        self.part
    }

    pub(crate) fn wait_mode(&self) -> WaitStrategy {
        self.pace.wait()
    }

    /// False in a process that was forked from the handle's own.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.seat.region().is_ours()
    }

    pub(crate) fn ring(&self) -> Ring<Mapped> {
        let intent = self.region().lane_word(self.index(), lane::INTENT);
        Ring::new(self.region().ring_words(), self.past.phase, intent, PATIENCE)
    }

    pub(crate) fn past(&self) -> History {
        self.past
    }

    /// Call after sending so many messages.
    #[inline]
    pub(crate) fn sent(&mut self, count: u64) {
        self.passed = self.passed.wrapping_add(count);
        self.readable.notify(count as u32);
    }

    /// Call after receiving so many messages.
    #[inline]
    pub(crate) fn received(&mut self, count: u64) {
        self.passed = self.passed.wrapping_add(count);
        self.writable.notify(count as u32);
    }

    /// Call after giving back a place of the pool. Not every place is of use to everybody, so all may look.
    #[inline]
    pub(crate) fn gave_back(&self) {
        self.roomy.notify(u32::MAX);
    }

    pub(crate) fn did_task(&self) {
        self.idle.notify(u32::MAX);
    }

    /// Closes the run that is open; a sender, only its own. Says where it ends.
    pub(crate) fn close(&self) -> Result<u64, SendError> {
        let only = (self.part == Part::Sender).then_some(self.past.phase);
        let end = self.words.close(only)?.ok_or(SendError::Closed)?; // X1
        self.region().count_up(queue::CHANGES); // X2
        self.region().wake_everybody(); // X3
        Ok(end)
    }

    /// As [`Waiter::stop`], and after a run of successes a moment in which the others can get ahead: who polls without pause gets
    /// each message singly, and takes the lines of the others' indices away from them all the while.
    pub(crate) fn stop_or_pause(&mut self) -> Option<WaitEnd> {
        let end = self.stop();
        if end.is_none() {
            self.pace.pause_after_run(self.passed);
        }
        end
    }

    /// See [`Waiter::wait_for`].
    pub(crate) fn wait<T, E: From<WaitEnd>>(
        &mut self,
        ear: WaitFor,
        deadline: Deadline,
        attempt: impl FnMut(Attempt) -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        self.ear = ear;
        self.wait_for(self.passed, deadline, attempt)
    }

    /// Why there is nobody of the other part to wait for; none if there is somebody, or somebody is still to come.
    fn nobody(&mut self, ask: impl FnMut(usize) -> Option<ParticipantStatus>) -> Option<WaitEnd> {
        let region = self.seat.region();
        let other = self.part.other();
        let basis = region.basis(other);
        self.basis = Some(basis);
        let (is_receiver, is_closed) = (self.part == Part::Receiver, basis.now.is_closed());
        let twins = u64::from(self.twin.is_some());
        let has_none_come = self.past.since.is_some_and(|since| basis.came == since.wrapping_add(twins));
        if has_none_come && (!is_receiver || !is_closed || self.past.phase == basis.now.phase()) {
            return None;
        }
        if is_receiver && is_closed {
            return Some(WaitEnd::Closed);
        }
        match region.standing_beside(other, self.twin, ask, basis) {
            ParticipantStatus::Alive | ParticipantStatus::Vacant => None,
            ParticipantStatus::Left => Some(WaitEnd::Closed),
            ParticipantStatus::Dead => Some(WaitEnd::PeerDied),
            ParticipantStatus::LockLost => Some(WaitEnd::LockLost),
        }
    }

    fn leave(&mut self) {
        let seat = Arc::clone(&self.seat);
        let region = seat.region();
        let word = |at| region.lane_word(seat.index(), at).load(Ordering::Relaxed);
        if word(lane::INTENT) != 0 {
            // An operation ended in the middle, on a damaged region: this lane must be repaired before it serves again.
            let _ = self.seat.abandon();
            return;
        }
        region.clear_up_as_last(&mut self.patrol, self.seat.index(), &self.words);
        if region.layout().shape.extents > 0 && region.is_named() && region.present().eq([seat.index()]) {
            // Should messages keep the name, they need not keep memory for others, whom nobody will send for a while.
            let parcels = PayloadPool::new(region, seat.index());
            parcels.release_kept(region, seat.index());
            parcels.release_behind_messages(region, &self.words);
        }
        // A receiver that came along with a sender, and received nothing, ends nothing by leaving. The
        // note comes first: who finds this lane left is to find out how.
        if self.twin.is_none() || self.passed > 0 {
            region.note_end(self.index(), LEFT); // L1
        }
        region.set_state(self.index(), LEFT); // L2
        region.count_up(queue::CHANGES); // L3
        if region.lanes_in(self.part, self.words.now()).next().is_none() || word(lane::OPEN) != 0 {
            region.wake_everybody(); // L4
        }
    }
}

/// Announces the end of a lane whose process ends. Its claims, places and tasks are repaired when
/// the process is gone.
pub(crate) fn farewell(seat: &Registration) {
    let region = seat.region();
    let part = region.part(seat.index());
    region.clear_up_as_last(&mut Patrol::default(), seat.index(), &region.ring_words());
    region.set_state(seat.index(), LEAVING); // L1
    // Of a receiver that came along with a sender it is not known here whether it received
    // anything.
    if part == Part::Sender || !seat.is_paired() {
        region.note_end(seat.index(), LEFT); // L2
    }
    region.count_up(queue::CHANGES); // L3
    region.wake_everybody(); // L4
}

impl Waiter for QueueParticipant {
    type End = WaitEnd;

    fn look(&mut self) -> Option<WaitEnd> {
        let phase = if self.part == Part::Receiver { self.words.now().phase() } else { 0 };
        let now = (self.changes.load(Ordering::Acquire), phase);
        if self.seen != Some(now) {
            self.seen = Some(now);
            self.gone = self.nobody(|_| Some(ParticipantStatus::Alive)); // who did not leave
        }
        self.gone
    }

    fn ask(&mut self, deadline: Deadline) -> Option<WaitEnd> {
        // With many lanes a few at a time: each question takes the kernel longer the more there are.
        let seat = Arc::clone(&self.seat);
        seat.region().tend(&mut self.patrol, Some(seat.index()), &Budget::until(deadline));
        let budget = Budget::until(deadline);
        let mut verdicts = mem::take(&mut self.patrol.verdicts);
        let end = self.nobody(|index| verdicts.standing(seat.region(), index, &budget));
        self.patrol.verdicts = verdicts;
        end
    }

    /// Between the look and the attempt somebody may have come, whose message another has received.
    fn is_final(&mut self, end: &WaitEnd) -> bool {
        let (is_receiver, before) = (self.part == Part::Receiver, self.basis);
        let drain = if is_receiver && *end == WaitEnd::Closed { self.words.drain() } else { Ok(Drain::Done) };
        let basis = self.region().basis(self.part.other());
        let is_same =
            before.is_some_and(|before| before.came == basis.came && (!is_receiver || before.now == basis.now));
        match drain {
            Ok(Drain::Done) if is_same => return true,
            Err(_) => return true,                // rather an end than none, on a damaged region
            Ok(Drain::Stuck) => self.gone = None, // until something changes, or it is asked again
            _ => self.seen = None,
        }
        false
    }

    fn report(&mut self, end: WaitEnd) -> WaitEnd {
        end
    }

    fn ear(&self) -> &EventCount<Mapped> {
        match self.ear {
            WaitFor::Message => &self.readable,
            WaitFor::WriteMessage => &self.writable,
            WaitFor::NamedPath => &self.roomy,
            WaitFor::Done => &self.idle,
        }
    }

    fn pace(&mut self) -> &mut WaitState {
        &mut self.pace
    }
}

impl Drop for QueueParticipant {
    fn drop(&mut self) {
        if self.is_ours() && !self.seat.is_passed_on() {
            self.leave();
        }
    }
}

impl fmt::Debug for QueueParticipant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueParticipant")
            .field("part", &self.part)
            .field("wait", &self.pace.wait())
            .field("seat", &self.seat)
            .finish()
    }
}
