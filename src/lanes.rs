//! A queue as one of its participants lives it: a lane of its own, waiting for those of the other part, noticing who died
//! and putting right what they left behind, leaving. What moves through the ring is not this file's business.
//!
//! Crash, by step
//! - join: as in liveness.rs; J3 makes the lane PRESENT, (J4) the part's count goes up. Before J3 nobody notices a death, from J3 on
//!   it is repaired like any.
//! - leave: (L1) LEFT, (L2) how the part's last one ended, (L3) the change counted, (L4) everybody woken. Before L1 the others see a
//!   death, after it at worst they learn of the leaving at the end of a slice.
//! - repair: (R1) the claims (`raw/mpmc.rs`), (R2) the pool (`raw/pool.rs`), (R3) how the part's last one ended, (R4) REPAIRED. The
//!   lane is nobody's before R4; each step may be done again by another repairer.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::layout::{lane, queue, seat};
use crate::liveness::{LEFT, PRESENT, RECEIVER, REPAIRED, SENDER, Seat, Standing};
use crate::parcels::Parcels;
use crate::raw::event::Event;
use crate::raw::mpmc::{Ledger, Repair, Ring, Words};
use crate::region::{Mapped, Region, Word};
use crate::sync::Ordering;
use crate::sys::{Deadline, barrier};
use crate::wait::{Pace, Stop, Wait, Waiter};

/// Looks at an unfinished slot before it is passed over: longer than an undisturbed operation takes.
const PATIENCE: u32 = 100;

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

    /// The part's own among two words.
    fn of(self, words: usize) -> usize {
        match self {
            Self::Sender => words,
            Self::Receiver => words + 1,
        }
    }
}

impl Region {
    pub(crate) fn queue_word(&self, index: usize) -> Word {
        self.word(self.layout().queue_at() + index)
    }

    fn queue_event(&self, index: usize) -> Event<Mapped> {
        Event::new(self.futex(self.layout().queue_at() + index))
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
            capacity: layout.capacity,
            stride: layout.stride(),
        }
    }

    pub(crate) fn lane_word(&self, index: usize, word: usize) -> Word {
        self.word(self.layout().seat(index) + word)
    }

    /// The lanes that were taken by that part and not given up, dead or alive.
    pub(crate) fn lanes_of(&self, part: Part) -> impl Iterator<Item = usize> {
        self.present().filter(move |&index| self.lane_word(index, seat::PART).load(Ordering::Relaxed) == part.code())
    }

    fn present(&self) -> impl Iterator<Item = usize> {
        (0..self.layout().seats()).filter(|&index| self.state(index) == PRESENT)
    }

    /// Takes a lane. Those of the dead are repaired first.
    pub(crate) fn join_lane(self, part: Part) -> Result<Option<Seat>> {
        self.repair(None);
        let free = |region: &Self| (0..region.layout().seats()).filter(|&at| region.state(at) != PRESENT).collect();
        Seat::join(self, free, part.code(), |region, index| {
            region.lane_word(index, lane::OPEN).store(0, Ordering::Relaxed);
            region.count_up(part.of(queue::CAME)); // J4
            region.count_up(queue::CHANGES);
            Ok(())
        })
    }

    /// Records how one of that part ended, and tells everybody.
    fn note_end(&self, part: Part, how: u64) {
        self.queue_word(part.of(queue::ENDED)).store(how, Ordering::Release); // L2, R3
        self.count_up(queue::CHANGES); // L3
    }

    fn wake_everybody(&self) {
        for event in [queue::READABLE, queue::WRITABLE, queue::ROOMY, queue::IDLE] {
            self.queue_event(event).wake(u32::MAX);
        }
    }

    /// Whether no message is queued or being received, and no task open.
    pub(crate) fn is_idle(&self, words: &Words<Mapped>) -> bool {
        // In this order: what is no longer queued is seen in a lane, as an intent first and then as an open task.
        words.len() == 0
            && self.present().all(|index| {
                let word = |at| self.lane_word(index, at).load(Ordering::Acquire);
                word(lane::INTENT) == 0 && word(lane::OPEN) == 0
            })
    }

    /// Puts right what dead participants left behind; says how many lanes serve again. `own` is the lane that this
    /// description holds, about which the kernel would not tell us.
    pub(crate) fn repair(&self, own: Option<usize>) -> usize {
        let is_dead = |&index: &usize| Some(index) != own && self.standing(index) == Standing::Dead;
        let verdict = self.queue_word(queue::VERDICT);
        if verdict.load(Ordering::Relaxed) == 0 && !self.present().any(|index| is_dead(&index)) {
            return 0;
        }
        let Some(_held) = self.try_repairing() else { return 0 };
        let words = self.ring_words();
        let parcels = Parcels::new(self, 0);
        let ledger = Ledger { lost: self.queue_word(queue::LOST), verdict, count: self.queue_word(queue::COUNT) };
        let repair = Repair {
            words: &words,
            ledger: &ledger,
            intents: &|index| (index < self.layout().seats()).then(|| self.lane_word(index, lane::INTENT)),
            alive: &|index| Some(index) == own || matches!(self.standing(index), Standing::Alive | Standing::LockLost),
        };
        // A region so damaged that it cannot be repaired stays as it is; whoever meets the damage says so.
        let lose = |payload: &[_]| parcels.lose(self, payload);
        if repair.resume(lose).is_err() {
            return 0;
        }
        let dead: Vec<usize> = self.present().filter(is_dead).collect();
        let mut repaired = 0;
        for index in dead {
            if repair.lane(index, lose) == Ok(true) {
                // R1
                parcels.reclaim(self, &words, index); // R2
                let part = self.lane_word(index, seat::PART).load(Ordering::Relaxed);
                let part = if part == SENDER { Part::Sender } else { Part::Receiver };
                self.note_end(part, REPAIRED);
                self.set_state(index, REPAIRED); // R4
                self.count_up(queue::CHANGES);
                repaired += 1;
            }
        }
        if repaired > 0 {
            self.wake_everybody();
        }
        repaired
    }
}

/// What a blocked participant sleeps on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ear {
    Message,
    Room,
    Place,
    Done,
}

/// A lane of a queue, held by one handle.
pub(crate) struct Lane {
    seat: Arc<Seat>,
    part: Part,
    /// The lane of the same handle's other part.
    twin: Option<usize>,
    readable: Event<Mapped>,
    writable: Event<Mapped>,
    roomy: Event<Mapped>,
    idle: Event<Mapped>,
    ear: Ear,
    changes: Word,
    /// The changes that `gone` takes into account.
    seen: Option<u64>,
    gone: Option<Stop>,
    pace: Pace,
}

impl Lane {
    pub(crate) fn new(seat: Arc<Seat>, part: Part, wait: Wait) -> Self {
        let region = seat.region();
        let event = |index| region.queue_event(index);
        let lane = Self {
            part,
            twin: None,
            readable: event(queue::READABLE),
            writable: event(queue::WRITABLE),
            roomy: event(queue::ROOMY),
            idle: event(queue::IDLE),
            ear: Ear::Message,
            changes: region.queue_word(queue::CHANGES),
            seen: None,
            gone: None,
            pace: Pace::new(wait),
            seat,
        };
        if !barrier::register() {
            for event in [&lane.readable, &lane.writable, &lane.roomy, &lane.idle] {
                event.require_fences();
            }
        }
        // Whoever waits for somebody to come need not wait for its slice to end.
        lane.region().wake_everybody();
        lane
    }

    pub(crate) fn seat(&self) -> &Arc<Seat> {
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
        self.seen = None;
    }

    pub(crate) fn wait_mode(&self) -> Wait {
        self.pace.wait()
    }

    /// False in a process that was forked from the handle's own.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.seat.region().is_ours()
    }

    pub(crate) fn ring(&self) -> Ring<Mapped> {
        let region = self.region();
        Ring::new(region.ring_words(), region.lane_word(self.index(), lane::INTENT), PATIENCE)
    }

    /// Call after sending so many messages.
    #[inline]
    pub(crate) fn sent(&self, count: u64) {
        self.readable.notify(count as u32);
    }

    /// Call after receiving so many messages.
    #[inline]
    pub(crate) fn received(&self, count: u64) {
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

    /// Closes the queue for everybody. False: it was closed.
    pub(crate) fn close(&self, words: &Words<Mapped>) -> bool {
        let closed = words.close();
        self.region().wake_everybody();
        closed
    }

    /// See [`Waiter::wait_for`].
    pub(crate) fn wait<T, E: From<Stop>>(
        &mut self,
        ear: Ear,
        deadline: Deadline,
        attempt: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        self.ear = ear;
        self.wait_for(deadline, attempt)
    }

    /// Why there is nobody of the other part to wait for; none if there is somebody, or somebody is still to come.
    fn nobody(&self, ask: bool) -> Option<Stop> {
        let region = self.region();
        let other = self.part.other();
        // First: whoever comes after this is not missed, only not counted.
        let came = region.queue_word(other.of(queue::CAME)).load(Ordering::Acquire);
        let mut stop = None;
        for index in region.lanes_of(other) {
            if Some(index) == self.twin {
                continue;
            }
            if !ask {
                return None;
            }
            match region.standing(index) {
                Standing::Alive => return None,
                Standing::LockLost => stop = Some(Stop::LockLost),
                Standing::Dead => stop = stop.or(Some(Stop::PeerDied)),
                Standing::Left | Standing::Vacant => {}
            }
        }
        if stop.is_some() || came <= u64::from(self.twin.is_some()) {
            return stop;
        }
        match region.queue_word(other.of(queue::ENDED)).load(Ordering::Acquire) {
            LEFT => Some(Stop::Closed),
            REPAIRED => Some(Stop::PeerDied),
            _ => None,
        }
    }

    fn leave(&self) {
        let region = self.region();
        if region.lane_word(self.index(), lane::INTENT).load(Ordering::Relaxed) != 0 {
            // An operation ended in the middle, on a damaged region: this lane must be repaired before it serves again.
            self.seat.pass_on();
            return;
        }
        region.set_state(self.index(), LEFT); // L1
        region.note_end(self.part, LEFT);
        region.wake_everybody(); // L4
    }
}

impl Waiter for Lane {
    type End = Stop;

    fn look(&mut self) -> Option<Stop> {
        let now = self.changes.load(Ordering::Acquire);
        if self.seen != Some(now) {
            self.seen = Some(now);
            self.gone = self.nobody(false);
        }
        self.gone
    }

    fn ask(&mut self) -> Option<Stop> {
        self.region().repair(Some(self.index()));
        self.nobody(true)
    }

    fn report(&mut self, end: Stop) -> Stop {
        end
    }

    fn ear(&self) -> &Event<Mapped> {
        match self.ear {
            Ear::Message => &self.readable,
            Ear::Room => &self.writable,
            Ear::Place => &self.roomy,
            Ear::Done => &self.idle,
        }
    }

    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.is_ours() && !self.seat.is_passed_on() {
            self.leave();
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("part", &self.part)
            .field("wait", &self.pace.wait())
            .field("seat", &self.seat)
            .finish()
    }
}
