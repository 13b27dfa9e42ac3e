//! Taking part in a namespace: one lane for each process, however many handles it has; who died, and what becomes of what it held.
//!
//! Crash, by step
//! - join: as in liveness.rs. A member holds nothing at first, so there is no more to it.
//! - leave: (L1) what was held by guards that were forgotten is let go, as by a death, (L2) LEFT, then as in liveness.rs.
//! - repair: (R1) each object that the dead one held, owned, read or came to, (R2) lane REPAIRED. The lane is nobody's before R2, so every
//!   step may be done again by another repairer.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, TryLockError, Weak};

use crate::error::{ErrorKind, Result};
use crate::held::Leaver;
use crate::layout::seat;
use crate::liveness::{LEAVING, MEMBER, REPAIRED, Seat, Standing};
use crate::names::Directory;
use crate::raw::barrier::Barrier;
use crate::raw::event::Event;
use crate::raw::lock::Lock;
use crate::raw::pool::Pool;
use crate::raw::readers::Readers;
use crate::region::{Mapped, Region};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::memory::FileId;
use crate::sys::{self, fork::ForkSafe};
use crate::table::{EVENT, Entry, MANY, ObjectKind, STATE, Table, permits, rw_lock, value};
use crate::wait::{SLICE, Stop};

/// This process in a namespace.
pub(crate) struct Member {
    seat: Seat,
    table: Table,
    locals: Vec<Local>,
    /// The lock in the kernel is the process's; of its threads, too, one repairs at a time.
    repairing: Mutex<()>,
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
static MEMBERS: ForkSafe<HashMap<FileId, Weak<Member>>> = ForkSafe::new();

/// It may be a parent's, of which nothing must be dropped within the section.
fn known(members: &HashMap<FileId, Weak<Member>>, id: FileId) -> Option<Arc<Member>> {
    members.get(&id).and_then(Weak::upgrade)
}

impl Member {
    /// The process's membership of that region, new or old. None: the region is losing its name, look the name up again.
    pub(crate) fn of(region: Region) -> Result<Option<Arc<Self>>> {
        let id = region.id();
        if let Some(member) = MEMBERS.with(|members| known(members, id)).filter(|member| member.is_ours()) {
            return Ok(Some(member));
        }
        match Self::join(region) {
            // Another thread may have got the last one, for this process.
            Err(error) if error.kind() == ErrorKind::LanesTaken => {
                let member = MEMBERS.with(|members| known(members, id)).filter(|member| member.is_ours());
                member.map(Some).ok_or(error)
            }
            joined => Ok(joined?.map(Self::register)),
        }
    }

    /// Joins, for this process's first handle.
    pub(crate) fn join(region: Region) -> Result<Option<Self>> {
        let table = Table::parse(&region)?;
        let repair = |region: &Region| {
            table.repair(region, None);
        };
        repair(&region);
        let free = |region: &Region| region.free_seats(|| repair(region));
        let seat = Seat::join(region, free, MEMBER, farewell, |_, _| Ok(()))?;
        let locals = table.entries.iter().map(|_| Local::new()).collect();
        Ok(seat.map(|seat| Self { seat, table, locals, repairing: Mutex::new(()) }))
    }

    /// Gives the region its name.
    pub(crate) fn publish(&mut self, name: &str, directory: &Directory) -> Result<()> {
        self.seat.region_mut().publish(name, directory)
    }

    /// Makes it the membership of the whole process.
    pub(crate) fn register(self) -> Arc<Self> {
        let (id, member) = (self.region().id(), Arc::new(self));
        member.seat.attend_by(Arc::downgrade(&member) as Weak<dyn Leaver>);
        // Another thread may have come at the same time. The second one leaves again.
        let first = MEMBERS.with(|members| {
            let first = known(members, id);
            if !first.as_ref().is_some_and(|first| first.is_ours()) {
                members.retain(|_, other| other.strong_count() > 0);
                members.insert(id, Arc::downgrade(&member));
            }
            first
        });
        first.filter(|first| first.is_ours()).unwrap_or(member)
    }

    /// False in a process that was forked from the one that joined.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.region().is_ours()
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
        self.region().is_occupied(lane)
    }

    /// What the kernel says of some that are waited for; the dead among them are repaired.
    pub(crate) fn ask(&self, lanes: impl IntoIterator<Item = usize>) -> Option<Stop> {
        let mut stop = None;
        for lane in lanes {
            if lane == self.lane() {
                continue;
            }
            if lane >= self.region().layout().seats() {
                return Some(Stop::Corrupt);
            }
            match self.region().standing(lane) {
                Standing::Alive => {}
                Standing::Dead => {
                    let turn = self.repairing.try_lock();
                    if !self.is_present(lane) {
                        stop = Some(Stop::Corrupt); // who is repaired holds nothing any more
                    } else if !matches!(turn, Err(TryLockError::WouldBlock)) {
                        self.table.repair_among(self.region(), Some(self.lane()), [lane]);
                    }
                    drop(turn);
                }
                Standing::LockLost => stop = Some(Stop::LockLost),
                // Who leaves holds nothing any more.
                Standing::Left | Standing::Vacant => stop = Some(Stop::Corrupt),
            }
        }
        stop
    }

    /// Whether calls that do not wait, or not for long, should ask about an object: now and then.
    pub(crate) fn is_time_to_ask(&self, object: usize) -> bool {
        self.local(object).is_some_and(|local| {
            // Relaxed: any thread may ask.
            let (now, asked) = (sys::now(), local.asked.load(Ordering::Relaxed));
            let is_time = now.saturating_sub(asked) >= SLICE.as_nanos() as u64;
            if is_time {
                local.asked.store(now, Ordering::Relaxed);
            }
            is_time
        })
    }
}

/// Announces the end of a member whose process ends. What it holds is let go when the process is
/// gone, as by a death.
fn farewell(seat: &Seat) {
    seat.region().set_state(seat.index(), LEAVING);
}

impl Leaver for Member {
    fn announce(&self) -> bool {
        self.seat.announce()
    }

    fn give_up_name(&self) {
        self.seat.give_up_name();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.is_ours() {
            self.table.let_go(self.region(), &[self.lane()]); // L1
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("seat", &self.seat).field("objects", &self.table.entries.len()).finish()
    }
}

impl Table {
    /// Puts right what dead members left behind; says how many lanes serve again. `own` is the lane that this description
    /// holds, about which the kernel would not tell us.
    pub(crate) fn repair(&self, region: &Region, own: Option<usize>) -> usize {
        self.repair_among(region, own, 0..region.layout().seats())
    }

    fn repair_among(&self, region: &Region, own: Option<usize>, lanes: impl IntoIterator<Item = usize>) -> usize {
        let dead: Vec<usize> = lanes.into_iter().filter(|&lane| region.is_dead(lane, own)).collect();
        if dead.is_empty() {
            return 0;
        }
        let Some(_held) = region.try_repairing() else { return 0 };
        // Again: somebody may have repaired it before we could.
        let dead: Vec<usize> = dead.into_iter().filter(|&lane| region.is_dead(lane, own)).collect();
        self.let_go(region, &dead); // R1
        dead.iter().for_each(|&lane| region.set_state(lane, REPAIRED)); // R2
        dead.len()
    }

    /// Lets go of everything that some members hold: those that are dead, or this process. All at once: a look through the
    /// permits of a large semaphore takes long.
    fn let_go(&self, region: &Region, lanes: &[usize]) {
        for entry in &self.entries {
            match entry.plan.kind {
                ObjectKind::BoundedSemaphore => entry.let_go_of_permits(region, lanes),
                _ => lanes.iter().for_each(|&lane| entry.let_go(region, lane)),
            }
        }
    }
}

impl Entry {
    fn let_go(&self, region: &Region, lane: usize) {
        let free = |at: usize| {
            if self.lock(region, at).bury(lane) {
                self.event(region, at + EVENT).wake(1);
            }
        };
        match self.plan.kind {
            ObjectKind::Value => free(value::LOCK),
            ObjectKind::Mutex | ObjectKind::ReentrantMutex | ObjectKind::Array | ObjectKind::Once => free(STATE),
            ObjectKind::RwLock => {
                free(STATE);
                if self.readers(region).clear(lane) {
                    self.event(region, rw_lock::DRAINED).wake(u32::MAX);
                }
            }
            ObjectKind::Barrier => {
                let pid = region.word(region.layout().seat(lane) + seat::PID).load(Ordering::Relaxed);
                if self.barrier(region).bury(lane, pid) {
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
        let returned = self.permits(region).give_back_all(|lane| lanes.contains(&lane));
        if returned > 0 {
            self.event(region, EVENT).wake(u32::try_from(returned).unwrap_or(u32::MAX));
            self.event(region, permits::SEVERAL).wake(u32::MAX);
        }
    }

    pub(crate) fn event(&self, region: &Region, at: usize) -> Event<Mapped> {
        Event::new(region.futex(self.at + at))
    }

    pub(crate) fn lock(&self, region: &Region, at: usize) -> Lock<Mapped> {
        Lock::new(region.word(self.at + at))
    }

    pub(crate) fn readers(&self, region: &Region) -> Readers<Mapped> {
        let words = Readers::<Mapped>::words(region.layout().seats());
        Readers::new(region.words(self.at + rw_lock::READERS, words))
    }

    pub(crate) fn permits(&self, region: &Region) -> Pool<Mapped> {
        Pool::new(region.words(self.at + MANY, self.plan.count as usize))
    }

    pub(crate) fn barrier(&self, region: &Region) -> Barrier<Mapped> {
        let marks = region.words(self.at + MANY, region.layout().seats());
        Barrier::new(region.word(self.at + STATE), marks, self.plan.count)
    }
}
