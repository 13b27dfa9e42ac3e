//! `Barrier`: parties that meet, and barriers that break.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tombolo::sync::{Barrier, BarrierWaitResult, SyncError};
use tombolo::{ErrorKind, WaitStrategy};

use crate::common::{MOMENT, WAITS};
use crate::support::{TestDir, until};

#[test]
fn barrier_all_parties_wait_repeatedly_last_one_leads() {
    const PARTIES: usize = 3;
    let _watchdog = TestDir::new();
    for wait in WAITS {
        let barrier = Barrier::new(PARTIES).unwrap().with_wait(wait);
        assert_eq!((barrier.parties(), barrier.waiting(), barrier.is_broken()), (PARTIES, 0, false));
        // Three spinning threads are slow on two cores.
        let rounds = if wait == WaitStrategy::Spin { 20 } else { 300 };
        let rounds: Vec<_> = (0..rounds).map(|_| AtomicU64::new(0)).collect();
        thread::scope(|scope| {
            for _ in 0..PARTIES {
                scope.spawn(|| {
                    for (round, came) in rounds.iter().enumerate() {
                        let result = barrier.wait().unwrap();
                        assert_eq!(result.is_leader(), result.index() == PARTIES - 1);
                        came.fetch_add(1 << (8 * result.index()), Ordering::SeqCst);
                        barrier.wait_timeout(Duration::MAX).unwrap();
                        assert_eq!(came.load(Ordering::SeqCst), 0x01_01_01, "in round {round}");
                    }
                });
            }
        });
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    }
    let alone = Barrier::new(1).unwrap();
    for _ in 0..10 {
        let result: BarrierWaitResult = alone.wait_timeout(Duration::ZERO).unwrap();
        assert_eq!((result.index(), result.is_leader()), (0, true));
    }
}

#[test]
fn barrier_wait_timed_out_breaks_it_until_reset() {
    let _watchdog = TestDir::new();
    let barrier = Barrier::new(3).unwrap();
    let broken = Err(SyncError::BarrierBroken { pid: std::process::id().into() });
    for timeout in [Duration::ZERO, MOMENT] {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| barrier.wait());
            until(|| barrier.waiting() == 1);
            assert_eq!(barrier.wait_timeout(timeout), Err(SyncError::TimedOut));
            assert_eq!(waiting.join().unwrap(), broken);
        });
        assert!(barrier.is_broken());
        assert_eq!((barrier.wait(), barrier.wait_timeout(Duration::ZERO)), (broken, broken), "newcomers, too");
        barrier.reset().unwrap();
        assert_eq!((barrier.is_broken(), barrier.waiting()), (false, 0));
    }
    thread::scope(|scope| {
        let waiting = [(); 2].map(|()| scope.spawn(|| barrier.wait_timeout(Duration::MAX)));
        until(|| barrier.waiting() == 2);
        assert_eq!((barrier.abort(), barrier.abort()), (Ok(()), Ok(())));
        waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap(), broken));
        assert_eq!(barrier.wait(), broken);
        assert_eq!((barrier.reset(), barrier.reset()), (Ok(()), Ok(())));
        let waiting = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
        until(|| barrier.waiting() == 2);
        barrier.reset().unwrap();
        let reset = Err(SyncError::BarrierBroken { pid: 0 });
        waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap(), reset));
        let waiting = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
        assert!(barrier.wait().is_ok());
        waiting.into_iter().for_each(|waiting| assert!(waiting.join().unwrap().is_ok()));
    });
    assert!(!barrier.is_broken());
}

#[test]
fn barrier_of_too_few_or_many_parties_is_refused() {
    for parties in [0, 1 << 13, usize::MAX] {
        assert_eq!(Barrier::new(parties).unwrap_err().kind(), ErrorKind::InvalidOptions, "{parties}");
    }
    assert_eq!(Barrier::new((1 << 13) - 1).unwrap().parties(), (1 << 13) - 1);
}
