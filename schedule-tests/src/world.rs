//! The participants of one schedule, the scheduler, and the state that only processors and the
//! kernel have: store buffers, locks, sleepers.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use generator::{Generator, Gn};

/// The size of a participant's stack, in words.
const STACK: usize = 0x4000;

/// A schedule with more accesses does not terminate.
const MAX_STEPS: u64 = 1_000_000;

/// How often all participants may be found asleep. Each time they check, and one of them goes on.
const MAX_STUCK: u32 = 200;

/// A random number generator: everything that follows from a seed.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        (0..4).for_each(|_| _ = random.next());
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn among<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// How the last sleep of a participant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// By a wake-up, or the word had another value.
    Woken,
    /// The time limit passed.
    TimedOut,
    /// All participants were asleep. The time limit would end the sleep, but a wake-up should have.
    Stuck,
}

struct Participant {
    /// Its store buffer: stores that others do not see yet.
    buffer: VecDeque<(Rc<Cell<u64>>, u64)>,
    /// Whether heavy fences reach it.
    membarrier: bool,
    /// The word on which it sleeps.
    asleep_on: Option<*const Cell<u64>>,
    sleep: Sleep,
    dying: bool,
    dead: bool,
}

#[derive(Default)]
struct World {
    trace: bool,
    current: Option<usize>,
    participants: Vec<Participant>,
    /// Sleepers, in the order in which they fell asleep.
    sleepers: Vec<usize>,
    /// Whether there are store buffers in this schedule.
    buffers: bool,
    /// One store leaves a buffer after this many accesses, on average.
    drains_one_in: u64,
    random: Option<Random>,
    steps: u64,
    /// Accesses that the current participant makes before the scheduler decides again.
    quantum: u64,
    /// The bodies of participants that have not made a step yet.
    not_started: BTreeMap<usize, Box<dyn FnOnce()>>,
    /// After all were asleep: those that have still to check, one after the other, before any of
    /// them goes on.
    lookers: VecDeque<usize>,
    /// The holder of each file lock, by number.
    locks: BTreeMap<usize, usize>,
    killed: u64,
    counts: BTreeMap<&'static str, u64>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn with<R>(action: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| action(&mut world.borrow_mut()))
}

impl World {
    fn flush_one(&mut self, id: usize) -> bool {
        let oldest = self.participants.get_mut(id).and_then(|participant| participant.buffer.pop_front());
        if let Some((cell, value)) = &oldest {
            cell.set(*value);
        }
        oldest.is_some()
    }

    fn flush(&mut self, id: usize) {
        while self.flush_one(id) {}
    }

    fn is_alive(&self, id: usize) -> bool {
        self.participants.get(id).is_some_and(|participant| !participant.dead)
    }
}

/// The payload of the unwinding that stands for a kill.
struct Killed;

/// Marks an access: other participants may run before it.
pub(crate) fn pause() {
    let must_yield = with(|world| {
        world.steps += 1;
        if world.current.is_none() {
            return false;
        }
        if world.buffers && world.random.as_mut().is_some_and(|random| random.one_in(world.drains_one_in)) {
            let count = world.participants.len() as u64;
            let id = world.random.as_mut().map_or(0, |random| random.below(count));
            world.flush_one(id as usize);
        }
        world.quantum = world.quantum.saturating_sub(1);
        world.quantum == 0
    });
    if must_yield {
        switch();
    }
}

/// Lets the scheduler choose the participant that runs next.
#[allow(deprecated, reason = "the alternative needs a handle, which the algorithms cannot pass on")]
fn switch() {
    generator::yield_with(());
    let dying = with(|world| world.current.is_some_and(|id| world.participants[id].dying));
    if dying {
        with(|world| world.current = None);
        resume_unwind(Box::new(Killed));
    }
}

/// Prints a line of the trace.
pub(crate) fn log(line: impl FnOnce() -> String) {
    with(|world| {
        if world.trace {
            let id = world.current.map_or("-".into(), |id| id.to_string());
            println!("{:>6} {id:>3} {}", world.steps, line());
        }
    });
}

/// Counts one event for the totals.
pub(crate) fn count(what: &'static str) {
    count_by(what, 1);
}

pub(crate) fn count_by(what: &'static str, many: u64) {
    with(|world| *world.counts.entry(what).or_default() += many);
}

/// Returns the time, in accesses.
pub(crate) fn now() -> u64 {
    with(|world| world.steps)
}

/// Returns the participant that runs.
pub(crate) fn me() -> usize {
    with(|world| world.current).expect("called by a participant")
}

pub(crate) fn is_alive(id: usize) -> bool {
    with(|world| world.is_alive(id))
}

/// Whether a participant was killed, so that a wake-up may have died with it.
pub(crate) fn has_killed() -> bool {
    with(|world| world.killed > 0)
}

/// Whether there are store buffers, so that a store may not be seen at once.
pub(crate) fn has_store_buffers() -> bool {
    with(|world| world.buffers)
}

/// Whether heavy fences reach every participant.
pub(crate) fn all_have_membarrier() -> bool {
    with(|world| world.participants.iter().all(|participant| participant.membarrier))
}

// ---- store buffers ----

pub(crate) fn store(cell: &Rc<Cell<u64>>, value: u64) {
    with(|world| match world.current {
        Some(id) if world.buffers => world.participants[id].buffer.push_back((Rc::clone(cell), value)),
        _ => cell.set(value),
    });
}

/// Returns the value that a processor forwards from its own store buffer to its loads.
pub(crate) fn own_pending_store(cell: &Rc<Cell<u64>>) -> Option<u64> {
    with(|world| {
        let buffer = &world.participants[world.current?].buffer;
        buffer.iter().rev().find(|(at, _)| Rc::ptr_eq(at, cell)).map(|(_, value)| *value)
    })
}

pub(crate) fn flush(id: usize) {
    with(|world| world.flush(id));
}

pub(crate) fn flush_current() {
    with(|world| {
        if let Some(id) = world.current {
            world.flush(id);
        }
    });
}

/// Empties all store buffers, as time does.
pub(crate) fn flush_all() {
    with(|world| (0..world.participants.len()).for_each(|id| world.flush(id)));
}

// ---- membarrier ----

/// Returns the participants that a heavy fence reaches.
pub(crate) fn with_membarrier() -> impl Iterator<Item = usize> {
    let reached: Vec<usize> = with(|world| {
        let participants = world.participants.iter().enumerate();
        participants.filter(|(_, participant)| participant.membarrier).map(|(id, _)| id).collect()
    });
    reached.into_iter()
}

/// Whether a heavy fence reaches the running participant.
pub(crate) fn has_membarrier() -> bool {
    with(|world| world.current.is_none_or(|id| world.participants[id].membarrier))
}

// ---- the kernel ----

/// Makes a system call: earlier stores are visible after it.
fn system_call<R>(action: impl FnOnce(&mut World) -> R) -> R {
    pause();
    flush_current();
    with(action)
}

/// Attempts to take a file lock, which the kernel frees when its holder dies.
pub(crate) fn try_lock(lock: usize) -> bool {
    let taken = system_call(|world| {
        let id = world.current.unwrap_or(usize::MAX);
        let is_free = world.locks.get(&lock).is_none_or(|&holder| holder != usize::MAX && !world.is_alive(holder));
        if is_free {
            world.locks.insert(lock, id);
        }
        is_free
    });
    log(|| format!("lock {lock}: {taken}"));
    taken
}

pub(crate) fn unlock(lock: usize) {
    system_call(|world| world.locks.remove(&lock));
    log(|| format!("unlock {lock}"));
}

/// Whether a live participant holds the lock.
pub(crate) fn is_locked(lock: usize) -> bool {
    let locked = system_call(|world| world.locks.get(&lock).is_some_and(|&holder| world.is_alive(holder)));
    log(|| format!("is {lock} locked: {locked}"));
    locked
}

pub(crate) fn sleep(on: *const Cell<u64>) {
    let id = me();
    with(|world| {
        world.participants[id].asleep_on = Some(on);
        world.participants[id].sleep = Sleep::Woken;
        world.sleepers.push(id);
    });
    while with(|world| world.participants[id].asleep_on.is_some()) {
        switch();
    }
}

pub(crate) fn wake(on: *const Cell<u64>, count: usize) -> usize {
    with(|world| {
        let sleepers = world.sleepers.iter().copied();
        let woken: Vec<usize> =
            sleepers.filter(|&id| world.participants[id].asleep_on == Some(on)).take(count).collect();
        woken.iter().for_each(|&id| world.participants[id].asleep_on = None);
        world.sleepers.retain(|id| !woken.contains(id));
        woken.len()
    })
}

/// Returns how the running participant's last sleep ended, once.
pub(crate) fn end_of_sleep() -> Sleep {
    let id = me();
    with(|world| std::mem::replace(&mut world.participants[id].sleep, Sleep::Woken))
}

/// Ends the check of a participant that was stuck.
pub(crate) fn finish_look() {
    with(|world| world.lookers.pop_front());
    switch();
}

/// Ends a sleep without a wake-up.
fn wake_by_time(id: usize, sleep: Sleep) {
    with(|world| {
        world.participants[id].asleep_on = None;
        world.participants[id].sleep = sleep;
        world.sleepers.retain(|&other| other != id);
    });
}

// ---- the scheduler ----

/// A participant that is about to start.
pub(crate) struct NewParticipant {
    pub(crate) membarrier: bool,
    pub(crate) body: Box<dyn FnOnce()>,
}

/// How a schedule runs.
pub(crate) struct Settings {
    /// Participants at the same time, unless all of them are asleep.
    pub(crate) concurrent: usize,
    /// Participants at the same time, even if all of them are asleep.
    pub(crate) max: usize,
    /// The most participants that are killed.
    pub(crate) kills: u64,
    /// Whether sleeps may time out while a wake-up is still on its way.
    pub(crate) timeouts: bool,
}

/// A model, set up from a seed.
pub(crate) trait Scene {
    /// Whether another participant is still to start.
    fn has_next(&self) -> bool;

    /// Returns the next participant, or None if others must end first.
    fn next(&mut self, random: &mut Random) -> Option<NewParticipant>;

    /// Called at a kill, before any other participant runs.
    fn killed(&mut self, _who: usize) {}

    /// Whether that participant may be killed now.
    fn may_kill(&self, _who: usize) -> bool {
        true
    }

    /// Checks what must hold when all have left or died, and all buffers are empty.
    fn finish(&mut self);
}

struct Running {
    id: usize,
    weight: u64,
    coroutine: Generator<'static, (), ()>,
}

fn start(newcomer: NewParticipant, weight: u64) -> Running {
    let id = with(|world| {
        world.participants.push(Participant {
            buffer: VecDeque::new(),
            membarrier: newcomer.membarrier,
            asleep_on: None,
            sleep: Sleep::Woken,
            dying: false,
            dead: false,
        });
        world.participants.len() - 1
    });
    // A coroutine's closure must be Send, which a body is not. Neither moves to another thread.
    with(|world| world.not_started.insert(id, newcomer.body));
    let coroutine = Gn::<()>::new_opt(STACK, move || {
        let body = with(|world| world.not_started.remove(&id)).expect("it starts once");
        // It may have been killed before its first step.
        if !is_alive(id) {
            return;
        }
        if let Err(end) = catch_unwind(AssertUnwindSafe(body))
            && !end.is::<Killed>()
        {
            resume_unwind(end);
        }
    });
    Running { id, weight, coroutine }
}

const WEIGHTS: &[u64] = &[1, 1, 4, 16, 64];

/// Runs one schedule and returns what it counted.
pub(crate) fn explore(
    seed: u64,
    trace: bool,
    build: fn(&mut Random) -> (Box<dyn Scene>, Settings),
) -> BTreeMap<&'static str, u64> {
    let mut random = Random::new(seed);
    let buffers = random.one_in(2);
    let drains_one_in = random.among(&[2, 8, 50]);
    let own = Some(Random::new(seed ^ 0xACCE55));
    with(|world| *world = World { trace, buffers, drains_one_in, random: own, ..World::default() });
    let (mut scene, settings) = build(&mut random);
    let mut kills = settings.kills;
    let kill_one_in = random.among(&[10, 50, 150, 300]);
    let newcomer_one_in = random.among(&[1, 1, 1, 20]);
    // Either the scheduler decides after each access, or each participant runs for a while.
    let longest = random.among(&[1, 1, 1, 3, 12, 40]);
    let mut alive: Vec<Running> = Vec::new();
    let mut stuck = 0;
    loop {
        let is_awake = |running: &Running| with(|world| world.participants[running.id].asleep_on.is_none());
        let mut awake: Vec<usize> = (0..alive.len()).filter(|&index| is_awake(&alive[index])).collect();
        // If all are asleep, a newcomer may wake them.
        let is_time = awake.is_empty() || random.one_in(newcomer_one_in);
        if is_time
            && scene.has_next()
            && alive.len() < if awake.is_empty() { settings.max } else { settings.concurrent }
            && let Some(newcomer) = scene.next(&mut random)
        {
            awake.push(alive.len());
            alive.push(start(newcomer, random.among(WEIGHTS)));
        }
        if alive.is_empty() {
            break;
        }
        assert!(now() < MAX_STEPS, "this schedule does not terminate");
        if awake.is_empty() {
            stuck += 1;
            assert!(stuck < MAX_STUCK, "all wait and none goes on: {:?}", with(|world| world.sleepers.clone()));
            log(|| "all are asleep".into());
            alive.iter().for_each(|running| wake_by_time(running.id, Sleep::Stuck));
            let all = alive.iter().map(|running| running.id).collect();
            with(|world| world.lookers = all);
            continue;
        }
        if settings.timeouts && random.one_in(100) {
            let sleepers = with(|world| world.sleepers.clone());
            if !sleepers.is_empty() {
                wake_by_time(random.among(&sleepers), Sleep::TimedOut);
            }
        }
        let lookers = with(|world| world.lookers.front().copied());
        let lookers = lookers.and_then(|id| alive.iter().position(|running| running.id == id));
        let index = lookers.unwrap_or_else(|| pick(&mut random, &alive, &awake));
        if random.one_in(300) {
            alive[index].weight = random.among(WEIGHTS);
        }
        let id = alive[index].id;
        let is_killed = kills > 0 && random.one_in(kill_one_in) && scene.may_kill(id);
        if is_killed {
            kills -= 1;
            log(|| format!("{id} is killed"));
            with(|world| {
                // Its stores are out before the kernel frees its locks.
                world.flush(id);
                world.killed += 1;
                world.lookers.retain(|&other| other != id);
                let participant = &mut world.participants[id];
                (participant.dying, participant.dead) = (true, true);
            });
            scene.killed(id);
        }
        with(|world| (world.current, world.quantum) = (Some(id), 1 + random.below(longest)));
        alive[index].coroutine.resume();
        with(|world| world.current = None);
        if alive[index].coroutine.is_done() {
            with(|world| {
                world.flush(id);
                world.participants[id].dead = true;
            });
            alive.swap_remove(index);
        } else {
            assert!(!is_killed, "a participant went on after it was killed");
        }
    }
    scene.finish();
    let mut counts = with(|world| std::mem::take(&mut world.counts));
    counts.insert("accesses", now());
    counts.insert("killed", with(|world| world.killed));
    counts.insert("all asleep", stuck.into());
    counts
}

fn pick(random: &mut Random, alive: &[Running], awake: &[usize]) -> usize {
    let sum: u64 = awake.iter().map(|&index| alive[index].weight).sum();
    let mut at = random.below(sum);
    for &index in awake {
        match at.checked_sub(alive[index].weight) {
            Some(rest) => at = rest,
            None => return index,
        }
    }
    awake[0]
}
