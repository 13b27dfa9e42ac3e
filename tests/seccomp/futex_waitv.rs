//! A process whose sandbox refuses futex_waitv sleeps all the same, whatever error the sandbox
//! chooses.

use std::time::Duration;

use super::filter;
use super::support::{TestDir, sleeps, start};
use tombolo::select::{SelectError, Selector};
use tombolo::{RecvError, WaitStrategy, pipe};

/// As many at least, of the some hundred that there are on an idle machine.
const SLEEPS: u64 = 5;

const WAIT: Duration = Duration::from_millis(500);

pub fn wait_without_futex_waitv(arguments: &[String]) {
    let error: u32 = arguments[0].parse().unwrap();
    filter(&[(libc::SYS_futex_waitv, libc::SECCOMP_RET_ERRNO | error)], libc::SECCOMP_RET_ALLOW);
    let (_tx, mut rx) = pipe::Options::<u64>::new().wait(WaitStrategy::Park).create().unwrap();
    let (_other_tx, mut other_rx) = pipe::Options::<u64>::new().create().unwrap();
    let before = sleeps();
    let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
    assert_eq!(selector.wait_timeout(&mut [&mut rx, &mut other_rx], WAIT), Err(SelectError::TimedOut));
    assert!(sleeps() - before >= SLEEPS);
    tombolo::interrupt_handle(); // now a receiver sleeps on two words
    let before = sleeps();
    assert_eq!(rx.recv_timeout(WAIT), Err(RecvError::TimedOut));
    assert!(sleeps() - before >= SLEEPS);
}

#[test]
fn futex_waitv_refused_by_any_error_waits_sleep() {
    let _test_dir = TestDir::new();
    for error in [libc::EPERM, libc::EACCES, libc::EOPNOTSUPP, libc::ENOMEM] {
        start("wait_without_futex_waitv", &[&error.to_string()]).finish();
    }
}
