//! What: places for payload that is too large for a slot. A sender takes one, fills it, names it in a message; the receiver
//! gives it back. A place is given back once, whoever tries how often.
//!
//! Bytes: one owner word for each place; the places themselves are elsewhere.
//!
//! ```text
//!  63                  16 15            0
//! ┌──────────────────────┬───────────────┐
//! │ generation           │ lane + 1      │   0 in the lower half: free
//! └──────────────────────┴───────────────┘
//! ```
//!
//! Invariants
//! - I1: the word of a place never has the same value twice while it is taken: giving back begins a new generation. So the value
//!   is a token, and giving back is a CAS that succeeds for one holder of it.
//! - I2: a token is in one message at most, and in no other slot before or after: a sender that has to send anew does so in its
//!   own operation. Once its sender is dead, it is in the slot where it is, or nowhere.
//! - I3: only the holder of the token writes to the place, and only before its message is sent.
//!
//! Edges
//! - E1: `give_back` (Release) · `take` (Acquire): the last reader is done before the next writer begins. (That the
//!   payload is visible to the receiver is the ring's business.)
//!
//! Crash
//! - (B1) taken, not sent: the dead lane's token is in no message; after its claims are repaired `reclaim` gives the place back.
//! - (B2) sent: the token is in a message, and who receives it, or counts it as lost, gives the place back.
//! - (B3) receiver, between giving back and releasing the slot: who counts the message as lost tries again, in vain (I1).
//! - (B4) a repairer dies: what it gave back is given back, the rest is the next one's.
//!
//! Source: our own; a free list would be shorter to search, and cannot be repaired.

use std::collections::{BTreeMap, BTreeSet};

use crate::primitive::Ordering;
use crate::raw::Memory;

const LANE_BITS: u32 = 16;
const LANE: u64 = (1 << LANE_BITS) - 1;

/// The remainder; a division takes as long as the CAS, and is hardly ever needed.
#[inline]
fn wrapped(index: u64, count: u64) -> u64 {
    if index < count { index } else { index % count }
}

/// A place, taken once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockRef {
    pub(crate) place: u64,
    pub(crate) owner: u64,
}

pub(crate) struct Pool<M: Memory> {
    owners: M::Words,
}

impl<M: Memory> Pool<M> {
    pub(crate) fn new(owners: M::Words) -> Self {
        Self { owners }
    }

    /// Takes a free place out of `count` from `first` on, looking first where `hint` says.
    pub(crate) fn take(&self, lane: usize, first: u64, count: u64, hint: u64) -> Option<BlockRef> {
        (0..count)
            .find_map(|step| self.take_at(lane, first + wrapped(hint.wrapping_sub(first).wrapping_add(step), count)))
    }

    /// Takes that place, if it is free.
    #[inline]
    pub(crate) fn take_at(&self, lane: usize, place: u64) -> Option<BlockRef> {
        let word = self.owners.get(place as usize)?;
        let free = word.load(Ordering::Relaxed); // the CAS decides
        let owner = free | (lane as u64 + 1);
        let taken =
            free & LANE == 0 && word.compare_exchange(free, owner, Ordering::Acquire, Ordering::Relaxed).is_ok(); // E1
        taken.then_some(BlockRef { place, owner })
    }

    /// False: it was given back already, or is no token.
    #[inline]
    pub(crate) fn give_back(&self, token: BlockRef) -> bool {
        let free = (token.owner | LANE).wrapping_add(1);
        token.owner & LANE != 0
            && self.owners.get(token.place as usize).is_some_and(|word| {
                word.compare_exchange(token.owner, free, Ordering::Release, Ordering::Relaxed).is_ok() // E1
            })
    }

    /// Whether that token is still to be given back.
    pub(crate) fn is_out(&self, token: BlockRef) -> bool {
        let word = self.owners.get(token.place as usize);
        token.owner & LANE != 0 && word.is_some_and(|word| word.load(Ordering::Acquire) == token.owner)
    }

    /// Gives back what a dead lane took and did not send. `take_out` takes out of a list, sorted by place, what is in a message.
    #[allow(dead_code, reason = "used by models and fuzzers")]
    pub(crate) fn reclaim(
        &self,
        lane: usize,
        take_out: impl FnOnce(&mut Vec<BlockRef>),
        give_back: impl FnMut(BlockRef),
    ) {
        self.reclaim_taken(self.of(lane).collect(), take_out, give_back);
    }

    /// As [`reclaim`](Self::reclaim), of what the lane is known to have taken; a dead one takes no more.
    pub(crate) fn reclaim_taken(
        &self,
        mut tokens: Vec<BlockRef>,
        take_out: impl FnOnce(&mut Vec<BlockRef>),
        mut give_back: impl FnMut(BlockRef),
    ) {
        if !tokens.is_empty() {
            take_out(&mut tokens);
            // What was in a message and was given back meanwhile has another value by now (I1).
            tokens.into_iter().filter(|&token| self.is_out(token)).for_each(&mut give_back);
        }
    }

    /// Gives back what some lanes have taken, in one pass over all of it. Returns how many places that was.
    pub(crate) fn give_back_all(&self, is_one: impl Fn(usize) -> bool) -> u64 {
        let tokens = self.owners.iter().zip(0..);
        let tokens = tokens.map(|(word, place)| BlockRef { place, owner: word.load(Ordering::Relaxed) });
        let theirs =
            tokens.filter(|token| (token.owner & LANE).checked_sub(1).is_some_and(|lane| is_one(lane as usize)));
        theirs.filter(|&token| self.give_back(token)).count() as u64
    }

    /// What each of so many lanes has taken, in one pass over all places.
    pub(crate) fn by_lane(&self, lanes: usize) -> BTreeMap<usize, Vec<BlockRef>> {
        let mut found = BTreeMap::<usize, Vec<BlockRef>>::new();
        for (word, place) in self.owners.iter().zip(0..) {
            let owner = word.load(Ordering::Relaxed);
            let lane = (owner & LANE).checked_sub(1).map(|lane| lane as usize);
            if let Some(lane) = lane.filter(|&lane| lane < lanes) {
                found.entry(lane).or_default().push(BlockRef { place, owner });
            }
        }
        found
    }

    /// What a lane has taken.
    pub(crate) fn of(&self, lane: usize) -> impl Iterator<Item = BlockRef> {
        let tokens = self.owners.iter().zip(0..);
        let tokens = tokens.map(|(word, place)| BlockRef { place, owner: word.load(Ordering::Relaxed) });
        tokens.filter(move |token| token.owner & LANE == lane as u64 + 1)
    }

    /// Who has taken each place that is taken.
    pub(crate) fn owners(&self) -> impl Iterator<Item = usize> {
        let owners = self.owners.iter().map(|word| word.load(Ordering::Relaxed) & LANE);
        owners.filter_map(|owner| owner.checked_sub(1)).map(|lane| lane as usize)
    }

    /// Who has taken anything.
    pub(crate) fn lanes(&self) -> BTreeSet<usize> {
        self.owners().collect()
    }

    /// What is taken there, if by that lane.
    #[inline]
    pub(crate) fn at(&self, lane: usize, place: u64) -> Option<BlockRef> {
        let owner = self.owners.get(place as usize)?.load(Ordering::Relaxed);
        (owner & LANE == lane as u64 + 1).then_some(BlockRef { place, owner })
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> u64 {
        self.owners.iter().filter(|word| word.load(Ordering::Relaxed) & LANE != 0).count() as u64
    }
}
