//! This process in a namespace. It takes part once, however many handles it has.
//!
//! Crash, by step
//! - join: as in region/lifecycle.rs. A process that joins holds nothing, so there is no more to
//!   it.
//! - leave: (ns-leave-1) what guards that were forgotten hold is released, as after a death,
//!   (ns-leave-2) LEFT, then as in region/lifecycle.rs.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, TryLockError, Weak};

use crate::error::{ErrorKind, Result};
use crate::object::repair::{Repair, RepairPass};
use crate::object::table::Table;
use crate::primitive::{AtomicU64, Ordering};
use crate::region::Region;
use crate::region::directory::Directory;
use crate::region::layout::participant;
use crate::region::lifecycle::{LifecycleHooks, Registration};
use crate::region::participant::{LEAVING, ParticipantStatus};
use crate::region::process_exit::LeaveAtExit;
use crate::region::repair::{Budget, MAX_CHECKS, RepairScan};
use crate::sys;
use crate::sys::file::FileId;
use crate::sys::fork::{ForkSafe, Generation};
use crate::wait::{LIVENESS_INTERVAL, WaitEnd};

/// This process in a namespace.
pub(crate) struct Membership {
    registration: Registration,
    /// The process that joined.
    generation: Generation,
    table: Table,
    locals: Vec<Arc<LocalState>>,
    /// A pass that did not fit into one call. The kernel's lock is the whole process's, so this
    /// also keeps its threads from repairing at the same time.
    repair: Mutex<RepairPass>,
    /// Where the next liveness checks begin, if there are too many for one call.
    next_check: AtomicU64,
    /// The namespace that this one is an object of. Keeps this process in it.
    owner: Option<Arc<Membership>>,
}

/// What only this process knows of an object.
#[derive(Debug, Default)]
pub(crate) struct LocalState {
    /// Tells it from all others of this process, also from those that are gone.
    pub(crate) id: u64,
    /// The thread that holds the object's lock. 0: none, or another process's.
    pub(crate) holder: AtomicU64,
    /// How often that thread has locked it, less one.
    pub(crate) depth: AtomicU64,
    /// Locks that are kept without a guard.
    pub(crate) kept: AtomicU64,
    /// When a call that waits for less than LIVENESS_INTERVAL last checked, in nanoseconds.
    checked_at: AtomicU64,
    /// Where a permit was last taken.
    pub(crate) hint: AtomicU64,
    /// Which intent records of a map or a list have a thread that writes, as bits.
    pub(crate) writers: AtomicU64,
}

impl LocalState {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), ..Self::default() } // only to be unique
    }

    /// Whether a call that does not wait, or not for long, should check for deaths: once in
    /// LIVENESS_INTERVAL.
    pub(crate) fn is_check_due(&self) -> bool {
        // Relaxed: any thread may check.
        let (now, checked_at) = (sys::clock::now(), self.checked_at.load(Ordering::Relaxed));
        let is_due = now.saturating_sub(checked_at) >= LIVENESS_INTERVAL.as_nanos() as u64;
        if is_due {
            self.checked_at.store(now, Ordering::Relaxed);
        }
        is_due
    }
}

/// The memberships of this process. In a forked child also those of its parent.
static MEMBERSHIPS: ForkSafe<HashMap<FileId, Weak<Membership>>> = ForkSafe::new();

/// It may be a parent's. Nothing of that may be dropped while MEMBERSHIPS is locked.
fn find(memberships: &HashMap<FileId, Weak<Membership>>, id: FileId) -> Option<Arc<Membership>> {
    memberships.get(&id).and_then(Weak::upgrade)
}

impl Membership {
    /// This process's membership of that region. Joins if there is none. None: the region is losing
    /// its name. Look the name up again.
    pub(crate) fn get_or_join(region: Region, owner: Option<Arc<Self>>) -> Result<Option<Arc<Self>>> {
        let id = region.id();
        let own = || MEMBERSHIPS.with(|memberships| find(memberships, id)).filter(|own| own.is_from_this_process());
        if let Some(own) = own() {
            return Ok(Some(own));
        }
        match Self::join(region, owner) {
            // Another thread may have got the last place, for this process.
            Err(error) if error.kind() == ErrorKind::TooManyParticipants => own().map(Some).ok_or(error),
            joined => Ok(joined?.map(Self::register)),
        }
    }

    /// Joins, for this process's first handle.
    pub(crate) fn join(region: Region, owner: Option<Arc<Self>>) -> Result<Option<Self>> {
        let table = Table::parse(&region)?;
        let repair = Repair { region: &region, table: &table };
        // Each newcomer checks some participants, from anywhere on: if there are few, all of them.
        let scan_from = sys::clock::now() as usize % region.layout().participants();
        let mut scan = RepairScan { scan_from, ..RepairScan::default() };
        repair.next(None, &mut scan, &Budget::bounded());
        let places = 0..region.layout().participants();
        let candidates = |region: &Region| region.participants().free();
        let make_room = |region: &Region| {
            region.participants().make_room(|| {
                Repair { region, table: &table }.all(None);
            });
        };
        let registration = Registration::join(region, places, candidates, make_room, ROLE, &HOOKS, |_, _| Ok(()))?;
        let locals = table.entries.iter().map(|_| Arc::new(LocalState::new())).collect();
        Ok(registration.map(|registration| Self {
            registration,
            generation: Generation::current(),
            table,
            locals,
            repair: Mutex::default(),
            next_check: AtomicU64::new(0),
            owner,
        }))
    }

    /// Gives the region its name.
    pub(crate) fn give_name(&mut self, name: &str, directory: &Directory) -> Result<()> {
        self.registration.region_mut().give_name(name, directory)
    }

    /// Makes it the membership of the whole process.
    pub(crate) fn register(self) -> Arc<Self> {
        let (id, own) = (self.region().id(), Arc::new(self));
        own.registration.leave_at_exit_by(Arc::downgrade(&own) as Weak<dyn LeaveAtExit>);
        // Another thread may have joined at the same time. Then this membership leaves again.
        let first = MEMBERSHIPS.with(|memberships| {
            let first = find(memberships, id);
            if !first.as_ref().is_some_and(|first| first.is_from_this_process()) {
                memberships.retain(|_, other| other.strong_count() > 0);
                memberships.insert(id, Arc::downgrade(&own));
            }
            first
        });
        first.filter(|first| first.is_from_this_process()).unwrap_or(own)
    }

    /// False in a process that was forked from the one that joined.
    pub(crate) fn is_from_this_process(&self) -> bool {
        self.generation.is_current()
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn region(&self) -> &Region {
        self.registration.region()
    }

    /// The namespace that this one is an object of.
    pub(crate) fn owner(&self) -> Option<&Arc<Self>> {
        self.owner.as_ref()
    }

    /// Which participant of the namespace this process is.
    pub(crate) fn participant(&self) -> usize {
        self.registration.index()
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn local(&self, object: usize) -> Arc<LocalState> {
        self.locals.get(object).cloned().unwrap_or_default()
    }

    /// Those of many participants that are to be checked next.
    pub(crate) fn sample(&self, participants: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut participants: Vec<usize> = participants.into_iter().collect();
        if participants.len() > MAX_CHECKS {
            // Relaxed: any place will do.
            let next = self.next_check.fetch_add(MAX_CHECKS as u64, Ordering::Relaxed) as usize;
            let count = participants.len();
            participants.rotate_left(next % count);
            participants.truncate(MAX_CHECKS);
        }
        participants
    }

    /// Asks the kernel about participants that a call waits for, of many about some. Repairs what
    /// the dead ones left. Returns an end if waiting for them is of no use.
    pub(crate) fn check_liveness(&self, participants: impl IntoIterator<Item = usize>) -> Option<WaitEnd> {
        self.check_liveness_within(self.sample(participants), &Budget::until(None))
    }

    /// Like [`check_liveness`](Self::check_liveness), but about all that the budget allows.
    pub(crate) fn check_liveness_within(
        &self,
        participants: impl IntoIterator<Item = usize>,
        budget: &Budget,
    ) -> Option<WaitEnd> {
        let mut end = None;
        let mut dead = Vec::new();
        for index in participants {
            if index == self.participant() {
                continue;
            }
            if index >= self.region().layout().participants() {
                end = Some(WaitEnd::Corrupt);
                break;
            }
            if !budget.may_check() {
                break;
            }
            match self.region().participants().status(index) {
                ParticipantStatus::Alive => {}
                ParticipantStatus::Dead => dead.push(index),
                ParticipantStatus::LockLost => end = Some(WaitEnd::LockLost),
                // A participant that has left holds nothing.
                ParticipantStatus::Left | ParticipantStatus::Vacant => end = Some(WaitEnd::Corrupt),
            }
        }
        if !dead.is_empty() {
            let mut pass = match self.repair.try_lock() {
                Ok(pass) => pass,
                Err(TryLockError::Poisoned(pass)) => pass.into_inner(),
                Err(TryLockError::WouldBlock) => return end,
            };
            if dead.iter().any(|&index| !self.region().participants().is_occupied(index)) {
                end = Some(WaitEnd::Corrupt); // a participant that was repaired holds nothing
            }
            let repair = Repair { region: self.region(), table: &self.table };
            let (is_resumed, budget) = (!pass.is_finished(), budget.renewed());
            repair.resume(&mut pass, &dead, &budget);
            if is_resumed {
                repair.resume(&mut pass, &dead, &budget);
            }
        }
        end
    }
}

/// What the records of a namespace's participants say that they do.
const ROLE: u64 = 3;

static HOOKS: LifecycleHooks = LifecycleHooks {
    // What it holds is released when the process is gone, as after a death.
    announce_exit: |registration| {
        registration.region().participants().set_state(registration.index(), LEAVING);
    },
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
        self.registration.announce()
    }

    fn remove_name(&self) {
        self.registration.remove_name();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.is_from_this_process() {
            Repair { region: self.region(), table: &self.table }.release_all(self.participant()); // ns-leave-1
        }
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let objects = self.table.entries.len();
        f.debug_struct("Membership").field("registration", &self.registration).field("objects", &objects).finish()
    }
}
