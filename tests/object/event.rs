//! `Event`: set, clear and wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tombolo::sync::{Event, SyncError};

use crate::common::{MOMENT, WAITS};
use crate::support::TestDir;

#[test]
fn event_set_wakes_all_waiters_and_stays_set() {
    let _watchdog = TestDir::new();
    for wait in WAITS {
        let event = Event::new().unwrap().with_wait(wait);
        assert!(!event.is_set());
        for timeout in [Duration::ZERO, MOMENT] {
            assert_eq!(event.wait_timeout(timeout), Err(SyncError::TimedOut));
        }
        thread::scope(|scope| {
            let waiting = [(); 2].map(|()| scope.spawn(|| event.wait()));
            let another = scope.spawn(|| event.wait_timeout(Duration::MAX));
            thread::sleep(MOMENT);
            event.set().unwrap();
            waiting.into_iter().chain([another]).for_each(|waiting| assert_eq!(waiting.join().unwrap(), Ok(())));
        });
        assert_eq!((event.set(), event.wait(), event.wait_timeout(Duration::ZERO)), (Ok(()), Ok(()), Ok(())));
        assert!(event.is_set() && event.clone().is_set());
        assert_eq!((event.clear(), event.clear()), (Ok(()), Ok(())));
        assert_eq!((event.is_set(), event.wait_timeout(Duration::ZERO)), (false, Err(SyncError::TimedOut)));
    }
}

#[test]
fn event_set_makes_earlier_writes_visible() {
    const ROUNDS: u64 = 3000;
    let _watchdog = TestDir::new();
    let events = [Event::new().unwrap(), Event::new().unwrap()];
    let value = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                events[0].wait().unwrap();
                events[0].clear().unwrap();
                assert_eq!(value.load(Ordering::Relaxed), round + 1);
                events[1].set().unwrap();
            }
        });
        for round in 0..ROUNDS {
            value.store(round + 1, Ordering::Relaxed);
            events[0].set().unwrap();
            events[1].wait().unwrap();
            events[1].clear().unwrap();
        }
    });
}
