//! Repair: the process that repairs is cut off, too, or stopped beside others that repair.

use std::mem::forget;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{fs, thread};

use tombolo::sync::SyncError;
use tombolo::{Directory, Namespace, NamespaceBuilder};

use crate::common::{
    CrashState, Pair, SLEEP, counters, guard_and_death, is_gone, newcomer, number, open_leaked, pair, plan_for,
    within_a_second,
};
use crate::objects::{all_wait, barrier_of, lock_of, mutex_of, mutex_works, rw_lock_works, slots_of, slots_work};
use crate::support::{Process, fork, until};
use crate::sweep::{NAME, SweepCounts, nested_guard, sweep, sweep_stopping};

fn plan_to_repair(names: &Path) -> NamespaceBuilder {
    let plan = plan_for(3, names).mutex("mutex", pair(0)).rw_lock("rw", pair(0));
    plan.bounded_semaphore("slots", 3).barrier("barrier", 3)
}

/// A process with the mutex, a read guard and permits, which waits at the barrier until
/// [`kill_holder`] kills it.
fn holder(names: &Path) -> Process {
    let holder = fork(&nested_guard(), || {
        let namespace = open_leaked(plan_to_repair(names));
        let mutex = mutex_of(namespace);
        let mut guard = mutex.lock().unwrap();
        *guard = pair(99); // never committed
        forget(guard);
        forget(lock_of(namespace).read().unwrap());
        slots_of(namespace).acquire_many(2).unwrap().forget();
        // In this very thread: a forked process that starts threads can meet a lock of std that was
        // held during the fork.
        let _ = barrier_of(namespace).wait();
    });
    until(|| CrashState::of(names).object("barrier").state == "1 of 3 have arrived");
    holder
}

/// Kills the [`holder`]. Returns when it is dead.
fn kill_holder(holder: u64) {
    // SAFETY: sends a signal to a child of the test.
    unsafe { libc::kill(holder as libc::pid_t, libc::SIGKILL) };
    until(|| is_gone(holder));
}

/// The process that repairs is killed; the survivor, or a newcomer, completes its work.
fn sweep_repair<O: FnOnce()>(
    newcomer_first: bool,
    takes_the_mutex: bool,
    prepare: impl Fn(&Path, &dyn Fn()) -> O,
) -> SweepCounts {
    sweep(
        |names| {
            let survivor = plan_to_repair(names).open(NAME).unwrap();
            (survivor, holder(names))
        },
        |names| {
            let holder = CrashState::of(names).object("mutex").holder.unwrap();
            prepare(names, &|| kill_holder(holder))
        },
        |names, (survivor, holder): (Namespace, Process)| {
            let pid = holder.pid() as u64;
            assert!(is_gone(pid));
            let check_first = |namespace: &Namespace| {
                let mutex = mutex_of(namespace);
                let (guard, died) = guard_and_death(mutex.lock());
                assert!(died || takes_the_mutex, "the death was not reported");
                assert_eq!(number(*guard), 0, "uncommitted");
                drop(guard);
                let barrier = barrier_of(namespace);
                assert_eq!(barrier.wait(), Err(SyncError::BarrierBroken { pid }));
                // A reader changes nothing, so its death is not reported.
                assert!(!guard_and_death(lock_of(namespace).write()).1);
                slots_work(namespace);
            };
            let check_works = |namespace: &Namespace| {
                mutex_works(namespace);
                rw_lock_works(namespace);
                slots_work(namespace);
                all_wait(namespace, 3);
            };
            if !newcomer_first {
                check_first(&survivor);
                check_works(&survivor);
            }
            newcomer(plan_to_repair(names), |namespace| {
                if newcomer_first {
                    check_first(namespace);
                }
                check_works(namespace);
            });
            check_works(&survivor);
            drop(holder);
        },
    )
}

/// object/repair.rs ns-repair-1, -2, raw/robust_lock.rs ns-lock-3, raw/pool.rs ns-permit-4, as in
/// `tombolo doctor`.
#[test]
fn namespace_repair_by_directory_killed_next_one_completes_it() {
    let swept = sweep_repair(false, false, |names, kill_holder| {
        kill_holder();
        let names = Directory::at(names);
        move || assert_eq!(names.repair(NAME).unwrap(), 1)
    });
    swept.covers(6, 10);
}

/// Repair when a process joins.
#[test]
fn namespace_repair_by_joining_killed_next_one_completes_it() {
    let swept = sweep_repair(true, false, |names, kill_holder| {
        kill_holder();
        let plan = plan_to_repair(names);
        move || forget(plan.open(NAME).unwrap())
    });
    swept.covers(16, 16);
}

/// Repair by a process that finds the lock taken.
#[test]
fn namespace_repair_by_locking_killed_next_one_completes_it() {
    let swept = sweep_repair(false, true, |names, kill_holder| {
        let mutex = mutex_of(open_leaked(plan_to_repair(names)));
        kill_holder();
        thread::sleep(2 * SLEEP); // so that a liveness check is due
        move || assert!(guard_and_death(mutex.try_lock()).1)
    });
    swept.covers(4, 12);
}

/// One thread of a process is stopped at each step of a repair, while another thread repairs, too,
/// and a newcomer takes the place of the dead participant.
#[test]
fn namespace_repair_by_two_threads_takes_nothing_from_newcomer() {
    const START: usize = 1;
    const TRIED: usize = 2;
    const INSIDE: usize = 3;
    const LEAVE: usize = 4;
    let plan = |names: &Path| plan_for(2, names).mutex("first", pair(0)).mutex("mutex", pair(0));
    let is_set = |names: &Path, word: usize| counters(names).word(word).load(Ordering::Relaxed) != 0;
    let set = |names: &Path, word: usize| counters(names).word(word).store(1, Ordering::Relaxed);
    let swept = sweep_stopping(
        |names| {
            let holder = fork(&nested_guard(), || {
                let namespace = open_leaked(plan(names));
                forget(namespace.mutex::<Pair>("first").unwrap().lock().unwrap());
                forget(mutex_of(namespace).lock().unwrap());
                thread::sleep(Duration::from_secs(3600)); // until it is killed
            });
            let is_there =
                || fs::exists(names.join(NAME)).unwrap() && CrashState::of(names).object("mutex").holder.is_some();
            until(is_there);
            // Holds the mutex as soon as it can join, until LEAVE is set.
            let newcomer = fork(&nested_guard(), || {
                until(|| is_set(names, TRIED));
                let namespace = within_a_second(|| plan(names).open(NAME).ok());
                let mutex = mutex_of(&namespace);
                let (guard, _) = guard_and_death(mutex.lock());
                set(names, INSIDE);
                until(|| is_set(names, LEAVE));
                drop(guard);
            });
            (holder, newcomer)
        },
        |names| {
            let holder = CrashState::of(names).object("mutex").holder.unwrap();
            let namespace = open_leaked(plan(names));
            kill_holder(holder);
            thread::sleep(2 * SLEEP); // so that a liveness check is due
            let names = names.to_path_buf();
            thread::spawn(move || {
                until(|| is_set(&names, START));
                drop(mutex_of(namespace).lock_timeout(2 * SLEEP));
                set(&names, TRIED);
            });
            move || drop(namespace.mutex::<Pair>("first").unwrap().try_lock())
        },
        |names, _| {
            set(names, START);
            until(|| is_set(names, TRIED));
            let begun = Instant::now();
            until(|| is_set(names, INSIDE) || begun.elapsed() > SLEEP);
        },
        |names, (holder, newcomer): (Process, Process)| {
            set(names, TRIED);
            until(|| is_set(names, INSIDE));
            assert_eq!(
                CrashState::of(names).object("mutex").holder,
                Some(newcomer.pid() as u64),
                "the newcomer lost its lock"
            );
            set(names, LEAVE);
            newcomer.finish();
            drop(holder);
        },
    );
    swept.covers(20, 6);
}
