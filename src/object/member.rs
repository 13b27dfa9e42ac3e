//! Taking part in a namespace: one lane for each process, however many handles it has; who died, and what becomes of what it held.
//!
//! Crash, by step
//! - join: as in liveness.rs. A member holds nothing at first, so there is no more to it.
//! - leave: (L1) what was held by guards that were forgotten is let go, as by a death, (L2) LEFT, then as in liveness.rs.
//! - repair: (R1) each object that the dead one held, owned, read or came to, (R2) lane REPAIRED. The lane is nobody's before R2, so every
//!   step may be done again by another repairer. One pass over the objects does for all who were known to be dead when it began; what
//!   takes too long for one call goes on in the next one, at the object where it stopped.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, TryLockError, Weak};

use crate::error::{ErrorKind, Result};
use crate::object::table::{EVENT, Entry, MANY, ObjectKind, STATE, Table, permits, rw_lock, value};
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::barrier::Barrier;
use crate::raw::event_count::EventCount;
use crate::raw::pool::Pool;
use crate::raw::reader_counts::ReaderCounts;
use crate::raw::robust_lock::RobustLock;
use crate::region::Region;
use crate::region::directory::Directory;
use crate::region::layout::participant;
use crate::region::lifecycle::{LifecycleHooks, Registration};
use crate::region::participant::{LEAVING, ParticipantStatus, REPAIRED};
use crate::region::process_exit::LeaveAtExit;
use crate::region::repair::{Budget, MAX_CHECKS, RepairOutcome, RepairScan};
use crate::region::words::Mapped;
use crate::sys::file::FileId;
use crate::sys::{self, fork::ForkSafe};
use crate::wait::{LIVENESS_INTERVAL, WaitEnd};

/// Members for whom one pass over the objects is made at most.
const TOGETHER: usize = 64;

/// This process in a namespace.
pub(crate) struct Membership {
    seat: Registration,
    table: Table,
    locals: Vec<Local>,
    /// The lock in the kernel is the process's; of its threads, too, one repairs at a time.
    repairing: Mutex<Pass>,
    /// Where the next question goes, if there are too many to be asked about at once.
    turn: AtomicU64,
}

/// One pass over all objects, for some who are dead.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// Their lanes, and how many had sat there.
    dead: Vec<(usize, u64)>,
    /// The object with which it goes on.
    at: usize,
}

/// What only this process needs to know of an object.
#[derive(Debug, Default)]
pub(crate) struct Local {
    /// Which one of this process's it is, of all that there were.
    pub(crate) id: u64,
    /// The thread that holds its lock, 0 for none or another process's.
    pub(crate) holder: AtomicU64,
    /// How often, beyond once.
    pub(crate) depth: AtomicU64,
    /// When the kernel was last asked by calls that do not wait, in nanoseconds of this process.
    pub(crate) asked: AtomicU64,
    /// Its lock's guards that were leaked.
    pub(crate) leaked: AtomicU64,
    /// Where a permit was taken last.
    pub(crate) hint: AtomicU64,
}

impl Local {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), ..Self::default() } // only to be another each time
    }
}

/// The members that this process is, and in a forked child those that its parent was.
static MEMBERS: ForkSafe<HashMap<FileId, Weak<Membership>>> = ForkSafe::new();

/// It may be a parent's, of which nothing must be dropped within the section.
fn known(members: &HashMap<FileId, Weak<Membership>>, id: FileId) -> Option<Arc<Membership>> {
    members.get(&id).and_then(Weak::upgrade)
}

impl Membership {
    /// The process's membership of that region, new or old. None: the region is losing its name, look the name up again.
    pub(crate) fn of(region: Region) -> Result<Option<Arc<Self>>> {
        let id = region.id();
        if let Some(member) = MEMBERS.with(|members| known(members, id)).filter(|member| member.is_from_this_process())
        {
            return Ok(Some(member));
        }
        match Self::join(region) {
            // Another thread may have got the last one, for this process.
            Err(error) if error.kind() == ErrorKind::TooManyParticipants => {
                let member = MEMBERS.with(|members| known(members, id)).filter(|member| member.is_from_this_process());
                member.map(Some).ok_or(error)
            }
            joined => Ok(joined?.map(Self::register)),
        }
    }

    /// Joins, for this process's first handle.
    pub(crate) fn join(region: Region) -> Result<Option<Self>> {
        let table = Table::parse(&region)?;
        // Each newcomer looks at some others, wherever: with few lanes at all of them.
        let cursor = sys::clock::now() as usize % region.layout().participants();
        let mut scan = RepairScan { cursor, ..RepairScan::default() };
        table.repair_next(&region, None, &mut scan, &Budget::bounded());
        let free = |region: &Region| {
            region.participants().free(|| {
                table.repair(region, None);
            })
        };
        let seat = Registration::join(region, free, ROLE, &HOOKS, |_, _| Ok(()))?;
        let locals = table.entries.iter().map(|_| Local::new()).collect();
        Ok(seat.map(|seat| Self { seat, table, locals, repairing: Mutex::default(), turn: AtomicU64::new(0) }))
    }

    /// Gives the region its name.
    pub(crate) fn publish(&mut self, name: &str, directory: &Directory) -> Result<()> {
        self.seat.region_mut().publish(name, directory)
    }

    /// Makes it the membership of the whole process.
    pub(crate) fn register(self) -> Arc<Self> {
        let (id, member) = (self.region().id(), Arc::new(self));
        member.seat.leave_at_exit_by(Arc::downgrade(&member) as Weak<dyn LeaveAtExit>);
        // Another thread may have come at the same time. The second one leaves again.
        let first = MEMBERS.with(|members| {
            let first = known(members, id);
            if !first.as_ref().is_some_and(|first| first.is_from_this_process()) {
                members.retain(|_, other| other.strong_count() > 0);
                members.insert(id, Arc::downgrade(&member));
            }
            first
        });
        first.filter(|first| first.is_from_this_process()).unwrap_or(member)
    }

    /// False in a process that was forked from the one that joined.
    #[inline]
    pub(crate) fn is_from_this_process(&self) -> bool {
        self.region().is_from_this_process()
    }

    #[inline]
    pub(crate) fn region(&self) -> &Region {
        self.seat.region()
    }

    #[inline]
    pub(crate) fn lane(&self) -> usize {
        self.seat.index()
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// None: no such object, which its handle has seen to.
    #[inline]
    pub(crate) fn local(&self, object: usize) -> Option<&Local> {
        self.locals.get(object)
    }

    /// Whether a lane is taken, by a process dead or alive.
    pub(crate) fn is_present(&self, lane: usize) -> bool {
        self.region().participants().is_occupied(lane)
    }

    /// Of many lanes those that are to be asked about next.
    pub(crate) fn some_of(&self, lanes: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut lanes: Vec<usize> = lanes.into_iter().collect();
        if lanes.len() > MAX_CHECKS {
            // Relaxed: any place will do.
            let turn = self.turn.fetch_add(MAX_CHECKS as u64, Ordering::Relaxed) as usize % lanes.len();
            lanes.rotate_left(turn);
            lanes.truncate(MAX_CHECKS);
        }
        lanes
    }

    /// What the kernel says of some that are waited for; the dead among them are repaired. If they are many, it is asked about some.
    pub(crate) fn ask(&self, lanes: impl IntoIterator<Item = usize>) -> Option<WaitEnd> {
        self.ask_within(self.some_of(lanes), &Budget::until(None))
    }

    /// As [`ask`](Self::ask), about all as far as the budget allows.
    pub(crate) fn ask_within(&self, lanes: impl IntoIterator<Item = usize>, budget: &Budget) -> Option<WaitEnd> {
        let mut stop = None;
        let mut dead = Vec::new();
        for lane in lanes {
            if lane == self.lane() {
                continue;
            }
            if lane >= self.region().layout().participants() {
                stop = Some(WaitEnd::Corrupt);
                break;
            }
            if !budget.may_check() {
                break;
            }
            match self.region().participants().status(lane) {
                ParticipantStatus::Alive => {}
                ParticipantStatus::Dead => dead.push(lane),
                ParticipantStatus::LockLost => stop = Some(WaitEnd::LockLost),
                // Who leaves holds nothing any more.
                ParticipantStatus::Left | ParticipantStatus::Vacant => stop = Some(WaitEnd::Corrupt),
            }
        }
        if !dead.is_empty() {
            let mut pass = match self.repairing.try_lock() {
                Ok(pass) => pass,
                Err(TryLockError::Poisoned(pass)) => pass.into_inner(),
                Err(TryLockError::WouldBlock) => return stop,
            };
            if dead.iter().any(|&lane| !self.is_present(lane)) {
                stop = Some(WaitEnd::Corrupt); // who is repaired holds nothing any more
            }
            let (began_before, budget) = (!pass.dead.is_empty(), budget.renewed());
            self.table.go_on(self.region(), &mut pass, &dead, &budget);
            if began_before {
                self.table.go_on(self.region(), &mut pass, &dead, &budget);
            }
        }
        stop
    }

    /// Whether calls that do not wait, or not for long, should ask about an object: now and then.
    pub(crate) fn is_time_to_ask(&self, object: usize) -> bool {
        self.local(object).is_some_and(|local| {
            // Relaxed: any thread may ask.
            let (now, asked) = (sys::clock::now(), local.asked.load(Ordering::Relaxed));
            let is_time = now.saturating_sub(asked) >= LIVENESS_INTERVAL.as_nanos() as u64;
            if is_time {
                local.asked.store(now, Ordering::Relaxed);
            }
            is_time
        })
    }
}

/// What the records of a namespace's participants say that they do.
const ROLE: u64 = 3;

static HOOKS: LifecycleHooks = LifecycleHooks {
    // What it holds is released when the process is gone, as by a death.
    announce_exit: |seat| seat.region().participants().set_state(seat.index(), LEAVING),
    has_undelivered: |region, _| region.layout().is_persistent(),
    role_name,
};

/// What a participant of a namespace does, in a word.
pub(crate) fn role_name(region: &Region, index: usize) -> &'static str {
    let role = region.word(region.layout().participant(index) + participant::ROLE).load(Ordering::Relaxed);
    if role == ROLE { "member" } else { "nobody" }
}

impl LeaveAtExit for Membership {
    fn announce(&self) -> bool {
        self.seat.announce()
    }

    fn remove_name(&self) {
        self.seat.remove_name();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.is_from_this_process() {
            self.table.let_go(self.region(), &[self.lane()]); // L1
        }
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("seat", &self.seat).field("objects", &self.table.entries.len()).finish()
    }
}

impl Table {
    /// Puts right what dead members left behind; says how many lanes serve again. `own` is the lane that this description
    /// holds, about which the kernel would not tell us.
    pub(crate) fn repair(&self, region: &Region, own: Option<usize>) -> usize {
        let mut scan = RepairScan::default();
        let (mut repaired, mut passed) = (0, 0);
        while passed < region.layout().participants() {
            let outcome = self.repair_next(region, own, &mut scan, &Budget::unlimited());
            repaired += outcome.repaired;
            passed += outcome.scanned.max(1);
        }
        repaired
    }

    /// As [`repair`](Self::repair), of those whom the budget allows to find, and all that they held.
    fn repair_next(
        &self,
        region: &Region,
        own: Option<usize>,
        scan: &mut RepairScan,
        budget: &Budget,
    ) -> RepairOutcome {
        let (dead, scanned) = scan.find_dead(region, own, TOGETHER, budget);
        scan.advance(region, scanned);
        let repaired = self.go_on(region, &mut Pass::default(), &dead, &Budget::unlimited());
        RepairOutcome { repaired, scanned }
    }

    /// Goes on with a pass, or begins one for these dead; says how many lanes serve again.
    fn go_on(&self, region: &Region, pass: &mut Pass, dead: &[usize], budget: &Budget) -> usize {
        if dead.is_empty() && pass.dead.is_empty() {
            return 0;
        }
        let Some(_held) = region.participants().try_lock_repair() else { return 0 };
        // With the right to: somebody may have repaired them before we could, and others have come.
        pass.dead.retain(|&(lane, joins)| {
            region.participants().is_occupied(lane) && region.participants().joins(lane) == joins
        });
        if pass.dead.is_empty() {
            let still_dead = |&&lane: &&usize| region.participants().is_dead(lane, None);
            let with_joins = |&lane| (lane, region.participants().joins(lane));
            *pass = Pass { dead: dead.iter().take(TOGETHER).filter(still_dead).map(with_joins).collect(), at: 0 };
        }
        let lanes: Vec<usize> = pass.dead.iter().map(|&(lane, _)| lane).collect();
        while let Some(entry) = self.entries.get(pass.at).filter(|_| !pass.dead.is_empty()) {
            if !budget.may_scan(entry.words_of(lanes.len())) {
                return 0;
            }
            entry.let_go_of_all(region, &lanes); // R1
            pass.at += 1;
        }
        for &(lane, _) in &pass.dead {
            region.participants().set_state(lane, REPAIRED); // R2
        }
        std::mem::take(&mut pass.dead).len()
    }

    /// Lets go of everything that some members hold: those that are dead, or this process.
    fn let_go(&self, region: &Region, lanes: &[usize]) {
        for entry in &self.entries {
            entry.let_go_of_all(region, lanes);
        }
    }
}

impl Entry {
    /// Shared words to be looked at to find what so many members hold of it.
    fn words_of(&self, lanes: usize) -> usize {
        match self.plan.kind {
            ObjectKind::BoundedSemaphore => self.plan.count as usize,
            _ => lanes,
        }
    }

    /// All at once: a look through the permits of a large semaphore takes long.
    fn let_go_of_all(&self, region: &Region, lanes: &[usize]) {
        match self.plan.kind {
            ObjectKind::BoundedSemaphore => self.let_go_of_permits(region, lanes),
            _ => lanes.iter().for_each(|&lane| self.let_go(region, lane)),
        }
    }

    fn let_go(&self, region: &Region, lane: usize) {
        let free = |at: usize| {
            if self.lock(region, at).release_dead(lane) {
                self.event(region, at + EVENT).wake(1);
            }
        };
        match self.plan.kind {
            ObjectKind::Value => free(value::LOCK),
            ObjectKind::Mutex | ObjectKind::ReentrantMutex | ObjectKind::Array | ObjectKind::Once => free(STATE),
            ObjectKind::RwLock => {
                free(STATE);
                if self.readers(region).release_dead(lane) {
                    self.event(region, rw_lock::DRAINED).wake(u32::MAX);
                }
            }
            ObjectKind::Barrier => {
                let pid = region.word(region.layout().participant(lane) + participant::PID).load(Ordering::Relaxed);
                if self.barrier(region).release_dead(lane, pid) {
                    self.event(region, EVENT).wake(u32::MAX);
                }
            }
            // Permits are let go for several lanes at once, a queue's participants have lanes of their own, and the others
            // hold nothing for anybody.
            ObjectKind::BoundedSemaphore
            | ObjectKind::Atomic
            | ObjectKind::Semaphore
            | ObjectKind::Condvar
            | ObjectKind::Event
            | ObjectKind::Queue => {}
        }
    }

    fn let_go_of_permits(&self, region: &Region, lanes: &[usize]) {
        let lanes: BTreeSet<usize> = lanes.iter().copied().collect();
        let returned = self.permits(region).free_all(|lane| lanes.contains(&lane));
        if returned > 0 {
            self.event(region, EVENT).wake(u32::try_from(returned).unwrap_or(u32::MAX));
            self.event(region, permits::SEVERAL).wake(u32::MAX);
        }
    }

    pub(crate) fn event(&self, region: &Region, at: usize) -> EventCount<Mapped> {
        EventCount::new(region.futex(self.at + at))
    }

    pub(crate) fn lock(&self, region: &Region, at: usize) -> RobustLock<Mapped> {
        RobustLock::new(region.word(self.at + at))
    }

    pub(crate) fn readers(&self, region: &Region) -> ReaderCounts<Mapped> {
        let words = ReaderCounts::<Mapped>::words(region.layout().participants());
        ReaderCounts::new(region.words(self.at + rw_lock::READERS, words))
    }

    pub(crate) fn permits(&self, region: &Region) -> Pool<Mapped> {
        Pool::new(region.words(self.at + MANY, self.plan.count as usize))
    }

    pub(crate) fn barrier(&self, region: &Region) -> Barrier<Mapped> {
        let marks = region.words(self.at + MANY, region.layout().participants());
        Barrier::new(region.word(self.at + STATE), marks, self.plan.count)
    }
}
