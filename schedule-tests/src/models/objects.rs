//! A namespace's objects, as `src/latch.rs`, `src/members.rs` and the files of the objects drive them.
//!
//! Nobody has a lock that another has, the death of its owner is told, what it guards is whole. No more permits are out than
//! there are, and none is missing in the end. A value is whole, and its versions do not run backwards. A meeting is met by all
//! or broken for all. Nobody sleeps while it could go on.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Fences, Futex, Heap, Word, Words, prepare, wait};
use crate::raw::barrier::{Arrival, Barrier, Outcome};
use crate::raw::cell::{CONTROL, Cell};
use crate::raw::lock::{Lock, Past};
use crate::raw::pool::Pool;
use crate::raw::readers::{Entry, Readers};
use crate::raw::semaphore::Semaphore;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::world::{self, Conduct, Newcomer, Random, Scene, is_alive, is_locked, pause, try_lock, unlock};

const LANES: usize = 6;
/// Words of what the locks guard.
const WIDE: usize = 3;

// As in the queue's model.
const ADMISSION: usize = LANES;
const REPAIR: usize = LANES + 1;
const PRESENT: u64 = 1;
const LEFT: u64 = 2;
const REPAIRED: u64 = 3;

/// A lock, and what its waiters sleep on.
#[derive(Clone)]
struct Latch {
    word: Word,
    event: Futex,
}

impl Latch {
    fn new(word: &'static str, event: &'static str) -> Self {
        Self { word: Word::new(word), event: Futex::new(event) }
    }

    fn lock(&self) -> Lock<Heap> {
        Lock::new(self.word.clone())
    }
}

#[derive(Clone)]
struct Space {
    states: Words,
    mutex: Latch,
    kept: Words,
    rw: Latch,
    drained: Futex,
    counts: Words,
    rw_kept: Words,
    writers: Latch,
    value: Words,
    news: Futex,
    semaphore: Word,
    /// For those who want one permit, and for those who want several.
    plain: [Futex; 2],
    permits: Words,
    bounded: [Futex; 2],
    barrier: Word,
    marks: Words,
    meeting: Futex,
    parties: u64,
    truth: Rc<RefCell<Truth>>,
}

/// What the judge knows.
#[derive(Default)]
struct Truth {
    /// Who sits in each lane.
    sitting: [Option<usize>; LANES],
    /// Who is within the mutex, who writes, who reads under the read-write lock.
    inside: Option<usize>,
    writing: Option<usize>,
    reading: Vec<usize>,
    /// Somebody was killed with the mutex, and no later owner has heard of it and mended it.
    owed: bool,
    /// The version of what the mutex guards, at least.
    kept: u64,
    /// Permits of the bounded semaphore in the hands of each.
    permits: Vec<(usize, u64)>,
    /// Permits of the plain one that are not out.
    free: u64,
    /// Members that must not be killed now: nobody gives a plain permit back in their place.
    spared: Vec<usize>,
    met: u64,
}

impl Truth {
    fn out(&self) -> u64 {
        self.permits.iter().filter(|(who, _)| is_alive(*who)).map(|(_, count)| count).sum()
    }
}

fn guarded(words: &[AtomicU64], buffers: u64) -> Cell<'_> {
    let (control, buffers_at) = words.split_at(CONTROL);
    Cell::new(control, buffers_at, WIDE, buffers).expect("two control words")
}

fn write(cell: &Cell<'_>, value: u64) -> u64 {
    cell.write(|words| words.iter().for_each(|word| word.store(value, Ordering::Relaxed)))
}

fn copy(words: &[AtomicU64]) -> [u64; WIDE] {
    std::array::from_fn(|index| words[index].load(Ordering::Relaxed))
}

/// Reads what only the caller may write.
fn read(cell: &Cell<'_>) -> u64 {
    let Ok((value, version)) = cell.try_read(copy) else { panic!("somebody else writes") };
    assert_eq!(value, [version; WIDE], "torn, under a lock");
    version
}

impl Space {
    fn new(parties: u64, permits: u64) -> Self {
        let buffers = |count: usize| CONTROL + count * WIDE;
        let space = Self {
            states: Words::new("state", LANES),
            mutex: Latch::new("mutex", "mutex event"),
            kept: Words::new("kept", buffers(2)),
            rw: Latch::new("rw", "rw event"),
            drained: Futex::new("drained"),
            counts: Words::new("readers", Readers::<Heap>::words(LANES)),
            rw_kept: Words::new("rw kept", buffers(2)),
            writers: Latch::new("writers", "writers event"),
            value: Words::new("value", buffers(4)),
            news: Futex::new("news"),
            semaphore: Word::new("semaphore"),
            plain: [Futex::new("one"), Futex::new("several")],
            permits: Words::new("permit", permits as usize),
            bounded: [Futex::new("bounded one"), Futex::new("bounded several")],
            barrier: Word::new("barrier"),
            marks: Words::new("mark", LANES),
            meeting: Futex::new("meeting"),
            parties,
            truth: Rc::default(),
        };
        space.semaphore.store(permits, Ordering::Relaxed);
        space.truth.borrow_mut().free = permits;
        space
    }

    fn events(&self) -> impl Iterator<Item = &Futex> {
        let latches = [&self.mutex, &self.rw, &self.writers].into_iter().map(|latch| &latch.event);
        let others = [&self.drained, &self.news, &self.meeting];
        latches.chain(others).chain(&self.plain).chain(&self.bounded)
    }

    fn readers(&self) -> Readers<Heap> {
        Readers::new(self.counts.clone())
    }

    fn pool(&self) -> Pool<Heap> {
        Pool::new(self.permits.clone())
    }

    fn barrier(&self) -> Barrier<Heap> {
        Barrier::new(self.barrier.clone(), self.marks.clone(), self.parties)
    }

    fn state(&self, lane: usize) -> u64 {
        self.states[lane].load(Ordering::Acquire)
    }

    fn is_dead(&self, lane: usize, own: Option<usize>) -> bool {
        Some(lane) != own && self.state(lane) == PRESENT && !is_locked(lane) && {
            fence(Ordering::SeqCst);
            self.state(lane) == PRESENT && !is_locked(lane)
        }
    }

    /// As `Table::repair_among` of src/members.rs.
    fn repair(&self, own: Option<usize>, lanes: impl IntoIterator<Item = usize>) {
        let dead: Vec<usize> = lanes.into_iter().filter(|&lane| self.is_dead(lane, own)).collect();
        if dead.is_empty() || !try_lock(REPAIR) {
            return;
        }
        for lane in dead.into_iter().filter(|&lane| self.is_dead(lane, own)) {
            self.let_go(lane);
            self.states[lane].store(REPAIRED, Ordering::Release);
            world::count("repaired");
        }
        unlock(REPAIR);
    }

    fn let_go(&self, lane: usize) {
        for latch in [&self.mutex, &self.rw, &self.writers] {
            if latch.lock().bury(lane) {
                latch.event.event().wake(1);
            }
        }
        if self.readers().clear(lane) {
            self.drained.event().wake(u32::MAX);
        }
        let pool = self.pool();
        let mut returned = 0;
        pool.reclaim(lane, |_| {}, |permit| returned += u32::from(pool.give_back(permit)));
        if returned > 0 {
            self.bounded[0].event().wake(returned);
            self.bounded[1].event().wake(u32::MAX);
        }
        if self.barrier().bury(lane, 1) {
            self.meeting.event().wake(u32::MAX);
        }
    }

    fn join(&self) -> usize {
        self.repair(None, 0..LANES);
        while !try_lock(ADMISSION) {
            pause();
        }
        let lane = loop {
            let is_free = |lane: &usize| self.state(*lane) != PRESENT;
            match (0..LANES).find(|lane| is_free(lane) && try_lock(*lane)) {
                Some(lane) => break lane,
                None => self.repair(None, 0..LANES),
            }
        };
        self.truth.borrow_mut().sitting[lane] = Some(world::me());
        self.states[lane].store(PRESENT, Ordering::Release);
        unlock(ADMISSION);
        lane
    }
}

struct Member {
    who: usize,
    lane: usize,
    space: Space,
    random: Random,
}

impl Member {
    fn live(space: Space, random: Random, operations: u64, meets: bool) {
        let lane = space.join();
        prepare(space.events());
        let mut member = Self { who: world::me(), lane, space, random };
        for _ in 0..operations {
            match member.random.below(9) {
                _ if meets => member.meet(),
                0 | 1 => member.section(),
                2 => member.read(),
                3 => member.write(),
                4 => member.store(),
                5 => _ = member.load(),
                6 => member.await_news(),
                7 => member.take_bounded(),
                _ => member.take_plain(),
            }
        }
        member.space.states[lane].store(LEFT, Ordering::Release);
        unlock(lane);
    }

    fn wait<R>(
        &mut self,
        ear: &Futex,
        lanes: impl Fn() -> Vec<usize>,
        attempt: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let (space, lane) = (self.space.clone(), self.lane);
        wait(&ear.event(), &mut self.random, false, || space.repair(Some(lane), lanes()), attempt)
    }

    /// As `Latch::acquire`.
    fn acquire(&mut self, latch: &Latch) -> Past {
        let (lock, lane) = (latch.lock(), self.lane);
        let attempt = || match lock.owner() {
            None => lock.try_lock(lane).expect("no damage"),
            Some(_) => None,
        };
        let past = self.wait(&latch.event, || lock.owner().into_iter().collect(), attempt);
        past.expect("it waits without a deadline")
    }

    fn release(&self, latch: &Latch, past: Past) {
        assert!(latch.lock().unlock(self.lane, past), "somebody took this member's lock");
        latch.event.event().notify(1);
    }

    /// A critical section of the mutex.
    fn section(&mut self) {
        let space = self.space.clone();
        let past = self.acquire(&space.mutex);
        {
            let mut truth = space.truth.borrow_mut();
            let before = truth.inside.replace(self.who);
            assert!(before.is_none_or(|who| !is_alive(who)), "{before:?} and {} have one lock", self.who);
            assert!(past.died || !truth.owed, "a death with the lock was not told");
        }
        let cell = guarded(&space.kept, 2);
        let version = read(&cell);
        let known = space.truth.borrow().kept;
        // One who was killed had written one more, perhaps.
        assert!(version == known || version == known + 1, "version {version} after {known}");
        space.truth.borrow_mut().kept = version;
        if self.random.one_in(2) {
            let written = write(&cell, version + 1);
            space.truth.borrow_mut().kept = written;
        }
        let mut truth = space.truth.borrow_mut();
        (truth.inside, truth.owed) = (None, false);
        drop(truth);
        world::count("sections");
        if past.died {
            world::count("told of a death");
        }
        self.release(&space.mutex, Past { died: false, ..past });
    }

    fn read(&mut self) {
        let space = self.space.clone();
        let (readers, lock) = (space.readers(), space.rw.lock());
        let entry = readers.try_enter(self.lane, &lock).expect("few readers");
        if entry == Entry::Withdrawn {
            space.drained.event().notify(u32::MAX);
        }
        if entry != Entry::Entered {
            let past = self.acquire(&space.rw);
            readers.mark(self.lane).expect("few readers");
            self.release(&space.rw, past);
        }
        let writes = || space.truth.borrow().writing.filter(|who| is_alive(*who));
        assert_eq!(writes(), None, "{} reads while somebody writes", self.who);
        space.truth.borrow_mut().reading.push(self.who);
        read(&guarded(&space.rw_kept, 2));
        assert_eq!(writes(), None, "somebody writes while {} reads", self.who);
        space.truth.borrow_mut().reading.retain(|who| *who != self.who);
        world::count("reads");
        if readers.leave(self.lane) {
            space.drained.event().notify(u32::MAX);
        }
    }

    fn write(&mut self) {
        let space = self.space.clone();
        let readers = space.readers();
        let past = self.acquire(&space.rw);
        self.wait(&space.drained, || readers.lanes().collect(), || readers.is_empty().then_some(()));
        {
            let mut truth = space.truth.borrow_mut();
            let before = truth.writing.replace(self.who);
            assert!(before.is_none_or(|who| !is_alive(who)), "two write");
            assert!(!truth.reading.iter().any(|who| is_alive(*who)), "{} writes while others read", self.who);
        }
        let cell = guarded(&space.rw_kept, 2);
        let version = read(&cell);
        write(&cell, version + 1);
        space.truth.borrow_mut().writing = None;
        world::count("writes");
        self.release(&space.rw, Past { died: false, ..past });
    }

    fn store(&mut self) {
        let space = self.space.clone();
        self.acquire(&space.writers);
        let cell = guarded(&space.value, 4);
        write(&cell, cell.version() + 1);
        self.release(&space.writers, Past::default());
        space.news.event().notify(u32::MAX);
        world::count("stores");
    }

    fn load(&mut self) -> u64 {
        let cell = guarded(&self.space.value, 4);
        let load = || cell.read(copy, |_| pause()).expect("no damage");
        let (value, version) = load();
        assert_eq!(value, [version; WIDE], "torn");
        let (value, later) = load();
        assert_eq!(value, [later; WIDE], "torn");
        assert!(later >= version, "version {later} after {version}");
        world::count("loads");
        later
    }

    /// Waits for another version, and stores it itself if nobody else does.
    fn await_news(&mut self) {
        let space = self.space.clone();
        let seen = self.load();
        let cell = guarded(&space.value, 4);
        let is_changed = || (cell.version() != seen).then_some(());
        // Nobody has promised to store anything: it does not wait for ever.
        let found = wait(&space.news.event(), &mut self.random, true, || {}, is_changed);
        world::count(if found.is_some() { "news" } else { "no news" });
    }

    /// As `BoundedSemaphore`.
    fn take_bounded(&mut self) {
        let space = self.space.clone();
        let (pool, bound, lane) = (space.pool(), space.permits.len() as u64, self.lane);
        let count = 1 + self.random.below(bound.min(2));
        let give = |count: u64| {
            let mine: Vec<_> = pool.of(lane).take(count as usize).collect();
            let given = mine.into_iter().filter(|permit| pool.give_back(*permit)).count() as u64;
            assert_eq!(given, count, "this member's permits are gone");
            space.bounded[0].event().notify(count as u32);
            space.bounded[1].event().notify(u32::MAX);
        };
        let take = || {
            if count > 1 && bound.saturating_sub(pool.taken()) < count {
                return None;
            }
            let take_one = || pool.take(lane, 0, bound, lane as u64 % bound).is_some();
            let taken = (0..count).take_while(|_| take_one()).count() as u64;
            if taken < count && taken > 0 {
                give(taken);
            }
            (taken == count).then_some(())
        };
        self.wait(&space.bounded[usize::from(count > 1)], || pool.lanes().into_iter().collect(), take);
        space.truth.borrow_mut().permits.push((self.who, count));
        let out = space.truth.borrow().out();
        assert!(out <= bound, "{out} permits of {bound} are out");
        pause();
        space.truth.borrow_mut().permits.retain(|(who, _)| *who != self.who);
        give(count);
        world::count("permits");
    }

    /// As `Semaphore`: the permits of the dead are gone, so nobody is killed here.
    fn take_plain(&mut self) {
        let space = self.space.clone();
        let semaphore: Semaphore<Heap> = Semaphore::new(space.semaphore.clone());
        let count = 1 + self.random.below((space.permits.len() as u64).min(2));
        space.truth.borrow_mut().spared.push(self.who);
        let take = || semaphore.try_acquire(count).expect("no damage").then_some(());
        self.wait(&space.plain[usize::from(count > 1)], Vec::new, take);
        let rest = space.truth.borrow().free.checked_sub(count);
        space.truth.borrow_mut().free = rest.expect("more permits than there are");
        pause();
        space.truth.borrow_mut().free += count;
        assert!(semaphore.release(count).expect("no damage"));
        space.plain[0].event().notify(count as u32);
        space.plain[1].event().notify(u32::MAX);
        space.truth.borrow_mut().spared.retain(|who| *who != self.who);
        world::count("plain permits");
    }

    fn meet(&mut self) {
        let space = self.space.clone();
        let barrier = space.barrier();
        let is_met = match barrier.arrive(self.lane).expect("no damage") {
            Arrival::Met => {
                space.truth.borrow_mut().met += 1;
                true
            }
            Arrival::Broken { .. } => false,
            Arrival::Waits { generation, .. } => {
                let outcome = || match barrier.outcome(generation) {
                    Outcome::Open => None,
                    other => Some(other),
                };
                let (ask_space, lane) = (space.clone(), self.lane);
                let mut patience = self.random.below(4);
                let ask = || {
                    ask_space.repair(Some(lane), space.barrier().lanes().collect::<Vec<_>>());
                    // Once somebody was killed, perhaps before it came, there may never be enough: a deadline passes.
                    if patience == 0 && world::was_anybody_killed() && barrier.abort(Some(generation), 2) {
                        space.meeting.event().notify(u32::MAX);
                    }
                    patience = patience.saturating_sub(1);
                };
                wait(&space.meeting.event(), &mut self.random, false, ask, outcome) == Some(Outcome::Met)
            }
        };
        if is_met {
            world::count("meetings");
        } else {
            assert!(world::was_anybody_killed(), "a meeting broke, and nobody was killed");
            barrier.reset();
            world::count("broken meetings");
        }
        space.meeting.event().notify(u32::MAX);
    }
}

struct ObjectsScene {
    space: Space,
    fences: Fences,
    number: usize,
    left: u64,
    /// All meet at the barrier so often, or do other things.
    meetings: Option<u64>,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Conduct) {
    let at_once = 2 + random.below(4) as usize;
    let meetings = random.one_in(4).then(|| 1 + random.below(4));
    let left = at_once as u64 + if meetings.is_some() { 0 } else { random.below(4) };
    let space = Space::new(at_once as u64, 1 + random.below(3));
    let kills = random.among(&[0, 0, 1, 3]);
    let scene = ObjectsScene { space, fences: Fences::choose(random), number: 0, left, meetings };
    (Box::new(scene), Conduct { at_once, most: at_once, kills, slices: random.one_in(3) })
}

impl Scene for ObjectsScene {
    fn has_more(&self) -> bool {
        self.left > 0
    }

    fn next(&mut self, random: &mut Random) -> Option<Newcomer> {
        self.left -= 1;
        let (space, own, operations) = (self.space.clone(), Random::new(random.below(u64::MAX)), 2 + random.below(8));
        let membarrier = self.fences.has_membarrier(self.number);
        self.number += 1;
        let meetings = self.meetings;
        let life = move || Member::live(space, own, meetings.unwrap_or(operations), meetings.is_some());
        Some(Newcomer { membarrier, life: Box::new(life) })
    }

    fn killed(&mut self, who: usize) {
        let owner = self.space.mutex.lock().owner();
        let mut truth = self.space.truth.borrow_mut();
        if owner.is_some_and(|lane| truth.sitting[lane] == Some(who)) {
            truth.owed = true;
        }
    }

    fn may_kill(&self, who: usize) -> bool {
        !self.space.truth.borrow().spared.contains(&who)
    }

    fn finish(&mut self) {
        let space = &self.space;
        space.repair(None, 0..LANES);
        assert!((0..LANES).all(|lane| space.state(lane) != PRESENT), "a lane that nobody repairs");
        assert_eq!(space.pool().taken(), 0, "a permit is missing");
        assert!(space.readers().is_empty(), "somebody still reads");
        let semaphore: Semaphore<Heap> = Semaphore::new(space.semaphore.clone());
        assert_eq!(semaphore.available(), Ok(space.permits.len() as u64), "a plain permit is missing");
        for latch in [&space.mutex, &space.rw, &space.writers] {
            assert!(latch.lock().try_lock(0).expect("no damage").is_some(), "a lock that nobody can take");
        }
        if let Some(meetings) = self.meetings.filter(|_| !world::was_anybody_killed()) {
            assert_eq!(space.truth.borrow().met, meetings, "meetings");
        }
    }
}
