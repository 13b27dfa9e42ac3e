//! Processes killed at random while they work on objects of every kind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, thread};

use tombolo::sync::{LockError, LockResult, SyncError};
use tombolo::{Namespace, NamespaceBuilder, RecvError, SendError};

use crate::common::{MOMENT, NAME, counters, spin, start_role};
use crate::support::{Process, Random, SharedCounters, TestDir, report, stress_random, until};

/// Long enough that a kill is likely to hit while it is written.
type Wide = [u64; 40];

fn stress_plan(names: &Path) -> NamespaceBuilder {
    Namespace::builder()
        .mutex("mutex", [0_u64; 40])
        .reentrant_mutex("re-entrant", [0_u64; 40])
        .rw_lock("lock", [0_u64; 40])
        .value("value", [0_u64; 40])
        .array("array", &[[0_u64; 3]; 4])
        .array("bytes", &[0_u16; 9])
        .atomic("atomic", 0_u64)
        .bounded_semaphore("permits", 3)
        .condvar("condition")
        .event("event")
        .barrier("meeting", 3)
        .queue::<u64>("queue", 4)
        .max_participants(8)
        .directory(names)
}

/// What a worker counts on the counters after it has done it.
const COUNTED: [&str; 7] = ["mutex", "re-entrant", "lock", "value", "array", "bytes", "atomic"];

/// How often workers have counted it.
fn acknowledged(counters: &SharedCounters, what: usize) -> &AtomicU64 {
    counters.word(16 + what)
}

/// Who is inside, or died there: the PID, and the thread in the low byte.
fn occupant(counters: &SharedCounters, what: usize) -> &AtomicU64 {
    counters.word(32 + what)
}

/// Whether the worker of that number has started.
fn has_started(counters: &SharedCounters, worker: usize) -> &AtomicU64 {
    counters.word(64 + worker)
}

/// Panics if a living process is inside.
fn assert_nobody_inside(what: usize, found: u64) {
    assert!(found == 0 || !runs(found >> 8), "in {} at the same time: {}", COUNTED[what], found >> 8);
}

/// Whether a process still has its memory, which it loses first when it ends.
fn runs(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(23 - 3))
        .is_some_and(|size| size != "0")
}

/// Marks this thread as the only one inside, until dropped.
struct Inside<'a> {
    counters: &'a SharedCounters,
    what: usize,
    own: u64,
}

impl<'a> Inside<'a> {
    fn with(counters: &'a SharedCounters, what: usize, thread: u64) -> Self {
        let own = u64::from(std::process::id()) << 8 | (thread + 1);
        assert_nobody_inside(what, occupant(counters, what).swap(own, Ordering::SeqCst));
        Self { counters, what, own }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let found = occupant(self.counters, self.what).swap(0, Ordering::SeqCst);
        assert!(found == self.own || thread::panicking(), "in {} at the same time: {}", COUNTED[self.what], found >> 8);
    }
}

/// The guard, and whether the lock reported that its owner died.
fn guard_and_death<G>(result: LockResult<G>) -> (G, bool) {
    match result {
        Ok(guard) => (guard, false),
        Err(LockError::OwnerDied(guard)) => (guard, true),
        Err(error) => panic!("{error}"),
    }
}

fn next(wide: &Wide) -> Wide {
    assert!(wide.iter().all(|&word| word == wide[0]), "torn: {wide:?}");
    [wide[0] + 1; 40]
}

struct Worker<'a> {
    namespace: &'a Namespace,
    counters: &'a SharedCounters,
    thread: u64,
    random: Random,
}

impl Worker<'_> {
    /// Does something at random.
    fn work(&mut self) {
        let Self { namespace, counters, thread, random } = self;
        // The counted actions more often than the rest, some of which is slow.
        let what = random.below(30) as usize;
        let what = if what < 14 { what } else { what % 7 };
        // Longer stays inside make kills there, and collisions, more likely.
        let delay = random.below(4).saturating_sub(1) * 100;
        match what {
            0 => {
                let mutex = namespace.mutex::<Wide>("mutex").unwrap();
                let (mut guard, _) = guard_and_death(mutex.lock());
                let alone = Inside::with(counters, what, *thread);
                spin(delay);
                *guard = next(&guard);
                drop(alone);
                drop(guard);
            }
            1 => {
                let mutex = namespace.reentrant_mutex::<Wide>("re-entrant").unwrap();
                let (outer, _) = guard_and_death(mutex.lock());
                let inner = mutex.lock().unwrap();
                let alone = Inside::with(counters, what, *thread);
                spin(delay);
                outer.set(&next(&inner.get().unwrap())).unwrap();
                drop(alone);
            }
            2 => {
                let lock = namespace.rw_lock::<Wide>("lock").unwrap();
                let (mut guard, _) = guard_and_death(lock.write());
                let alone = Inside::with(counters, what, *thread);
                spin(delay);
                *guard = next(&guard);
                drop(alone);
                drop(guard);
            }
            3 => {
                let value = namespace.value::<Wide>("value").unwrap();
                let change = |wide: &mut Wide| *wide = next(wide);
                match random.below(2) {
                    0 => value.update(change).unwrap(),
                    _ => value.writer().unwrap().update(change).unwrap(),
                };
            }
            4 => {
                let array = namespace.array::<[u64; 3]>("array").unwrap();
                let (mut section, owner_died) = guard_and_death(array.lock());
                let alone = Inside::with(counters, what, *thread);
                spin(delay);
                let first = section.get(0).unwrap();
                let elements = section.to_vec().unwrap();
                assert!(owner_died || elements.iter().all(|element| *element == first), "a part of {elements:?}");
                section.store_from(0, &[first.map(|word| word + 1); 4]).unwrap();
                drop(alone);
            }
            5 => {
                let array = namespace.array::<u16>("bytes").unwrap();
                let (mut section, owner_died) = guard_and_death(array.lock());
                let alone = Inside::with(counters, what, *thread);
                spin(delay);
                let elements = section.to_vec().unwrap();
                let is_uniform = elements.iter().all(|element| *element == elements[0]);
                assert!(owner_died || is_uniform, "a part of {elements:?}");
                section.store_from(0, &[elements[0].wrapping_add(1); 9]).unwrap();
                drop(alone);
            }
            6 => drop(namespace.atomic::<u64>("atomic").unwrap().fetch_add(1)),
            7 => {
                let lock = namespace.rw_lock::<Wide>("lock").unwrap();
                let (guard, _) = guard_and_death(lock.read());
                assert_nobody_inside(2, occupant(counters, 2).load(Ordering::SeqCst));
                next(&guard);
                spin(delay);
                assert_nobody_inside(2, occupant(counters, 2).load(Ordering::SeqCst));
            }
            8 => {
                let value = namespace.value::<Wide>("value").unwrap();
                next(&value.load().unwrap());
                let _ = value.wait_for_change(Duration::from_micros(200)).map(|wide| next(&wide));
            }
            9 => {
                let permits = namespace.bounded_semaphore("permits").unwrap();
                let count = random.below(4) as u32;
                permits.acquire_many(count).unwrap().forget();
                permits.release(count).unwrap();
            }
            10 => drop(namespace.bounded_semaphore("permits").unwrap().acquire().unwrap()),
            11 => {
                let mutex = namespace.mutex::<Wide>("mutex").unwrap();
                let condition = namespace.condvar("condition").unwrap();
                condition.notify_one().unwrap();
                let (guard, _) = guard_and_death(mutex.lock());
                let ((guard, _), _) = guard_and_death(condition.wait_timeout(guard, Duration::from_micros(200)));
                let alone = Inside::with(counters, 0, *thread);
                next(&guard);
                drop(alone);
            }
            12 => {
                let event = namespace.event("event").unwrap();
                event.set().unwrap();
                event.wait_timeout(Duration::from_micros(200)).ok();
                event.clear().unwrap();
            }
            _ => {
                let meeting = namespace.barrier("meeting").unwrap();
                match meeting.wait_timeout(Duration::from_micros(500)) {
                    Ok(_) | Err(SyncError::TimedOut) => {}
                    Err(SyncError::BarrierBroken { .. }) => meeting.reset().unwrap(),
                    Err(error) => panic!("{error}"),
                }
                let mut queue = namespace.queue::<u64>("queue").unwrap();
                assert!(matches!(queue.try_send(1), Ok(()) | Err(SendError::Full)));
                assert!(!matches!(queue.try_recv(), Err(RecvError::Corrupt | RecvError::LockLost)));
            }
        }
        if what < COUNTED.len() {
            acknowledged(counters, what).fetch_add(1, Ordering::SeqCst);
        }
    }
}

pub fn work_until_killed(arguments: &[String]) {
    let namespace = stress_plan(Path::new(&arguments[0])).open(NAME).unwrap();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let seed: u64 = arguments[2].parse().unwrap();
    has_started(&counters, seed as usize % 1000).store(1, Ordering::SeqCst);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (namespace, counters) = (&namespace, &counters);
            scope.spawn(move || {
                let mut worker = Worker { namespace, counters, thread, random: Random(2 * seed + thread + 1) };
                let worked = catch_unwind(AssertUnwindSafe(|| {
                    loop {
                        worker.work();
                    }
                }));
                if worked.is_err() {
                    std::process::exit(101);
                }
            });
        }
    });
}

/// The counts in the namespace itself.
fn counts(namespace: &Namespace) -> [u64; 7] {
    let value = namespace.value::<Wide>("value").unwrap();
    let mutex = namespace.mutex::<Wide>("mutex").unwrap();
    let reentrant = namespace.reentrant_mutex::<Wide>("re-entrant").unwrap();
    let lock = namespace.rw_lock::<Wide>("lock").unwrap();
    let array = namespace.array::<[u64; 3]>("array").unwrap();
    let bytes = namespace.array::<u16>("bytes").unwrap();
    [
        next(&guard_and_death(mutex.lock()).0)[0] - 1,
        next(&guard_and_death(reentrant.lock()).0.get().unwrap())[0] - 1,
        next(&guard_and_death(lock.read()).0)[0] - 1,
        next(&value.update(|_| ()).unwrap())[0] - 1,
        guard_and_death(array.lock()).0.get(0).unwrap()[0],
        guard_and_death(bytes.lock()).0.get(0).unwrap().into(),
        namespace.atomic::<u64>("atomic").unwrap().load(),
    ]
}

fn kill_stress(seed: u64, is_watched: bool) {
    const WORKERS: usize = 3;
    const KILLS: u64 = 60;
    let test_dir = TestDir::new();
    let counters = counters(&test_dir);
    let mut random = stress_random(seed);
    let watcher = is_watched.then(|| stress_plan(&test_dir.names()).open(NAME).unwrap());
    let mut started = 0;
    let mut begin = || {
        started += 1;
        (start_role(&test_dir, "work_until_killed", &[&(seed * 1000 + started).to_string()]), started as usize)
    };
    let until_started =
        |worker: &(Process, usize)| until(|| has_started(&counters, worker.1).load(Ordering::SeqCst) == 1);
    let mut workers: Vec<_> = (0..WORKERS).map(|_| begin()).collect();
    for _ in 0..KILLS {
        let index = random.below(WORKERS as u64) as usize;
        // Some are killed while they join; most are not.
        if random.below(6) > 0 {
            until_started(&workers[index]);
        }
        thread::sleep(Duration::from_micros(random.below(20_000)));
        workers.swap_remove(index).0.kill();
        workers.push(begin());
    }
    workers.iter().for_each(until_started);
    thread::sleep(MOMENT);
    workers.into_iter().for_each(|worker| worker.0.kill());
    assert_eq!(test_dir.leftovers(), [NAME]);
    let namespace = watcher.unwrap_or_else(|| stress_plan(&test_dir.names()).open(NAME).unwrap());
    let done = counts(&namespace);
    for (what, name) in COUNTED.into_iter().enumerate() {
        let counted = acknowledged(&counters, what).load(Ordering::SeqCst);
        // A kill can stop both threads of a worker between an action and its count.
        let most = counted + 2 * (KILLS + WORKERS as u64);
        let done = if name == "bytes" {
            counted + u64::from((done[what] as u16).wrapping_sub(counted as u16))
        } else {
            done[what]
        };
        assert!((counted..=most).contains(&done), "{name}: {done} done, {counted} counted");
    }
    let permits = namespace.bounded_semaphore("permits").unwrap();
    assert_eq!(
        (permits.available(), permits.acquire_many(3).map(|permit| permit.forget()), permits.release(3)),
        (3, Ok(()), Ok(()))
    );
    drop(namespace.mutex::<Wide>("mutex").unwrap().lock().unwrap());
    let lock = namespace.rw_lock::<Wide>("lock").unwrap();
    drop(guard_and_death(lock.write())); // a reader may have got `OwnerDied` before
    drop(lock.write().unwrap());
    drop(namespace.array::<u16>("bytes").unwrap().lock().unwrap());
    namespace.value::<Wide>("value").unwrap().store(&[0; 40]).unwrap();
    let meeting = namespace.barrier("meeting").unwrap();
    meeting.reset().unwrap();
    thread::scope(|scope| {
        let others = [(); 2].map(|()| scope.spawn(|| meeting.wait()));
        assert!(meeting.wait().is_ok());
        others.into_iter().for_each(|other| assert!(other.join().unwrap().is_ok()));
    });
    report(&format!("kill stress: {done:?} done in spite of {KILLS} kills"));
    drop((namespace, permits, lock, meeting));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn object_kill_stress_leaves_no_damage() {
    kill_stress(1, false);
}

#[test]
fn object_kill_stress_with_survivor_leaves_no_damage() {
    kill_stress(2, true);
}
