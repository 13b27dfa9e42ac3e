//! The participants of one schedule, the scheduler, and what only processors and the kernel know: store buffers, locks, sleepers.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use generator::{Generator, Gn};

/// Words of a participant's stack.
const STACK: usize = 0x4000;

/// Accesses after which a schedule has gone on for too long.
const STEPS_MOST: u64 = 1_000_000;

/// How often all may be found asleep: each time they look around, and somebody goes on.
const STUCK_MOST: u32 = 200;

/// What a seed turns into.
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
    /// By a wake-up, or it was refused.
    Woken,
    /// Its time was over.
    TimedOut,
    /// All were asleep. Time would have helped, a wake-up ought to have done.
    Stuck,
}

struct Participant {
    /// What it has stored and others do not see yet.
    buffer: VecDeque<(Rc<Cell<u64>>, u64)>,
    /// Heavy fences reach it.
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
    /// Sleepers, in the order in which they lay down.
    sleepers: Vec<usize>,
    /// Whether stores wait in buffers at all.
    buffers: bool,
    /// At one in so many accesses a store leaves somebody's buffer.
    drains_one_in: u64,
    random: Option<Random>,
    steps: u64,
    /// Accesses that the current participant makes before the scheduler decides anew.
    quantum: u64,
    /// The lives of those who have not made a step yet.
    born: BTreeMap<usize, Box<dyn FnOnce()>>,
    /// After all were asleep: those who are still to look, one after the other, before anybody does anything.
    looking: VecDeque<usize>,
    /// By number: who holds a lock of the kernel's.
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
    fn flush_one(&mut self, who: usize) -> bool {
        let oldest = self.participants.get_mut(who).and_then(|participant| participant.buffer.pop_front());
        if let Some((cell, value)) = &oldest {
            cell.set(*value);
        }
        oldest.is_some()
    }

    fn flush(&mut self, who: usize) {
        while self.flush_one(who) {}
    }

    fn is_alive(&self, who: usize) -> bool {
        self.participants.get(who).is_some_and(|participant| !participant.dead)
    }
}

/// Of a participant that is being killed.
struct Killed;

/// The end of an access: others may go on before the next one.
pub(crate) fn pause() {
    let must_yield = with(|world| {
        world.steps += 1;
        if world.current.is_none() {
            return false;
        }
        if world.buffers && world.random.as_mut().is_some_and(|random| random.one_in(world.drains_one_in)) {
            let count = world.participants.len() as u64;
            let who = world.random.as_mut().map_or(0, |random| random.below(count));
            world.flush_one(who as usize);
        }
        world.quantum = world.quantum.saturating_sub(1);
        world.quantum == 0
    });
    if must_yield {
        switch();
    }
}

/// Lets the scheduler decide who goes on.
#[allow(deprecated, reason = "the other way needs an object at hand, which the algorithms cannot pass on")]
fn switch() {
    generator::yield_with(());
    let dying = with(|world| world.current.is_some_and(|who| world.participants[who].dying));
    if dying {
        with(|world| world.current = None);
        resume_unwind(Box::new(Killed));
    }
}

/// A line of the trace.
pub(crate) fn tell(line: impl FnOnce() -> String) {
    with(|world| {
        if world.trace {
            let who = world.current.map_or("-".into(), |who| who.to_string());
            println!("{:>6} {who:>3} {}", world.steps, line());
        }
    });
}

/// One more of what the totals count.
pub(crate) fn count(what: &'static str) {
    count_many(what, 1);
}

pub(crate) fn count_many(what: &'static str, many: u64) {
    with(|world| *world.counts.entry(what).or_default() += many);
}

/// The time, in accesses.
pub(crate) fn now() -> u64 {
    with(|world| world.steps)
}

/// The participant that runs.
pub(crate) fn me() -> usize {
    with(|world| world.current).expect("called by a participant")
}

pub(crate) fn is_alive(who: usize) -> bool {
    with(|world| world.is_alive(who))
}

/// Whether a wake-up may have died with its waker.
pub(crate) fn was_anybody_killed() -> bool {
    with(|world| world.killed > 0)
}

/// Whether stores wait in buffers, so that one that is made may not be seen yet.
pub(crate) fn has_store_buffers() -> bool {
    with(|world| world.buffers)
}

/// Whether heavy fences reach everybody.
pub(crate) fn everybody_has_membarrier() -> bool {
    with(|world| world.participants.iter().all(|participant| participant.membarrier))
}

// ---- store buffers ----

pub(crate) fn store(cell: &Rc<Cell<u64>>, value: u64) {
    with(|world| match world.current {
        Some(who) if world.buffers => world.participants[who].buffer.push_back((Rc::clone(cell), value)),
        _ => cell.set(value),
    });
}

/// What a processor hands its own loads ahead of the memory.
pub(crate) fn newest_own_store(cell: &Rc<Cell<u64>>) -> Option<u64> {
    with(|world| {
        let buffer = &world.participants[world.current?].buffer;
        buffer.iter().rev().find(|(at, _)| Rc::ptr_eq(at, cell)).map(|(_, value)| *value)
    })
}

pub(crate) fn flush(who: usize) {
    with(|world| world.flush(who));
}

pub(crate) fn flush_own() {
    with(|world| {
        if let Some(who) = world.current {
            world.flush(who);
        }
    });
}

/// Some time passes.
pub(crate) fn let_all_stores_out() {
    with(|world| (0..world.participants.len()).for_each(|who| world.flush(who)));
}

// ---- membarrier ----

/// Those whom a heavy fence reaches.
pub(crate) fn with_membarrier() -> impl Iterator<Item = usize> {
    let reached: Vec<usize> = with(|world| {
        let participants = world.participants.iter().enumerate();
        participants.filter(|(_, participant)| participant.membarrier).map(|(who, _)| who).collect()
    });
    reached.into_iter()
}

/// Whether the running participant is among them.
pub(crate) fn has_membarrier() -> bool {
    with(|world| world.current.is_none_or(|who| world.participants[who].membarrier))
}

// ---- the kernel ----

/// A system call: what was stored before it is visible after it.
fn system_call<R>(action: impl FnOnce(&mut World) -> R) -> R {
    pause();
    flush_own();
    with(action)
}

/// Takes a lock that dies with its holder. False: somebody alive has it.
pub(crate) fn try_lock(lock: usize) -> bool {
    let taken = system_call(|world| {
        let who = world.current.unwrap_or(usize::MAX);
        let is_free = world.locks.get(&lock).is_none_or(|&holder| holder != usize::MAX && !world.is_alive(holder));
        if is_free {
            world.locks.insert(lock, who);
        }
        is_free
    });
    tell(|| format!("lock {lock}: {taken}"));
    taken
}

pub(crate) fn unlock(lock: usize) {
    system_call(|world| world.locks.remove(&lock));
    tell(|| format!("unlock {lock}"));
}

/// Whether somebody alive holds it.
pub(crate) fn is_locked(lock: usize) -> bool {
    let locked = system_call(|world| world.locks.get(&lock).is_some_and(|&holder| world.is_alive(holder)));
    tell(|| format!("is {lock} locked: {locked}"));
    locked
}

pub(crate) fn sleep(on: *const Cell<u64>) {
    let who = me();
    with(|world| {
        world.participants[who].asleep_on = Some(on);
        world.participants[who].sleep = Sleep::Woken;
        world.sleepers.push(who);
    });
    while with(|world| world.participants[who].asleep_on.is_some()) {
        switch();
    }
}

pub(crate) fn wake(on: *const Cell<u64>, count: usize) -> usize {
    with(|world| {
        let sleepers = world.sleepers.iter().copied();
        let woken: Vec<usize> =
            sleepers.filter(|&who| world.participants[who].asleep_on == Some(on)).take(count).collect();
        woken.iter().for_each(|&who| world.participants[who].asleep_on = None);
        world.sleepers.retain(|who| !woken.contains(who));
        woken.len()
    })
}

/// How the running participant's last sleep ended; asked once.
pub(crate) fn end_of_sleep() -> Sleep {
    let who = me();
    with(|world| std::mem::replace(&mut world.participants[who].sleep, Sleep::Woken))
}

/// One who was stuck has looked, and found nothing, or what a wake-up ought to have told it of.
pub(crate) fn has_looked() {
    with(|world| world.looking.pop_front());
    switch();
}

/// Time ends a sleep.
fn end_sleep(who: usize, sleep: Sleep) {
    with(|world| {
        world.participants[who].asleep_on = None;
        world.participants[who].sleep = sleep;
        world.sleepers.retain(|&other| other != who);
    });
}

// ---- the scheduler ----

/// One who comes.
pub(crate) struct Newcomer {
    pub(crate) membarrier: bool,
    pub(crate) life: Box<dyn FnOnce()>,
}

/// How a schedule is run.
pub(crate) struct Conduct {
    /// Participants at the same time, unless all of them wait for others to come.
    pub(crate) at_once: usize,
    /// Participants at the same time in any case.
    pub(crate) most: usize,
    /// So many are killed at most.
    pub(crate) kills: u64,
    /// Whether sleeps may end by time, also where a wake-up is still on its way.
    pub(crate) slices: bool,
}

/// What a model makes of a seed.
pub(crate) trait Scene {
    /// Whether anybody is still to come.
    fn has_more(&self) -> bool;

    /// The next participant. None: not now, others must go first.
    fn next(&mut self, random: &mut Random) -> Option<Newcomer>;

    /// Called at a kill, before anybody else goes on.
    fn killed(&mut self, _who: usize) {}

    /// Whether a kill may come now.
    fn may_kill(&self, _who: usize) -> bool {
        true
    }

    /// All have left or died, and nothing waits in a buffer. What must hold now?
    fn finish(&mut self);
}

struct Running {
    who: usize,
    weight: u64,
    coroutine: Generator<'static, (), ()>,
}

fn start(newcomer: Newcomer, weight: u64) -> Running {
    let who = with(|world| {
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
    // By this way, because coroutines could move to another thread, what a life uses could not, and neither does.
    with(|world| world.born.insert(who, newcomer.life));
    let coroutine = Gn::<()>::new_opt(STACK, move || {
        let life = with(|world| world.born.remove(&who)).expect("it is born once");
        // It may be killed before its first step.
        if !is_alive(who) {
            return;
        }
        if let Err(end) = catch_unwind(AssertUnwindSafe(life))
            && !end.is::<Killed>()
        {
            resume_unwind(end);
        }
    });
    Running { who, weight, coroutine }
}

const WEIGHTS: &[u64] = &[1, 1, 4, 16, 64];

/// One schedule; what it counted.
pub(crate) fn explore(
    seed: u64,
    trace: bool,
    build: fn(&mut Random) -> (Box<dyn Scene>, Conduct),
) -> BTreeMap<&'static str, u64> {
    let mut random = Random::new(seed);
    let buffers = random.one_in(2);
    let drains_one_in = random.among(&[2, 8, 50]);
    let own = Some(Random::new(seed ^ 0xACCE55));
    with(|world| *world = World { trace, buffers, drains_one_in, random: own, ..World::default() });
    let (mut scene, conduct) = build(&mut random);
    let mut kills = conduct.kills;
    let kill_one_in = random.among(&[10, 50, 150, 300]);
    let newcomer_one_in = random.among(&[1, 1, 1, 20]);
    // Either anybody may go on after each access, or each goes on for a while.
    let longest = random.among(&[1, 1, 1, 3, 12, 40]);
    let mut alive: Vec<Running> = Vec::new();
    let mut stuck = 0;
    loop {
        let is_awake = |running: &Running| with(|world| world.participants[running.who].asleep_on.is_none());
        let mut awake: Vec<usize> = (0..alive.len()).filter(|&index| is_awake(&alive[index])).collect();
        // Where all are asleep, it may be for a newcomer to wake them.
        let is_time = awake.is_empty() || random.one_in(newcomer_one_in);
        if is_time
            && scene.has_more()
            && alive.len() < if awake.is_empty() { conduct.most } else { conduct.at_once }
            && let Some(newcomer) = scene.next(&mut random)
        {
            awake.push(alive.len());
            alive.push(start(newcomer, random.among(WEIGHTS)));
        }
        if alive.is_empty() {
            break;
        }
        assert!(now() < STEPS_MOST, "this schedule does not come to an end");
        if awake.is_empty() {
            stuck += 1;
            assert!(stuck < STUCK_MOST, "all wait for ever: {:?}", with(|world| world.sleepers.clone()));
            tell(|| "all are asleep".into());
            alive.iter().for_each(|running| end_sleep(running.who, Sleep::Stuck));
            let all = alive.iter().map(|running| running.who).collect();
            with(|world| world.looking = all);
            continue;
        }
        if conduct.slices && random.one_in(100) {
            let sleepers = with(|world| world.sleepers.clone());
            if !sleepers.is_empty() {
                end_sleep(random.among(&sleepers), Sleep::TimedOut);
            }
        }
        let looking = with(|world| world.looking.front().copied());
        let looking = looking.and_then(|who| alive.iter().position(|running| running.who == who));
        let index = looking.unwrap_or_else(|| pick(&mut random, &alive, &awake));
        if random.one_in(300) {
            alive[index].weight = random.among(WEIGHTS);
        }
        let who = alive[index].who;
        let is_killed = kills > 0 && random.one_in(kill_one_in) && scene.may_kill(who);
        if is_killed {
            kills -= 1;
            tell(|| format!("{who} is killed"));
            with(|world| {
                // Before its locks are free it has left its processor.
                world.flush(who);
                world.killed += 1;
                world.looking.retain(|&other| other != who);
                let participant = &mut world.participants[who];
                (participant.dying, participant.dead) = (true, true);
            });
            scene.killed(who);
        }
        with(|world| (world.current, world.quantum) = (Some(who), 1 + random.below(longest)));
        alive[index].coroutine.resume();
        with(|world| world.current = None);
        if alive[index].coroutine.is_done() {
            with(|world| {
                world.flush(who);
                world.participants[who].dead = true;
            });
            alive.swap_remove(index);
        } else {
            assert!(!is_killed, "somebody went on after it was killed");
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
