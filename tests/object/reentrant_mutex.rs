//! `ReentrantMutex`: nested guards.

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use bytemuck::Pod;
use tombolo::Namespace;
use tombolo::Shareable;
use tombolo::sync::{ReentrantMutex, SyncError};

use crate::common::{MOMENT, NAME, WAITS, in_other_thread, of_every_size, refusal, sample, unwind, unwinds};
use crate::support::TestDir;

fn check_reentrant_mutex<T: Pod + Shareable + PartialEq + Debug + Send>() {
    let mutex = ReentrantMutex::<T>::new(sample(0)).unwrap();
    let (outer, inner) = (mutex.lock().unwrap(), mutex.try_lock().unwrap());
    for number in 1..5 {
        inner.set(&sample(number)).unwrap();
        assert_eq!((outer.get(), inner.get()), (Ok(sample(number)), Ok(sample(number))));
    }
    drop((outer, inner));
    unwinds(|| {
        mutex.lock().unwrap().set(&sample(9)).unwrap();
        unwind()
    });
    assert_eq!(in_other_thread(|| mutex.lock_timeout(Duration::ZERO).unwrap().get()), Ok(sample(9)), "at once");
}

#[test]
fn reentrant_mutex_set_is_visible_at_once() {
    check_reentrant_mutex::<()>();
    of_every_size!(check_reentrant_mutex);
}

#[test]
fn reentrant_mutex_guards_dropped_in_any_order_last_one_unlocks() {
    let namespace = Namespace::builder().reentrant_mutex(NAME, 0_u64).create().unwrap();
    let [mutex, another] = [(); 2].map(|()| namespace.reentrant_mutex::<u64>(NAME).unwrap());
    let is_free = || in_other_thread(|| another.try_lock().is_ok());
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let guards = [mutex.lock(), another.try_lock(), mutex.lock_timeout(Duration::ZERO)];
        let mut guards = guards.map(|guard| Some(guard.unwrap()));
        for (dropped, index) in order.into_iter().enumerate() {
            assert!(!is_free(), "{dropped} of {order:?}");
            guards[index].as_ref().unwrap().set(&dropped.try_into().unwrap()).unwrap();
            guards[index] = None;
        }
        assert!(is_free());
        assert_eq!(mutex.lock().unwrap().get(), Ok(2));
    }
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
    mutex.lock().unwrap().keep_locked();
    mutex.lock().unwrap().keep_locked();
    assert_eq!(in_other_thread(|| another.unlock()), Err(SyncError::NotOwner));
    assert_eq!((another.unlock(), is_free()), (Ok(()), false));
    assert_eq!((mutex.unlock(), is_free()), (Ok(()), true));
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
}

#[test]
fn reentrant_mutex_unlock_while_guard_alive_is_refused() {
    let mutex = ReentrantMutex::new(1_u32).unwrap();
    let guard = mutex.lock().unwrap();
    mutex.lock().unwrap().keep_locked();
    assert_eq!(mutex.unlock(), Ok(()));
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner), "this one has a guard");
    assert!(in_other_thread(|| mutex.try_lock().is_err()));
    drop(guard);
    assert!(in_other_thread(|| mutex.try_lock().is_ok()));
}

#[test]
fn reentrant_mutex_concurrent_increments_are_exact() {
    const EACH: u64 = 3000;
    let _watchdog = TestDir::new();
    let mutex = ReentrantMutex::new(0_u64).unwrap();
    let guard = mutex.lock().unwrap();
    in_other_thread(|| {
        assert_eq!(refusal(mutex.try_lock()), SyncError::WouldBlock);
        assert_eq!(refusal(mutex.lock_timeout(Duration::ZERO)), SyncError::TimedOut);
        assert_eq!(refusal(mutex.lock_timeout(MOMENT)), SyncError::TimedOut);
    });
    thread::scope(|scope| {
        for wait in WAITS {
            let mutex = mutex.clone().with_wait(wait);
            scope.spawn(move || {
                for _ in 0..EACH {
                    let outer = mutex.lock_timeout(Duration::MAX).unwrap();
                    let before = outer.get().unwrap();
                    let inner = mutex.lock().unwrap();
                    drop(outer);
                    inner.set(&(before + 1)).unwrap();
                }
            });
        }
        thread::sleep(MOMENT);
        drop(guard);
    });
    assert_eq!(mutex.lock().unwrap().get(), Ok(3 * EACH));
}
