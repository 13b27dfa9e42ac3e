//! A lock knows its thread by an identity that no other thread ever has, not even after the first
//! one has ended.

use std::mem::forget;
use std::time::Duration;

use tombolo::sync::{LockError, LockResult, Mutex, ReentrantMutex, RwLock, SyncError};

use crate::common::in_other_thread;
use crate::support::TestDir;

const SHORT: Duration = Duration::from_millis(20);
/// Enough for one thread to get the stack and the thread-local memory of the one that ended.
const THREADS: usize = 16;

/// Locks in a thread that ends without unlocking, then tries in others. None of them may succeed.
fn assert_stays_locked<L: Sync>(lock: &L, hold: fn(&L), attempt: fn(&L) -> Result<(), SyncError>) {
    let _watchdog = TestDir::new();
    in_other_thread(|| hold(lock));
    for _ in 0..THREADS {
        assert_eq!(in_other_thread(|| attempt(lock)), Err(SyncError::TimedOut));
    }
}

fn outcome<G>(result: LockResult<G>) -> Result<(), SyncError> {
    result.or_else(LockError::into_guard).map(drop)
}

#[test]
fn reentrant_mutex_owner_thread_ended_stays_locked() {
    let mutex = ReentrantMutex::new(0_u64).unwrap();
    assert_stays_locked(&mutex, |mutex| forget(mutex.lock().unwrap()), |mutex| outcome(mutex.lock_timeout(SHORT)));
}

#[test]
fn mutex_owner_thread_ended_stays_locked() {
    let mutex = Mutex::new(0_u64).unwrap();
    assert_stays_locked(
        &mutex,
        |mutex| mutex.lock().unwrap().keep_locked(),
        |mutex| {
            let result = outcome(mutex.lock_timeout(SHORT));
            assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
            result
        },
    );
}

#[test]
fn rw_lock_reader_thread_ended_stays_locked() {
    let lock = RwLock::new(0_u64).unwrap();
    assert_stays_locked(&lock, |lock| forget(lock.read().unwrap()), |lock| outcome(lock.write_timeout(SHORT)));
}
