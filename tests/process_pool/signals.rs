//! The signals that workers block.

use std::fs;
use std::process::{Command, Stdio};

use tombolo::process::{self, pool};

use crate::common::pids;
use crate::support::TestDir;

fn blocked(status: &str) -> String {
    status.lines().find(|line| line.starts_with("SigBlk")).unwrap_or(status).to_string()
}

fn own() -> String {
    blocked(&fs::read_to_string("/proc/thread-self/status").unwrap())
}

/// Which signals the thread of a job blocks, and a program that the job starts.
fn of_job((): ()) -> [String; 2] {
    let output = Command::new("cat").arg("/proc/self/status").output().unwrap();
    [own(), blocked(&String::from_utf8(output.stdout).unwrap())]
}

fn assert_workers_block(expected: &str) {
    // Without a fork, and with one.
    for options in [|_| process::Builder::new(), |_| process::Builder::new().stdout(Stdio::null())] {
        let pool = pool::Builder::new().processes(1).worker_options(options).build().unwrap();
        let [job, program] = pool.submit(of_job, ()).join().unwrap();
        assert_eq!((&*job, &*program), (expected, expected));
        // The next worker of the same thread.
        let first = pids(&pool, 1)[0];
        crate::common::send_signal(first, libc::SIGTERM);
        crate::support::until(|| pool.pids().iter().any(|&pid| pid != first));
        assert_eq!(pool.submit(of_job, ()).join().unwrap(), [expected, expected]);
    }
}

#[test]
fn workers_block_the_signals_that_the_builder_blocked() {
    let _test_dir = TestDir::new();
    assert_workers_block(&own());
    let before = own();
    // SAFETY: a signal that nothing here uses, in this thread.
    unsafe {
        let mut signals = std::mem::zeroed();
        libc::sigaddset(&mut signals, libc::SIGUSR2);
        libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut());
    }
    assert_ne!(own(), before);
    assert_workers_block(&own());
}
