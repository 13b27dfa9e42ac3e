//! The crash sweep of namespaces: each operation on an object is cut off by SIGKILL after every step that anybody else
//! could notice.

#![cfg(target_arch = "x86_64")]

mod support;
#[path = "support/sweep.rs"]
mod sweep;

use std::fmt::Debug;
use std::fs;
use std::mem::forget;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use support::{Board, Process, Sandbox, alone, fork, until};
use sweep::{NAME, Swept, sweep, sweep_first, sweep_stopping, within};
use tombolo::{
    Abandoned, Array, Barrier, BoundedSemaphore, Directory, Event, Inspection, LockError, LockResult, Mutex, Namespace,
    NamespaceBuilder, ObjectState, Once, Queue, RwLock, Semaphore, Standing, SyncError, Value, Wait,
};

/// Two words that belong together.
type Pair = [u64; 2];

const AT_ONCE: Duration = Duration::ZERO;
const BRIEFLY: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(60);

/// How long a sleeper sleeps at a time.
const SLICE: Duration = Duration::from_millis(20);

/// System calls of a wait, after which it goes on in the same way.
const WAITING: usize = 10;

fn pair(number: u64) -> Pair {
    [number, !number]
}

fn number(pair: Pair) -> u64 {
    assert_eq!(pair[1], !pair[0], "torn");
    pair[0]
}

/// So few lanes that a newcomer needs the dead one's. Who waits sleeps at once: a victim goes the same way each time.
fn room_for(participants: usize, names: &Path) -> NamespaceBuilder {
    Namespace::builder().max_participants(participants).wait(Wait::Park).directory(names)
}

/// What a victim left behind, before anybody has put anything right.
struct Wreck(Inspection);

impl Wreck {
    fn of(names: &Path) -> Self {
        Self(Directory::at(names).inspect(NAME).unwrap())
    }

    /// The process that is dead.
    fn pid(&self) -> Option<u64> {
        self.0.participants.iter().find(|participant| participant.standing == Standing::Dead).map(|dead| dead.pid)
    }

    fn object(&self, name: &str) -> &ObjectState {
        self.0.objects.iter().find(|object| object.name == name).unwrap()
    }

    /// Whether it died with that lock.
    fn held(&self, name: &str) -> bool {
        let holder = self.object(name).holder;
        holder.is_some() && holder == self.pid()
    }

    /// Whether it died reading under that lock, with permits of that semaphore, or waiting at that barrier.
    fn used(&self, name: &str) -> bool {
        self.pid().is_some_and(|pid| self.object(name).users.contains(&pid))
    }
}

/// The guard, and whether an owner died.
fn hear<G>(result: LockResult<G>) -> (G, bool) {
    match result {
        Ok(guard) => (guard, false),
        Err(LockError::OwnerDied(guard)) => (guard, true),
        Err(error) => panic!("{error}"),
    }
}

/// Runs it in a process that joins for that and leaves.
fn newcomer(plan: NamespaceBuilder, act: impl FnOnce(&Namespace)) {
    fork(&within(), || {
        let namespace = plan.open_existing().open(NAME).unwrap();
        act(&namespace);
    })
    .finish();
}

/// A namespace that stays open until its process ends.
fn kept(plan: NamespaceBuilder) -> &'static Namespace {
    Box::leak(Box::new(plan.open(NAME).unwrap()))
}

/// Sweeps an operation twice: the first to look after a death is one who was there, then one who comes. In the end both
/// must find that everything works.
fn sweep_object<O: FnOnce()>(
    plan: impl Fn(NamespaceBuilder) -> NamespaceBuilder,
    prepare: impl Fn(&'static Namespace) -> O,
    finds: impl Fn(&Namespace, &Wreck),
    works: impl Fn(&Namespace),
) -> Swept {
    sweep_object_first(usize::MAX, plan, prepare, finds, works)
}

/// As [`sweep_object`], the first so many system calls.
fn sweep_object_first<O: FnOnce()>(
    calls: usize,
    plan: impl Fn(NamespaceBuilder) -> NamespaceBuilder,
    prepare: impl Fn(&'static Namespace) -> O,
    finds: impl Fn(&Namespace, &Wreck),
    works: impl Fn(&Namespace),
) -> Swept {
    let plan = |names: &Path| plan(room_for(2, names));
    let round = |newcomer_first: bool| {
        sweep_first(
            calls,
            |names| plan(names).open(NAME).unwrap(),
            |names| prepare(kept(plan(names))),
            |names, survivor| {
                let wreck = Wreck::of(names);
                if !newcomer_first {
                    finds(&survivor, &wreck);
                    works(&survivor);
                }
                newcomer(plan(names), |namespace| {
                    if newcomer_first {
                        finds(namespace, &wreck);
                    }
                    works(namespace);
                });
                works(&survivor);
                assert!(Wreck::of(names).pid().is_none(), "a dead one's lane is not taken over");
            },
        )
    };
    let (one, other) = (round(false), round(true));
    Swept { calls: one.calls.min(other.calls), changes: one.changes.min(other.changes) }
}

/// Sweeps what ends the sleep of another process; that one must come through, if need be after `rescue` by the survivor.
fn sweep_beside_sleeper<O: FnOnce()>(
    plan: impl Fn(NamespaceBuilder) -> NamespaceBuilder,
    sleep: impl Fn(&Namespace),
    prepare: impl Fn(&'static Namespace) -> O,
    rescue: impl Fn(&Namespace, &Wreck),
    works: impl Fn(&Namespace),
) -> Swept {
    let plan = |names: &Path| plan(room_for(3, names)).atomic("ready", 0_u64).atomic("sleeper", 0_u64);
    sweep(
        |names| {
            let survivor = plan(names).open(NAME).unwrap();
            let sleeper = fork(&within(), || {
                let namespace = plan(names).open(NAME).unwrap();
                let ready = namespace.atomic::<u64>("ready").unwrap();
                until(|| ready.load() != 0);
                namespace.atomic("sleeper").unwrap().store(u64::from(std::process::id()));
                sleep(&namespace);
            });
            (survivor, sleeper)
        },
        |names| {
            let namespace = kept(plan(names));
            let operation = prepare(namespace);
            namespace.atomic("ready").unwrap().store(1_u64);
            let sleeper = namespace.atomic::<u64>("sleeper").unwrap();
            until(|| sleeper.load() != 0 && state_of(sleeper.load()) == 'S');
            operation
        },
        |names, (survivor, sleeper): (Namespace, Process)| {
            rescue(&survivor, &Wreck::of(names));
            sleeper.finish();
            works(&survivor);
            newcomer(plan(names), &works);
            works(&survivor);
        },
    )
}

/// As ps(1) has it: R runs, S sleeps, Z is dead and gone but for its number.
fn state_of(pid: u64) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('Z')
}

/// All of its threads are: only then the kernel has freed its locks.
fn is_gone(pid: u64) -> bool {
    state_of(pid) == 'Z' && fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) <= 1
}

// The objects of a namespace are known by their kinds.

fn value_of(namespace: &Namespace) -> Value<Pair> {
    namespace.value("value").unwrap()
}

fn mutex_of(namespace: &Namespace) -> Mutex<Pair> {
    namespace.mutex("mutex").unwrap()
}

fn lock_of(namespace: &Namespace) -> RwLock<Pair> {
    namespace.rw_lock("rw").unwrap()
}

fn permits_of(namespace: &Namespace) -> Semaphore {
    namespace.semaphore("permits").unwrap()
}

fn slots_of(namespace: &Namespace) -> BoundedSemaphore {
    namespace.bounded_semaphore("slots").unwrap()
}

fn event_of(namespace: &Namespace) -> Event {
    namespace.event("event").unwrap()
}

fn barrier_of(namespace: &Namespace) -> Barrier {
    namespace.barrier("barrier").unwrap()
}

fn queue_of(namespace: &Namespace) -> Queue<Pair> {
    namespace.queue("queue").unwrap()
}

// ---- namespaces ------------------------------------------------------------------------------------------------------

fn all_kinds(plan: NamespaceBuilder) -> NamespaceBuilder {
    plan.value("value", pair(0))
        .array("array", &[pair(0); 2])
        .mutex("mutex", pair(0))
        .rw_lock("rw", pair(0))
        .bounded_semaphore("slots", 3)
        .barrier("barrier", 2)
        .once("once")
        .queue::<u64>("queue", 2)
}

/// Everything does what it should; the values count upwards.
fn all_work(namespace: &Namespace) {
    let raise = |pair: &mut Pair| *pair = self::pair(number(*pair) + 1);
    value_of(namespace).update(raise).unwrap();
    let array = namespace.array::<Pair>("array").unwrap();
    let mut section = array.lock().unwrap();
    let mut last = section.get(1).unwrap();
    raise(&mut last);
    section.set(1, last).unwrap();
    drop(section);
    raise(&mut mutex_of(namespace).lock().unwrap());
    raise(&mut lock_of(namespace).write().unwrap());
    let slots = slots_of(namespace);
    slots.acquire(3).unwrap();
    slots.release(3).unwrap();
    all_meet(namespace, 2);
    namespace.once("once").unwrap().call_once(|| {}).unwrap();
    let mut queue = namespace.queue::<u64>("queue").unwrap();
    for number in 0..2 {
        queue.try_send(&number).unwrap();
    }
    assert_eq!((queue.try_recv(), queue.try_recv()), (Ok(0), Ok(1)));
}

/// So many threads meet at the barrier, whatever happened there.
fn all_meet(namespace: &Namespace, parties: usize) {
    let barrier = barrier_of(namespace);
    barrier.reset().unwrap();
    let mut indices: Vec<usize> = thread::scope(|scope| {
        let threads: Vec<_> = (0..parties).map(|_| scope.spawn(|| barrier.wait().unwrap().index())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    indices.sort_unstable();
    assert!(indices.into_iter().eq(0..parties));
}

/// region.rs: nobody ever sees a half-made namespace; namespace.rs: a dead maker's lane, the only one, serves again.
#[test]
fn creating_a_name() {
    let plan = |names: &Path| all_kinds(room_for(1, names));
    let swept = sweep(
        |_| (),
        |names| {
            let plan = plan(names);
            move || forget(plan.open(NAME).unwrap())
        },
        |names, ()| {
            let namespace = plan(names).open(NAME).unwrap();
            all_work(&namespace);
            assert_eq!(number(value_of(&namespace).load().unwrap()), 1, "whoever made it, it began with 0");
        },
    );
    swept.covers(12, 0);
}

/// liveness.rs J1 to J5.
#[test]
fn joining() {
    let plan = |names: &Path| room_for(2, names).mutex("mutex", pair(0));
    let swept = sweep(
        |names| plan(names).open(NAME).unwrap(),
        |names| {
            let plan = plan(names).open_existing();
            move || forget(plan.open(NAME).unwrap())
        },
        |names, survivor| {
            newcomer(plan(names), mutex_works);
            mutex_works(&survivor);
        },
    );
    swept.covers(16, 6);
}

/// members.rs L1, L2: what forgotten guards hold is let go, by who leaves or on behalf of who died leaving.
#[test]
fn leaving_with_forgotten_guards() {
    let swept = sweep(
        |names| all_kinds(room_for(2, names)).open(NAME).unwrap(),
        |names| {
            let namespace = all_kinds(room_for(2, names)).open(NAME).unwrap();
            forget(mutex_of(&namespace).lock().unwrap());
            forget(lock_of(&namespace).read().unwrap());
            forget(value_of(&namespace).writer().unwrap());
            slots_of(&namespace).acquire(2).unwrap();
            move || drop(namespace)
        },
        |names, survivor| {
            assert!(hear(mutex_of(&survivor).lock()).1, "left or dead, it went with the lock");
            all_work(&survivor);
            newcomer(all_kinds(room_for(2, names)), all_work);
            all_work(&survivor);
        },
    );
    swept.covers(6, 5);
}

/// As above, by one who lives on and comes again.
#[test]
fn coming_back_after_a_forgotten_guard() {
    let sandbox = Sandbox::new();
    for round in 0..8 {
        let namespace = room_for(1, &sandbox.names()).rw_lock("rw", pair(0)).open(NAME).unwrap();
        let lock = lock_of(&namespace);
        drop(lock.try_write().unwrap_or_else(|error| panic!("nobody reads, {error}")));
        let reader = lock.read().unwrap();
        thread::scope(|scope| {
            let other = scope.spawn(|| lock.try_write().is_ok());
            assert!(!other.join().unwrap(), "the reader of round {round} keeps out nobody");
        });
        forget(reader);
    }
}

/// liveness.rs L4 to L6: the last one takes the name along, and who comes then starts afresh or goes on.
#[test]
fn leaving_as_the_last() {
    let swept = sweep(
        |_| (),
        |names| {
            let namespace = all_kinds(room_for(1, names)).open(NAME).unwrap();
            value_of(&namespace).store(&pair(1)).unwrap();
            move || drop(namespace)
        },
        |names, ()| {
            let namespace = all_kinds(room_for(1, names)).open(NAME).unwrap();
            assert!(number(value_of(&namespace).load().unwrap()) <= 1);
            all_work(&namespace);
        },
    );
    swept.covers(8, 2);
}

#[test]
fn leaving_a_persistent_one_as_the_last() {
    let plan = |names: &Path| all_kinds(room_for(1, names)).persistent();
    let swept = sweep(
        |_| (),
        |names| {
            let namespace = plan(names).open(NAME).unwrap();
            value_of(&namespace).store(&pair(1)).unwrap();
            move || drop(namespace)
        },
        |names, ()| {
            let namespace = plan(names).open_existing().open(NAME).unwrap();
            assert_eq!(number(value_of(&namespace).load().unwrap()), 1);
            all_work(&namespace);
            drop(namespace);
            Directory::at(names).unlink(NAME, false).unwrap();
        },
    );
    swept.covers(4, 1);
}

/// options.rs: an abandoned namespace is removed and made anew.
#[test]
fn replacing_an_abandoned_namespace() {
    let plan = |names: &Path| all_kinds(room_for(1, names));
    let swept = sweep(
        |names| {
            fork(&within(), || kept(plan(names)).value("value").unwrap().store(&pair(7)).unwrap()).finish();
        },
        |names| {
            let plan = plan(names).abandoned(Abandoned::Replace);
            move || forget(plan.open(NAME).unwrap())
        },
        |names, ()| {
            let namespace = plan(names).open(NAME).unwrap();
            let found = number(value_of(&namespace).load().unwrap());
            assert!(found == 7 || found == 0, "{found}");
            all_work(&namespace);
        },
    );
    swept.covers(20, 1);
}

// ---- values ----------------------------------------------------------------------------------------------------------

/// The victim's operation stores each of `versions` but the first, which is there before.
fn storing<T: Pod + PartialEq + Debug>(versions: &[T], operation: impl Fn(&Value<T>)) -> Swept {
    sweep_object(
        |plan| plan.value("value", versions[0]),
        |namespace| {
            let value = namespace.value("value").unwrap();
            let operation = &operation;
            move || operation(&value)
        },
        |namespace, _| {
            let value = namespace.value::<T>("value").unwrap();
            assert_eq!(value.load().unwrap(), versions[value.version() as usize], "torn");
            value.store(&versions[0]).unwrap();
            assert_eq!(value.load().unwrap(), versions[0]);
        },
        |namespace| {
            let value = namespace.value::<T>("value").unwrap();
            for version in versions {
                value.store(version).unwrap();
                assert_eq!(value.update(|_| {}), Ok(*version));
            }
            value.writer().unwrap().store(&versions[0]).unwrap();
            assert_eq!(value.load().unwrap(), versions[0]);
        },
    )
}

/// raw/cell.rs V1, V2, raw/lock.rs K1, K2.
#[test]
fn storing_a_value_of_64_bytes() {
    storing(&[[1_u64; 8], [2; 8]], |value| value.store(&[2; 8]).unwrap()).covers(0, 12);
}

#[test]
fn storing_a_value_of_8_bytes() {
    storing(&[1_u64, 2], |value| value.store(&2).unwrap()).covers(0, 5);
}

#[test]
fn updating_a_value() {
    storing(&[[1_u64; 8], [2; 8]], |value| assert!(value.update(|value| *value = [2; 8]).is_ok())).covers(0, 12);
}

#[test]
fn storing_as_the_only_writer() {
    let operation = |value: &Value<Pair>| {
        let mut writer = value.writer().unwrap();
        writer.store(&pair(2)).unwrap();
        writer.store(&pair(3)).unwrap();
    };
    storing(&[pair(1), pair(2), pair(3)], operation).covers(0, 10);
}

/// value.rs, raw/event.rs: who waits for a change hears of it, though the writer died before telling.
#[test]
fn storing_for_one_who_waits() {
    let swept = sweep_beside_sleeper(
        |plan| plan.value("value", pair(0)),
        |namespace| {
            let value = value_of(namespace);
            assert_eq!(number(value.wait_changed(LONG).unwrap()), 1);
        },
        |namespace| {
            let value = value_of(namespace);
            move || value.store(&pair(1)).unwrap()
        },
        |survivor, _| {
            let value = value_of(survivor);
            if number(value.load().unwrap()) == 0 {
                value.store(&pair(1)).unwrap();
            }
        },
        |namespace| value_of(namespace).store(&pair(1)).unwrap(),
    );
    swept.covers(1, 7);
}

// ---- arrays ----------------------------------------------------------------------------------------------------------

/// The victim replaces elements 1 to 6 of eight, by itself or in a section.
fn replacing<T: Pod + PartialEq + Debug>(old: T, new: T, operation: impl Fn(&Array<T>, &[T])) -> Swept {
    sweep_object(
        |plan| plan.array("array", &[old; 8]),
        |namespace| {
            let array = namespace.array("array").unwrap();
            let operation = &operation;
            move || operation(&array, &[new; 6])
        },
        |namespace, wreck| {
            let array = namespace.array::<T>("array").unwrap();
            let held = wreck.held("array");
            let found = array.snapshot().unwrap(); // a moment of its own, that hears nothing
            let count = found.iter().filter(|&element| *element == new).count();
            let mut expected = vec![old; 8];
            expected[1..=count].fill(new);
            assert_eq!(found, expected, "from the first on, each whole");
            assert!(held || count == 0 || count == 6, "{count} elements without the lock");
            let (section, died) = hear(array.lock());
            assert_eq!(died, held);
            assert_eq!(section.to_vec().unwrap(), found);
        },
        |namespace| {
            let array = namespace.array::<T>("array").unwrap();
            let mut section = array.lock().unwrap();
            section.set(7, new).unwrap();
            section.store_from(0, &[old; 7]).unwrap();
            drop(section);
            array.set(7, old).unwrap();
            assert_eq!(array.snapshot().unwrap(), [old; 8]);
        },
    )
}

/// Parts of words: up to a whole one, then words, then the rest.
#[test]
fn storing_narrow_elements() {
    replacing(1_u32, 2, |array, values| array.store_from(1, values).unwrap()).covers(0, 6);
}

#[test]
fn storing_wide_elements() {
    replacing(pair(1), pair(2), |array, values| array.store_from(1, values).unwrap()).covers(0, 2 + 6 * 4);
}

#[test]
fn setting_narrow_elements_in_a_section() {
    let operation = |array: &Array<u64>, values: &[u64]| {
        let mut section = array.lock().unwrap();
        for (index, &value) in (1..).zip(values) {
            section.set(index, value).unwrap();
        }
    };
    replacing(1, 2, operation).covers(0, 8);
}

#[test]
fn setting_wide_elements_in_a_section() {
    let operation = |array: &Array<Pair>, values: &[Pair]| {
        let mut section = array.lock().unwrap();
        section.store_from(1, &values[..5]).unwrap();
        section.set(6, values[5]).unwrap();
    };
    replacing(pair(1), pair(2), operation).covers(0, 2 + 6 * 4);
}

// ---- locks -----------------------------------------------------------------------------------------------------------

/// raw/lock.rs K1 to K3, raw/cell.rs V1, V2.
#[test]
fn locking_changing_and_unlocking_a_mutex() {
    let swept = sweep_object(
        |plan| plan.mutex("mutex", pair(0)).atomic("phase", 0_u64),
        |namespace| {
            let mutex = mutex_of(namespace);
            let phase = namespace.atomic("phase").unwrap();
            move || {
                let mut guard = mutex.lock().unwrap();
                phase.store(1_u64);
                *guard = pair(1);
                phase.store(2);
                drop(guard);
            }
        },
        |namespace, wreck| {
            let held = wreck.held("mutex");
            let phase = namespace.atomic::<u64>("phase").unwrap().load();
            let mutex = mutex_of(namespace);
            let (guard, died) = hear(mutex.lock());
            assert_eq!(died, held, "told of a death with the lock, and of no other");
            match (phase, held, number(*guard)) {
                (0, _, 0) | (1, true, 0) | (2, true, 0 | 1) | (2, false, 1) => {}
                found => panic!("(phase, held, value): {found:?}"),
            }
        },
        mutex_works,
    );
    swept.covers(0, 8);
}

fn mutex_works(namespace: &Namespace) {
    let mutex = mutex_of(namespace);
    let before = number(*mutex.lock().unwrap());
    *mutex.try_lock().unwrap() = pair(before + 1);
    assert_eq!(number(*mutex.lock().unwrap()), before + 1);
    assert!(!mutex.is_locked());
}

/// Nothing is changed but the lock's word, there and back.
#[test]
fn locking_and_unlocking_a_mutex() {
    let swept = sweep_object(
        |plan| plan.mutex("mutex", pair(0)),
        |namespace| {
            let mutex = mutex_of(namespace);
            move || drop(mutex.lock().unwrap())
        },
        |namespace, wreck| {
            let mutex = mutex_of(namespace);
            assert_eq!(hear(mutex.lock()).1, wreck.held("mutex"));
        },
        mutex_works,
    );
    swept.covers(0, 2);
}

/// raw/lock.rs I2: the next owner is told as long as nobody who was told has unlocked.
#[test]
fn mending_after_a_death() {
    let swept = sweep(
        |names| {
            let survivor = room_for(2, names).mutex("mutex", pair(0)).open(NAME).unwrap();
            let killed = fork(&within(), || {
                let mutex = mutex_of(kept(room_for(2, names)));
                forget(mutex.lock().unwrap());
            });
            killed.finish(); // without leaving
            survivor
        },
        |names| {
            let mutex = mutex_of(kept(room_for(2, names)));
            move || {
                let (mut guard, died) = hear(mutex.lock());
                assert!(died);
                *guard = pair(1);
            }
        },
        |names, survivor| {
            let wreck = Wreck::of(names);
            let mutex = mutex_of(&survivor);
            let (guard, died) = hear(mutex.lock());
            let mended = number(*guard) == 1 && !wreck.held("mutex");
            assert_eq!(died, !mended);
            drop(guard);
            mutex_works(&survivor);
            newcomer(room_for(2, names), mutex_works);
        },
    );
    swept.covers(0, 5);
}

/// A death with a poisoned lock heals nothing.
#[test]
fn healing_a_poisoned_mutex() {
    let swept = sweep_object(
        |plan| plan.mutex("mutex", pair(0)),
        |namespace| {
            let mutex = mutex_of(namespace);
            mutex.lock().unwrap().poison();
            move || {
                let Err(LockError::Poisoned(mut guard)) = mutex.lock() else { panic!("it is poisoned") };
                *guard = pair(1);
                guard.heal();
            }
        },
        |namespace, wreck| {
            let held = wreck.held("mutex");
            let mutex = mutex_of(namespace);
            match mutex.lock() {
                Ok(guard) => assert!(!held && number(*guard) == 1),
                Err(LockError::Poisoned(mut guard)) => {
                    assert!(number(*guard) <= u64::from(held));
                    guard.heal();
                }
                Err(error) => panic!("{error}"),
            }
        },
        mutex_works,
    );
    swept.covers(0, 6);
}

#[test]
fn locking_a_reentrant_mutex_twice() {
    let swept = sweep_object(
        |plan| plan.reentrant_mutex("mutex", pair(0)),
        |namespace| {
            let mutex = namespace.reentrant_mutex("mutex").unwrap();
            move || {
                let outer = mutex.lock().unwrap();
                outer.set(&pair(1)).unwrap();
                let inner = mutex.lock().unwrap();
                inner.set(&pair(2)).unwrap();
                drop(inner);
                outer.set(&pair(3)).unwrap();
            }
        },
        |namespace, wreck| {
            let mutex = namespace.reentrant_mutex::<Pair>("mutex").unwrap();
            let (guard, died) = hear(mutex.lock());
            assert_eq!(died, wreck.held("mutex"));
            let found = number(guard.get().unwrap());
            assert!(if died { found <= 3 } else { found == 0 || found == 3 }, "{found}");
        },
        |namespace| {
            let mutex = namespace.reentrant_mutex::<Pair>("mutex").unwrap();
            let outer = mutex.lock().unwrap();
            mutex.lock().unwrap().set(&pair(4)).unwrap();
            assert_eq!(number(outer.get().unwrap()), 4);
        },
    );
    swept.covers(0, 2 + 3 * 4);
}

fn rw_lock_works(namespace: &Namespace) {
    let lock = lock_of(namespace);
    *lock.write().unwrap() = pair(7);
    let readers = (lock.read().unwrap(), lock.try_read().unwrap());
    assert_eq!(number(*readers.0), number(*readers.1));
    drop(readers);
    drop(lock.write().unwrap());
}

/// raw/readers.rs S1, S2.
#[test]
fn reading_under_a_lock() {
    let swept = sweep_object(
        |plan| plan.rw_lock("rw", pair(1)),
        |namespace| {
            let lock = lock_of(namespace);
            move || assert_eq!(number(*lock.read().unwrap()), 1)
        },
        |namespace, wreck| {
            let lock = lock_of(namespace);
            assert!(!wreck.held("rw"));
            let (guard, died) = hear(lock.write());
            assert!(!died && number(*guard) == 1, "who reads changes nothing");
        },
        rw_lock_works,
    );
    swept.covers(0, 2);
}

#[test]
fn writing_under_a_lock() {
    let swept = sweep_object(
        |plan| plan.rw_lock("rw", pair(0)),
        |namespace| {
            let lock = lock_of(namespace);
            move || *lock.write().unwrap() = pair(1)
        },
        |namespace, wreck| {
            let lock = lock_of(namespace);
            // Readers are told as well.
            let (guard, died) = hear(lock.read());
            assert_eq!(died, wreck.held("rw"));
            assert!(if died { number(*guard) <= 1 } else { true });
            drop(guard);
            assert_eq!(hear(lock.write()).1, died);
        },
        rw_lock_works,
    );
    swept.covers(0, 6);
}

/// A reader comes through the lock if there was a death to be told of: raw/readers.rs, rw_lock.rs.
#[test]
fn reading_after_a_writers_death() {
    let plan = |names: &Path| room_for(2, names).rw_lock("rw", pair(1));
    let swept = sweep(
        |names| {
            let survivor = plan(names).open(NAME).unwrap();
            let killed = fork(&within(), || {
                let lock = lock_of(kept(plan(names)));
                forget(lock.write().unwrap());
            });
            killed.finish(); // without leaving
            survivor
        },
        |names| {
            let lock = lock_of(kept(plan(names)));
            move || assert!(hear(lock.read()).1)
        },
        |names, survivor| {
            let wreck = Wreck::of(names);
            assert!(wreck.held("rw") || wreck.object("rw").state == "an owner died");
            let lock = lock_of(&survivor);
            let (guard, died) = hear(lock.write());
            assert!(died, "whoever read before, and died doing so");
            assert_eq!(number(*guard), 1);
            drop(guard);
            rw_lock_works(&survivor);
            newcomer(plan(names), rw_lock_works);
        },
    );
    swept.covers(0, 4);
}

/// What the action did counts if it came to its end, and only then.
#[test]
fn doing_something_once() {
    let swept = sweep_object(
        |plan| plan.once("once").atomic("begun", 0_u64).atomic("ended", 0_u64),
        |namespace| {
            let once = namespace.once("once").unwrap();
            move || do_once(namespace, &once)
        },
        |namespace, wreck| {
            let once = namespace.once("once").unwrap();
            let word = |name| namespace.atomic::<u64>(name).unwrap().load();
            let (done, begun, ended) = (once.is_completed(), word("begun"), word("ended"));
            assert!(ended <= begun && begun <= 1 && (!done || ended == 1));
            assert!(done || begun == 0 || wreck.held("once"));
            do_once(namespace, &once);
            assert_eq!(word("begun"), begun + u64::from(!done));
        },
        |namespace| {
            let once = namespace.once("once").unwrap();
            assert!(once.is_completed());
            once.call_once(|| panic!("it is done")).unwrap();
            once.wait().unwrap();
        },
    );
    swept.covers(0, 5);
}

fn do_once(namespace: &Namespace, once: &Once) {
    let add = |name| namespace.atomic::<u64>(name).unwrap().fetch_add(1);
    once.call_once(|| {
        add("begun");
        add("ended");
    })
    .unwrap();
}

// ---- locks that others sleep on --------------------------------------------------------------------------------------

/// raw/lock.rs K2.
#[test]
fn unlocking_for_one_who_sleeps() {
    let swept = sweep_beside_sleeper(
        |plan| plan.mutex("mutex", pair(0)),
        |namespace| {
            let mutex = mutex_of(namespace);
            let (guard, died) = hear(mutex.lock());
            assert!(died || number(*guard) == 1, "given back uncommitted");
        },
        |namespace| {
            let mutex: &'static Mutex<Pair> = Box::leak(Box::new(mutex_of(namespace)));
            let mut guard = mutex.lock().unwrap();
            *guard = pair(1);
            move || drop(guard)
        },
        |_, _| {},
        mutex_works,
    );
    swept.covers(1, 6);
}

/// raw/readers.rs S2.
#[test]
fn ceasing_to_read_for_one_who_wants_to_write() {
    let swept = sweep_beside_sleeper(
        |plan| plan.rw_lock("rw", pair(0)),
        |namespace| {
            let lock = lock_of(namespace);
            *lock.write().unwrap() = pair(1);
        },
        |namespace| {
            let lock: &'static RwLock<Pair> = Box::leak(Box::new(lock_of(namespace)));
            let guard = lock.read().unwrap();
            move || drop(guard)
        },
        |_, _| {},
        rw_lock_works,
    );
    swept.covers(1, 2);
}

#[test]
fn completing_for_one_who_waits() {
    let swept = sweep_beside_sleeper(
        |plan| plan.once("once").atomic("begun", 0_u64).atomic("ended", 0_u64),
        |namespace| namespace.once("once").unwrap().wait().unwrap(),
        |namespace| {
            let once = namespace.once("once").unwrap();
            move || do_once(namespace, &once)
        },
        |survivor, _| do_once(survivor, &survivor.once("once").unwrap()),
        |namespace| assert!(namespace.once("once").unwrap().is_completed()),
    );
    swept.covers(1, 6);
}

/// Sweeps a wait, in vain, for what the survivor has, and giving up. Given back, everybody can have it, also who does not
/// wait.
fn waiting<T>(
    plan: impl Fn(NamespaceBuilder) -> NamespaceBuilder,
    take: impl Fn(&Namespace) -> T,
    wait: impl Fn(&Namespace, Duration) -> bool,
    give: impl Fn(&Namespace, T),
    works: impl Fn(&Namespace),
) -> Swept {
    let plan = |names: &Path| plan(room_for(2, names));
    let round = |patience: Duration| {
        sweep_first(
            WAITING,
            |names| {
                let survivor = plan(names).open(NAME).unwrap();
                let taken = take(&survivor);
                (survivor, taken)
            },
            |names| {
                let namespace = kept(plan(names));
                let wait = &wait;
                move || assert!(!wait(namespace, patience))
            },
            |names, (survivor, taken)| {
                give(&survivor, taken);
                works(&survivor);
                newcomer(plan(names), &works);
                works(&survivor);
            },
        )
    };
    round(AT_ONCE).covers(1, 0);
    round(LONG)
}

/// A newcomer steps back for a waiter, but not for long, lest it is dead.
fn soon<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut got = None;
    let begun = Instant::now();
    until(|| {
        got = attempt();
        got.is_some() || begun.elapsed() > Duration::from_secs(1)
    });
    got.expect("nobody waits any more")
}

#[test]
fn waiting_for_a_mutex() {
    let swept = waiting(
        |plan| plan.mutex("mutex", pair(0)),
        |survivor| mutex_of(survivor).lock().unwrap().leak(),
        |namespace, patience| mutex_of(namespace).lock_timeout(patience).is_ok(),
        |survivor, ()| mutex_of(survivor).unlock().unwrap(),
        |namespace| {
            let mutex = mutex_of(namespace);
            drop(soon(|| mutex.try_lock().ok()));
            mutex_works(namespace);
        },
    );
    swept.covers(WAITING, 2);
}

/// The victim has the lock of the writers while it waits for the reader. It has written nothing, but who knows.
#[test]
fn waiting_to_write() {
    let swept = waiting(
        |plan| plan.rw_lock("rw", pair(0)),
        |survivor| {
            let lock = Box::into_raw(Box::new(lock_of(survivor)));
            // SAFETY: alive until it is taken back, after the guard.
            (unsafe { &*lock }.read().unwrap(), lock)
        },
        |namespace, patience| lock_of(namespace).write_timeout(patience).is_ok(),
        |survivor, (reader, lock)| {
            // The writer is known to be dead when somebody waits for it.
            let died = thread::scope(|scope| scope.spawn(|| hear(lock_of(survivor).read()).1).join().unwrap());
            drop(reader);
            assert_eq!(hear(lock_of(survivor).write()).1, died);
            // SAFETY: the box of before, used by nobody any more.
            drop(unsafe { Box::from_raw(lock) });
        },
        rw_lock_works,
    );
    swept.covers(WAITING, 2);
}

/// latch.rs: a waiter that was killed asks newcomers to stand back; one of them dies doing so.
#[test]
fn locking_what_a_dead_one_has_barred() {
    let plan = |names: &Path| room_for(2, names).mutex("mutex", pair(0));
    let swept = sweep(
        |names| {
            let survivor = plan(names).open(NAME).unwrap();
            let mutex = mutex_of(&survivor);
            mutex.lock().unwrap().leak();
            let waiter = fork(&within(), || drop(mutex_of(kept(plan(names))).lock()));
            let bars = || Wreck::of(names).0.participants.len() == 2 && state_of(waiter.pid() as u64) == 'S';
            until(bars);
            thread::sleep(2 * SLICE);
            waiter.kill();
            mutex.unlock().unwrap();
            survivor
        },
        |names| {
            let mutex = mutex_of(kept(plan(names)));
            move || *mutex.lock().unwrap() = pair(1)
        },
        |names, survivor| {
            let mutex = mutex_of(&survivor);
            let held = Wreck::of(names).held("mutex");
            let (guard, died) = hear(mutex.lock());
            assert_eq!(died, held);
            assert!(number(*guard) <= 1);
            drop(guard);
            mutex_works(&survivor);
            newcomer(plan(names), mutex_works);
        },
    );
    swept.covers(1, 9);
}

#[test]
fn waiting_for_a_permit() {
    let swept = waiting(
        |plan| plan.semaphore("permits", 2),
        |survivor| permits_of(survivor).acquire(2).unwrap(),
        |namespace, patience| permits_of(namespace).acquire_timeout(1, patience).is_ok(),
        |survivor, ()| permits_of(survivor).release(2).unwrap(),
        |namespace| {
            let permits = permits_of(namespace);
            soon(|| permits.try_acquire(2).ok());
            permits.release(2).unwrap();
        },
    );
    swept.covers(WAITING, 2);
}

#[test]
fn waiting_for_permits_of_a_fixed_number() {
    let swept = waiting(
        |plan| plan.bounded_semaphore("slots", 3),
        |survivor| slots_of(survivor).acquire(2).unwrap(),
        |namespace, patience| slots_of(namespace).acquire_timeout(2, patience).is_ok(),
        |survivor, ()| slots_of(survivor).release(2).unwrap(),
        |namespace| {
            let slots = slots_of(namespace);
            soon(|| slots.try_acquire(3).ok());
            slots.release(3).unwrap();
            slots_work(namespace);
        },
    );
    swept.covers(WAITING, 1);
}

// ---- semaphores ------------------------------------------------------------------------------------------------------

/// raw/semaphore.rs N1: what was taken stays taken.
#[test]
fn acquiring_and_releasing_permits() {
    let swept = sweep_object(
        |plan| plan.semaphore("permits", 5),
        |namespace| {
            let permits = permits_of(namespace);
            move || {
                permits.acquire(2).unwrap();
                permits.release(2).unwrap();
            }
        },
        |namespace, wreck| {
            let permits = permits_of(namespace);
            let left = permits.available().unwrap();
            assert!(left == 5 || left == 3, "{left}");
            assert_eq!(wreck.object("permits").state, format!("{left} permits left"));
            permits.release(5 - left).unwrap(); // as somebody would who knows
        },
        |namespace| {
            let permits = permits_of(namespace);
            permits.acquire(5).unwrap();
            assert_eq!(permits.try_acquire(1), Err(SyncError::WouldBlock));
            permits.release(5).unwrap();
        },
    );
    swept.covers(0, 2);
}

/// raw/semaphore.rs N2.
#[test]
fn releasing_for_one_who_sleeps() {
    let swept = sweep_beside_sleeper(
        |plan| plan.semaphore("permits", 0),
        |namespace| permits_of(namespace).acquire(2).unwrap(),
        |namespace| {
            let permits = permits_of(namespace);
            move || permits.release(2).unwrap()
        },
        // Two are for the sleeper, and those of the victim are both there, or none.
        |survivor, _| permits_of(survivor).release(2).unwrap(),
        |namespace| {
            let permits = permits_of(namespace);
            let left = permits.available().unwrap();
            assert!(left == 0 || left == 2, "{left}");
            permits.release(3).unwrap();
            permits.acquire(3).unwrap();
        },
    );
    swept.covers(1, 2);
}

fn slots_work(namespace: &Namespace) {
    let slots = slots_of(namespace);
    slots.acquire(3).unwrap();
    assert_eq!(slots.try_acquire(1), Err(SyncError::WouldBlock));
    slots.release(3).unwrap();
    assert_eq!(slots.available(), 3);
}

/// raw/pool.rs B1, B4: all permits come back.
#[test]
fn acquiring_and_releasing_permits_of_a_fixed_number() {
    let swept = sweep_object(
        |plan| plan.bounded_semaphore("slots", 3),
        |namespace| {
            let slots = slots_of(namespace);
            move || {
                slots.acquire(2).unwrap();
                slots.release(2).unwrap();
            }
        },
        |namespace, wreck| {
            let pid = wreck.pid().unwrap();
            let users = &wreck.object("slots").users;
            assert!(users.len() <= 2 && users.iter().all(|user| *user == pid), "{users:?}");
            slots_of(namespace).acquire(3).unwrap();
            slots_of(namespace).release(3).unwrap();
        },
        slots_work,
    );
    swept.covers(0, 4);
}

#[test]
fn releasing_several_for_one_who_sleeps() {
    let swept = sweep_beside_sleeper(
        |plan| plan.bounded_semaphore("slots", 3),
        |namespace| slots_of(namespace).acquire(2).unwrap(),
        |namespace| {
            let slots = slots_of(namespace);
            slots.acquire(2).unwrap();
            move || slots.release(2).unwrap()
        },
        |_, _| {},
        slots_work,
    );
    swept.covers(1, 3);
}

// ---- meetings and news -----------------------------------------------------------------------------------------------

fn waiting_for_a_condition(calls: usize, patience: Duration) -> Swept {
    sweep_object_first(
        calls,
        |plan| plan.mutex("mutex", pair(0)).condvar("changed"),
        |namespace| {
            let mutex = mutex_of(namespace);
            let changed = namespace.condvar("changed").unwrap();
            move || {
                let mut guard = mutex.lock().unwrap();
                *guard = pair(1);
                let (mut guard, late) = changed.wait_timeout_while(guard, patience, |_| true).unwrap();
                assert!(late);
                *guard = pair(2);
            }
        },
        |namespace, wreck| {
            let mutex = mutex_of(namespace);
            let (guard, died) = hear(mutex.lock());
            assert_eq!(died, wreck.held("mutex"));
            assert!(number(*guard) <= 2);
        },
        |namespace| {
            mutex_works(namespace);
            let mutex = mutex_of(namespace);
            let changed = namespace.condvar("changed").unwrap();
            // If nobody sleeps there any more this costs a call at most, whatever the word says.
            changed.notify_one().unwrap();
            thread::scope(|scope| {
                let guard = mutex.lock().unwrap();
                let before = number(*guard);
                let (mutex, changed) = (&mutex, &changed);
                scope.spawn(move || {
                    *mutex.lock().unwrap() = pair(before + 1);
                    changed.notify_one().unwrap();
                });
                let guard = changed.wait_while(guard, |pair| number(*pair) == before).unwrap();
                assert_eq!(number(*guard), before + 1);
            });
        },
    )
}

/// The waiter dies between listening, unlocking and sleeping.
#[test]
fn waiting_for_a_change() {
    waiting_for_a_condition(WAITING, LONG).covers(WAITING, 7);
}

/// Or when it locks again.
#[test]
fn giving_up_waiting_for_a_change() {
    waiting_for_a_condition(usize::MAX, AT_ONCE).covers(1, 12);
}

/// The victim changes something and tells of it; `rescue` is what others do when it is dead.
fn notifying(rescue: impl Fn(&Namespace)) -> Swept {
    sweep_beside_sleeper(
        |plan| plan.mutex("mutex", pair(0)).condvar("changed").event("event"),
        |namespace| {
            let mutex = mutex_of(namespace);
            let changed = namespace.condvar("changed").unwrap();
            let mut guard = mutex.lock().unwrap();
            while number(*guard) == 0 {
                guard = hear(changed.wait(guard)).0;
            }
            event_of(namespace).set().unwrap();
        },
        |namespace| {
            let mutex = mutex_of(namespace);
            let changed = namespace.condvar("changed").unwrap();
            move || {
                *mutex.lock().unwrap() = pair(1);
                changed.notify_one().unwrap();
            }
        },
        |survivor, wreck| {
            let mutex = mutex_of(survivor);
            let (mut guard, died) = hear(mutex.lock());
            assert!(!died || wreck.held("mutex"));
            let before = number(*guard);
            *guard = pair(1);
            drop(guard);
            if before == 0 {
                survivor.condvar("changed").unwrap().notify_one().unwrap();
            }
            rescue(survivor);
            event_of(survivor).wait_timeout(Duration::from_secs(1)).expect("it is told");
        },
        mutex_works,
    )
}

/// A notification dies with who was to give it, unless somebody else gives another.
#[test]
fn notifying_one_who_waits() {
    notifying(|survivor| survivor.condvar("changed").unwrap().notify_one().unwrap()).covers(1, 7);
}

#[test]
fn a_change_is_seen_though_nobody_lived_to_tell_of_it() {
    notifying(|_| {}).covers(1, 7);
}

#[test]
fn waiting_for_an_event() {
    let swept = waiting(
        |plan| plan.event("event"),
        |survivor| event_of(survivor).clear().unwrap(),
        |namespace, patience| event_of(namespace).wait_timeout(patience).is_ok(),
        |_, ()| {},
        |namespace| {
            let event = event_of(namespace);
            thread::scope(|scope| {
                scope.spawn(|| event.set().unwrap());
                event.wait().unwrap();
            });
            event.clear().unwrap();
        },
    );
    swept.covers(WAITING, 1);
}

#[test]
fn setting_an_event_for_one_who_sleeps() {
    let swept = sweep_beside_sleeper(
        |plan| plan.event("event"),
        |namespace| event_of(namespace).wait().unwrap(),
        |namespace| {
            let event = event_of(namespace);
            move || event.set().unwrap()
        },
        |survivor, _| {
            let event = event_of(survivor);
            if !event.is_set() {
                event.set().unwrap();
            }
        },
        |namespace| event_of(namespace).wait().unwrap(),
    );
    swept.covers(1, 2);
}

/// raw/barrier.rs M1, M2.
fn coming_as_the_first(calls: usize, patience: Duration) -> Swept {
    sweep_object_first(
        calls,
        |plan| plan.barrier("barrier", 3),
        |namespace| {
            let barrier = barrier_of(namespace);
            move || assert_eq!(barrier.wait_timeout(patience), Err(SyncError::TimedOut))
        },
        |namespace, wreck| {
            let pid = wreck.pid().unwrap();
            let barrier = barrier_of(namespace);
            let heard = barrier.wait_timeout(BRIEFLY).unwrap_err();
            let is_told = heard == SyncError::Broken { pid };
            // It may have come without being counted.
            let may_be_late = wreck.object("barrier").state == "0 of 3 have come";
            assert!(is_told || may_be_late && heard == SyncError::TimedOut, "{heard}, {:?}", wreck.object("barrier"));
            assert!(is_told || !wreck.used("barrier"));
            assert!(barrier.is_broken());
        },
        |namespace| all_meet(namespace, 3),
    )
}

#[test]
fn coming_to_a_barrier_as_the_first() {
    coming_as_the_first(WAITING, LONG).covers(WAITING, 3);
}

#[test]
fn giving_up_at_a_barrier() {
    coming_as_the_first(usize::MAX, AT_ONCE).covers(0, 3);
}

/// raw/barrier.rs M3.
#[test]
fn coming_to_a_barrier_as_the_last() {
    const MET: u64 = 1;
    let heard = |result: Result<_, SyncError>| match result {
        Ok(_) => MET,
        Err(SyncError::Broken { pid }) => pid,
        Err(error) => panic!("{error}"),
    };
    let swept = sweep_beside_sleeper(
        |plan| plan.barrier("barrier", 2).atomic("heard", 0_u64),
        |namespace| {
            let result = barrier_of(namespace).wait();
            namespace.atomic("heard").unwrap().store(heard(result.map(drop)));
        },
        |namespace| {
            let barrier = barrier_of(namespace);
            move || assert!(barrier.wait().unwrap().is_leader())
        },
        |survivor, wreck| {
            let theirs = survivor.atomic::<u64>("heard").unwrap();
            if wreck.object("barrier").state == "0 of 2 have come" {
                until(|| theirs.load() != 0);
                assert_eq!(theirs.load(), MET);
                return;
            }
            // The victim was not counted: it is missed if it had come all the same, else the survivor stands in.
            let ours = heard(barrier_of(survivor).wait().map(drop));
            until(|| theirs.load() != 0);
            assert_eq!(theirs.load(), ours);
            assert!(ours == MET || Some(ours) == wreck.pid());
        },
        |namespace| all_meet(namespace, 2),
    );
    swept.covers(1, 3);
}

// ---- repair ----------------------------------------------------------------------------------------------------------

fn much_held(names: &Path) -> NamespaceBuilder {
    let plan = room_for(3, names).mutex("mutex", pair(0)).rw_lock("rw", pair(0));
    plan.bounded_semaphore("slots", 3).barrier("barrier", 3)
}

fn board(names: &Path) -> Board {
    Board::at(&names.with_file_name("board"))
}

const DYING: usize = 0;

/// A process that has the mutex, reads, has permits and has come to the barrier; it kills itself when told to.
fn holder(names: &Path) -> Process {
    let board = board(names);
    let holder = fork(&within(), || {
        let namespace = kept(much_held(names));
        let mutex = mutex_of(namespace);
        let mut guard = mutex.lock().unwrap();
        *guard = pair(99); // never committed
        forget(guard);
        forget(lock_of(namespace).read().unwrap());
        slots_of(namespace).acquire(2).unwrap();
        let barrier = barrier_of(namespace);
        thread::spawn(move || barrier.wait());
        until(|| board.word(DYING).load(Ordering::Relaxed) != 0);
        // SAFETY: ends this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    });
    until(|| Wreck::of(names).object("barrier").state == "1 of 3 have come");
    holder
}

/// Returns when the [`holder`] is dead.
fn let_die(names: &Path, holder: u64) {
    board(names).word(DYING).store(1, Ordering::Relaxed);
    until(|| is_gone(holder));
}

/// The repairer is killed; the survivor, or one who comes, completes its work.
fn repairing<O: FnOnce()>(
    newcomer_first: bool,
    takes_the_mutex: bool,
    prepare: impl Fn(&Path, &dyn Fn()) -> O,
) -> Swept {
    sweep(
        |names| {
            let survivor = much_held(names).open(NAME).unwrap();
            (survivor, holder(names))
        },
        |names| {
            let holder = Wreck::of(names).object("mutex").holder.unwrap();
            prepare(names, &|| let_die(names, holder))
        },
        |names, (survivor, holder): (Namespace, Process)| {
            let pid = holder.pid() as u64;
            assert!(is_gone(pid));
            let finds = |namespace: &Namespace| {
                let mutex = mutex_of(namespace);
                let (guard, died) = hear(mutex.lock());
                assert!(died || takes_the_mutex, "nobody was told");
                assert_eq!(number(*guard), 0, "it was not committed");
                drop(guard);
                let barrier = barrier_of(namespace);
                assert_eq!(barrier.wait(), Err(SyncError::Broken { pid }));
                // A reader has changed nothing that anybody would have to be told of.
                assert!(!hear(lock_of(namespace).write()).1);
                slots_work(namespace);
            };
            let works = |namespace: &Namespace| {
                mutex_works(namespace);
                rw_lock_works(namespace);
                slots_work(namespace);
                all_meet(namespace, 3);
            };
            if !newcomer_first {
                finds(&survivor);
                works(&survivor);
            }
            newcomer(much_held(names), |namespace| {
                if newcomer_first {
                    finds(namespace);
                }
                works(namespace);
            });
            works(&survivor);
            drop(holder);
        },
    )
}

/// members.rs R1, R2, raw/lock.rs K3, raw/pool.rs B4, as `tombolo doctor` does it.
#[test]
fn repairing_from_outside() {
    let swept = repairing(false, false, |names, let_die| {
        let_die();
        let names = Directory::at(names);
        move || assert_eq!(names.repair(NAME).unwrap(), 1)
    });
    swept.covers(6, 10);
}

/// As a newcomer does it.
#[test]
fn repairing_and_joining() {
    let swept = repairing(true, false, |names, let_die| {
        let_die();
        let plan = much_held(names);
        move || forget(plan.open(NAME).unwrap())
    });
    swept.covers(16, 16);
}

/// As one does it who finds the lock taken.
#[test]
fn repairing_and_locking() {
    let swept = repairing(false, true, |names, let_die| {
        let mutex = mutex_of(kept(much_held(names)));
        let_die();
        thread::sleep(2 * SLICE); // so that it asks at once
        move || assert!(hear(mutex.try_lock()).1)
    });
    swept.covers(4, 12);
}

/// One thread of a process is stopped at each step of a repair, while another one comes to repair, too, and a newcomer
/// for the lane.
#[test]
fn two_threads_that_repair_rob_nobody() {
    const GO: usize = 1;
    const WENT: usize = 2;
    const INSIDE: usize = 3;
    const LEAVE: usize = 4;
    let plan = |names: &Path| room_for(2, names).mutex("first", pair(0)).mutex("mutex", pair(0));
    let is_set = |names: &Path, word: usize| board(names).word(word).load(Ordering::Relaxed) != 0;
    let set = |names: &Path, word: usize| board(names).word(word).store(1, Ordering::Relaxed);
    let swept = sweep_stopping(
        |names| {
            let holder = fork(&within(), || {
                let namespace = kept(plan(names));
                forget(namespace.mutex::<Pair>("first").unwrap().lock().unwrap());
                forget(mutex_of(namespace).lock().unwrap());
                until(|| is_set(names, DYING));
            });
            let is_there =
                || fs::exists(names.join(NAME)).unwrap() && Wreck::of(names).object("mutex").holder.is_some();
            until(is_there);
            // Has the mutex, once there is a lane, until it is told to leave.
            let newcomer = fork(&within(), || {
                until(|| is_set(names, WENT));
                let namespace = soon(|| plan(names).open(NAME).ok());
                let mutex = mutex_of(&namespace);
                let (guard, _) = hear(mutex.lock());
                set(names, INSIDE);
                until(|| is_set(names, LEAVE));
                drop(guard);
            });
            (holder, newcomer)
        },
        |names| {
            let holder = Wreck::of(names).object("mutex").holder.unwrap();
            let namespace = kept(plan(names));
            let_die(names, holder);
            thread::sleep(2 * SLICE); // so that it asks at once
            let names = names.to_path_buf();
            thread::spawn(move || {
                until(|| is_set(&names, GO));
                drop(mutex_of(namespace).lock_timeout(2 * SLICE));
                set(&names, WENT);
            });
            move || drop(namespace.mutex::<Pair>("first").unwrap().try_lock())
        },
        |names, _| {
            set(names, GO);
            until(|| is_set(names, WENT));
            let begun = Instant::now();
            until(|| is_set(names, INSIDE) || begun.elapsed() > SLICE);
        },
        |names, (holder, newcomer): (Process, Process)| {
            set(names, WENT);
            until(|| is_set(names, INSIDE));
            assert_eq!(Wreck::of(names).object("mutex").holder, Some(newcomer.pid() as u64), "it was robbed");
            set(names, LEAVE);
            newcomer.finish();
            drop(holder);
        },
    );
    swept.covers(20, 6);
}

/// Without waiting, over and over, for what a live one has and for what a dead one had.
#[test]
fn polling_finds_each_dead_owner() {
    let plan = |names: &Path| room_for(3, names).mutex("busy", pair(0)).mutex("mutex", pair(0));
    let alone = alone();
    let sandbox = Sandbox::new();
    let names = sandbox.names();
    let namespace = plan(&names).open(NAME).unwrap();
    let (busy, mutex) = (namespace.mutex::<Pair>("busy").unwrap(), mutex_of(&namespace));
    let _alive = fork(&alone, || {
        forget(kept(plan(&names)).mutex::<Pair>("busy").unwrap().lock().unwrap());
        thread::sleep(LONG);
    });
    fork(&alone, || forget(mutex_of(kept(plan(&names))).lock().unwrap())).finish(); // without leaving
    until(|| busy.is_locked());
    let got = (0..50).any(|_| {
        thread::sleep(SLICE + SLICE / 4);
        assert!(matches!(busy.try_lock(), Err(LockError::Refused(SyncError::WouldBlock))));
        matches!(mutex.try_lock(), Err(LockError::OwnerDied(_)))
    });
    assert!(got, "nobody asked about its owner");
}

// ---- queues ----------------------------------------------------------------------------------------------------------

/// The newcomer repairs, and hears what is left; then the queue must hold as much as before.
fn queueing<O: FnOnce()>(sent: u64, prepare: impl Fn(&'static Namespace) -> O, expects: impl Fn(&[u64], u64)) -> Swept {
    let plan = |names: &Path| room_for(2, names).queue::<Pair>("queue", 4);
    sweep(
        |names| {
            let survivor = plan(names).open(NAME).unwrap();
            let mut queue = queue_of(&survivor);
            (0..sent).for_each(|number| queue.send(&pair(number)).unwrap());
            (survivor, queue)
        },
        |names| prepare(kept(plan(names))),
        |names, (_survivor, mut ours)| {
            let works = |queue: &mut Queue<Pair>| {
                for round in 0..2 {
                    (0..4).for_each(|number| queue.try_send(&pair(number)).unwrap());
                    assert!(queue.try_send(&pair(4)).is_err(), "round {round}");
                    assert!((0..4).all(|number| queue.try_recv() == Ok(pair(number))));
                }
                let stats = queue.stats();
                assert_eq!((stats.queued, stats.quarantined), (0, 0), "{stats:?}");
            };
            newcomer(plan(names), |namespace| {
                let mut queue = queue_of(namespace);
                let received: Vec<u64> = std::iter::from_fn(|| queue.try_recv().ok()).map(number).collect();
                expects(&received, queue.stats().lost);
                works(&mut queue);
            });
            works(&mut ours);
        },
    )
}

#[test]
fn sending_through_a_queue_of_a_namespace() {
    let swept = queueing(
        1,
        |namespace| {
            let (mut tx, rx) = queue_of(namespace).split();
            forget(rx);
            move || {
                tx.send(&pair(1)).unwrap();
                forget(tx);
            }
        },
        |received, lost| assert!((received == [0] || received == [0, 1]) && lost == 0, "{received:?}, {lost} lost"),
    );
    swept.covers(0, 6);
}

#[test]
fn receiving_through_a_queue_of_a_namespace() {
    let swept = queueing(
        3,
        |namespace| {
            let (tx, mut rx) = queue_of(namespace).split();
            forget(tx);
            move || {
                assert_eq!(rx.recv(), Ok(pair(0)));
                forget(rx);
            }
        },
        |received, lost| {
            let is_whole = received == [0, 1, 2] && lost == 0 || received == [1, 2] && lost <= 1;
            assert!(is_whole, "{received:?}, {lost} lost");
        },
    );
    swept.covers(0, 5);
}

/// A lane of the namespace, and two of the queue.
#[test]
fn opening_a_queue_of_a_namespace() {
    let swept = queueing(
        1,
        |namespace| move || forget(queue_of(namespace)),
        |received, lost| assert!(received == [0] && lost == 0, "{received:?}, {lost} lost"),
    );
    swept.covers(20, 12);
}

#[test]
fn closing_a_queue_of_a_namespace() {
    let swept = queueing(
        1,
        |namespace| {
            let queue = queue_of(namespace);
            move || drop(queue)
        },
        |received, lost| assert!(received == [0] && lost == 0, "{received:?}, {lost} lost"),
    );
    swept.covers(8, 4);
}
