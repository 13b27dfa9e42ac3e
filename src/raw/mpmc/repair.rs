//! What: completing, in the place of dead participants, what they had claimed.
//!
//! Edges: E4 and E5; see `mod.rs`.
//!
//! Crash, by step. What a participant has claimed is exact because of E3.
//!
//! ```text
//!  claimer
//!  C1  intent stored                     nothing is claimed; repair clears the intent. While the
//!                                        claimer is only stopped here, the slots of its intent
//!                                        are not repaired after others
//!  C2  head or tail moved                others skip the position after a short while. Repair
//!                                        returns a producer's slot. A consumer's message is
//!                                        counted as lost, and its slot returned
//!  C3  payload written or read           as C2
//!  C4  slot published or released        done, unless the position was skipped. Then the message
//!                                        was not sent, or the slot is to be returned. Repair does
//!                                        that, and clears the intent. While the claimer is only
//!                                        stopped before its intent shrinks, that slot is not
//!                                        repaired after others; the rest of the batch is its own
//!  C5  returning a slot, mark not yet    repair returns it
//!      Settled
//!  producer that joins or closes
//!  N1  its run announced                 the run is nobody's, or it has sent nothing in it
//!  N2  its run begun                     the run is open, with nobody in it
//!  X1  CLOSED set                        done, but sleepers are not woken
//!  skipper
//!  P1  mark Proposed                     a participant that comes to that position checks the
//!                                        slot itself, or settles it; so does repair if the slot
//!                                        is completed
//!  repairer, of a message that is lost
//!  R1  pending_position and              the next repairer does R3 if, and only if, R2 was done;
//!      pending_lost stored               then R4
//!  R2  slot released                     as R1
//!  R3  lost stored                       as R1, and nothing changes
//!  R4  pending_position cleared          done
//!  R5  slot returned, if skipped         as C5
//!      A message that is kept needs R2 and R5 only.
//! ```

use super::claim::{Claim, Intent};
use super::slot::{Control, Generation, SkipMark, SkipState, Snapshot, fence_against_skippers};
use super::{MAX_BATCH, RingWords};
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::{Corrupt, Memory};

/// How often a slot that keeps changing is read, before a repairer leaves it to the next one.
const REPAIR_RETRIES: usize = 64;

/// Participants between two questions for more time.
const SPEND_INTERVAL: usize = 64;

/// Positions that are repaired together, if they are of more than one participant.
const MAX_GROUP_POSITIONS: u64 = 4 * MAX_BATCH;

/// What repair has counted, and what it was at; all zero at first. Only the holder of the repair
/// lock writes it.
pub(crate) struct RepairLog<M: Memory> {
    /// Messages that were lost with the consumers that had claimed them.
    pub(crate) lost: M::Word,
    /// The position of the loss that is being counted, plus 1; 0 for none.
    pub(crate) pending_position: M::Word,
    /// What `lost` is after it.
    pub(crate) pending_lost: M::Word,
}

/// Repairs what the dead have left. The caller holds the repair lock.
pub(crate) struct Repair<'a, M: Memory> {
    pub(crate) words: &'a RingWords<M>,
    pub(crate) log: &'a RepairLog<M>,
    /// The intent of each participant, by index; `None` beyond the last one.
    pub(crate) intents: &'a dyn Fn(usize) -> Option<M::Word>,
    /// Whether a participant may still go on. `None`: there is no time left to find out.
    pub(crate) is_alive: &'a dyn Fn(usize) -> Option<bool>,
    /// Called before that many shared words are read. False: there is no time left.
    pub(crate) spend: &'a dyn Fn(usize) -> bool,
}

/// A position that a dead participant's intent names.
struct DeadClaim {
    /// Which of the participants that are being repaired.
    of: usize,
    position: u64,
    seen: Snapshot,
    holder: Holder,
}

/// The other participants at a slot, as one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Alive,
    /// There was no time to find out.
    Unknown,
}

impl<M: Memory> Repair<'_, M> {
    /// Finishes what a repairer died over. To be called first.
    pub(crate) fn resume(&self) -> Result<(), Corrupt> {
        let pending = self.log.pending_position.load(Ordering::Acquire); // E5
        if let Some(position) = pending.checked_sub(1) {
            if self.words.slot(position)?.load_control() != Control::ready(position) {
                let lost = self.log.pending_lost.load(Ordering::Relaxed); // Relaxed: after E5
                self.log.lost.store(lost, Ordering::Release); // R3
            }
            self.log.pending_position.store(0, Ordering::Release); // R4, E5
        }
        Ok(())
    }

    /// Completes what some dead participants had claimed. `discard` is shown each message that is
    /// lost, and again if a repairer dies over it. Returns for each participant whether nothing of
    /// it is left. If not, somebody alive is busy at a slot, or there was no time.
    #[allow(dead_code, reason = "used by models and fuzzers")]
    pub(crate) fn release_dead(&self, dead: &[usize], mut discard: impl FnMut(&[AtomicU64])) -> Vec<bool> {
        self.release_dead_or_keep(dead, |payload| {
            discard(payload);
            true
        })
    }

    /// Does the same. `discard` returns whether the message is lost. If not, it is kept elsewhere
    /// than in the slot, and not counted.
    pub(crate) fn release_dead_or_keep(
        &self,
        dead: &[usize],
        mut discard: impl FnMut(&[AtomicU64]) -> bool,
    ) -> Vec<bool> {
        let mut is_released = vec![true; dead.len()];
        let mut claims = self.claims(dead);
        for _ in 0..REPAIR_RETRIES {
            if claims.is_empty() || !(self.spend)(2 * claims.len()) {
                break;
            }
            claims.retain_mut(|claim| self.refresh(claim).unwrap_or_else(|Corrupt| postpone(claim, &mut is_released)));
            self.find_holders(&mut claims);
            claims.retain(|claim| {
                if claim.holder != Holder::Nobody {
                    return postpone(claim, &mut is_released);
                }
                // E4: one that is alive may just have completed and cleared its intent.
                match self.words.snapshot(claim.position) {
                    Ok(snapshot) if snapshot != claim.seen => true,
                    Ok(_) if self.complete(claim, &mut discard).is_ok() => false,
                    _ => postpone(claim, &mut is_released),
                }
            });
        }
        for claim in &claims {
            postpone(claim, &mut is_released);
        }
        for (&participant, _) in dead.iter().zip(&is_released).filter(|(_, is_released)| **is_released) {
            if let Some(intent) = (self.intents)(participant) {
                Intent::NONE.store(&intent);
            }
        }
        is_released
    }

    /// How many of these participants, from the first on, are to be released together: at least
    /// one.
    pub(crate) fn group_len(&self, dead: &[usize]) -> usize {
        let intent =
            |&participant: &usize| (self.intents)(participant).map_or(Intent::NONE, |word| Intent::load(&word));
        let mut positions = 0;
        let fits = |participant: &&usize| {
            positions += intent(participant).claim().count;
            positions <= MAX_GROUP_POSITIONS
        };
        dead.iter().take_while(fits).count().max(1)
    }

    /// What the intents of some participants name, as far as it can have been claimed at all; in
    /// the order of the slots.
    fn claims(&self, dead: &[usize]) -> Vec<DeadClaim> {
        let tail = self.words.load_tail().position();
        let mut claims = Vec::new();
        for (of, &participant) in dead.iter().enumerate() {
            let Some(intent) = (self.intents)(participant) else { continue };
            let Claim { first, count } = Intent::load(&intent).claim();
            for position in first..first.saturating_add(count).min(tail) {
                let seen = Snapshot { control: Control::free(0), mark: SkipMark::ZERO };
                claims.push(DeadClaim { of, position, seen, holder: Holder::Nobody });
            }
        }
        claims.sort_unstable_by_key(|claim| self.words.slot_index(claim.position));
        claims
    }

    /// Reads the slot of a claim. False: there is nothing to be repaired.
    fn refresh(&self, claim: &mut DeadClaim) -> Result<bool, Corrupt> {
        let (words, position) = (self.words, claim.position);
        let slot = words.slot(position)?;
        for _ in 0..REPAIR_RETRIES {
            let seen = slot.snapshot()?;
            if seen.mark == SkipMark::proposed(Generation::before_control(seen.control)) {
                // Or its skipper, which may be asleep, would quarantine a slot that is nobody's.
                slot.resolve(seen);
                continue;
            }
            (claim.seen, claim.holder) = (seen, Holder::Nobody);
            // E3: head or tail beyond the position means that somebody has claimed it.
            let is_claimed = || match seen.control.is_free() {
                true => words.load_tail().position() > position,
                false => words.load_head() > position,
            };
            return Ok(seen.mark.is_quarantined() || seen.control.position() == position && is_claimed());
        }
        Err(Corrupt)
    }

    /// Finds out for each of the claims, which are in the order of their slots, whether anybody
    /// alive is at its slot, on whatever lap. All intents are read after the slots, and before
    /// they are read again (E4): one reading of the intents does for all claims.
    fn find_holders(&self, claims: &mut [DeadClaim]) {
        let slot = |position| self.words.slot_index(position);
        let mut open = claims.len();
        for participant in 0.. {
            let Some(intent) = (self.intents)(participant).filter(|_| open > 0) else { return };
            if participant % SPEND_INTERVAL == 0 && !(self.spend)(SPEND_INTERVAL) {
                let rest = claims.iter_mut().filter(|claim| claim.holder == Holder::Nobody);
                return rest.for_each(|claim| claim.holder = Holder::Unknown);
            }
            let Claim { first, count } = Intent::load(&intent).claim();
            let start = claims.partition_point(|claim| slot(claim.position) < slot(first));
            let mut answer = None;
            // From its first slot on, and once around.
            let (before, from) = claims.split_at_mut(start);
            for claim in from.iter_mut().chain(before) {
                if slot(claim.position.wrapping_sub(first)) as u64 >= count {
                    break;
                }
                if claim.holder != Holder::Nobody {
                    continue;
                }
                let holder = *answer.get_or_insert_with(|| match (self.is_alive)(participant) {
                    Some(true) => Holder::Alive,
                    Some(false) => Holder::Nobody,
                    None => Holder::Unknown,
                });
                if holder == Holder::Nobody {
                    break;
                }
                claim.holder = holder;
                open -= 1;
            }
        }
    }

    /// Completes a dead participant's claim in its place.
    fn complete(&self, claim: &DeadClaim, discard: &mut impl FnMut(&[AtomicU64]) -> bool) -> Result<(), Corrupt> {
        let DeadClaim { position, seen: Snapshot { control, mark }, .. } = *claim;
        match (mark.state(), control.is_free()) {
            // It had completed and not seen that it was skipped; or nothing was sent.
            (SkipState::SkippedUnread, true) | (SkipState::SkippedUnsent, _) => self.words.return_slot(position, mark),
            (_, true) => self.words.abandon(position),
            (_, false) => self.record_loss(control.position(), discard),
        }
    }

    /// Completes a dead consumer's claim in its place, and counts its message, once, if it is lost.
    fn record_loss(&self, position: u64, discard: &mut impl FnMut(&[AtomicU64]) -> bool) -> Result<(), Corrupt> {
        let slot = self.words.slot(position)?;
        let released = Control::free(self.words.next_lap(position));
        if !discard(slot.payload) {
            slot.store_control(released); // R2
            fence_against_skippers(); // E6
            return self.words.complete_slow(released).map(drop); // R5
        }
        // Relaxed: only the holder of the repair lock writes the log.
        let lost = self.log.lost.load(Ordering::Relaxed).wrapping_add(1);
        self.log.pending_lost.store(lost, Ordering::Relaxed); // Relaxed: E5 comes next
        self.log.pending_position.store(position.wrapping_add(1), Ordering::Release); // R1, E5
        slot.store_control(released); // R2
        self.log.lost.store(lost, Ordering::Release); // R3
        self.log.pending_position.store(0, Ordering::Release); // R4, E5
        fence_against_skippers(); // E6
        self.words.complete_slow(released).map(drop) // R5
    }
}

/// Leaves a claim's participant to the next repair. False: the claim is not completed in this one.
fn postpone(claim: &DeadClaim, is_released: &mut [bool]) -> bool {
    if let Some(is_released) = is_released.get_mut(claim.of) {
        *is_released = false;
    }
    false
}
