//! What a queue looks like at one moment.

use std::fmt;

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
    /// Blocks and extents in use. Each holds one message: a queued one, or one that is being sent
    /// or received; in a queue that redelivers also one that is not finished, is to be delivered
    /// again, or is a dead letter.
    pub pooled: u64,
    /// How many messages up to the length of a block can lie outside of slots. 0 for values.
    pub blocks: u64,
    /// Blocks in use.
    pub used_blocks: u64,
    /// How many messages longer than a block there can be at a time. 0 for values.
    pub extents: u64,
    /// Extents in use.
    pub used_extents: u64,
    /// Bytes of memory in extents: for queued messages, and up to 64 MiB that the queue retains for
    /// the next ones.
    pub extents_bytes: u64,
    /// Sending handles of any run, of live processes and of dead ones that are not repaired yet.
    pub senders: u64,
    /// Receiving handles of live processes and of dead ones that are not repaired yet.
    pub receivers: u64,
    /// Messages that were received and are not finished; this and the next two only in a queue that
    /// [redelivers](crate::queue#redelivery).
    pub unfinished: u64,
    /// Messages that are to be delivered again.
    pub requeued: u64,
    /// Messages that were delivered as often as is allowed, and never finished.
    pub dead_letters: u64,
    /// Whether the last run was closed and no sender has begun the next one.
    pub is_closed: bool,
    /// The longest message that lies in a slot, and in a block.
    inline_bytes: u64,
    block_bytes: u64,
    redelivers: bool,
    /// Dead letters in extents.
    long_dead_letters: u64,
}

/// What a queue has run out of, see [`Stats::shortage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortage {
    /// Every slot is taken or quarantined: as many messages as
    /// [`capacity`](crate::queue::Options::capacity) says are queued.
    Slots,
    /// Every block and every extent is in use: see [`blocks`](crate::queue::Options::blocks).
    Blocks,
    /// Every block and every extent is in use, or for a message longer than a block every extent,
    /// some of them by dead letters: see
    /// [`dead_letters`](crate::queue::Receiver::dead_letters).
    DeadLetters,
    /// Every extent is in use: see [`extents`](crate::queue::Options::extents).
    Extents,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slots => "every slot is taken; receive messages, or choose a larger capacity",
            Self::Blocks => "every block and every extent is in use; receive messages, or choose more blocks",
            Self::DeadLetters => "every block or extent is in use, some by dead letters; remove those, or choose more",
            Self::Extents => "every extent is in use; receive messages, or choose more extents",
        })
    }
}

impl Stats {
    /// Returns what a message of `bytes` bytes has to wait for. `None`: nothing, it can be sent.
    ///
    /// A [`try_send`](crate::queue::ByteSender::try_send) of such a message returns
    /// [`Full`](crate::SendError::Full) meanwhile, and `send` blocks. Others send and receive at
    /// any time, so the answer may be out of date when you get it.
    ///
    /// # Examples
    /// ```
    /// use tombolo::{SendError, queue};
    ///
    /// let mut queue = queue::Options::bytes().extents(2).create()?;
    /// queue.send(vec![1; 10_000])?;
    /// queue.send(vec![2; 10_000])?;
    /// assert_eq!(queue.try_send(vec![3; 10_000]), Err(SendError::Full));
    /// assert_eq!(queue.stats().shortage(10_000), Some(queue::Shortage::Extents));
    /// assert_eq!(queue.stats().shortage(100), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shortage(&self, bytes: usize) -> Option<Shortage> {
        let bytes = bytes as u64;
        if self.queued + self.quarantined >= self.capacity {
            Some(Shortage::Slots)
        } else if !self.redelivers && bytes <= self.inline_bytes
            || bytes <= self.block_bytes && self.used_blocks < self.blocks
            || self.used_extents < self.extents
            || self.blocks + self.extents == 0
        {
            None
        } else if if bytes <= self.block_bytes { self.dead_letters } else { self.long_dead_letters } > 0 {
            Some(Shortage::DeadLetters)
        } else if bytes <= self.block_bytes {
            Some(Shortage::Blocks)
        } else {
            Some(Shortage::Extents)
        }
    }

    pub(crate) fn read(state: QueueState<'_>) -> Self {
        let (words, payload) = (state.ring_words(), PayloadPool::new(state.region, 0));
        let count = |index| state.word(index).load(Ordering::Acquire); // edge: snapshot
        let deliveries = state.delivery_counts();
        let (geometry, (used_blocks, used_extents)) = (state.layout.geometry, payload.used());
        Self {
            queued: words.len(),
            capacity: words.capacity,
            quarantined: words.quarantined(),
            lost: count(control::LOST),
            tasks_lost: state.tasks_lost(),
            dropped: count(control::DROPPED),
            pooled: used_blocks + used_extents,
            blocks: geometry.blocks,
            used_blocks,
            extents: geometry.extents,
            used_extents,
            extents_bytes: payload.extents_bytes(state.region),
            senders: state.with_role(Role::Sender).count() as u64,
            receivers: state.with_role(Role::Receiver).count() as u64,
            unfinished: deliveries.held,
            requeued: deliveries.requeued,
            dead_letters: deliveries.dead_letters,
            long_dead_letters: deliveries.long_dead_letters,
            is_closed: words.is_closed(),
            inline_bytes: payload.inline_bytes() as u64,
            block_bytes: geometry.block_bytes,
            redelivers: state.layout.redelivers(),
        }
    }
}
