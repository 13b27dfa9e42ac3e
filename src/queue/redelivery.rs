//! Queues that deliver the messages of dead receivers again (`raw/redelivery.rs`).
//!
//! Every message of such a queue lies in a block or an extent of the payload pool, values too. What
//! is known of it besides its owner word are two words:
//!
//! ```text
//! words of a delivery
//!      0  position    in the ring, as sent
//!      1  length      in bytes
//! ```
//!
//! The sender writes them while it has claimed its position, and the ring publishes them.
//!
//! Crash, by step
//! - repair of a receiver: (queue-requeue-1) what it had claimed (`raw/redelivery.rs` D1),
//!   (queue-requeue-2) what it held (D3, D6), (queue-requeue-3) announced (D7). Another repairer
//!   may do each step again.
//! - leave: queue-requeue-2 and queue-requeue-3, by the receiver itself, before its exit is
//!   recorded. Killed in between, it is repaired as one that died.

use crate::primitive::{AtomicU64, Ordering};
use crate::queue::participant::Role;
use crate::queue::payload::PayloadHeader;
use crate::queue::state::{MAX_SKIPPED, QueueState};
use crate::raw::mpmc::{Ring, RingWords};
use crate::raw::pool::BlockRef;
use crate::raw::redelivery::{Deliveries, Standing, standing};
use crate::region::layout::queue::{control, delivery, own};
use crate::region::words::{Mapped, Word, Words};

/// A participant's access to the deliveries of a queue.
pub(crate) struct Redelivery {
    deliveries: Deliveries<Mapped>,
    /// [`delivery::WORDS`] for each block.
    words: Words,
    /// The participant's.
    intent: Word,
}

/// How many messages of a queue are in which state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DeliveryCounts {
    pub(super) held: u64,
    pub(super) requeued: u64,
    pub(super) dead_letters: u64,
    /// Those in extents.
    pub(super) long_dead_letters: u64,
}

impl Redelivery {
    /// `None`: messages of this queue are delivered once.
    pub(super) fn of(state: QueueState<'_>, index: usize) -> Option<Self> {
        let (start, length) = state.layout.deliveries();
        let redelivery = Self {
            deliveries: state.deliveries()?,
            words: state.region.words(start, length),
            intent: state.participant_word(index, own::INTENT),
        };
        Some(redelivery)
    }

    fn word(&self, block: u64, word: usize) -> u64 {
        let index = (block as usize).saturating_mul(delivery::WORDS) + word;
        // Relaxed, here and below: the ring, or the owner word, has made the sender's stores
        // visible.
        self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Where the message was in the ring.
    pub(super) fn position(&self, block: u64) -> u64 {
        self.word(block, delivery::POSITION)
    }

    /// How long the message is, in bytes: any number in a damaged region.
    pub(super) fn length(&self, block: u64) -> u64 {
        self.word(block, delivery::LENGTH)
    }

    /// Call when the sender has claimed a slot, and writes this header to it.
    pub(super) fn note_sent(&self, header: PayloadHeader) {
        let Some(block) = header.block() else { return };
        let start = (block.block as usize).saturating_mul(delivery::WORDS);
        if let Some([position, length, ..]) = self.words.get(start..) {
            position.store(Ring::<Mapped>::claimed_position(&self.intent), Ordering::Relaxed);
            length.store(header.length(), Ordering::Relaxed);
        }
    }

    /// Holds the message that this slot, which the receiver has claimed, refers to.
    pub(super) fn hold(&self, index: usize, slot: &[AtomicU64]) -> Option<BlockRef> {
        self.deliveries.hold(PayloadHeader::load(slot).block()?, index)
    }

    /// Whether there may be messages that are to be delivered again: one load.
    pub(super) fn probe(&self) -> bool {
        self.deliveries.probe_requeued()
    }

    /// Takes the first of the messages that are to be delivered again.
    pub(super) fn take_requeued(&self, index: usize) -> Option<BlockRef> {
        self.deliveries.take_requeued(index, |block| self.position(block))
    }

    pub(super) fn deliveries(&self) -> &Deliveries<Mapped> {
        &self.deliveries
    }

    /// What this participant holds, in the order of the ring. A handle that was passed on to
    /// another process still has it.
    pub(super) fn held_by(&self, index: usize) -> Vec<BlockRef> {
        let held = self.deliveries.blocks().filter(|block| standing(block.owner) == Standing::Held(index));
        self.in_order(held)
    }

    pub(super) fn dead_letters(&self) -> Vec<BlockRef> {
        self.in_order(self.deliveries.dead_letters())
    }

    fn in_order(&self, blocks: impl Iterator<Item = BlockRef>) -> Vec<BlockRef> {
        let mut blocks: Vec<BlockRef> = blocks.collect();
        blocks.sort_by_key(|block| self.position(block.block));
        blocks
    }

    /// Requeues the message of a slot that a dead receiver has claimed. Returns whether it did: it
    /// may have been done already. `None`: the message is lost, as the slot refers to no block.
    pub(super) fn requeue_claimed(&self, slot: &[AtomicU64]) -> Option<bool> {
        let blocks = (self.words.len() / delivery::WORDS) as u64;
        let block = PayloadHeader::load(slot).block().filter(|block| block.block < blocks);
        block.map(|block| self.deliveries.requeue_claimed(block))
    }
}

impl QueueState<'_> {
    fn deliveries(self) -> Option<Deliveries<Mapped>> {
        let (start, length) = self.layout.owners();
        let new = || Deliveries::new(self.region.words(start, length), self.word(control::REQUEUED), self.limit());
        self.layout.redelivers().then(new)
    }

    fn limit(self) -> u64 {
        self.layout.geometry.deliveries
    }

    /// Gives the messages that a participant holds to other receivers: a dead one's, or the
    /// caller's own. Returns whether there were any. They are among `blocks`.
    pub(super) fn requeue_held(self, index: usize, blocks: impl Iterator<Item = u64>) -> bool {
        let Some(deliveries) = self.deliveries() else { return false };
        let has_held = self.role(index) == Role::Receiver && deliveries.requeue_all(index, blocks); // queue-requeue-2
        deliveries.announce(); // queue-requeue-3
        has_held
    }

    /// Whether a participant holds messages.
    pub(super) fn holds(self, index: usize) -> bool {
        self.any_delivery(|standing| standing == Standing::Held(index))
    }

    /// Whether the receiver `index` is to wait for a message that may still be delivered again.
    /// `None`: one that is about to join. The ring is empty.
    pub(super) fn may_redeliver_to(self, index: Option<usize>, words: &RingWords<Mapped>) -> bool {
        let Some(deliveries) = self.deliveries() else { return false };
        let claimed_before = |head| {
            let mut others = self.occupied_with_role(Role::Receiver).filter(|&other| Some(other) != index);
            others.any(|other| Ring::<Mapped>::claimed_before(&self.participant_word(other, own::INTENT), head))
        };
        let is_receiver = |index| {
            let is_occupied = index < self.layout.participants() && self.region.participants().is_occupied(index);
            is_occupied && self.role(index) == Role::Receiver
        };
        deliveries.may_redeliver_to(index, || words.head_position(), claimed_before, is_receiver)
    }

    /// Whether any message was received and is still in the region.
    pub(super) fn has_deliveries(self) -> bool {
        self.any_delivery(|standing| !matches!(standing, Standing::Free | Standing::Sent))
    }

    fn any_delivery(self, is_so: impl Fn(Standing) -> bool) -> bool {
        self.deliveries().is_some_and(|deliveries| deliveries.blocks().any(|block| is_so(standing(block.owner))))
    }

    pub(super) fn delivery_counts(self) -> DeliveryCounts {
        let mut counts = DeliveryCounts::default();
        for block in self.deliveries().iter().flat_map(Deliveries::blocks) {
            match standing(block.owner) {
                Standing::Held(_) => counts.held += 1,
                Standing::Requeued => counts.requeued += 1,
                Standing::DeadLetter => {
                    counts.dead_letters += 1;
                    counts.long_dead_letters += u64::from(block.block >= self.layout.geometry.blocks);
                }
                Standing::Free | Standing::Sent => {}
            }
        }
        counts
    }

    /// Discards what is to be delivered again. Returns how many messages.
    pub(super) fn discard_requeued(self, redelivery: &Redelivery, index: usize, mut free: impl FnMut(BlockRef)) -> u64 {
        let mut count = 0;
        // Not more than there can be, whatever the region says.
        while count < self.layout.all_blocks()
            && let Some(block) = redelivery.take_requeued(index)
        {
            free(block);
            count += 1;
        }
        count
    }

    /// Whether everything that was sent before position `end` is done, or a dead letter. `None`: it
    /// is not. Otherwise how many of the dead letters are from before.
    pub(super) fn dead_letters_if_done(self, words: &RingWords<Mapped>, end: u64) -> Option<u64> {
        words.advance_over_skipped(MAX_SKIPPED);
        let redelivery = Redelivery::of(self, 0)?;
        let is_claimed = |index| Ring::<Mapped>::claimed_before(&self.participant_word(index, own::INTENT), end);
        redelivery.deliveries.dead_letters_if_done(
            end,
            || words.head_position(),
            || self.occupied_with_role(Role::Receiver).any(is_claimed),
            |block| redelivery.position(block),
        )
    }
}
