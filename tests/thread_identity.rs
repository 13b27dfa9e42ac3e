//! Which thread holds a lock: an identity that no other thread ever has, not even after the first
//! one has ended.

mod support;

use std::mem::forget;
use std::thread;
use std::time::Duration;

use support::Sandbox;
use tombolo::{LockResult, Mutex, ReentrantMutex, RwLock, SyncError};

const SHORT: Duration = Duration::from_millis(20);
/// Enough for one of them to get the stack, and with it the thread-local memory, of the one that
/// ended.
const THREADS: usize = 16;

/// Whether it was acquired, if only for a moment.
fn outcome<G>(told: LockResult<G>) -> Result<(), SyncError> {
    told.or_else(|error| error.recover()).map(drop)
}

#[test]
fn a_reentrant_lock_of_an_ended_thread_lets_no_other_thread_in() {
    let _sandbox = Sandbox::new();
    let lock = ReentrantMutex::new(0_u64).unwrap();
    let held = lock.clone();
    thread::spawn(move || forget(held.lock().unwrap())).join().unwrap();
    for _ in 0..THREADS {
        let lock = lock.clone();
        let told = thread::spawn(move || outcome(lock.lock_timeout(SHORT)));
        assert_eq!(told.join().unwrap(), Err(SyncError::TimedOut));
    }
}

#[test]
fn a_lock_of_an_ended_thread_is_not_the_next_threads_own() {
    let _sandbox = Sandbox::new();
    let lock = Mutex::new(0_u64).unwrap();
    let held = lock.clone();
    thread::spawn(move || held.lock().unwrap().leak()).join().unwrap();
    for _ in 0..THREADS {
        let lock = lock.clone();
        let told = thread::spawn(move || (outcome(lock.lock_timeout(SHORT)), lock.unlock()));
        assert_eq!(told.join().unwrap(), (Err(SyncError::TimedOut), Err(SyncError::NotOwner)));
    }
}

#[test]
fn a_lock_of_an_ended_reader_is_not_read_by_the_next_thread() {
    let _sandbox = Sandbox::new();
    let lock = RwLock::new(0_u64).unwrap();
    let held = lock.clone();
    thread::spawn(move || forget(held.read().unwrap())).join().unwrap();
    for _ in 0..THREADS {
        let lock = lock.clone();
        let told = thread::spawn(move || outcome(lock.write_timeout(SHORT)));
        assert_eq!(told.join().unwrap(), Err(SyncError::TimedOut));
    }
}
