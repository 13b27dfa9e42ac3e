//! What the tests of pools share.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::process::{ProcessPool, pool};

use crate::support::{SharedCounters, until};

/// Long enough to show that something does not happen.
pub const SHORT: Duration = Duration::from_millis(100);

pub fn pool_of(processes: usize) -> ProcessPool {
    pool::Builder::new().processes(processes).build().unwrap()
}

pub fn double(number: u64) -> u64 {
    2 * number
}

pub fn own_pid((): ()) -> u32 {
    std::process::id()
}

/// Counts in a word of the file that it has begun, and waits until the first word is set. Returns
/// its pid.
pub fn wait_at((path, word): (PathBuf, usize)) -> u32 {
    let counters = SharedCounters::at(&path);
    counters.word(word).fetch_add(1, Ordering::SeqCst);
    until(|| counters.word(0).load(Ordering::SeqCst) > 0);
    std::process::id()
}

pub fn begun(counters: &SharedCounters, word: usize) -> u64 {
    counters.word(word).load(Ordering::SeqCst)
}

pub fn release(counters: &SharedCounters) {
    counters.word(0).store(1, Ordering::SeqCst);
}

/// Returns the workers once there are that many.
pub fn pids(pool: &ProcessPool, count: usize) -> Vec<u32> {
    until(|| pool.pids().len() == count);
    pool.pids()
}

pub fn send_signal(pid: u32, signal: libc::c_int) {
    // SAFETY: a worker. Should it have been replaced just now, no process has its pid yet.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Stops a worker, and waits until it is.
pub fn stop(pid: u32) {
    send_signal(pid, libc::SIGSTOP);
    until(|| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T ")));
}

/// Whether a process is there, be it a zombie.
pub fn exists(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

pub fn sleep_micros(micros: u64) -> u64 {
    thread::sleep(Duration::from_micros(micros));
    micros
}
