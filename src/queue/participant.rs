//! A sender or a receiver of a queue: waiting for those of the other role, noticing deaths, leaving.
//! What moves through the ring is not this file's business.
//!
//! Crash, by step
//! - close: (close-1) CLOSED (`raw/mpmc`), (close-2) the change counted, (close-3) everybody woken.
//!   From close-1 on nothing is sent in that run. Before close-3 a sleeper learns of it after one
//!   LIVENESS_INTERVAL.
//! - leave: (queue-leave-1) how the role's last one ended, (queue-leave-2) LEFT, (queue-leave-3) the
//!   change counted, (queue-leave-4) everybody woken. Before queue-leave-2 the others see a death,
//!   after it a leaving, of which a sleeper learns after one LIVENESS_INTERVAL.

use std::fmt;
use std::mem;
use std::sync::Arc;

use crate::error::SendError;
use crate::primitive::Ordering;
use crate::queue::payload::PayloadPool;
use crate::queue::state::QueueState;
use crate::raw::event_count::EventCount;
use crate::raw::mpmc::tail::Tail;
use crate::raw::mpmc::{Drain, Ring, RingWords};
use crate::region::Region;
use crate::region::layout::participant;
use crate::region::layout::queue::{control, own};
use crate::region::lifecycle::Registration;
use crate::region::participant::{LEAVING, LEFT, ParticipantStatus};
use crate::region::repair::{Budget, RepairScan};
use crate::region::words::{Mapped, Word};
use crate::sys::{clock::Deadline, membarrier};
use crate::wait::{Attempt, WaitEnd, WaitState, WaitStrategy, Waiter};

/// Looks at an unfinished slot before it is passed over: longer than an undisturbed operation takes.
const PATIENCE: u32 = 100;

/// What a participant does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Sender,
    Receiver,
}

impl Role {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }

    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Sender => 1,
            Self::Receiver => 2,
        }
    }

    /// How one of them ended, as noted.
    pub(super) fn end(self, now: Tail, how: u64) -> u64 {
        match self {
            Self::Sender => now.run() << 8 | how,
            Self::Receiver => how,
        }
    }

    /// The part's own among two words.
    pub(super) fn of(self, words: usize) -> usize {
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
    Found { sibling: Option<usize> },
    /// As a clone of a handle with that past.
    Cloned(JoinSnapshot),
    /// Through a handle of the other part.
    Called,
}

/// What a participant found when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JoinSnapshot {
    /// A sender's run. A receiver's: which was open, or which was closed last.
    pub(super) phase: u64,
    /// Nobody of the other part was there, nor anything of theirs; so many had come before.
    pub(super) since: Option<u64>,
}

/// What an answer about the other part rests on: it stands while this is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Basis {
    pub(super) came: u64,
    pub(super) now: Tail,
}

/// What a blocked participant sleeps on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitFor {
    Message,
    Slot,
    Block,
    TasksDone,
}

impl WaitFor {
    /// Whether an attempt is worth its while, by the quickest look.
    #[inline]
    pub(crate) fn glance(self, words: &RingWords<Mapped>) -> bool {
        match self {
            Self::Message => words.probe_ready(),
            Self::Slot => words.probe_free(),
            Self::Block | Self::TasksDone => true,
        }
    }
}

/// A lane of a queue, held by one handle.
pub(crate) struct QueueParticipant {
    seat: Arc<Registration>,
    role: Role,
    /// The lane of the same handle's other part.
    sibling: Option<usize>,
    readable: EventCount<Mapped>,
    writable: EventCount<Mapped>,
    roomy: EventCount<Mapped>,
    idle: EventCount<Mapped>,
    ear: WaitFor,
    words: RingWords<Mapped>,
    past: JoinSnapshot,
    changes: Word,
    /// Messages sent or received.
    passed: u64,
    /// Where the next look for the dead begins, and what is known of them.
    scan: RepairScan,
    /// The changes, and the run, that `gone` takes into account.
    seen: Option<(u64, u64)>,
    gone: Option<WaitEnd>,
    /// What the last answer rests on.
    basis: Option<Basis>,
    pace: WaitState,
}

impl QueueParticipant {
    pub(crate) fn new(seat: Arc<Registration>, role: Role, wait: WaitStrategy) -> Self {
        let state = QueueState::of(seat.region());
        let event = |index| state.event(index);
        let word = |at| state.participant_word(seat.index(), at).load(Ordering::Acquire);
        let past = JoinSnapshot { phase: word(participant::RUN), since: word(participant::SINCE).checked_sub(1) };
        let lane = Self {
            role,
            sibling: None,
            readable: event(control::READABLE),
            writable: event(control::WRITABLE),
            roomy: event(control::BLOCKS_FREED),
            idle: event(control::TASKS_DONE),
            ear: WaitFor::Message,
            changes: state.word(control::MEMBERSHIP_EPOCH),
            passed: 0,
            words: state.ring_words(),
            scan: RepairScan { cursor: seat.index(), ..RepairScan::default() },
            past,
            seen: None,
            gone: None,
            basis: None,
            pace: WaitState::new(wait, seat.region()),
            seat,
        };
        lane.seat.leave_at_exit();
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

    pub(crate) fn state(&self) -> QueueState<'_> {
        QueueState::of(self.seat.region())
    }

    pub(crate) fn region(&self) -> &Region {
        self.seat.region()
    }

    pub(crate) fn index(&self) -> usize {
        self.seat.index()
    }

    /// The same handle's other lane does not count as somebody to wait for.
    pub(crate) fn pair_with(&mut self, sibling: Option<usize>) {
        self.sibling = sibling;
        self.seat.set_paired(sibling.is_some());
        self.seen = None;
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn wait_mode(&self) -> WaitStrategy {
        self.pace.wait()
    }

    /// False in a process that was forked from the handle's own.
    #[inline]
    pub(crate) fn is_from_this_process(&self) -> bool {
        self.seat.region().is_from_this_process()
    }

    pub(crate) fn ring(&self) -> Ring<Mapped> {
        let intent = self.state().participant_word(self.index(), own::INTENT);
        Ring::new(self.state().ring_words(), self.past.phase, intent, PATIENCE)
    }

    pub(crate) fn past(&self) -> JoinSnapshot {
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
        let only = (self.role == Role::Sender).then_some(self.past.phase);
        let end = self.words.close(only)?.ok_or(SendError::Closed)?; // close-1
        self.state().count_up(control::MEMBERSHIP_EPOCH); // close-2
        self.state().wake_all(); // close-3
        Ok(end)
    }

    /// As [`Waiter::stop`], and after a run of successes a moment in which the others can get ahead: who polls without pause gets
    /// each message singly, and takes the lines of the others' indices away from them all the while.
    pub(crate) fn end_or_backoff(&mut self) -> Option<WaitEnd> {
        let end = self.end_of_try();
        if end.is_none() {
            self.pace.pause_after_burst(self.passed);
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
        let state = QueueState::of(self.seat.region());
        let other = self.role.other();
        let basis = state.basis(other);
        self.basis = Some(basis);
        let (is_receiver, is_closed) = (self.role == Role::Receiver, basis.now.is_closed());
        let siblings = u64::from(self.sibling.is_some());
        let has_none_come = self.past.since.is_some_and(|since| basis.came == since.wrapping_add(siblings));
        if has_none_come && (!is_receiver || !is_closed || self.past.phase == basis.now.phase()) {
            return None;
        }
        if is_receiver && is_closed {
            return Some(WaitEnd::Closed);
        }
        match state.role_status_except(other, self.sibling, ask, basis) {
            ParticipantStatus::Alive | ParticipantStatus::Vacant => None,
            ParticipantStatus::Left => Some(WaitEnd::Closed),
            ParticipantStatus::Dead => Some(WaitEnd::PeerDied),
            ParticipantStatus::LockLost => Some(WaitEnd::LockLost),
        }
    }

    fn leave(&mut self) {
        let seat = Arc::clone(&self.seat);
        let state = QueueState::of(seat.region());
        let word = |at| state.participant_word(seat.index(), at).load(Ordering::Relaxed);
        if word(own::INTENT) != 0 {
            // An operation ended in the middle, on a damaged region: this lane must be repaired before it serves again.
            let _ = self.seat.mark_dead();
            return;
        }
        state.clear_up_as_last(&mut self.scan, self.seat.index(), &self.words);
        if state.layout.geometry.extents > 0
            && state.region.is_named()
            && state.region.participants().registered().eq([seat.index()])
        {
            // Should messages keep the name, they need not keep memory for others, whom nobody will send for a while.
            let parcels = PayloadPool::new(state.region, seat.index());
            parcels.release_kept(state.region, seat.index());
            parcels.release_behind_messages(state.region, &self.words);
        }
        // A receiver that came along with a sender, and received nothing, ends nothing by leaving. The
        // note comes first: who finds this lane left is to find out how.
        if self.sibling.is_none() || self.passed > 0 {
            state.store_exit(self.index(), LEFT); // queue-leave-1
        }
        state.region.participants().set_state(self.index(), LEFT); // queue-leave-2
        state.count_up(control::MEMBERSHIP_EPOCH); // queue-leave-3
        if state.able_to(self.role, self.words.load_tail()).next().is_none() || word(own::UNFINISHED_TASKS) != 0 {
            state.wake_all(); // queue-leave-4
        }
    }
}

/// Announces the end of a lane whose process ends. Its claims, places and tasks are repaired when
/// the process is gone.
pub(super) fn announce_exit(seat: &Registration) {
    let state = QueueState::of(seat.region());
    let role = state.role(seat.index());
    state.clear_up_as_last(&mut RepairScan::default(), seat.index(), &state.ring_words());
    state.region.participants().set_state(seat.index(), LEAVING); // queue-leave-1
    // Of a receiver that came along with a sender it is not known here whether it received
    // anything.
    if role == Role::Sender || !seat.is_paired() {
        state.store_exit(seat.index(), LEFT); // queue-leave-2
    }
    state.count_up(control::MEMBERSHIP_EPOCH); // queue-leave-3
    state.wake_all(); // queue-leave-4
}

impl Waiter for QueueParticipant {
    type End = WaitEnd;

    fn peer_end(&mut self) -> Option<WaitEnd> {
        let phase = if self.role == Role::Receiver { self.words.load_tail().phase() } else { 0 };
        let now = (self.changes.load(Ordering::Acquire), phase);
        if self.seen != Some(now) {
            self.seen = Some(now);
            self.gone = self.nobody(|_| Some(ParticipantStatus::Alive)); // who did not leave
        }
        self.gone
    }

    fn check_liveness(&mut self, deadline: Deadline) -> Option<WaitEnd> {
        // With many lanes a few at a time: each question takes the kernel longer the more there are.
        let seat = Arc::clone(&self.seat);
        QueueState::of(seat.region()).repair_some(&mut self.scan, Some(seat.index()), &Budget::until(deadline));
        let budget = Budget::until(deadline);
        let mut statuses = mem::take(&mut self.scan.statuses);
        let end = self.nobody(|index| statuses.status(seat.region(), index, &budget));
        self.scan.statuses = statuses;
        end
    }

    /// Between the look and the attempt somebody may have come, whose message another has received.
    fn is_final(&mut self, end: &WaitEnd) -> bool {
        let (is_receiver, before) = (self.role == Role::Receiver, self.basis);
        let drain = if is_receiver && *end == WaitEnd::Closed { self.words.drain() } else { Ok(Drain::Done) };
        let basis = self.state().basis(self.role.other());
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

    fn report_end(&mut self, end: WaitEnd) -> WaitEnd {
        end
    }

    fn event(&self) -> &EventCount<Mapped> {
        match self.ear {
            WaitFor::Message => &self.readable,
            WaitFor::Slot => &self.writable,
            WaitFor::Block => &self.roomy,
            WaitFor::TasksDone => &self.idle,
        }
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.pace
    }
}

impl Drop for QueueParticipant {
    fn drop(&mut self) {
        if self.is_from_this_process() && !self.seat.is_transferred() {
            self.leave();
        }
    }
}

impl fmt::Debug for QueueParticipant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueParticipant")
            .field("part", &self.role)
            .field("wait", &self.pace.wait())
            .field("seat", &self.seat)
            .finish()
    }
}
