//! `Condvar`: waits and notifications are cut off.

use std::thread;
use std::time::Duration;

use tombolo::Namespace;

use crate::common::{AT_ONCE, LONG, WAIT_CALLS, guard_and_death, number, pair};
use crate::objects::{event_of, mutex_of, mutex_works};
use crate::sweep::SweepCounts;
use crate::sweeps::{sweep_beside_sleeper, sweep_object_first};

fn sweep_condvar_wait(calls: usize, patience: Duration) -> SweepCounts {
    sweep_object_first(
        calls,
        |plan| plan.mutex("mutex", pair(0)).condvar("changed"),
        |namespace| {
            let mutex = mutex_of(namespace);
            let changed = namespace.condvar("changed").unwrap();
            move || {
                let mut guard = mutex.lock().unwrap();
                *guard = pair(1);
                let (mut guard, result) = changed.wait_timeout_while(guard, patience, |_| true).unwrap();
                assert!(result.timed_out());
                *guard = pair(2);
            }
        },
        |namespace, crash| {
            let mutex = mutex_of(namespace);
            let (guard, died) = guard_and_death(mutex.lock());
            assert_eq!(died, crash.held("mutex"));
            assert!(number(*guard) <= 2);
        },
        |namespace| {
            mutex_works(namespace);
            let mutex = mutex_of(namespace);
            let changed = namespace.condvar("changed").unwrap();
            // Without sleepers this costs one system call at most, whatever the word says.
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

/// Killed between reading the word, unlocking and sleeping.
#[test]
fn condvar_wait_killed_mutex_and_condvar_work() {
    sweep_condvar_wait(WAIT_CALLS, LONG).covers(WAIT_CALLS, 7);
}

/// Killed when it locks again, too.
#[test]
fn condvar_wait_timeout_killed_mutex_and_condvar_work() {
    sweep_condvar_wait(usize::MAX, AT_ONCE).covers(1, 12);
}

/// The victim changes the value and notifies; `rescue` is what the survivor does after its death.
fn sweep_notify(rescue: impl Fn(&Namespace)) -> SweepCounts {
    sweep_beside_sleeper(
        |plan| plan.mutex("mutex", pair(0)).condvar("changed").event("event"),
        |namespace| {
            let mutex = mutex_of(namespace);
            let changed = namespace.condvar("changed").unwrap();
            let mut guard = mutex.lock().unwrap();
            while number(*guard) == 0 {
                guard = guard_and_death(changed.wait(guard)).0;
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
        |survivor, crash| {
            let mutex = mutex_of(survivor);
            let (mut guard, died) = guard_and_death(mutex.lock());
            assert!(!died || crash.held("mutex"));
            let before = number(*guard);
            *guard = pair(1);
            drop(guard);
            if before == 0 {
                survivor.condvar("changed").unwrap().notify_one().unwrap();
            }
            rescue(survivor);
            event_of(survivor).wait_timeout(Duration::from_secs(1)).expect("the sleeper is woken");
        },
        mutex_works,
    )
}

/// A notification is lost with its sender, unless another process sends one.
#[test]
fn condvar_notify_killed_another_notify_wakes_sleeper() {
    sweep_notify(|survivor| survivor.condvar("changed").unwrap().notify_one().unwrap()).covers(1, 7);
}

#[test]
fn condvar_notify_killed_sleeper_sees_change_without_notify() {
    sweep_notify(|_| {}).covers(1, 7);
}
