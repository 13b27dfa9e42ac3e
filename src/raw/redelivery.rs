//! What: messages that their receivers keep until they are done, and that others get if a receiver
//! dies. Each message lies in a block of a pool (`pool.rs`), and the ring carries the number of the
//! block. A receiver that has claimed the message makes the block its own, and frees it when it is
//! done. If it dies, repair makes the block requeued, by one CAS that needs no room. A message that
//! was delivered as often as is allowed becomes a dead letter instead, and stays in its block.
//!
//! Bytes: the owner word of each block, with a count, and one word that receivers look at first.
//!
//! ```text
//!  owner     63            24 23     16 15                0
//!           ┌────────────────┬─────────┬───────────────────┐
//!           │ generation     │ count   │ participant + 1   │   0xffff: requeued, 0xfffe: dead
//!           └────────────────┴─────────┴───────────────────┘   letter, 0: free
//!           count: how often the message was delivered. 0 with a participant: allocated by a
//!           sender, and perhaps in the ring. From 1 on with a participant: held by a receiver.
//!  requeued  63                             1      0
//!           ┌──────────────────────────────┬────────┐
//!           │ epoch                        │ SOME   │   SOME: there may be requeued messages
//!           └──────────────────────────────┴────────┘
//! ```
//!
//! Invariants
//! - I1: an owner word never has the same value twice while its block is allocated, as in
//!   `pool.rs`: every change of hands begins a new generation.
//! - I2: a block that is held is changed by its holder only, or by the holder of the repair lock if
//!   that one is dead. One that a message in the ring names is changed by the claimer of the
//!   message only. So both do with plain stores. Whatever anybody may take is taken by CAS.
//! - I3: the count is raised by the store that delivers, and never by a repairer. So it is exact,
//!   however often a repairer dies. A message that was claimed counts as delivered.
//! - I4: while a block is requeued, SOME is set, or the participant that has requeued it, or a
//!   repairer, will set it. It is cleared by CAS of a value that was loaded before a scan found
//!   none.
//! - I5: of a message that was claimed, the claimer's intent, or the block, says so until it is
//!   done.
//!
//! Edges
//! - E1: `finish`, `remove`: owner word, Release · `Pool::allocate`: CAS owner word, Acquire. As in
//!   `pool.rs`.
//! - E2: `hold`: owner word, Release · `requeue_all`: CAS, which continues the release sequence, so
//!   that the next receiver (E3) sees what the dead one saw of the message.
//! - E3: `requeue`, `requeue_claimed`, `requeue_all`: owner word, Release · `take_requeued`,
//!   `dead_letters`: load, Acquire. The next receiver sees the message. The CAS that follows need
//!   not acquire again: the word has no value twice (I1).
//! - E4: `announce`: requeued, Release, after E3 · `take_requeued`: load, Acquire, before the scan.
//!   A receiver that sees the epoch finds the block, and one that does not cannot clear SOME.
//! - E5: `fence_before_write`: fence, Release, before the payload is written · `is_dead_letter`:
//!   fence, Acquire, after it was read. One that reads a dead letter while another removes it, and
//!   a sender fills its block, sees that the owner word has changed.
//! - E6: receiver: intent (mpmc E3), head, owner word (E2), intent cleared, owner word freed (E1),
//!   each Release · `dead_letters_if_done`, `may_redeliver_to`: load head, intents, owner words in
//!   this order, each Acquire. They see a message in one of them until it is done, and then what
//!   was done.
//!
//! Crash, by step
//! - (D1) receiver, claimed and not held: the repairer finds the reference in the ring, and
//!   requeues the block (`requeue_claimed`).
//! - (D2) receiver, held, its slot not released: the reference in the ring is invalid (I1). The
//!   repairer releases the slot, and then requeues what the dead one held (`requeue_all`).
//! - (D3) receiver, held: `requeue_all`.
//! - (D4) receiver, finished: the block is free. Ended (`end`) and not freed: the block is its own
//!   and in no message, so `Pool::free_unsent` frees it. The message is not delivered again.
//! - (D5) receiver, requeued, not announced: the repairer announces.
//! - (D6) repairer, after some blocks: the next repairer requeues the rest. What was requeued, and
//!   delivered again meanwhile, is not the dead one's any more.
//! - (D7) repairer, before it announces: the next repairer does. The dead one's place is not free
//!   before that.
//! - (D8) receiver, SOME cleared: nothing was requeued.
//! - (D9) participant that removes a dead letter, taken: as D4, ended.
//! - (D10) participant that redrives a dead letter, not announced: as D5. Senders do that, too, so
//!   the repairer of any participant announces.
//!
//! Source: the words are our own. To count deliveries and to set aside what was delivered too often
//! is Amazon SQS's redrive policy, and RabbitMQ's delivery limit.

use crate::primitive::{Ordering, fence};
use crate::raw::Memory;
use crate::raw::pool::BlockRef;

const OWNER: u64 = 0xffff;
const REQUEUED: u64 = 0xffff;
const DEAD_LETTER: u64 = 0xfffe;
const COUNT_SHIFT: u32 = 16;
const COUNT: u64 = 0xff;
/// Bits of an owner word below the generation.
pub(crate) const LOW: u64 = (COUNT << COUNT_SHIFT) | OWNER;

/// The most deliveries that a limit can allow.
pub(crate) const MAX_DELIVERIES: u64 = COUNT;

/// In the requeued word.
const SOME: u64 = 1;
const EPOCH: u64 = 2;

/// How often a receiver that always loses to another one looks for a requeued message.
const TAKE_RETRIES: usize = 64;

/// What an owner word says about its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Free,
    /// A sender has it, or a message in the ring.
    Sent,
    Held(usize),
    Requeued,
    DeadLetter,
}

/// How often the message was delivered, as the owner word of its block says.
#[inline]
pub(crate) fn delivery_count(owner: u64) -> u64 {
    owner >> COUNT_SHIFT & COUNT
}

pub(crate) fn standing(owner: u64) -> Standing {
    match owner & OWNER {
        0 => Standing::Free,
        REQUEUED => Standing::Requeued,
        DEAD_LETTER => Standing::DeadLetter,
        _ if delivery_count(owner) == 0 => Standing::Sent,
        participant => Standing::Held(participant as usize - 1),
    }
}

/// The word after `owner` with that count and owner, in a new generation.
#[inline]
fn next(owner: u64, count: u64, of: u64) -> u64 {
    (owner | LOW).wrapping_add(1) | count << COUNT_SHIFT | of
}

pub(crate) struct Deliveries<M: Memory> {
    owners: M::Words,
    requeued: M::Word,
    /// How often a message is delivered at most.
    limit: u64,
}

impl<M: Memory> Deliveries<M> {
    pub(crate) fn new(owners: M::Words, requeued: M::Word, limit: u64) -> Self {
        Self { owners, requeued, limit }
    }

    /// Makes the block of a message, which the caller has claimed, this participant's. `None`: the
    /// reference is invalid, in a damaged region.
    #[inline]
    pub(crate) fn hold(&self, sent: BlockRef, participant: usize) -> Option<BlockRef> {
        let word = self.owners.get(sent.block as usize)?;
        // Relaxed: the ring has made the sender's store visible.
        if word.load(Ordering::Relaxed) != sent.owner || standing(sent.owner) != Standing::Sent {
            return None;
        }
        let owner = next(sent.owner, 1, participant as u64 + 1);
        word.store(owner, Ordering::Release); // E2, E6
        Some(BlockRef { block: sent.block, owner })
    }

    /// Frees a block that the caller holds. False: it does not.
    #[inline]
    pub(crate) fn finish(&self, held: BlockRef) -> bool {
        self.replace(held, next(held.owner, 0, 0)).is_some() // E1
    }

    /// Ends the message in a block that the caller holds, and keeps the block, to free it when its
    /// memory is released. `None`: the caller does not hold it.
    pub(crate) fn end(&self, held: BlockRef) -> Option<BlockRef> {
        self.replace(held, next(held.owner, 0, held.owner & OWNER))
    }

    /// Call when a block is allocated, before it is written.
    #[inline]
    pub(crate) fn fence_before_write() {
        fence(Ordering::Release); // E5
    }

    /// Gives a message that the caller holds to another receiver. Returns whether there is
    /// something to receive: false if it is a dead letter now.
    pub(crate) fn requeue(&self, held: BlockRef) -> bool {
        let given = self.given_back(held.owner, delivery_count(held.owner));
        let is_requeued = self.replace(held, given).is_some() && standing(given) == Standing::Requeued; // E3
        if is_requeued {
            self.announce();
        }
        is_requeued
    }

    /// Requeues a message that a dead receiver has claimed. Returns whether it did: nothing changes
    /// if that one, or a repairer, has changed the block already. The caller holds the repair lock,
    /// and announces later.
    pub(crate) fn requeue_claimed(&self, sent: BlockRef) -> bool {
        standing(sent.owner) == Standing::Sent && self.swap(sent, self.given_back(sent.owner, 1)).is_some()
    }

    /// Requeues what a dead participant holds of some blocks, or the caller itself. The caller
    /// holds the repair lock, or is that participant, and announces afterwards. Returns whether
    /// there was anything.
    pub(crate) fn requeue_all(&self, participant: usize, blocks: impl Iterator<Item = u64>) -> bool {
        let mut has_held = false;
        for block in blocks {
            let Some(word) = self.owners.get(block as usize) else { continue };
            let held = BlockRef { block, owner: word.load(Ordering::Relaxed) }; // the CAS decides
            if standing(held.owner) == Standing::Held(participant) {
                self.swap(held, self.given_back(held.owner, delivery_count(held.owner)));
                has_held = true;
            }
        }
        has_held
    }

    /// Makes receivers look for requeued messages.
    pub(crate) fn announce(&self) {
        self.requeued.fetch_add(EPOCH, Ordering::AcqRel); // E4
        self.requeued.fetch_or(SOME, Ordering::AcqRel); // E4
    }

    /// Whether there may be requeued messages: one load.
    #[inline]
    pub(crate) fn probe_requeued(&self) -> bool {
        self.requeued.load(Ordering::Relaxed) & SOME != 0 // only a hint
    }

    /// Takes the requeued message of the lowest `position`, which is called with its block.
    #[inline]
    pub(crate) fn take_requeued(&self, participant: usize, position: impl Fn(u64) -> u64) -> Option<BlockRef> {
        let seen = self.requeued.load(Ordering::Acquire); // E4
        if seen & SOME == 0 { None } else { self.find_requeued(seen, participant, position) }
    }

    #[cold]
    fn find_requeued(&self, seen: u64, participant: usize, position: impl Fn(u64) -> u64) -> Option<BlockRef> {
        for _ in 0..TAKE_RETRIES {
            let requeued = self.blocks().filter(|block| standing(block.owner) == Standing::Requeued);
            let Some(first) = requeued.min_by_key(|block| position(block.block)) else {
                // Relaxed: nothing is told by it. Another epoch, and somebody has requeued since.
                let _ = self.requeued.compare_exchange(seen, seen & !SOME, Ordering::Relaxed, Ordering::Relaxed);
                return None;
            };
            let count = (delivery_count(first.owner) + 1).min(COUNT);
            let taken = self.swap(first, next(first.owner, count, participant as u64 + 1));
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// The blocks of the dead letters.
    pub(crate) fn dead_letters(&self) -> impl Iterator<Item = BlockRef> {
        self.blocks().filter(|block| standing(block.owner) == Standing::DeadLetter)
    }

    /// Whether that is still a dead letter: what was read of it since it was found is whole.
    pub(crate) fn is_dead_letter(&self, letter: BlockRef) -> bool {
        fence(Ordering::Acquire); // E5
        let word = self.owners.get(letter.block as usize);
        word.is_some_and(|word| word.load(Ordering::Relaxed) == letter.owner) // Relaxed: after E5
    }

    /// Takes a dead letter, whose block is this participant's then, to be freed. `None`: another
    /// has taken it.
    pub(crate) fn remove(&self, letter: BlockRef, participant: usize) -> Option<BlockRef> {
        self.swap(letter, next(letter.owner, 0, participant as u64 + 1))
    }

    /// Makes a dead letter a message again that was never delivered. False: another has taken it.
    pub(crate) fn redrive(&self, letter: BlockRef) -> bool {
        let is_requeued = self.swap(letter, next(letter.owner, 0, REQUEUED)).is_some();
        if is_requeued {
            self.announce();
        }
        is_requeued
    }

    /// Whether every message from before position `end` is done, or a dead letter. `None`: it is
    /// not. Otherwise how many of the dead letters are from before. `is_claimed`: a receiver has
    /// claimed a position before `end`.
    pub(crate) fn dead_letters_if_done(
        &self,
        end: u64,
        head: impl FnOnce() -> u64,
        is_claimed: impl FnOnce() -> bool,
        position: impl Fn(u64) -> u64,
    ) -> Option<u64> {
        // In the order in which a message moves, so that none moves past the search (E6).
        if head() < end || is_claimed() {
            return None;
        }
        let mut dead_letters = 0;
        for block in self.blocks() {
            // A block that was freed meanwhile may have a later message, of a later position.
            let is_before = || position(block.block) < end;
            match standing(block.owner) {
                Standing::Held(_) | Standing::Requeued if is_before() => return None,
                Standing::DeadLetter if is_before() => dead_letters += 1,
                _ => {}
            }
        }
        Some(dead_letters)
    }

    /// Whether a receiver is to wait, after everything in the ring was claimed, for a message that
    /// may still be delivered to it: one that is requeued, or that another has claimed or holds.
    /// If it holds one itself, it does not wait for those that others hold: two would wait for each
    /// other.
    ///
    /// `is_claimed`: another receiver has claimed a position before the one given. `is_receiver`:
    /// whether a participant is a receiver now. `participant` is `None` for one that joins.
    pub(crate) fn may_redeliver_to(
        &self,
        participant: Option<usize>,
        head: impl FnOnce() -> u64,
        is_claimed: impl FnOnce(u64) -> bool,
        is_receiver: impl Fn(usize) -> bool,
    ) -> bool {
        // In the order in which a message moves (E6).
        if is_claimed(head()) {
            return true;
        }
        let (mut others_hold, mut holds) = (false, false);
        // One look at each block: a message that is requeued meanwhile is seen as held or requeued.
        for block in self.blocks() {
            match standing(block.owner) {
                Standing::Requeued => {
                    // Its repairer was killed before it announced (D7), or the region is damaged.
                    // Nobody waits for what no one finds.
                    if !self.probe_requeued() {
                        self.announce();
                    }
                    return true;
                }
                Standing::Held(holder) if Some(holder) == participant => holds = true,
                Standing::Held(holder) => others_hold |= is_receiver(holder) || !self.is_unchanged(block),
                _ => {}
            }
        }
        others_hold && !holds
    }

    /// Whether the owner word of a block is what it was: the block did not change hands meanwhile.
    fn is_unchanged(&self, seen: BlockRef) -> bool {
        let word = self.owners.get(seen.block as usize);
        word.is_some_and(|word| word.load(Ordering::Acquire) == seen.owner) // E3
    }

    /// All blocks, with their owner words.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockRef> {
        let owners = self.owners.iter().zip(0..);
        owners.map(|(word, block)| BlockRef { block, owner: word.load(Ordering::Acquire) }) // E3, E6
    }

    /// What becomes of a message that was delivered `count` times and not finished.
    fn given_back(&self, owner: u64, count: u64) -> u64 {
        next(owner, count, if count < self.limit { REQUEUED } else { DEAD_LETTER })
    }

    /// Changes the owner word of a block that is the caller's. `None`: it is not.
    #[inline]
    fn replace(&self, own: BlockRef, owner: u64) -> Option<BlockRef> {
        let word = self.owners.get(own.block as usize)?;
        // Relaxed: the caller's own store.
        let is_own = word.load(Ordering::Relaxed) == own.owner;
        is_own.then(|| word.store(owner, Ordering::Release)); // E1, E3, E6
        is_own.then_some(BlockRef { block: own.block, owner })
    }

    /// Changes an owner word that was seen. `None`: another has changed it.
    fn swap(&self, seen: BlockRef, owner: u64) -> Option<BlockRef> {
        let word = self.owners.get(seen.block as usize)?;
        // Relaxed on failure: nothing is taken from there.
        word.compare_exchange(seen.owner, owner, Ordering::Release, Ordering::Relaxed).ok()?; // E2, E3
        Some(BlockRef { block: seen.block, owner })
    }
}
