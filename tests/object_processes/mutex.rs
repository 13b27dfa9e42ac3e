//! `Mutex` and `ReentrantMutex`: owners that die.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::sync::{LockError, SyncError};

use crate::common::{
    MOMENT, Pair, any_guard, counters, in_other_thread, open, opened, owner_died, refusal, report_ready_and_park,
    start_ready, take_and_forget,
};
use crate::support::TestDir;

#[test]
fn mutex_owner_killed_next_lock_reports_owner_died_once() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let mutex = namespace.mutex::<Pair>("mutex").unwrap();
    // With every way to lock, before and after the death.
    for round in 0..6 {
        let owner = start_ready(&test_dir, "hold", &["mutex"]);
        assert_eq!(refusal(mutex.try_lock()), SyncError::WouldBlock);
        assert_eq!(refusal(mutex.lock_timeout(MOMENT)), SyncError::TimedOut, "it is alive");
        assert_eq!((mutex.is_locked(), mutex.unlock()), (true, Err(SyncError::NotOwner)));
        thread::scope(|scope| {
            let look = || match round % 3 {
                0 => *owner_died(mutex.lock()),
                1 => *owner_died(mutex.lock_timeout(Duration::MAX)),
                _ => loop {
                    match mutex.try_lock() {
                        Err(LockError::Failed(SyncError::WouldBlock)) => thread::yield_now(),
                        other => break *owner_died(other),
                    }
                },
            };
            if round < 3 {
                let looking = scope.spawn(look);
                thread::sleep(MOMENT);
                owner.kill();
                assert_eq!(looking.join().unwrap(), [1; 2]);
            } else {
                owner.kill();
                assert_eq!(look(), [1; 2]);
            }
        });
        assert_eq!(*mutex.lock().unwrap(), [1; 2], "only the first lock reports it");
        assert_eq!(*mutex.lock_timeout(MOMENT).unwrap(), [1; 2]);
        *mutex.lock().unwrap() = [0; 2];
    }
}

#[test]
fn mutex_second_owner_killed_next_lock_reports_owner_died() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let (mutex, array) = (namespace.mutex::<Pair>("mutex").unwrap(), namespace.array::<[u64; 3]>("array").unwrap());
    start_ready(&test_dir, "hold", &["mutex"]).kill();
    for _ in 0..3 {
        start_ready(&test_dir, "hold", &["mutex after a death", "array"]).kill(); // got `OwnerDied`, and did not unlock
    }
    drop((owner_died(mutex.lock()), owner_died(array.lock())));
    drop((mutex.lock().unwrap(), array.lock().unwrap()));
}

#[test]
fn mutex_owner_died_guard_can_be_poisoned() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let mutex = namespace.mutex::<Pair>("mutex").unwrap();
    start_ready(&test_dir, "hold", &["mutex"]).kill();
    owner_died(mutex.lock()).poison();
    assert!(matches!(mutex.lock(), Err(LockError::Poisoned(_))));
    start_ready(&test_dir, "hold", &["re-entrant"]).kill();
    any_guard(mutex.lock()).unwrap().clear_poison();
    drop(mutex.lock().unwrap());
}

#[test]
fn reentrant_mutex_owner_killed_while_nested_next_lock_reports_owner_died() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let mutex = namespace.reentrant_mutex::<u64>("re-entrant").unwrap();
    for _ in 0..3 {
        let owner = start_ready(&test_dir, "hold", &["re-entrant"]);
        assert_eq!(refusal(mutex.lock_timeout(MOMENT)), SyncError::TimedOut);
        owner.kill();
        let outer = owner_died(mutex.lock());
        let inner = mutex.lock().unwrap();
        assert_eq!((outer.get(), inner.set(&0)), (Ok(1), Ok(())), "what was set was set");
        drop(outer);
        assert_eq!(in_other_thread(|| refusal(mutex.try_lock())), SyncError::WouldBlock);
        drop(inner);
        drop(mutex.lock().unwrap());
    }
}

pub fn hold_and_close_descriptors(arguments: &[String]) {
    let (namespace, counters) = opened(arguments);
    take_and_forget(&namespace, "mutex");
    // SAFETY: nothing here uses a descriptor any more.
    assert_eq!(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) }, 0);
    report_ready_and_park(&counters);
}

#[test]
fn mutex_owner_closes_descriptors_lock_reports_lock_lost() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let mutex = namespace.mutex::<Pair>("mutex").unwrap();
    let owner = start_ready(&test_dir, "hold_and_close_descriptors", &[]);
    assert_eq!(refusal(mutex.lock()), SyncError::LockLost);
    assert_eq!(refusal(mutex.lock_timeout(Duration::MAX)), SyncError::LockLost);
    assert!(matches!(refusal(mutex.try_lock()), SyncError::WouldBlock | SyncError::LockLost), "it asks now and then");
    owner.kill();
    drop(owner_died(mutex.lock()));
}

/// Holds the mutex and forks a child that outlives it.
pub fn hold_and_fork(arguments: &[String]) {
    let (namespace, counters) = opened(arguments);
    ["mutex", "permits"].into_iter().for_each(|what| take_and_forget(&namespace, what));
    // SAFETY: the child does nothing but wait, and the test ends it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        while Path::new(&arguments[0]).exists() {
            thread::sleep(Duration::from_millis(20));
        }
        // SAFETY: ends the child without touching what it shares with others.
        unsafe { libc::_exit(0) };
    }
    counters.word(1).store(child as u64, Ordering::SeqCst);
    report_ready_and_park(&counters);
}

#[test]
fn mutex_owner_killed_forked_child_alive_lock_reports_owner_died() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let parent = start_ready(&test_dir, "hold_and_fork", &[]);
    let child = counters(&test_dir).word(1).load(Ordering::SeqCst) as libc::pid_t;
    parent.kill();
    assert_eq!(*owner_died(namespace.mutex::<Pair>("mutex").unwrap().lock()), [1; 2]);
    assert_eq!(namespace.bounded_semaphore("permits").unwrap().acquire_many(3).map(|permit| permit.forget()), Ok(()));
    // SAFETY: a process of ours that has not been reaped.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0, "the child did not live on");
}
