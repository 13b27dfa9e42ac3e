//! The objects of a namespace, as the files in `src/object/` drive them.
//!
//! No lock has two owners, the death of an owner is reported, and what a lock guards is whole. No
//! more permits are out than exist, and none is missing in the end. A value is whole, and its
//! versions never go back. A generation of a barrier is released for all or broken for all. Nobody
//! sleeps while it could go on.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Fences, Futex, Heap, Word, Words, announce_missing_membarrier, wait};
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::barrier::{Arrival, Barrier, Outcome};
use crate::raw::pool::Pool;
use crate::raw::reader_counts::{ReaderCounts, TryEnter};
use crate::raw::robust_lock::{History, RobustLock};
use crate::raw::semaphore::Semaphore;
use crate::raw::seqlock::{CONTROL, SeqLockView};
use crate::world::{self, NewParticipant, Random, Scene, Settings, is_alive, is_locked, pause, try_lock, unlock};

const RECORDS: usize = 6;
/// The size of a guarded value, in words.
const WIDTH: usize = 3;

// As in the model of a queue.
const MEMBERSHIP_LOCK: usize = RECORDS;
const REPAIR: usize = RECORDS + 1;
const PRESENT: u64 = 1;
const LEFT: u64 = 2;
const REPAIRED: u64 = 3;

/// A lock, and what its waiters sleep on.
#[derive(Clone)]
struct ObjectLock {
    word: Word,
    event: Futex,
}

impl ObjectLock {
    fn new(word: &'static str, event: &'static str) -> Self {
        Self { word: Word::new(word), event: Futex::new(event) }
    }

    fn lock(&self) -> RobustLock<Heap> {
        RobustLock::new(self.word.clone())
    }
}

#[derive(Clone)]
struct Namespace {
    states: Words,
    mutex: ObjectLock,
    mutex_value: Words,
    rw: ObjectLock,
    readers_gone: Futex,
    counts: Words,
    rw_value: Words,
    writers: ObjectLock,
    value: Words,
    changed: Futex,
    semaphore: Word,
    /// For waiters that want one permit, and for those that want several.
    semaphore_events: [Futex; 2],
    permits: Words,
    permit_events: [Futex; 2],
    barrier: Word,
    arrivals: Words,
    barrier_event: Futex,
    parties: u64,
    expected: Rc<RefCell<Expected>>,
}

/// What the checker knows and the objects do not.
#[derive(Default)]
struct Expected {
    /// The participant of each record.
    participants: [Option<usize>; RECORDS],
    /// The participants that hold the mutex, and the read-write lock as writer and as readers.
    mutex_holder: Option<usize>,
    writer: Option<usize>,
    readers_inside: Vec<usize>,
    /// Whether an owner of the mutex was killed, and no later owner was told and has cleared it.
    unreported_death: bool,
    /// The version of what the mutex guards, at least.
    mutex_value: u64,
    /// The bounded permits that each participant holds.
    permits: Vec<(usize, u64)>,
    /// The permits of the plain semaphore that are not out.
    available: u64,
    /// Participants that must not be killed now: nobody would release their plain permits.
    unkillable: Vec<usize>,
    released: u64,
}

impl Expected {
    fn out(&self) -> u64 {
        self.permits.iter().filter(|(id, _)| is_alive(*id)).map(|(_, count)| count).sum()
    }
}

fn seqlock_of(words: &[AtomicU64], buffers: u64) -> SeqLockView<'_> {
    let (control, buffers_at) = words.split_at(CONTROL);
    SeqLockView::view(control, buffers_at, WIDTH, buffers).expect("two control words")
}

fn write(seqlock: &SeqLockView<'_>, value: u64) -> u64 {
    seqlock.write(|words| words.iter().for_each(|word| word.store(value, Ordering::Relaxed)))
}

fn copy(words: &[AtomicU64]) -> [u64; WIDTH] {
    std::array::from_fn(|index| words[index].load(Ordering::Relaxed))
}

/// Reads a value that only the caller may write.
fn read(seqlock: &SeqLockView<'_>) -> u64 {
    let Ok((value, version)) = seqlock.try_read(copy) else { panic!("somebody else writes") };
    assert_eq!(value, [version; WIDTH], "torn, under a lock");
    version
}

impl Namespace {
    fn new(parties: u64, permits: u64) -> Self {
        let buffers = |count: usize| CONTROL + count * WIDTH;
        let namespace = Self {
            states: Words::new("state", RECORDS),
            mutex: ObjectLock::new("mutex", "mutex event"),
            mutex_value: Words::new("kept", buffers(2)),
            rw: ObjectLock::new("rw", "rw event"),
            readers_gone: Futex::new("drained"),
            counts: Words::new("readers", ReaderCounts::<Heap>::words(RECORDS)),
            rw_value: Words::new("rw kept", buffers(2)),
            writers: ObjectLock::new("writers", "writers event"),
            value: Words::new("value", buffers(4)),
            changed: Futex::new("changes seen"),
            semaphore: Word::new("semaphore"),
            semaphore_events: [Futex::new("one"), Futex::new("several")],
            permits: Words::new("permit", permits as usize),
            permit_events: [Futex::new("bounded one"), Futex::new("bounded several")],
            barrier: Word::new("barrier"),
            arrivals: Words::new("arrival", RECORDS),
            barrier_event: Futex::new("meeting"),
            parties,
            expected: Rc::default(),
        };
        namespace.semaphore.store(permits, Ordering::Relaxed);
        namespace.expected.borrow_mut().available = permits;
        namespace
    }

    fn events(&self) -> impl Iterator<Item = &Futex> {
        let locks = [&self.mutex, &self.rw, &self.writers].into_iter().map(|lock_and_event| &lock_and_event.event);
        let others = [&self.readers_gone, &self.changed, &self.barrier_event];
        locks.chain(others).chain(&self.semaphore_events).chain(&self.permit_events)
    }

    fn readers(&self) -> ReaderCounts<Heap> {
        ReaderCounts::new(self.counts.clone())
    }

    fn pool(&self) -> Pool<Heap> {
        Pool::new(self.permits.clone())
    }

    fn barrier(&self) -> Barrier<Heap> {
        Barrier::new(self.barrier.clone(), self.arrivals.clone(), self.parties)
    }

    fn state(&self, record: usize) -> u64 {
        self.states[record].load(Ordering::Acquire)
    }

    fn is_dead(&self, record: usize, own: Option<usize>) -> bool {
        Some(record) != own && self.state(record) == PRESENT && !is_locked(record) && {
            fence(Ordering::SeqCst);
            self.state(record) == PRESENT && !is_locked(record)
        }
    }

    /// Repairs as src/object/repair.rs does.
    fn repair(&self, own: Option<usize>, records: impl IntoIterator<Item = usize>) {
        let dead: Vec<usize> = records.into_iter().filter(|&record| self.is_dead(record, own)).collect();
        if dead.is_empty() || !try_lock(REPAIR) {
            return;
        }
        for record in dead.into_iter().filter(|&record| self.is_dead(record, own)) {
            self.release_dead(record);
            self.states[record].store(REPAIRED, Ordering::Release);
            world::count("repaired");
        }
        unlock(REPAIR);
    }

    fn release_dead(&self, record: usize) {
        for lock_and_event in [&self.mutex, &self.rw, &self.writers] {
            if lock_and_event.lock().release_dead(record) {
                lock_and_event.event.event().wake(1);
            }
        }
        if self.readers().release_dead(record) {
            self.readers_gone.event().wake(u32::MAX);
        }
        let pool = self.pool();
        let mut returned = 0;
        pool.free_unsent(record, |_| {}, |permit| returned += u32::from(pool.free(permit)));
        if returned > 0 {
            self.permit_events[0].event().wake(returned);
            self.permit_events[1].event().wake(u32::MAX);
        }
        if self.barrier().release_dead(record, 1) {
            self.barrier_event.event().wake(u32::MAX);
        }
    }

    fn join(&self) -> usize {
        self.repair(None, 0..RECORDS);
        while !try_lock(MEMBERSHIP_LOCK) {
            pause();
        }
        let record = loop {
            let is_free = |record: &usize| self.state(*record) != PRESENT;
            match (0..RECORDS).find(|record| is_free(record) && try_lock(*record)) {
                Some(record) => break record,
                None => self.repair(None, 0..RECORDS),
            }
        };
        self.expected.borrow_mut().participants[record] = Some(world::me());
        self.states[record].store(PRESENT, Ordering::Release);
        unlock(MEMBERSHIP_LOCK);
        record
    }
}

struct Member {
    id: usize,
    record: usize,
    namespace: Namespace,
    random: Random,
}

impl Member {
    fn run(namespace: Namespace, random: Random, operations: u64, uses_barrier: bool) {
        let record = namespace.join();
        announce_missing_membarrier(namespace.events());
        let mut member = Self { id: world::me(), record, namespace, random };
        for _ in 0..operations {
            match member.random.below(9) {
                _ if uses_barrier => member.wait_at_barrier(),
                0 | 1 => member.lock_mutex(),
                2 => member.read(),
                3 => member.write(),
                4 => member.store(),
                5 => _ = member.load(),
                6 => member.wait_for_change(),
                7 => member.use_bounded_permits(),
                _ => member.use_permits(),
            }
        }
        member.namespace.states[record].store(LEFT, Ordering::Release);
        unlock(record);
    }

    fn wait<R>(
        &mut self,
        wait_event: &Futex,
        records: impl Fn() -> Vec<usize>,
        attempt: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let (namespace, record) = (self.namespace.clone(), self.record);
        wait(&wait_event.event(), &mut self.random, false, || namespace.repair(Some(record), records()), attempt)
    }

    /// As src/object/lock.rs does.
    fn acquire(&mut self, lock_and_event: &ObjectLock) -> History {
        let (lock, record) = (lock_and_event.lock(), self.record);
        let attempt = || match lock.owner() {
            None => lock.try_lock(record).expect("valid words"),
            Some(_) => None,
        };
        let past = self.wait(&lock_and_event.event, || lock.owner().into_iter().collect(), attempt);
        past.expect("it waits without a deadline")
    }

    fn release(&self, lock_and_event: &ObjectLock, past: History) {
        assert!(lock_and_event.lock().unlock(self.record, past), "somebody released this member's lock");
        lock_and_event.event.event().notify(1);
    }

    /// Runs a critical section under the mutex.
    fn lock_mutex(&mut self) {
        let namespace = self.namespace.clone();
        let past = self.acquire(&namespace.mutex);
        {
            let mut expected = namespace.expected.borrow_mut();
            let before = expected.mutex_holder.replace(self.id);
            assert!(before.is_none_or(|id| !is_alive(id)), "{before:?} and {} own one lock", self.id);
            assert!(past.died || !expected.unreported_death, "a death of an owner was not reported");
        }
        let seqlock = seqlock_of(&namespace.mutex_value, 2);
        let version = read(&seqlock);
        let known = namespace.expected.borrow().mutex_value;
        // A killed owner may have written one more.
        assert!(version == known || version == known + 1, "version {version} after {known}");
        namespace.expected.borrow_mut().mutex_value = version;
        if self.random.one_in(2) {
            let written = write(&seqlock, version + 1);
            namespace.expected.borrow_mut().mutex_value = written;
        }
        let mut expected = namespace.expected.borrow_mut();
        (expected.mutex_holder, expected.unreported_death) = (None, false);
        drop(expected);
        world::count("sections");
        if past.died {
            world::count("deaths reported");
        }
        self.release(&namespace.mutex, History { died: false, ..past });
    }

    fn read(&mut self) {
        let namespace = self.namespace.clone();
        let (readers, lock) = (namespace.readers(), namespace.rw.lock());
        let entry = readers.try_enter(self.record, &lock).expect("few readers");
        if entry == TryEnter::ContendedAndCounted {
            namespace.readers_gone.event().notify(u32::MAX);
        }
        if entry != TryEnter::Entered {
            let past = self.acquire(&namespace.rw);
            readers.count_in(self.record).expect("few readers");
            self.release(&namespace.rw, past);
        }
        let writes = || namespace.expected.borrow().writer.filter(|id| is_alive(*id));
        assert_eq!(writes(), None, "{} reads while somebody writes", self.id);
        namespace.expected.borrow_mut().readers_inside.push(self.id);
        read(&seqlock_of(&namespace.rw_value, 2));
        assert_eq!(writes(), None, "somebody writes while {} reads", self.id);
        namespace.expected.borrow_mut().readers_inside.retain(|id| *id != self.id);
        world::count("reads");
        if readers.count_out(self.record) {
            namespace.readers_gone.event().notify(u32::MAX);
        }
    }

    fn write(&mut self) {
        let namespace = self.namespace.clone();
        let readers = namespace.readers();
        let past = self.acquire(&namespace.rw);
        self.wait(&namespace.readers_gone, || readers.participants().collect(), || readers.is_empty().then_some(()));
        {
            let mut expected = namespace.expected.borrow_mut();
            let before = expected.writer.replace(self.id);
            assert!(before.is_none_or(|id| !is_alive(id)), "two write");
            assert!(!expected.readers_inside.iter().any(|id| is_alive(*id)), "{} writes while others read", self.id);
        }
        let seqlock = seqlock_of(&namespace.rw_value, 2);
        let version = read(&seqlock);
        write(&seqlock, version + 1);
        namespace.expected.borrow_mut().writer = None;
        world::count("writes");
        self.release(&namespace.rw, History { died: false, ..past });
    }

    fn store(&mut self) {
        let namespace = self.namespace.clone();
        self.acquire(&namespace.writers);
        let seqlock = seqlock_of(&namespace.value, 4);
        write(&seqlock, seqlock.version() + 1);
        self.release(&namespace.writers, History::default());
        namespace.changed.event().notify(u32::MAX);
        world::count("stores");
    }

    fn load(&mut self) -> u64 {
        let seqlock = seqlock_of(&self.namespace.value, 4);
        let load = || seqlock.read(copy, |_| pause()).expect("valid words");
        let (value, version) = load();
        assert_eq!(value, [version; WIDTH], "torn");
        let (value, later) = load();
        assert_eq!(value, [later; WIDTH], "torn");
        assert!(later >= version, "version {later} after {version}");
        world::count("loads");
        later
    }

    /// Waits for another version, with a deadline.
    fn wait_for_change(&mut self) {
        let namespace = self.namespace.clone();
        let seen = self.load();
        let seqlock = seqlock_of(&namespace.value, 4);
        let is_changed = || (seqlock.version() != seen).then_some(());
        // Nobody is sure to store anything, so it has a deadline.
        let found = wait(&namespace.changed.event(), &mut self.random, true, || {}, is_changed);
        world::count(if found.is_some() { "changes seen" } else { "changes missed" });
    }

    /// As `BoundedSemaphore` does.
    fn use_bounded_permits(&mut self) {
        let namespace = self.namespace.clone();
        let (pool, bound, record) = (namespace.pool(), namespace.permits.len() as u64, self.record);
        let count = 1 + self.random.below(bound.min(2));
        let give = |count: u64| {
            let mine: Vec<_> = pool.owned_by(record).take(count as usize).collect();
            let given = mine.into_iter().filter(|permit| pool.free(*permit)).count() as u64;
            assert_eq!(given, count, "this member's permits are gone");
            namespace.permit_events[0].event().notify(count as u32);
            namespace.permit_events[1].event().notify(u32::MAX);
        };
        let take = || {
            if count > 1 && bound.saturating_sub(pool.allocated()) < count {
                return None;
            }
            let take_one = || pool.allocate(record, 0, bound, record as u64 % bound).is_some();
            let taken = (0..count).take_while(|_| take_one()).count() as u64;
            if taken < count && taken > 0 {
                give(taken);
            }
            (taken == count).then_some(())
        };
        self.wait(&namespace.permit_events[usize::from(count > 1)], || pool.participants().into_iter().collect(), take);
        namespace.expected.borrow_mut().permits.push((self.id, count));
        let out = namespace.expected.borrow().out();
        assert!(out <= bound, "{out} permits of {bound} are out");
        pause();
        namespace.expected.borrow_mut().permits.retain(|(id, _)| *id != self.id);
        give(count);
        world::count("permits");
    }

    /// As `Semaphore` does. The permits of a dead holder stay acquired, so nobody is killed here.
    fn use_permits(&mut self) {
        let namespace = self.namespace.clone();
        let semaphore: Semaphore<Heap> = Semaphore::new(namespace.semaphore.clone());
        let count = 1 + self.random.below((namespace.permits.len() as u64).min(2));
        namespace.expected.borrow_mut().unkillable.push(self.id);
        let take = || semaphore.try_acquire(count).expect("valid words").then_some(());
        self.wait(&namespace.semaphore_events[usize::from(count > 1)], Vec::new, take);
        let rest = namespace.expected.borrow().available.checked_sub(count);
        namespace.expected.borrow_mut().available = rest.expect("more permits than there are");
        pause();
        namespace.expected.borrow_mut().available += count;
        assert!(semaphore.release(count).expect("valid words"));
        namespace.semaphore_events[0].event().notify(count as u32);
        namespace.semaphore_events[1].event().notify(u32::MAX);
        namespace.expected.borrow_mut().unkillable.retain(|id| *id != self.id);
        world::count("plain permits");
    }

    fn wait_at_barrier(&mut self) {
        let namespace = self.namespace.clone();
        let barrier = namespace.barrier();
        let is_met = match barrier.arrive(self.record).expect("valid words") {
            Arrival::Released => {
                namespace.expected.borrow_mut().released += 1;
                true
            }
            Arrival::Broken { .. } => false,
            Arrival::Waiting { generation, .. } => {
                let outcome = || match barrier.outcome(generation) {
                    Outcome::Open => None,
                    other => Some(other),
                };
                let (others, record) = (namespace.clone(), self.record);
                let mut checks_left = self.random.below(4);
                let check_liveness = || {
                    others.repair(Some(record), namespace.barrier().participants().collect::<Vec<_>>());
                    // After a kill there may never be enough participants, so a deadline passes.
                    if checks_left == 0 && world::has_killed() && barrier.abort(Some(generation), 2) {
                        namespace.barrier_event.event().notify(u32::MAX);
                    }
                    checks_left = checks_left.saturating_sub(1);
                };
                wait(&namespace.barrier_event.event(), &mut self.random, false, check_liveness, outcome)
                    == Some(Outcome::Released)
            }
        };
        if is_met {
            world::count("generations");
        } else {
            assert!(world::has_killed(), "a generation broke, and nobody was killed");
            barrier.reset();
            world::count("generations broken");
        }
        namespace.barrier_event.event().notify(u32::MAX);
    }
}

struct ObjectsScene {
    namespace: Namespace,
    fences: Fences,
    number: usize,
    left: u64,
    /// If set, all participants only wait at the barrier, for this many generations.
    generations: Option<u64>,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Settings) {
    let concurrent = 2 + random.below(4) as usize;
    let generations = random.one_in(4).then(|| 1 + random.below(4));
    let left = concurrent as u64 + if generations.is_some() { 0 } else { random.below(4) };
    let namespace = Namespace::new(concurrent as u64, 1 + random.below(3));
    let kills = random.among(&[0, 0, 1, 3]);
    let scene = ObjectsScene { namespace, fences: Fences::choose(random), number: 0, left, generations };
    (Box::new(scene), Settings { concurrent, max: concurrent, kills, timeouts: random.one_in(3) })
}

impl Scene for ObjectsScene {
    fn has_next(&self) -> bool {
        self.left > 0
    }

    fn next(&mut self, random: &mut Random) -> Option<NewParticipant> {
        self.left -= 1;
        let (namespace, own, operations) =
            (self.namespace.clone(), Random::new(random.below(u64::MAX)), 2 + random.below(8));
        let membarrier = self.fences.has_membarrier(self.number);
        self.number += 1;
        let generations = self.generations;
        let body = move || Member::run(namespace, own, generations.unwrap_or(operations), generations.is_some());
        Some(NewParticipant { membarrier, body: Box::new(body) })
    }

    fn killed(&mut self, id: usize) {
        let owner = self.namespace.mutex.lock().owner();
        let mut expected = self.namespace.expected.borrow_mut();
        if owner.is_some_and(|record| expected.participants[record] == Some(id)) {
            expected.unreported_death = true;
        }
    }

    fn may_kill(&self, id: usize) -> bool {
        !self.namespace.expected.borrow().unkillable.contains(&id)
    }

    fn finish(&mut self) {
        let namespace = &self.namespace;
        namespace.repair(None, 0..RECORDS);
        assert!((0..RECORDS).all(|record| namespace.state(record) != PRESENT), "a record was not repaired");
        assert_eq!(namespace.pool().allocated(), 0, "a permit is missing");
        assert!(namespace.readers().is_empty(), "somebody still reads");
        let semaphore: Semaphore<Heap> = Semaphore::new(namespace.semaphore.clone());
        assert_eq!(semaphore.available(), Ok(namespace.permits.len() as u64), "a plain permit is missing");
        for lock_and_event in [&namespace.mutex, &namespace.rw, &namespace.writers] {
            assert!(
                lock_and_event.lock().try_lock(0).expect("valid words").is_some(),
                "a lock that cannot be acquired"
            );
        }
        if let Some(generations) = self.generations.filter(|_| !world::has_killed()) {
            assert_eq!(namespace.expected.borrow().released, generations, "generations");
        }
    }
}
