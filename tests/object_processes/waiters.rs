//! Waiters and owners that are killed, stopped or interrupted, for objects of every kind.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{io, thread};

use tombolo::Namespace;
use tombolo::sync::SyncError;

use crate::common::{MOMENT, Pair, counters, open, opened, owner_died, refusal, start_ready, stop};
use crate::support::{Process, SharedCounters, TestDir};
use crate::waits::{WAYS, for_each_way, two_waiters, waiting, while_held};

/// Two sleeping waiters, the first of which is stopped before the object is released.
fn first_of_two_stopped(test_dir: &TestDir, namespace: &Namespace, way: &str) -> [Process; 2] {
    let mut waiters = None;
    while_held(namespace, way, || {
        let both = two_waiters(test_dir, way);
        stop(&both[0]);
        waiters = Some(both);
    });
    waiters.unwrap()
}

/// Checks that the object is free; a change is over when all waiters have seen it.
fn assert_free(namespace: &Namespace, way: &str) {
    if way != "change" {
        assert_eq!(waiting(namespace, way)(Duration::MAX), Ok(()));
    }
}

#[test]
fn object_waiter_killed_next_waiter_gets_it() {
    for_each_way(&WAYS, |test_dir, namespace, way| {
        let mut survivor = None;
        while_held(namespace, way, || {
            let [first, second] = two_waiters(test_dir, way);
            first.kill();
            survivor = Some(second);
        });
        survivor.unwrap().finish();
        assert_free(namespace, way);
    });
}

/// The first waiter in the queue gets the wake-up while it is stopped, and is then killed.
#[test]
fn object_woken_waiter_killed_wake_up_is_passed_on() {
    for_each_way(&WAYS, |test_dir, namespace, way| {
        let [first, second] = first_of_two_stopped(test_dir, namespace, way);
        thread::sleep(MOMENT);
        first.kill();
        second.finish();
        assert_free(namespace, way);
    });
}

#[test]
fn object_waiter_stopped_others_proceed() {
    // A writer that waits for readers already has the lock.
    let ways: Vec<_> = WAYS.into_iter().filter(|&way| way != "draining").collect();
    for_each_way(&ways, |test_dir, namespace, way| {
        let [stopped, other] = first_of_two_stopped(test_dir, namespace, way);
        other.finish();
        (0..100).for_each(|_| assert_free(namespace, way));
        stopped.signal(libc::SIGCONT);
        stopped.finish();
    });
}

#[test]
fn object_owner_stopped_keeps_what_it_holds() {
    let test_dir = TestDir::new();
    let namespace = open(&test_dir);
    let (mutex, lock) = (namespace.mutex::<Pair>("mutex").unwrap(), namespace.rw_lock::<Pair>("writing").unwrap());
    let permits = namespace.bounded_semaphore("permits").unwrap();
    let owner = start_ready(&test_dir, "hold", &["mutex", "reading", "permits"]);
    stop(&owner);
    assert_eq!(refusal(mutex.lock_timeout(3 * MOMENT)), SyncError::TimedOut);
    assert_eq!(refusal(lock.write_timeout(3 * MOMENT)), SyncError::TimedOut);
    assert_eq!(permits.acquire_many_timeout(2, 3 * MOMENT).unwrap_err(), SyncError::TimedOut);
    assert_eq!(*lock.read().unwrap(), [0; 2], "it keeps readers out no longer than it waits");
    owner.kill(); // while it is stopped
    drop((owner_died(mutex.lock()), lock.write().unwrap()));
    assert_eq!(permits.acquire_many(3).map(|permit| permit.forget()), Ok(()));
}

/// The counters on which the signal handler counts.
static COUNTER: OnceLock<SharedCounters> = OnceLock::new();

extern "C" fn count_signal(_: libc::c_int) {
    if let Some(counters) = COUNTER.get() {
        counters.word(4).fetch_add(1, Ordering::SeqCst);
    }
}

pub fn wait_under_signals(arguments: &[String]) {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let (namespace, counters) = opened(arguments);
    let wait = waiting(&namespace, &arguments[2]);
    assert!(COUNTER.set(SharedCounters::at(Path::new(&arguments[1]))).is_ok());
    // SAFETY: zeros are a valid sigaction, without SA_RESTART; the handler only counts.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        counters.word(2).store(libc::gettid() as u64, Ordering::SeqCst);
    }
    counters.meet(0, 2);
    if arguments[2] != "doing" {
        let started = Instant::now();
        assert_eq!(wait(TIMEOUT), Err(SyncError::TimedOut));
        assert!(started.elapsed() >= TIMEOUT);
    }
    counters.word(3).store(1, Ordering::SeqCst);
    assert_eq!(wait(Duration::MAX), Ok(()));
}

#[test]
fn object_wait_interrupted_by_signals_keeps_its_timeout() {
    let ways: Vec<_> = WAYS.into_iter().chain(["meeting"]).collect();
    for_each_way(&ways, |test_dir, namespace, way| {
        let mut waiter = None;
        while_held(namespace, way, || {
            let process = start_ready(test_dir, "wait_under_signals", &[way]);
            let counters = counters(test_dir);
            let word = |index| counters.word(index).load(Ordering::SeqCst);
            let interrupt = || {
                // SAFETY: sends a signal to a thread of our own child.
                let sent = unsafe { libc::syscall(libc::SYS_tgkill, process.pid(), word(2), libc::SIGUSR1) };
                assert_eq!(sent, 0, "{}", io::Error::last_os_error());
                thread::sleep(Duration::from_millis(1));
            };
            while word(3) == 0 {
                interrupt();
            }
            let before = word(4);
            while word(4) < before + 50 {
                interrupt();
            }
            waiter = Some(process);
        });
        waiter.unwrap().finish();
    });
}
