//! `Condvar`: waits and notifications.

use std::thread;
use std::time::Duration;

use tombolo::WaitStrategy;
use tombolo::sync::{Condvar, LockError, Mutex};

use crate::common::{MOMENT, WAITS, poisoned};
use crate::support::{TestDir, until};

#[test]
fn condvar_wait_returns_in_time_with_mutex_locked() {
    let _watchdog = TestDir::new();
    for wait in WAITS {
        let (mutex, changed) = (Mutex::new(1_u32).unwrap(), Condvar::new().unwrap().with_wait(wait));
        assert_eq!((changed.notify_one(), changed.notify_all()), (Ok(()), Ok(())), "without waiters");
        for timeout in [Duration::ZERO, Duration::from_nanos(1), MOMENT] {
            let (guard, result) = changed.wait_timeout(mutex.lock().unwrap(), timeout).unwrap();
            assert!(result.timed_out() && mutex.is_locked());
            let (guard, result) = changed.wait_timeout_while(guard, timeout, |&mut_value| mut_value == 1).unwrap();
            assert!(result.timed_out() && *guard == 1);
            let (guard, result) = changed.wait_timeout_while(guard, timeout, |value| *value == 2).unwrap();
            assert!(!result.timed_out() && mutex.is_locked());
            let guard = changed.wait_while(guard, |value| *value == 2).unwrap();
            assert_eq!(*guard, 1);
        }
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut guard = mutex.lock().unwrap();
                *guard = 10;
                while *guard == 10 {
                    guard = changed.wait(guard).unwrap();
                }
                let (mut guard, result) =
                    changed.wait_timeout_while(guard, Duration::MAX, |value| *value == 11).unwrap();
                assert!(!result.timed_out());
                *guard += 1;
                changed.notify_all().unwrap();
            });
            until(|| *mutex.lock().unwrap() == 10); // the wait commits earlier changes
            for number in 11..=12 {
                *mutex.lock().unwrap() = number;
                changed.notify_one().unwrap();
            }
            let guard = changed.wait_while(mutex.lock().unwrap(), |value| *value < 13).unwrap();
            assert_eq!(*guard, 13);
            waiting.join().unwrap();
        });
    }
}

#[test]
fn condvar_notify_wakes_every_waiter_concerned() {
    const WAITERS: u32 = 4;
    let _watchdog = TestDir::new();
    for all in [false, true] {
        let (tokens, changed) = (Mutex::new(0_u32).unwrap(), Condvar::new().unwrap());
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..WAITERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut tokens = changed.wait_while(tokens.lock().unwrap(), |tokens| *tokens == 0).unwrap();
                        *tokens -= 1;
                    })
                })
                .collect();
            thread::sleep(MOMENT);
            if all {
                *tokens.lock().unwrap() = WAITERS;
                changed.notify_all().unwrap();
            } else {
                for _ in 0..WAITERS {
                    *tokens.lock().unwrap() += 1;
                    changed.notify_one().unwrap();
                }
            }
            waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        });
        assert_eq!(*tokens.lock().unwrap(), 0);
    }
}

#[test]
fn condvar_wait_reports_poisoned_mutex() {
    let (mutex, changed) = (Mutex::new(1_u32).unwrap(), Condvar::new().unwrap());
    mutex.lock().unwrap().poison();
    let guard = poisoned(changed.wait_timeout(poisoned(mutex.lock()), Duration::ZERO).map(|(guard, _)| guard).map_err(
        |error| match error {
            LockError::Poisoned((guard, result)) => {
                assert!(result.timed_out());
                LockError::Poisoned(guard)
            }
            other => panic!("{other:?}"),
        },
    ));
    let mut guard = changed.wait_while(guard, |_| false).unwrap();
    guard.clear_poison();
    let (guard, result) = changed.wait_timeout(guard, Duration::ZERO).unwrap();
    assert!(result.timed_out());
    drop(guard);
    drop(mutex.lock().unwrap());
}

/// Each thread waits for the other's change, with one notification per change. If one is lost, both
/// hang.
#[test]
fn condvar_ping_pong_loses_no_notification() {
    const ROUNDS: u64 = 10_000;
    let _watchdog = TestDir::new();
    for (wait, is_within) in
        [(WaitStrategy::SpinThenPark, false), (WaitStrategy::Park, true), (WaitStrategy::Park, false)]
    {
        let turn = Mutex::new(0_u64).unwrap();
        let changed = Condvar::new().unwrap().with_wait(wait);
        thread::scope(|scope| {
            for own in 0..2 {
                let (turn, changed) = (&turn, &changed);
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        let mut turn = changed.wait_while(turn.lock().unwrap(), |turn| *turn % 2 != own).unwrap();
                        *turn += 1;
                        if is_within {
                            changed.notify_one().unwrap();
                            drop(turn);
                        } else {
                            drop(turn);
                            changed.notify_one().unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(*turn.lock().unwrap(), 2 * ROUNDS);
    }
}
