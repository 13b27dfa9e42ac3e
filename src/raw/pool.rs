//! What: blocks for payload that is too large for a slot. A sender allocates a block, fills it and
//! names it in a message. The receiver frees it, or takes it over, to read it in place and free it
//! later. A block is freed once, however often it is tried.
//!
//! Bytes: one owner word for each block. The blocks themselves are elsewhere.
//!
//! ```text
//!  63                  16 15                0
//! ┌──────────────────────┬───────────────────┐
//! │ generation           │ participant + 1   │   0 in the lower part: free
//! └──────────────────────┴───────────────────┘
//! ```
//!
//! Invariants
//! - I1: an owner word never has the same value twice while its block is allocated: freeing and
//!   taking over begin a new generation. So block and word together are a reference that is valid
//!   once, and either is a CAS that succeeds for one holder of it.
//! - I2: a reference is in one message at most, and never in another slot before or after. A sender
//!   that sends again does so within its own operation. Once the sender is dead, the reference is
//!   in the slot where it is, or nowhere. A reference that comes from taking over is in no message.
//! - I3: only the holder of the reference writes to the block, and only before its message is sent.
//! - I4: a receiver takes a block over while it has claimed the message, so before the message's
//!   slot is free. A repairer that finds the slot free finds the sender's reference invalid.
//!
//! Edges
//! - E1: `free`: CAS owner word, Release · `allocate`: CAS owner word, Acquire. The last reader is
//!   done before the next writer begins. (The ring makes the payload visible to the receiver.)
//!   `take_over` is no end of it: what the ring carries is enough for the new holder, and that one
//!   frees the block.
//!
//! Crash
//! - (B1) allocated, being filled or full, not sent: the dead participant's reference is in no
//!   message. After its claims are repaired, `free_unsent` frees the block.
//! - (B2) sent: the process that receives the message, or counts it as lost, frees the block.
//! - (B3) receiver, after freeing, before it releases the slot: the repairer that counts the
//!   message as lost frees the block again, which fails (I1).
//! - (B4) repairer: what it has freed is free. The next repairer frees the rest.
//! - (B5) receiver, after taking over, before it releases the slot: the repairer that counts the
//!   message as lost cannot free the block by the reference in it (I1). The block is the dead
//!   receiver's and in no message (I2): `free_unsent` frees it.
//! - (B6) receiver, with a block that it has taken over: as B5, without a message.
//!
//! Source: our own. A free list would be faster to search, but cannot be repaired.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::primitive::Ordering;
use crate::raw::{Memory, redelivery};

const OWNER_BITS: u32 = 16;
const OWNER: u64 = (1 << OWNER_BITS) - 1;

/// The participant that an owner word names, if any.
#[inline]
fn owner_of(word: u64) -> Option<usize> {
    (word & OWNER).checked_sub(1).map(|participant| participant as usize)
}

/// What an owner word that names this participant has in its lower part.
#[inline]
fn owned(participant: usize) -> u64 {
    debug_assert!((participant as u64) < OWNER);
    participant as u64 + 1
}

/// The remainder. A division takes as long as the CAS, and is hardly ever needed.
#[inline]
fn wrap(index: u64, count: u64) -> u64 {
    if index < count { index } else { index % count }
}

/// A block, as allocated once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockRef {
    /// The index of the block.
    pub(crate) block: u64,
    /// Its owner word while it is allocated.
    pub(crate) owner: u64,
}

pub(crate) struct Pool<M: Memory> {
    owners: M::Words,
    /// The bits below the generation.
    low: u64,
}

impl<M: Memory> Pool<M> {
    pub(crate) fn new(owners: M::Words) -> Self {
        Self { owners, low: OWNER }
    }

    /// A pool whose owner words have a count of deliveries, too: `redelivery.rs`. There is no
    /// `take_over` in it.
    #[allow(dead_code, reason = "not used by all models")]
    pub(crate) fn with_counts(owners: M::Words) -> Self {
        Self { owners, low: redelivery::LOW }
    }

    /// Allocates a free block out of `count` from `first` on. Tries the block `hint` first.
    pub(crate) fn allocate(&self, participant: usize, first: u64, count: u64, hint: u64) -> Option<BlockRef> {
        (0..count).find_map(|step| {
            self.allocate_at(participant, first + wrap(hint.wrapping_sub(first).wrapping_add(step), count))
        })
    }

    /// Whether that block is free now.
    #[inline]
    #[allow(dead_code, reason = "not used by all models")]
    pub(crate) fn is_free(&self, block: u64) -> bool {
        // Relaxed: to allocate it is a CAS, which decides.
        self.owners.get(block as usize).is_some_and(|word| word.load(Ordering::Relaxed) & OWNER == 0)
    }

    /// Allocates that block, if it is free.
    #[inline]
    pub(crate) fn allocate_at(&self, participant: usize, block: u64) -> Option<BlockRef> {
        let word = self.owners.get(block as usize)?;
        let free = word.load(Ordering::Relaxed); // the CAS decides
        let owner = free & !self.low | owned(participant); // a damaged region may have a count
        // Relaxed on failure: nothing is taken from there.
        let is_allocated =
            free & OWNER == 0 && word.compare_exchange(free, owner, Ordering::Acquire, Ordering::Relaxed).is_ok(); // E1
        is_allocated.then_some(BlockRef { block, owner })
    }

    /// Frees a block. Returns false if it was freed already, or the reference is invalid.
    #[inline]
    pub(crate) fn free(&self, block_ref: BlockRef) -> bool {
        let free = (block_ref.owner | self.low).wrapping_add(1);
        // Relaxed on failure: another has freed it, and nothing is taken from there.
        block_ref.owner & OWNER != 0
            && self.owners.get(block_ref.block as usize).is_some_and(|word| {
                word.compare_exchange(block_ref.owner, free, Ordering::Release, Ordering::Relaxed).is_ok() // E1
            })
    }

    /// Makes a block that a sender has allocated this participant's. Returns the new reference to
    /// it; `None` if the block was freed or taken over already, or the reference is invalid.
    ///
    /// The caller has claimed the message that has the reference (I4).
    #[inline]
    #[allow(dead_code, reason = "not used by all models")]
    pub(crate) fn take_over(&self, block_ref: BlockRef, participant: usize) -> Option<BlockRef> {
        let owner = (block_ref.owner | OWNER).wrapping_add(1) | owned(participant);
        let word = self.owners.get(block_ref.block as usize).filter(|_| block_ref.owner & OWNER != 0)?;
        // Relaxed: the ring has made the payload visible, and makes this visible before the slot is
        // free (I4). `free` tells the next owner that the block was read.
        word.compare_exchange(block_ref.owner, owner, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(BlockRef { block: block_ref.block, owner })
    }

    /// Returns whether that reference is still to be freed.
    pub(crate) fn is_allocated(&self, block_ref: BlockRef) -> bool {
        let word = self.owners.get(block_ref.block as usize);
        block_ref.owner & OWNER != 0 && word.is_some_and(|word| word.load(Ordering::Acquire) == block_ref.owner) // E1
    }

    /// Frees what a dead participant allocated and did not send, and what it took over.
    /// `remove_sent` removes from a list, sorted by block, what is in a message.
    #[allow(dead_code, reason = "used by models and fuzzers")]
    pub(crate) fn free_unsent(
        &self,
        participant: usize,
        remove_sent: impl FnOnce(&mut Vec<BlockRef>),
        free: impl FnMut(BlockRef),
    ) {
        self.free_unsent_of(self.owned_by(participant).collect(), remove_sent, free);
    }

    /// Does the same with a list of what the participant has allocated. A dead one allocates no
    /// more.
    pub(crate) fn free_unsent_of(
        &self,
        mut block_refs: Vec<BlockRef>,
        remove_sent: impl FnOnce(&mut Vec<BlockRef>),
        mut free: impl FnMut(BlockRef),
    ) {
        debug_assert!(block_refs.is_sorted());
        if !block_refs.is_empty() {
            remove_sent(&mut block_refs);
            // The owner word of what was in a message and was freed meanwhile has changed (I1).
            block_refs.into_iter().filter(|&block_ref| self.is_allocated(block_ref)).for_each(&mut free);
        }
    }

    /// Frees all blocks of some participants, in one pass. Returns how many.
    pub(crate) fn free_all(&self, is_owner: impl Fn(usize) -> bool) -> u64 {
        let theirs = self.block_refs().filter(|block_ref| owner_of(block_ref.owner).is_some_and(&is_owner));
        theirs.filter(|&block_ref| self.free(block_ref)).count() as u64
    }

    /// What each participant below `participants` has allocated, found in one pass.
    pub(crate) fn by_owner(&self, participants: usize) -> BTreeMap<usize, Vec<BlockRef>> {
        let mut found = BTreeMap::<usize, Vec<BlockRef>>::new();
        for block_ref in self.block_refs() {
            if let Some(owner) = owner_of(block_ref.owner).filter(|&owner| owner < participants) {
                found.entry(owner).or_default().push(block_ref);
            }
        }
        found
    }

    /// What a participant has allocated.
    pub(crate) fn owned_by(&self, participant: usize) -> impl Iterator<Item = BlockRef> {
        self.block_refs().filter(move |block_ref| block_ref.owner & OWNER == owned(participant))
    }

    /// Returns the reference to that block, if the participant has allocated it.
    #[inline]
    pub(crate) fn owned_at(&self, participant: usize, block: u64) -> Option<BlockRef> {
        // Relaxed: its own store to the owner, a hint to others.
        let owner = self.owners.get(block as usize)?.load(Ordering::Relaxed);
        (owner & OWNER == owned(participant)).then_some(BlockRef { block, owner })
    }

    /// The reference to a block, as it is now.
    #[inline]
    #[allow(dead_code, reason = "used by models and fuzzers")]
    pub(crate) fn at(&self, block: u64) -> BlockRef {
        // Relaxed: to free it is a CAS, which decides.
        let owner = self.owners.get(block as usize).map_or(0, |word| word.load(Ordering::Relaxed));
        BlockRef { block, owner }
    }

    /// How often a block was freed or taken over.
    #[allow(dead_code, reason = "not used by all models")]
    pub(crate) fn generation_at(&self, block: u64) -> u64 {
        // Relaxed: the caller's fences order it.
        self.owners.get(block as usize).map_or(0, |word| word.load(Ordering::Relaxed) >> OWNER_BITS)
    }

    /// The owner of a block, if it is allocated.
    #[inline]
    #[allow(dead_code, reason = "not used by all models")]
    pub(crate) fn owner_at(&self, block: u64) -> Option<usize> {
        // Relaxed: a hint, or the block is known to be allocated.
        self.owners.get(block as usize).and_then(|word| owner_of(word.load(Ordering::Relaxed)))
    }

    /// The owner of each allocated block.
    pub(crate) fn owners(&self) -> impl Iterator<Item = usize> {
        self.block_refs().filter_map(|block_ref| owner_of(block_ref.owner))
    }

    /// The participants that have allocated anything.
    pub(crate) fn participants(&self) -> BTreeSet<usize> {
        self.owners().collect()
    }

    /// The number of allocated blocks.
    pub(crate) fn allocated(&self) -> u64 {
        self.owners().count() as u64
    }

    /// The number of allocated blocks among these.
    #[allow(dead_code, reason = "not used by models")]
    pub(crate) fn allocated_among(&self, blocks: Range<u64>) -> u64 {
        let owners = self.block_refs().filter(|block_ref| blocks.contains(&block_ref.block));
        owners.filter(|block_ref| owner_of(block_ref.owner).is_some()).count() as u64
    }

    /// All blocks, free ones too.
    fn block_refs(&self) -> impl Iterator<Item = BlockRef> {
        let owners = self.owners.iter().zip(0..);
        // Relaxed: an overview. Freeing is a CAS, which decides.
        owners.map(|(word, block)| BlockRef { block, owner: word.load(Ordering::Relaxed) })
    }
}
