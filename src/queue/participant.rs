//! A sender or a receiver as a participant of a queue: it waits for its peers, notices their
//! deaths, and leaves. The messages themselves are not its concern.
//!
//! Crash, by step
//! - close: (queue-close-1) the run is closed (`raw/mpmc`), (queue-close-2) the change is counted,
//!   (queue-close-3) everybody is woken. From queue-close-1 on nothing is sent in that run. Before
//!   queue-close-3 a sleeper notices after one LIVENESS_INTERVAL.
//! - leave: unfinished messages are requeued (`queue/redelivery.rs`), or tasks are counted as lost
//!   (`queue/tasks.rs`), (queue-leave-1) the exit is
//!   recorded, (queue-leave-2) the record is LEFT, (queue-leave-3) the change is counted,
//!   (queue-leave-4) everybody is woken. Before queue-leave-2 the others see a death. After it they
//!   see that it left, a sleeper after one LIVENESS_INTERVAL.
//!   While the participant has blocks that are filled or read in place, the record is LEAVING
//!   instead, and its lock is held. It becomes LEFT with the last of them.
//! - exit of the process: the same steps in the order 2, 1, 3, 4, with the record LEAVING. From the
//!   record on, repair records no death, even if the process is killed before its exit is recorded.
//!   The tasks, and the messages that are to be delivered again, are left to repair.

use std::fmt;
use std::mem;
use std::sync::Arc;

use crate::error::{NotHere, SendError};
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::queue::membership::JoinSnapshot;
use crate::queue::payload::PayloadPool;
use crate::queue::redelivery::Redelivery;
use crate::queue::state::{QueueState, RoleVersion};
use crate::raw::event_count::EventCount;
use crate::raw::mpmc::tail::Tail;
use crate::raw::mpmc::{Drain, Ring, RingWords};
use crate::region::Region;
use crate::region::layout::participant;
use crate::region::layout::queue::{control, own};
use crate::region::lifecycle::{Holder, Registration};
use crate::region::participant::{LEAVING, LEFT, ParticipantStatus};
use crate::region::repair::{Budget, RepairScan};
use crate::region::words::{Mapped, Word};
use crate::sys::{clock::Deadline, membarrier};
use crate::wait::{Attempt, WaitEnd, WaitState, WaitStrategy, Waiter};

/// How often an unfinished slot is probed before it is skipped: longer than an undisturbed
/// operation takes.
const SPINS_BEFORE_SKIP: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Sender,
    Receiver,
}

impl Role {
    /// The role of its peers.
    pub(super) fn peer(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }

    /// As in the record of a participant.
    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Sender => 1,
            Self::Receiver => 2,
        }
    }

    /// What LAST_EXIT says if a participant of this role ended like that: a sender's run is part of
    /// it.
    pub(super) fn exit_word(self, tail: Tail, exit: u64) -> u64 {
        match self {
            Self::Sender => tail.run() << 8 | exit,
            Self::Receiver => exit,
        }
    }

    /// Which of two words is this role's: the senders' comes first.
    pub(super) fn word_of(self, words: usize) -> usize {
        match self {
            Self::Sender => words,
            Self::Receiver => words + 1,
        }
    }
}

/// What a blocked participant waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitFor {
    Message,
    /// A free slot.
    Slot,
    /// A free block or extent of the payload pool.
    Block,
    TasksDone,
    /// A participant of the other role.
    Peer,
}

impl WaitFor {
    /// Whether an attempt is likely to succeed.
    #[inline]
    pub(super) fn probe(self, words: &RingWords<Mapped>, payload: &PayloadPool) -> bool {
        match self {
            Self::Message => words.probe_ready() || payload.redelivery().is_some_and(Redelivery::probe),
            Self::Slot => words.probe_free(),
            Self::Block | Self::TasksDone | Self::Peer => true,
        }
    }
}

/// This process as a sender or a receiver of a queue, until dropped.
pub(crate) struct QueueParticipant {
    registration: Arc<Registration>,
    holder: Holder,
    role: Role,
    /// The other half of the same `Queue`. It does not count as a peer.
    sibling: Option<usize>,
    readable: EventCount<Mapped>,
    writable: EventCount<Mapped>,
    blocks_freed: EventCount<Mapped>,
    tasks_done: EventCount<Mapped>,
    waiting_for: WaitFor,
    snapshot: JoinSnapshot,
    tail: Word,
    membership_epoch: Word,
    /// A sender was there at that epoch; `u64::MAX`: at none that is known.
    sender_seen_at: AtomicU64,
    /// Messages sent or received.
    message_count: u64,
    /// Where the next liveness check goes on, and what is known of the dead.
    scan: RepairScan,
    /// How all peers ended, if they did, and the version of the words from which that was
    /// concluded.
    peer_end: Option<WaitEnd>,
    peer_end_of: Option<(u64, u64, bool)>,
    /// The version of the peers from which the last end was concluded.
    peer_version: Option<RoleVersion>,
    wait_state: WaitState,
}

impl QueueParticipant {
    pub(crate) fn new(registration: Arc<Registration>, role: Role, wait: WaitStrategy) -> Self {
        let state = QueueState::of(registration.region());
        let event = |index| state.event(index);
        let word = |at| state.participant_word(registration.index(), at).load(Ordering::Acquire); // edge: queue-run
        let snapshot =
            JoinSnapshot { phase: word(participant::RUN), peers_before: word(participant::SINCE).checked_sub(1) };
        let participant = Self {
            holder: Holder::this_process(),
            role,
            sibling: None,
            readable: event(control::READABLE),
            writable: event(control::WRITABLE),
            blocks_freed: event(control::BLOCKS_FREED),
            tasks_done: event(control::TASKS_DONE),
            waiting_for: WaitFor::Message,
            snapshot,
            tail: state.word(control::TAIL),
            membership_epoch: state.word(control::MEMBERSHIP_EPOCH),
            sender_seen_at: AtomicU64::new(u64::MAX),
            message_count: 0,
            scan: RepairScan { scan_from: registration.index(), ..RepairScan::default() },
            peer_end: None,
            peer_end_of: None,
            peer_version: None,
            wait_state: WaitState::new(wait, registration.region()),
            registration,
        };
        participant.registration.leave_at_exit();
        if !membarrier::register() {
            let Self { readable, writable, blocks_freed, tasks_done, .. } = &participant;
            for event in [readable, writable, blocks_freed, tasks_done] {
                event.require_fences();
            }
        }
        participant
    }

    #[inline]
    pub(crate) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    pub(crate) fn state(&self) -> QueueState<'_> {
        QueueState::of(self.registration.region())
    }

    pub(crate) fn region(&self) -> &Region {
        self.registration.region()
    }

    pub(crate) fn index(&self) -> usize {
        self.registration.index()
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn snapshot(&self) -> JoinSnapshot {
        self.snapshot
    }

    pub(crate) fn wait_strategy(&self) -> WaitStrategy {
        self.wait_state.wait()
    }

    pub(crate) fn set_sibling(&mut self, sibling: Option<usize>) {
        self.sibling = sibling;
        self.registration.set_paired(sibling.is_some());
        self.peer_end_of = None;
    }

    pub(super) fn sibling(&self) -> Option<usize> {
        self.sibling
    }

    pub(super) fn set_waiting_for(&mut self, waiting_for: WaitFor) {
        self.waiting_for = waiting_for;
    }

    /// Whether the last fruitless call of a sender needed a block.
    pub(super) fn waits_for_block(&self) -> bool {
        matches!(self.waiting_for, WaitFor::Block)
    }

    /// What a selector sleeps on.
    pub(super) fn event_of_role(&self, index: usize) -> Option<&EventCount<Mapped>> {
        match (self.role, index) {
            (Role::Receiver, 0) => Some(&self.readable),
            (Role::Sender, 0) => Some(&self.writable),
            (Role::Sender, 1) => Some(&self.blocks_freed),
            _ => None,
        }
    }

    /// See [`Holder::is_here`].
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.holder.is_here(&self.registration)
    }

    /// See [`Holder::check`].
    #[inline]
    pub(crate) fn check_holder<E: NotHere>(&self) -> Result<(), E> {
        self.holder.check(&self.registration)
    }

    pub(crate) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// This participant's access to the ring.
    pub(crate) fn ring(&self) -> Ring<Mapped> {
        let intent = self.state().participant_word(self.index(), own::INTENT);
        Ring::new(self.state().ring_words(), self.snapshot.phase, intent, SPINS_BEFORE_SKIP)
    }

    /// Call after sending.
    #[inline]
    pub(crate) fn notify_sent(&mut self, count: u64) {
        self.message_count = self.message_count.wrapping_add(count);
        self.readable.notify(count as u32);
    }

    /// Call after receiving.
    #[inline]
    pub(crate) fn notify_received(&mut self, count: u64) {
        self.message_count = self.message_count.wrapping_add(count);
        self.writable.notify(count as u32);
    }

    /// Call after receiving what took up no slot.
    pub(super) fn count_received(&mut self) {
        self.message_count = self.message_count.wrapping_add(1);
    }

    /// Wakes a receiver instead of the caller, which did not use its wake-up.
    pub(crate) fn pass_on_wake_up(&self) {
        self.readable.notify(1);
    }

    /// Call after freeing a block. Wakes all: not every block is of use to every sender.
    #[inline]
    pub(crate) fn notify_block_freed(&self) {
        self.blocks_freed.notify(u32::MAX);
    }

    pub(crate) fn notify_tasks_done(&self) {
        self.tasks_done.notify(u32::MAX);
    }

    /// Call when a message of a queue that redelivers is done, or a dead letter. Other receivers
    /// may have waited for it before they conclude that nothing can come any more.
    #[inline]
    pub(super) fn notify_finished(&self) {
        self.notify_tasks_done();
        // While a sender is there they wait for that one. When it leaves they look again.
        let epoch = self.membership_epoch.load(Ordering::Acquire); // edge: queue-changes
        // Relaxed: this thread's own.
        if self.sender_seen_at.load(Ordering::Relaxed) != epoch {
            self.notify_end(epoch);
        }
    }

    /// Makes receivers look whether this was the end, unless there is a sender.
    #[inline(never)]
    fn notify_end(&self, epoch: u64) {
        let state = self.state();
        if state.active_with_role(Role::Sender, state.tail()).next().is_some() {
            self.sender_seen_at.store(epoch, Ordering::Relaxed);
        } else if state.ring_words().len() == 0 {
            state.increment(control::MEMBERSHIP_EPOCH);
            self.readable.notify(u32::MAX);
        }
    }

    /// Closes the open run; a sender closes only its own. Returns the position where the run ends.
    pub(crate) fn close(&self) -> Result<u64, SendError> {
        let only = (self.role == Role::Sender).then_some(self.snapshot.phase);
        let end = self.state().ring_words().close(only)?.ok_or(SendError::Closed)?; // queue-close-1
        self.state().increment(control::MEMBERSHIP_EPOCH); // queue-close-2
        self.state().wake_all(); // queue-close-3
        Ok(end)
    }

    /// After a fruitless `try_` call: the end of the peers, if it is why. Otherwise pauses, if this
    /// was the first fruitless call after successes. A caller that polls without a pause would get
    /// every message singly, and keep taking the cache lines of head and tail away from the others.
    pub(crate) fn end_or_backoff(&mut self, wait_for: WaitFor) -> Option<WaitEnd> {
        self.waiting_for = wait_for;
        let end = self.end_of_try();
        if end.is_none() {
            self.wait_state.pause_after_burst(self.message_count);
        }
        end
    }

    /// See [`Waiter::wait_for`].
    pub(crate) fn wait<T, E: From<WaitEnd>>(
        &mut self,
        wait_for: WaitFor,
        deadline: Deadline,
        attempt: impl FnMut(Attempt) -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        self.waiting_for = wait_for;
        self.wait_for(self.message_count, deadline, attempt)
    }

    /// How all peers ended. `None` if there is one, or if the first is still to come. `status`
    /// answers for each peer.
    fn find_peer_end(&mut self, status: impl FnMut(usize) -> Option<ParticipantStatus>) -> Option<WaitEnd> {
        let state = QueueState::of(self.registration.region());
        let peers = self.role.peer();
        let version = state.role_version(peers);
        self.peer_version = Some(version);
        let (is_receiver, is_closed) = (self.role == Role::Receiver, version.tail.is_closed());
        let siblings = u64::from(self.sibling.is_some());
        let has_none_joined =
            self.snapshot.peers_before.is_some_and(|joins| version.joins == joins.wrapping_add(siblings));
        if has_none_joined && (!is_receiver || !is_closed || self.snapshot.phase == version.tail.phase()) {
            return None;
        }
        if is_receiver && is_closed {
            return Some(WaitEnd::Closed);
        }
        let is_sibling = |index| self.sibling == Some(index);
        match state.active_status(peers, self.sibling, status, version) {
            ParticipantStatus::Alive | ParticipantStatus::Vacant => None,
            // One whose process exits loses its tasks when it is gone.
            ParticipantStatus::Left
                if matches!(self.waiting_for, WaitFor::TasksDone)
                    && state.occupied_with_role(peers).any(|index| !is_sibling(index) && state.has_task(index)) =>
            {
                None
            }
            ParticipantStatus::Left => Some(WaitEnd::Closed),
            ParticipantStatus::Dead => Some(WaitEnd::PeerDied),
            ParticipantStatus::LockLost => Some(WaitEnd::LockLost),
        }
    }

    /// Repairs some of the dead: of many participants a few at a time, since each check takes the
    /// kernel longer the more there are.
    pub(super) fn repair_some(&mut self, deadline: Deadline) {
        let state = QueueState::of(self.registration.region());
        state.repair_some(&mut self.scan, Some(self.registration.index()), &Budget::until(deadline));
    }

    /// Looks whether the name is still there: without it, a participant that is alone stays alone.
    pub(super) fn lost_name(&self) -> Option<WaitEnd> {
        let region = self.region();
        // Handles of this process that could make another sender or receiver are participants, too.
        let is_own = |index| index == self.index() || Some(index) == self.sibling;
        let is_alone = || region.participants().registered().all(is_own);
        (region.has_lost_name() && !region.is_nested() && is_alone()).then_some(WaitEnd::NameRemoved)
    }

    /// Whether anything else of this process needs the participant: blocks that are its own.
    fn has_blocks(&self) -> bool {
        // The second one is `leave`'s.
        let has_blocks = Arc::strong_count(&self.registration) > 2;
        fence(Ordering::Acquire); // edge: owned-block
        has_blocks
    }

    fn leave(&mut self) {
        let registration = Arc::clone(&self.registration);
        let (state, index) = (QueueState::of(registration.region()), registration.index());
        let participants = state.region.participants();
        let word = |at| state.participant_word(index, at).load(Ordering::Relaxed);
        if word(own::INTENT) != 0 {
            // An operation stopped half-way, in a damaged region. It must be repaired before
            // another process can be this participant.
            let _ = registration.mark_dead();
            return;
        }
        let words = state.ring_words();
        state.repair_as_last(&mut self.scan, index, &words);
        let has_requeued = state.requeue_held(index, 0..state.layout.all_blocks()); // queue-requeue-2, queue-requeue-3
        let has_extents = state.layout.geometry.extents > 0;
        if has_extents && state.region.is_named() && participants.registered().eq([index]) {
            // Messages that wait keep the name, but the queue need not keep memory for the next
            // ones.
            let payload = PayloadPool::new(state.region, index);
            payload.release_retained(state.region, index);
            payload.release_behind_messages(state.region, &words);
        }
        let has_tasks = word(own::UNFINISHED_TASKS) != 0 || has_requeued;
        state.lose_tasks(index); // queue-task-1 to queue-task-4
        // The receiver of a `Queue` that never received does not count as a receiver. The exit
        // comes before the record: others read it as soon as they see the record.
        if self.sibling.is_none() || self.message_count > 0 {
            state.store_exit(index, LEFT); // queue-leave-1
        }
        participants.set_state(index, if self.has_blocks() { LEAVING } else { LEFT }); // queue-leave-2
        state.increment(control::MEMBERSHIP_EPOCH); // queue-leave-3
        if state.active_with_role(self.role, state.tail()).next().is_none() || has_tasks {
            state.wake_all(); // queue-leave-4
        }
    }
}

/// Tells the others that a participant leaves because its process exits. Its claims, blocks and
/// tasks are repaired when the process is gone.
pub(super) fn announce_exit(registration: &Registration) {
    let (state, index) = (QueueState::of(registration.region()), registration.index());
    if state.region.participants().state(index) == LEAVING {
        return; // the handle is gone, and blocks of it are not
    }
    let role = state.role(index);
    state.repair_as_last(&mut RepairScan::default(), index, &state.ring_words());
    // Here queue-leave-2 comes first: see the header.
    state.region.participants().set_state(index, LEAVING); // queue-leave-2
    // Whether the receiver of a `Queue` has received anything is not known here.
    if role == Role::Sender || !registration.is_paired() {
        state.store_exit(index, LEFT); // queue-leave-1
    }
    state.increment(control::MEMBERSHIP_EPOCH); // queue-leave-3
    state.wake_all(); // queue-leave-4
}

impl Waiter for QueueParticipant {
    type End = WaitEnd;

    fn peer_end(&mut self) -> Option<WaitEnd> {
        let phase = if self.role == Role::Receiver { Tail::load(&self.tail).phase() } else { 0 };
        let is_join = matches!(self.waiting_for, WaitFor::TasksDone);
        let version = (self.membership_epoch.load(Ordering::Acquire), phase, is_join); // edge: queue-changes
        if self.peer_end_of != Some(version) {
            self.peer_end_of = Some(version);
            // Without asking the kernel: a peer that did not leave counts as alive.
            self.peer_end = self.find_peer_end(|_| Some(ParticipantStatus::Alive));
        }
        self.peer_end
    }

    fn check_liveness(&mut self, deadline: Deadline) -> Option<WaitEnd> {
        self.repair_some(deadline);
        let registration = Arc::clone(&self.registration);
        let budget = Budget::until(deadline);
        let mut statuses = mem::take(&mut self.scan.statuses);
        let end = self.find_peer_end(|index| statuses.status(registration.region(), index, &budget));
        self.scan.statuses = statuses;
        let lost_name = self.lost_name();
        end.or(lost_name)
    }

    /// Between the conclusion and the last attempt a peer may have joined, and its message may have
    /// been received by another.
    fn is_final(&mut self, end: &WaitEnd) -> bool {
        let (is_receiver, before) = (self.role == Role::Receiver, self.peer_version);
        let words = self.state().ring_words();
        let drain = if is_receiver && *end == WaitEnd::Closed { words.drain() } else { Ok(Drain::Empty) };
        let drain = match drain {
            // Its receiver may die, and then it is for this one.
            Ok(Drain::Empty) if is_receiver && self.state().may_redeliver_to(Some(self.index()), &words) => {
                Ok(Drain::Stuck)
            }
            drain => drain,
        };
        let version = self.state().role_version(self.role.peer());
        let is_same =
            before.is_some_and(|before| before.joins == version.joins && (!is_receiver || before.tail == version.tail));
        match drain {
            Ok(Drain::Empty) if is_same => return true,
            Err(_) => return true, // in a damaged region an end is better than none
            Ok(Drain::Stuck) => self.peer_end = None, // until something changes, or the next liveness check
            _ => self.peer_end_of = None,
        }
        false
    }

    fn event(&self) -> &EventCount<Mapped> {
        match self.waiting_for {
            WaitFor::Message => &self.readable,
            WaitFor::Slot => &self.writable,
            WaitFor::Block => &self.blocks_freed,
            // All that sleep on this one are woken each time, and few do: a newcomer wakes them.
            WaitFor::TasksDone | WaitFor::Peer => &self.tasks_done,
        }
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.wait_state
    }
}

impl Drop for QueueParticipant {
    fn drop(&mut self) {
        if self.is_here() && !self.registration.is_transferred() {
            self.leave();
        }
    }
}

impl fmt::Debug for QueueParticipant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueParticipant")
            .field("role", &self.role)
            .field("wait", &self.wait_state.wait())
            .field("registration", &self.registration)
            .finish()
    }
}
