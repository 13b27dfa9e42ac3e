//! How processes end, and what their parent learns of it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::panic::{catch_unwind, resume_unwind};
use std::process::{ExitCode, exit};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tombolo::pipe::{self, Sender};
use tombolo::process::{Builder, Panic, Process, ProcessError};
use tombolo::{ErrorKind, RecvError};

use crate::common::{SHORT, signal, state};
use crate::support::{TestDir, alone, fork, stress_factor, until};

fn panic_of(worker: &Process) -> Panic {
    match worker.join() {
        Err(ProcessError::Panicked(panic)) => panic,
        ended => panic!("{ended:?}"),
    }
}

/// A panic without the backtrace, which tests do not print either.
fn quietly() -> Builder {
    Builder::new().env("RUST_BACKTRACE", "0").stderr(std::process::Stdio::null())
}

#[test]
fn function_panics_join_returns_message_and_place() {
    let _test_dir = TestDir::new();
    let line = line!() + 1;
    let worker = quietly().spawn(|number: u64| assert_eq!(number, 7, "not seven"), 8).unwrap();
    let panic = panic_of(&worker);
    assert!(panic.message.contains("not seven"), "{panic}");
    assert!(panic.file.ends_with("ends.rs") && panic.line == line && panic.column > 1, "{panic}");
    assert!(panic.thread.is_some());
    assert_eq!(worker.exit_status().unwrap().code(), Some(101));
    assert_eq!(panic_of(&worker), panic, "once more");
    assert!(worker.join().unwrap_err().to_string().contains("not seven"));
}

#[test]
fn panic_message_of_any_kind_comes_back() {
    let _test_dir = TestDir::new();
    let worker = quietly().spawn(|length: usize| panic!("{}", "ä".repeat(length)), 1 << 20).unwrap();
    let message = panic_of(&worker).message;
    assert!(message.len() > 1000 && message.chars().all(|letter| letter == 'ä'), "{}", message.len());
    let worker = quietly().spawn(|()| std::panic::panic_any(7_u64), ()).unwrap();
    assert!(panic_of(&worker).message.contains("no text"));
    let worker = quietly().spawn(|()| panic!("plain"), ()).unwrap();
    assert_eq!(panic_of(&worker).message, "plain");
}

#[test]
fn panic_that_is_caught_or_in_another_thread_is_no_end() {
    let _test_dir = TestDir::new();
    let caught = |()| {
        for _ in 0..100 {
            catch_unwind(|| panic!("caught")).unwrap_err();
        }
        thread::spawn(|| panic!("in a thread")).join().unwrap_err();
    };
    assert_eq!(quietly().spawn(caught, ()).unwrap().join(), Ok(()));
    let later = |()| {
        catch_unwind(|| panic!("caught")).unwrap_err();
        thread::spawn(|| panic!("in a thread")).join().unwrap_err();
        panic!("the last one");
    };
    assert_eq!(panic_of(&quietly().spawn(later, ()).unwrap()).message, "the last one");
}

#[test]
fn panic_that_aborts_comes_back() {
    extern "C" fn cannot_unwind(_: u64) {
        panic!("across C");
    }
    let _test_dir = TestDir::new();
    let worker = quietly().spawn(|()| cannot_unwind(1), ()).unwrap();
    let panic = panic_of(&worker);
    assert!(panic.message == "across C", "{panic}");
    assert_eq!(worker.exit_status().unwrap().signal(), Some(libc::SIGABRT));
}

/// What `resume_unwind` goes on with is not reported a second time.
#[test]
fn panic_of_a_joined_thread_that_goes_on_is_the_end() {
    fn go_on(_: ()) {
        let worker = thread::spawn(|| panic!("in a thread"));
        resume_unwind(worker.join().unwrap_err());
    }
    let _test_dir = TestDir::new();
    let panic = panic_of(&quietly().spawn(go_on, ()).unwrap());
    assert!(panic.message == "in a thread" && panic.file.ends_with("ends.rs"), "{panic}");
    let after_another = |()| {
        catch_unwind(|| panic!("caught")).unwrap_err();
        go_on(());
    };
    assert_eq!(panic_of(&quietly().spawn(after_another, ()).unwrap()).message, "in a thread");
    let never_reported = |()| resume_unwind(Box::new("no hook"));
    assert_eq!(panic_of(&quietly().spawn(never_reported, ()).unwrap()).message, "no hook");
}

#[test]
fn abort_after_a_panic_that_was_caught_is_not_its_end() {
    fn overflow(depth: u64) -> u64 {
        let filler = std::hint::black_box([depth; 100]);
        if depth == u64::MAX { 0 } else { overflow(depth + 1) + filler[3] }
    }
    let _test_dir = TestDir::new();
    let aborting = |()| {
        catch_unwind(|| panic!("caught")).unwrap_err();
        std::process::abort();
    };
    let overflowing = |()| {
        catch_unwind(|| panic!("caught")).unwrap_err();
        assert!(overflow(0) > 0);
    };
    for worker in [quietly().spawn(aborting, ()).unwrap(), quietly().spawn(overflowing, ()).unwrap()] {
        let ended = worker.join();
        assert!(matches!(&ended, Err(ProcessError::Failed(status)) if status.signal().is_some()), "{ended:?}");
    }
}

#[test]
fn panic_in_a_drop_while_unwinding_comes_back() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    let _test_dir = TestDir::new();
    let body = |()| {
        let _bomb = Bomb;
        panic!("first");
    };
    assert_eq!(panic_of(&quietly().spawn(body, ()).unwrap()).message, "in a drop");
}

#[test]
fn exit_code_other_than_zero_is_an_error() {
    let _test_dir = TestDir::new();
    let code = |worker: Process| match worker.join() {
        Ok(()) => Some(0),
        Err(ProcessError::Failed(status)) => status.code(),
        ended => panic!("{ended:?}"),
    };
    assert_eq!(code(quietly().spawn(ExitCode::from, 3_u8).unwrap()), Some(3));
    assert_eq!(code(quietly().spawn(ExitCode::from, 255_u8).unwrap()), Some(255));
    assert_eq!(code(Process::spawn(ExitCode::from, 0_u8).unwrap()), Some(0));
    assert_eq!(code(quietly().spawn(|code: i32| exit(code), 5).unwrap()), Some(5));
    assert_eq!(code(quietly().spawn(|code: i32| exit(code), 0).unwrap()), Some(0));
    let failing = |()| Err::<(), _>(io::Error::other("failed"));
    assert_eq!(code(quietly().spawn(failing, ()).unwrap()), Some(1));
    let working = |()| Ok::<(), io::Error>(());
    assert_eq!(code(Process::spawn(working, ()).unwrap()), Some(0));
}

#[test]
fn signal_that_ends_a_process_is_in_its_status() {
    let _test_dir = TestDir::new();
    for number in [libc::SIGSEGV, libc::SIGKILL, libc::SIGABRT] {
        let worker = quietly().spawn(|number: i32| assert_eq!(raise(number), 0), number).unwrap();
        let Err(ProcessError::Failed(status)) = worker.join() else { panic!("{:?}", worker.join()) };
        assert_eq!(status.signal(), Some(number));
        assert_eq!(worker.exit_status(), Some(status));
    }
}

fn raise(number: i32) -> i32 {
    // SAFETY: ends this process.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        libc::raise(number)
    }
}

fn sleep(_: ()) {
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn join_of_a_running_process_times_out() {
    let _test_dir = TestDir::new();
    let worker = Process::spawn(sleep, ()).unwrap();
    assert_eq!(worker.join_timeout(SHORT), Err(ProcessError::TimedOut));
    assert_eq!(worker.join_timeout(Duration::ZERO), Err(ProcessError::TimedOut));
    assert!(worker.is_alive());
    assert_eq!(worker.exit_status(), None);
    worker.kill().unwrap();
    assert!(worker.join_timeout(Duration::MAX).is_err());
    assert!(!worker.is_alive());
}

#[test]
fn terminate_and_kill_end_a_process() {
    let _test_dir = TestDir::new();
    for (end, number) in [(Process::terminate as fn(&Process) -> _, libc::SIGTERM), (Process::kill, libc::SIGKILL)] {
        let worker = Process::spawn(sleep, ()).unwrap();
        end(&worker).unwrap();
        assert!(matches!(worker.join(), Err(ProcessError::Failed(status)) if status.signal() == Some(number)));
        end(&worker).unwrap();
    }
}

#[test]
fn stopped_process_is_alive_and_can_be_killed() {
    let _test_dir = TestDir::new();
    let (tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let wait = |mut tx: Sender<u64>| {
        tx.send(1).unwrap();
        sleep(());
    };
    let worker = Process::spawn(wait, tx).unwrap();
    rx.recv().unwrap();
    signal(worker.pid(), libc::SIGSTOP);
    until(|| state(worker.pid()) == Some('T'));
    assert!(worker.is_alive());
    assert_eq!(worker.join_timeout(SHORT), Err(ProcessError::TimedOut));
    worker.terminate().unwrap();
    assert_eq!(worker.join_timeout(SHORT), Err(ProcessError::TimedOut), "it takes that when it goes on");
    worker.kill().unwrap();
    assert!(worker.join().is_err());
}

#[test]
fn several_threads_join_each_gets_the_end() {
    let _test_dir = TestDir::new();
    let worker = Arc::new(Process::spawn(sleep, ()).unwrap());
    let joining: Vec<_> = (0..8)
        .map(|_| {
            let worker = Arc::clone(&worker);
            thread::spawn(move || worker.join())
        })
        .collect();
    thread::sleep(SHORT);
    worker.kill().unwrap();
    for thread in joining {
        let ended = thread.join().unwrap();
        assert!(matches!(ended, Err(ProcessError::Failed(status)) if status.signal() == Some(libc::SIGKILL)));
    }
}

#[test]
fn pidfd_is_readable_when_the_process_has_ended() {
    use rustix::event::{PollFd, PollFlags, poll};
    let _test_dir = TestDir::new();
    let worker = Process::spawn(sleep, ()).unwrap();
    let is_readable = |timeout: Option<&rustix::event::Timespec>| {
        let pidfd = worker.as_fd();
        poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], timeout).unwrap() == 1
    };
    assert!(!is_readable(Some(&rustix::event::Timespec::default())));
    worker.kill().unwrap();
    assert!(is_readable(None));
    assert!(worker.join().is_err());
}

/// Of handles that are dropped before or after their process has ended, joined or not.
#[test]
fn handles_dropped_in_any_order_leave_no_zombie() {
    let _test_dir = TestDir::new();
    let mut pids = Vec::new();
    for round in 0..4 {
        let mut workers: Vec<_> = (0..6).map(|_| Process::spawn(sleep, ()).unwrap()).collect();
        pids.extend(workers.iter().map(Process::pid));
        let (first, second) = (workers.remove(round), workers.remove(0));
        first.kill().unwrap();
        assert!(first.join().is_err());
        second.kill().unwrap();
        // Ended, and not joined.
        until(|| matches!(state(second.pid()), Some('Z') | None));
        drop((first, second));
        // Dropped while they run.
        let running: Vec<_> = workers.iter().map(Process::pid).collect();
        workers.drain(..2).for_each(drop);
        workers.into_iter().rev().for_each(drop);
        running.iter().for_each(|&pid| assert!(!matches!(state(pid), Some('Z') | None)));
        running.iter().for_each(|&pid| signal(pid, libc::SIGKILL));
    }
    for pid in pids {
        until(|| state(pid).is_none());
    }
}

fn tasks() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// The thread that waits for them ends with the last, and another one begins.
#[test]
fn dropped_handles_leave_no_thread() {
    let _test_dir = TestDir::new();
    let body = |()| {
        let before = (tasks(), crate::common::descriptors());
        for _ in 0..3 {
            let workers: Vec<_> = (0..3).map(|_| Process::spawn(sleep, ()).unwrap()).collect();
            let pids: Vec<_> = workers.iter().map(Process::pid).collect();
            drop(workers);
            assert_eq!(tasks(), before.0 + 1);
            pids.iter().for_each(|&pid| signal(pid, libc::SIGKILL));
            until(|| (tasks(), crate::common::descriptors()) == before);
            pids.iter().for_each(|&pid| assert_eq!(state(pid), None));
        }
    };
    Process::spawn(body, ()).unwrap().join().unwrap();
}

#[test]
fn status_taken_by_another_wait_is_reported_lost() {
    let _test_dir = TestDir::new();
    let body = |()| {
        let wait = |pid: u32| {
            // SAFETY: no pointers but to a status that is not wanted.
            unsafe { libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), 0) }
        };
        let worker = quietly().spawn(|()| exit(3), ()).unwrap();
        assert_eq!(wait(worker.pid()), worker.pid() as libc::pid_t);
        assert_eq!(worker.join(), Err(ProcessError::StatusLost));
        assert_eq!((worker.exit_status(), worker.is_alive()), (None, false));
        worker.kill().unwrap();
        // What the child has reported is known all the same.
        let worker = quietly().spawn(|()| panic!("known"), ()).unwrap();
        wait(worker.pid());
        assert_eq!(panic_of(&worker).message, "known");
        let worker = quietly().spawn(|()| ExitCode::from(9), ()).unwrap();
        wait(worker.pid());
        assert!(matches!(worker.join(), Err(ProcessError::Failed(status)) if status.code() == Some(9)));
        // SAFETY: nothing here handles that signal.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        for _ in 0..20 {
            // It may have ended, and be gone, before it has a pidfd.
            let worker = Process::spawn(|()| {}, ()).unwrap();
            assert_eq!(worker.join(), Ok(()));
            worker.kill().unwrap();
        }
        let worker = Process::spawn(sleep, ()).unwrap();
        assert!(worker.is_alive());
        worker.kill().unwrap();
        assert_eq!(worker.join(), Err(ProcessError::StatusLost));
    };
    Process::spawn(body, ()).unwrap().join().unwrap();
}

#[test]
fn handle_in_a_forked_child_is_refused() {
    let alone = alone();
    let _test_dir = TestDir::new();
    let worker = Process::spawn(sleep, ()).unwrap();
    let dropped = Process::spawn(sleep, ()).unwrap();
    let dropped_pid = dropped.pid();
    drop(dropped);
    fork(&alone, || {
        assert_eq!(worker.join(), Err(ProcessError::Forked));
        assert_eq!(worker.join_timeout(SHORT), Err(ProcessError::Forked));
        assert_eq!(worker.kill().unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!((worker.is_alive(), worker.exit_status()), (false, None));
        // It spawns children of its own.
        let own = Process::spawn(sleep, ()).unwrap();
        own.kill().unwrap();
        assert!(own.join().is_err());
        let own = Process::spawn(sleep, ()).unwrap();
        let pid = own.pid();
        drop(own);
        signal(pid, libc::SIGKILL);
        until(|| state(pid).is_none());
    })
    .finish();
    assert!(worker.is_alive());
    assert!(!matches!(state(dropped_pid), Some('Z') | None));
    signal(dropped_pid, libc::SIGKILL);
    until(|| state(dropped_pid).is_none());
    worker.kill().unwrap();
    assert!(worker.join().is_err());
}

/// 200 times; 10,000 times in the long runs.
#[test]
fn many_processes_leave_nothing() {
    let _test_dir = TestDir::new();
    let body = |count: u64| {
        let before = (tasks(), crate::common::descriptors());
        for number in 0..count {
            let (tx, mut rx) = pipe::Options::<u64>::new().capacity(4).create().unwrap();
            let send = |(mut tx, number): (Sender<u64>, u64)| tx.send(number).unwrap();
            let worker = Process::spawn(send, (tx, number)).unwrap();
            assert_eq!((rx.recv(), rx.recv()), (Ok(number), Err(RecvError::Closed)));
            if number % 3 > 0 {
                assert_eq!(worker.join(), Ok(()));
            }
        }
        until(|| (tasks(), crate::common::descriptors()) == before);
        // SAFETY: asks for any child, and takes none.
        let any = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        assert_eq!((any, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ECHILD)));
    };
    let count = if stress_factor() > 1 { 10_000 } else { 200 };
    Process::spawn(body, count).unwrap().join().unwrap();
}
