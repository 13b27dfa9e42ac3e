//! A fork while another thread is in the library's first use of something: the child does not have
//! that thread and must not wait for it.
//!
//! The functions of the C library that the first use calls are replaced by slow ones, as if the
//! thread had been preempted.

#![cfg(target_env = "gnu")]

mod support;

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{TestDir, child_roles, start};
use tombolo::pipe;
use tombolo::{RecvError, WaitStrategy};

child_roles!(fork_meanwhile);

/// Which function is slow: none until a part sets it.
static SLOW_ATFORK: AtomicBool = AtomicBool::new(false);
static SLOW_SYSCONF: AtomicBool = AtomicBool::new(false);
static SLOW_STATX: AtomicBool = AtomicBool::new(false);
/// Whether a thread is in it.
static INSIDE: AtomicBool = AtomicBool::new(false);

/// Long for a fork and a child, short for a test.
const SLOWLY: Duration = Duration::from_millis(1500);

/// Is slow for its first caller.
fn be_slow(slow: &AtomicBool) {
    if slow.swap(false, Ordering::SeqCst) {
        INSIDE.store(true, Ordering::SeqCst);
        thread::sleep(SLOWLY);
    }
}

type Handler = Option<unsafe extern "C" fn()>;

unsafe extern "C" {
    fn __register_atfork(prepare: Handler, parent: Handler, child: Handler, library: *const u8) -> c_int;
    fn __sysconf(name: c_int) -> c_long;
}

/// In place of the C library's.
///
/// # Safety
/// As there.
// SAFETY: the same type and behaviour.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int {
    be_slow(&SLOW_ATFORK);
    // SAFETY: what pthread_atfork does.
    unsafe { __register_atfork(prepare, parent, child, std::ptr::null()) }
}

/// In place of the C library's.
///
/// # Safety
/// As there.
// SAFETY: the same type and behaviour.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sysconf(name: c_int) -> c_long {
    if name == libc::_SC_NPROCESSORS_ONLN {
        be_slow(&SLOW_SYSCONF);
    }
    // SAFETY: the function behind that name.
    unsafe { __sysconf(name) }
}

/// In place of the C library's.
///
/// # Safety
/// As there.
// SAFETY: the same type and behaviour.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn statx(at: c_int, path: *const c_char, flags: c_int, mask: c_uint, to: *mut c_void) -> c_int {
    // SAFETY: a string, if anything.
    if !path.is_null() && unsafe { CStr::from_ptr(path) } == c"/proc/self/ns/pid" {
        be_slow(&SLOW_STATX);
    }
    // SAFETY: the arguments are the caller's.
    unsafe { libc::syscall(libc::SYS_statx, at, path, flags, mask, to) as c_int }
}

/// Uses every part of a pipe: makes it, waits, sends and receives.
fn use_it() {
    let (mut tx, mut rx) = pipe::Options::<u64>::new().wait(WaitStrategy::SpinThenPark).create().unwrap();
    assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvError::TimedOut));
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

fn fork_meanwhile(arguments: &[String]) {
    let slow = match arguments[0].as_str() {
        "registering handlers" => &SLOW_ATFORK,
        "counting cores" => &SLOW_SYSCONF,
        "asking for the namespace" => &SLOW_STATX,
        "nothing" => &AtomicBool::new(false),
        other => panic!("{other}"),
    };
    // SAFETY: only asks for a signal.
    unsafe { libc::alarm(170) };
    slow.store(true, Ordering::SeqCst);
    let first = thread::spawn(use_it);
    while !INSIDE.load(Ordering::SeqCst) && !first.is_finished() {
        thread::yield_now();
    }
    // SAFETY: the child does what this is about, and exits.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above; the parent's alarm is not the child's.
        unsafe { libc::alarm(150) };
        let outcome = std::panic::catch_unwind(use_it);
        // SAFETY: ends the child without touching what it shares with its parent.
        unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 101 }) };
    }
    let started = Instant::now();
    let mut status = 0;
    // SAFETY: a child of ours, and a place for its status.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if started.elapsed() > Duration::from_secs(120) {
            // SAFETY: not reaped yet, so the number means nobody else.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(status, 0, "the child hangs or fails");
    first.join().unwrap();
    use_it();
}

#[test]
fn fork_while_handlers_are_registered_child_works() {
    let _sandbox = TestDir::new();
    start("fork_meanwhile", &["registering handlers"]).finish();
}

#[test]
fn fork_while_cores_are_counted_child_works() {
    let _sandbox = TestDir::new();
    start("fork_meanwhile", &["counting cores"]).finish();
}

#[test]
fn fork_while_pid_namespace_is_read_child_works() {
    let _sandbox = TestDir::new();
    start("fork_meanwhile", &["asking for the namespace"]).finish();
}
