//! What becomes of a process when its parent is gone.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tombolo::RecvError;
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::process::{Builder, Process, ProcessError};

use crate::common::{SHORT, signal, state};
use crate::support::{TestDir, until};

/// Sends its pid and stays.
fn stay(mut tx: Sender<u64>) {
    tx.send(u64::from(std::process::id())).unwrap();
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

/// What a parent does when it has spawned its child.
#[derive(serde::Serialize, serde::Deserialize, Clone, Copy, Debug, PartialEq)]
enum Then {
    Stays,
    Returns,
    Aborts,
    Executes,
}

fn parent((is_daemon, then, tx, mut spawned): (bool, Then, Sender<u64>, Sender<u64>)) {
    // In a thread that ends: that is not the end of the process.
    let spawn = move || Builder::new().daemon(is_daemon).spawn(stay, tx).unwrap();
    let worker = thread::spawn(spawn).join().unwrap();
    spawned.send(u64::from(worker.pid())).unwrap();
    match then {
        Then::Stays => loop {
            thread::sleep(Duration::from_secs(1));
        },
        Then::Returns => {}
        Then::Aborts => std::process::abort(),
        Then::Executes => panic!("{}", Command::new("sleep").arg("1000").exec()),
    }
}

struct Family {
    parent: Process,
    child: u32,
    rx: Receiver<u64>,
}

fn family(is_daemon: bool, then: Then) -> Family {
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let (spawned_tx, mut spawned) = pipe::Options::<u64>::new().create().unwrap();
    let parent = Process::spawn(parent, (is_daemon, then, tx, spawned_tx)).unwrap();
    let child = spawned.recv().unwrap() as u32;
    // A daemon may be killed before it has sent anything.
    if then == Then::Stays || !is_daemon {
        assert_eq!(rx.recv(), Ok(u64::from(child)));
    }
    Family { parent, child, rx }
}

fn ends(mut rx: Receiver<u64>) {
    let end = loop {
        if let Err(end) = rx.recv() {
            break end;
        }
    };
    assert_eq!(end, RecvError::PeerDied);
}

#[test]
fn daemon_whose_parent_is_killed_dies() {
    let _test_dir = TestDir::new();
    let Family { parent, mut rx, .. } = family(true, Then::Stays);
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut), "the end of a thread is not the end");
    parent.kill().unwrap();
    ends(rx);
}

#[test]
fn daemon_whose_parent_exits_aborts_or_becomes_another_program_dies() {
    let _test_dir = TestDir::new();
    for then in [Then::Returns, Then::Aborts, Then::Executes] {
        let Family { parent, rx, .. } = family(true, then);
        ends(rx);
        assert_eq!(parent.is_alive(), then == Then::Executes);
        parent.kill().unwrap();
    }
}

#[test]
fn daemon_that_is_stopped_dies_with_its_parent() {
    let _test_dir = TestDir::new();
    let Family { parent, child, rx } = family(true, Then::Stays);
    signal(child, libc::SIGSTOP);
    until(|| state(child) == Some('T'));
    parent.kill().unwrap();
    ends(rx);
}

#[test]
fn process_that_is_no_daemon_outlives_its_parent() {
    let _test_dir = TestDir::new();
    for then in [Then::Stays, Then::Returns] {
        let Family { parent, child, mut rx } = family(false, then);
        parent.kill().unwrap();
        let _ = parent.join();
        assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut));
        signal(child, libc::SIGKILL);
        ends(rx);
    }
}

/// Another child, and one that another thread forked, do not keep it alive.
#[test]
#[allow(clippy::zombie_processes, reason = "the one that does not wait is killed")]
fn daemon_dies_whatever_other_children_its_parent_has() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let (tx_other, mut other) = pipe::Options::<u64>::new().create().unwrap();
    let body = |(tx, mut other): (Sender<u64>, Sender<u64>)| {
        let _daemon = Builder::new().daemon(true).spawn(stay, tx).unwrap();
        let sleep = Command::new("sleep").arg("1000").spawn().unwrap();
        // SAFETY: the child only waits.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        }
        other.send(u64::from(sleep.id())).unwrap();
        other.send(forked as u64).unwrap();
        thread::sleep(Duration::from_secs(1000));
    };
    let parent = Process::spawn(body, (tx, tx_other)).unwrap();
    rx.recv().unwrap();
    let others = [other.recv().unwrap(), other.recv().unwrap()];
    parent.kill().unwrap();
    ends(rx);
    for pid in others {
        signal(pid as u32, libc::SIGKILL);
    }
}

/// A daemon that never gets to `init`.
#[test]
fn daemon_that_runs_something_else_dies_with_its_parent() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let body = |mut tx: Sender<u64>| {
        let mut builder = Builder::new().daemon(true);
        builder.command().args(["--skip", "tombolo_process", "daemons::main_that_goes_on"]).env(STAYS, "1");
        let worker = builder.spawn(|()| {}, ()).unwrap();
        tx.send(u64::from(worker.pid())).unwrap();
        thread::sleep(Duration::from_secs(1000));
    };
    let parent = Process::spawn(body, tx).unwrap();
    let pid = rx.recv().unwrap() as u32;
    thread::sleep(SHORT);
    assert!(matches!(state(pid), Some('S' | 'R')));
    parent.kill().unwrap();
    until(|| matches!(state(pid), Some('Z') | None));
}

const BEFORE_MAIN: &str = "TEST_PROCESS_STAYS_BEFORE_MAIN";

extern "C" fn stay_before_main() {
    // SAFETY: nothing else runs yet.
    unsafe {
        if !libc::getenv(c"TEST_PROCESS_STAYS_BEFORE_MAIN".as_ptr()).is_null() {
            loop {
                libc::pause();
            }
        }
    }
}

#[used]
// SAFETY: the C library calls it as a C function, which needs nothing of Rust's runtime.
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = stay_before_main;

/// A daemon that has not got to `init` yet, whose parent has not forked.
#[test]
fn daemon_that_has_not_called_init_dies_with_its_parent() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let body = |mut tx: Sender<u64>| {
        let worker = Builder::new().daemon(true).env(BEFORE_MAIN, "1").spawn(|()| {}, ()).unwrap();
        tx.send(u64::from(worker.pid())).unwrap();
        thread::sleep(Duration::from_secs(1000));
    };
    let parent = Process::spawn(body, tx).unwrap();
    let pid = rx.recv().unwrap() as u32;
    thread::sleep(SHORT);
    assert!(matches!(state(pid), Some('S' | 'R')));
    parent.kill().unwrap();
    until(|| matches!(state(pid), Some('Z') | None));
}

const STAYS: &str = "TEST_PROCESS_STAYS";

#[test]
fn main_that_goes_on() {
    if std::env::var_os(STAYS).is_some() {
        thread::sleep(Duration::from_secs(1000));
    }
}

/// Its handle is dropped, and so is every other handle: the pipe that ends it stays.
#[test]
fn daemon_without_a_handle_runs_and_dies_with_its_parent() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let body = |tx: Sender<u64>| {
        drop(Builder::new().daemon(true).spawn(stay, tx).unwrap());
        thread::sleep(Duration::from_secs(1000));
    };
    let parent = Process::spawn(body, tx).unwrap();
    rx.recv().unwrap();
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut));
    parent.kill().unwrap();
    ends(rx);
}

#[test]
fn daemon_that_ends_by_itself_is_joined() {
    let _test_dir = TestDir::new();
    assert_eq!(Builder::new().daemon(true).spawn(|()| {}, ()).unwrap().join(), Ok(()));
    let failing = Builder::new().daemon(true).spawn(|()| std::process::exit(4), ()).unwrap().join();
    assert!(matches!(failing, Err(ProcessError::Failed(status)) if status.code() == Some(4)));
}
