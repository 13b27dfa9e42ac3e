//! What a queue looks like at one moment.

use crate::primitive::Ordering;
use crate::queue::participant::Role;
use crate::queue::payload::PayloadPool;
use crate::queue::state::QueueState;
use crate::region::layout::queue::control;

/// What a queue looks like at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Queued messages.
    pub queued: u64,
    /// How many messages can be queued.
    pub capacity: u64,
    /// Quarantined slots. Processes stopped while using them; a slot is released when its process
    /// continues, or is repaired.
    pub quarantined: u64,
    /// Messages that were lost with processes that died while receiving them.
    pub lost: u64,
    /// Messages that receivers had when they died or left, without a
    /// [`task_done`](crate::queue::Receiver::task_done) for them, and those of
    /// [`lost`](Self::lost). Nobody does what they ask for. A message whose receiver died at the
    /// end of receiving it may be counted as both.
    ///
    /// This says nothing if receivers never call `task_done`: then it counts whatever they had
    /// received.
    pub tasks_lost: u64,
    /// Messages that were discarded by `close_now`, or because there was no memory to receive them.
    pub dropped: u64,
    /// Messages that lie in the payload pool.
    pub pooled: u64,
    /// Bytes of memory in extents: for queued messages, and up to 64 MiB that the queue retains for
    /// the next ones.
    pub extents_bytes: u64,
    /// Sending handles of any run, of live processes and of dead ones that are not repaired yet.
    pub senders: u64,
    /// Receiving handles of live processes and of dead ones that are not repaired yet.
    pub receivers: u64,
    /// Whether the last run was closed and no sender has begun the next one.
    pub is_closed: bool,
}

impl Stats {
    pub(crate) fn read(state: QueueState<'_>) -> Self {
        let (words, payload) = (state.ring_words(), PayloadPool::new(state.region, 0));
        let count = |index| state.word(index).load(Ordering::Acquire); // edge: snapshot
        Self {
            queued: words.len(),
            capacity: words.capacity,
            quarantined: words.quarantined(),
            lost: count(control::LOST),
            tasks_lost: state.tasks_lost(),
            dropped: count(control::DROPPED),
            pooled: payload.used_blocks(),
            extents_bytes: payload.extents_bytes(state.region),
            senders: state.with_role(Role::Sender).count() as u64,
            receivers: state.with_role(Role::Receiver).count() as u64,
            is_closed: words.is_closed(),
        }
    }
}
