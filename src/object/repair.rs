//! Releases what dead processes hold of a namespace's objects.
//!
//! Crash, by step
//! - repair: (ns-repair-1) each object that the dead process held, owned, read or had arrived at,
//!   (ns-repair-2) record REPAIRED. Before ns-repair-2 no process can join as that participant, so
//!   another repairer may do every step again. One pass over the objects serves all that were known
//!   to be dead when it began. What takes too long for one call goes on in the next one, at the
//!   object where it stopped.

use crate::object::table::Table;
use crate::region::Region;
use crate::region::participant::REPAIRED;
use crate::region::repair::{Budget, RepairOutcome, RepairScan};
use crate::region::trace;

/// Dead participants that one pass over the objects serves.
const MAX_DEAD_PER_PASS: usize = 64;

/// One pass over all objects.
#[derive(Debug, Default)]
pub(super) struct RepairPass {
    /// The participants, and how many processes had joined as each.
    dead: Vec<(usize, u64)>,
    /// The object with which it goes on.
    next_object: usize,
}

impl RepairPass {
    pub(super) fn is_finished(&self) -> bool {
        self.dead.is_empty()
    }
}

/// The repair of a namespace.
#[derive(Clone, Copy)]
pub(crate) struct Repair<'a> {
    pub(crate) region: &'a Region,
    pub(crate) table: &'a Table,
}

impl Repair<'_> {
    /// Repairs what all dead participants left. Returns how many can be joined again. `own` is the
    /// participant that this description holds: the kernel cannot be asked about it.
    pub(crate) fn all(self, own: Option<usize>) -> usize {
        let mut scan = RepairScan::default();
        let (mut repaired, mut scanned) = (0, 0);
        while scanned < self.region.layout().participants() {
            let outcome = self.next(own, &mut scan, &Budget::unlimited());
            repaired += outcome.repaired;
            scanned += outcome.scanned.max(1);
        }
        repaired
    }

    /// Like [`all`](Self::all), but only for the next participants, as many as the budget allows to
    /// check.
    pub(super) fn next(self, own: Option<usize>, scan: &mut RepairScan, budget: &Budget) -> RepairOutcome {
        let (dead, scanned) = scan.find_dead(self.region, own, MAX_DEAD_PER_PASS, budget);
        scan.advance(self.region, scanned);
        let repaired = self.resume(&mut RepairPass::default(), &dead, &Budget::unlimited());
        RepairOutcome { repaired, scanned }
    }

    /// Resumes a pass, or begins one for `dead` if it is finished. Returns how many participants
    /// can be joined again.
    pub(super) fn resume(self, pass: &mut RepairPass, dead: &[usize], budget: &Budget) -> usize {
        if dead.is_empty() && pass.is_finished() {
            return 0;
        }
        let participants = self.region.participants();
        let Some(_lock) = participants.try_lock_repair() else { return 0 };
        // Under the lock: another process may have repaired them, and others may have joined.
        pass.dead.retain(|&(index, joins)| participants.is_occupied(index) && participants.joins(index) == joins);
        if pass.is_finished() {
            let still_dead = dead.iter().filter(|&&index| participants.is_dead(index, None));
            let dead = still_dead.take(MAX_DEAD_PER_PASS).map(|&index| (index, participants.joins(index)));
            *pass = RepairPass { dead: dead.collect(), next_object: 0 };
        }
        if pass.is_finished() {
            return 0;
        }
        let dead: Vec<usize> = pass.dead.iter().map(|&(index, _)| index).collect();
        for object in self.table.objects(self.region).skip(pass.next_object) {
            let kind = object.spec.kind.functions();
            if !budget.may_scan(kind.repair_cost(object.spec, dead.len())) {
                return 0;
            }
            kind.release_dead(&object, &dead); // ns-repair-1
            pass.next_object += 1;
        }
        for &index in &dead {
            participants.set_state(index, REPAIRED); // ns-repair-2
            trace::repaired(self.region, index);
        }
        std::mem::take(&mut pass.dead).len()
    }

    /// Releases everything that this process holds, before it leaves.
    pub(super) fn release_all(self, participant: usize) {
        for object in self.table.objects(self.region) {
            object.spec.kind.functions().release_dead(&object, &[participant]);
        }
    }
}
