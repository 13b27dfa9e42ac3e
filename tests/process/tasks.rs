//! Futures of processes: under several executors, beside calls that block, dropped at several
//! points, and in forked children.

use std::fs;
use std::future::Future;
use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tombolo::process::{Process, ProcessError};

use crate::common::{signal, state};
use crate::executor::{Panicking, Unpark, block_on, poll, smol_block_on, tokio_block_on};
use crate::support::{TestDir, until};

fn sleep((): ()) {
    thread::sleep(Duration::from_secs(3600));
}

fn exit(code: i32) {
    std::process::exit(code);
}

/// How many threads wait for processes.
fn reapers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .filter(|comm| comm == "tombolo-reaper\n")
        .count()
}

/// In a process of its own, whose thread for this no other test uses.
fn alone(body: fn(())) {
    let _test_dir = TestDir::new();
    Process::spawn(body, ()).unwrap().join().unwrap();
}

fn code_of(outcome: Result<(), ProcessError>) -> Option<i32> {
    match outcome {
        Err(ProcessError::Failed(status)) => status.code(),
        _ => None,
    }
}

fn is_killed(outcome: &Result<(), ProcessError>) -> bool {
    matches!(outcome, Err(ProcessError::Failed(status)) if status.signal() == Some(libc::SIGKILL))
}

fn exit_codes(run: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>)) {
    run(Box::pin(async {
        for code in 1..30 {
            let process = Process::spawn(exit, code).unwrap();
            assert_eq!(code_of(process.join_async().await), Some(code));
            assert_eq!(code_of(process.join_async().await), Some(code)); // once more
            assert_eq!(state(process.pid()), None);
        }
    }));
    until(|| reapers() == 0);
}

#[test]
fn future_of_process_returns_its_exit_code() {
    alone(|()| exit_codes(block_on));
}

#[test]
fn future_of_process_under_tokio_returns_its_exit_code() {
    alone(|()| exit_codes(tokio_block_on));
}

#[test]
fn future_of_process_under_smol_returns_its_exit_code() {
    alone(|()| exit_codes(smol_block_on));
}

#[test]
fn process_killed_all_its_futures_and_calls_return() {
    alone(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let processes: Vec<_> = (0..20).map(|_| Arc::new(Process::spawn(sleep, ()).unwrap())).collect();
        let mut tasks = Vec::new();
        let mut threads = Vec::new();
        for process in &processes {
            for _ in 0..3 {
                let process = Arc::clone(process);
                tasks.push(runtime.spawn(async move { process.join_async().await }));
            }
            let process = Arc::clone(process);
            threads.push(thread::spawn(move || process.join()));
        }
        until(|| reapers() == 1);
        for process in &processes {
            assert!(process.is_alive());
            signal(process.pid(), libc::SIGKILL);
        }
        for task in tasks {
            assert!(is_killed(&runtime.block_on(task).unwrap()));
        }
        for thread in threads {
            assert!(is_killed(&thread.join().unwrap()));
        }
        for process in processes {
            assert_eq!(state(process.pid()), None);
            assert_eq!(process.exit_status().and_then(|status| status.signal()), Some(libc::SIGKILL));
        }
        until(|| reapers() == 0);
    });
}

#[test]
fn future_and_handle_dropped_process_leaves_no_zombie() {
    alone(|()| {
        let unpark = Unpark::new();
        // The last future is leaked, so its task stays until the process ends.
        for is_leaked in [false, true] {
            let process = Process::spawn(sleep, ()).unwrap();
            let (pid, mut future) = (process.pid(), Box::pin(process.join_async()));
            assert!(poll(future.as_mut(), &unpark).is_pending());
            if is_leaked {
                mem::forget(future)
            } else {
                drop(future)
            }
            assert!(process.is_alive());
            drop(process);
            signal(pid, libc::SIGKILL);
            until(|| state(pid).is_none());
            until(|| reapers() == 0);
        }
        assert_eq!(unpark.count.load(Ordering::SeqCst), 1);
    });
}

/// Its end may be seen by the handle first, or by the thread.
#[test]
fn handle_dropped_just_after_the_end_thread_ends() {
    alone(|()| {
        for _ in 0..30 {
            let process = Process::spawn(exit, 1).unwrap();
            let _ = poll(Box::pin(process.join_async()).as_mut(), &Unpark::new());
            assert_eq!(code_of(process.join()), Some(1));
            drop(process);
            until(|| reapers() == 0);
        }
    });
}

#[test]
fn waker_panics_other_processes_wake_their_tasks() {
    alone(|()| {
        let [first, second] = [(); 2].map(|()| Process::spawn(sleep, ()).unwrap());
        let mut future = Box::pin(first.join_async());
        let waker = Waker::from(Arc::new(Panicking::default()));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let (pid, other_pid) = (first.pid(), second.pid());
        let killer = thread::spawn(move || {
            signal(pid, libc::SIGKILL);
            thread::sleep(Duration::from_millis(50));
            signal(other_pid, libc::SIGKILL);
        });
        assert!(is_killed(&block_on(second.join_async())));
        assert!(is_killed(&block_on(future)));
        killer.join().unwrap();
    });
}

#[test]
fn forked_child_polls_and_drops_a_future_of_its_parent() {
    alone(|()| {
        let (process, unpark) = (Process::spawn(sleep, ()).unwrap(), Unpark::new());
        let mut future = Some(Box::pin(process.join_async()));
        assert!(poll(future.as_mut().unwrap().as_mut(), &unpark).is_pending());
        // SAFETY: the child uses nothing that another thread of this process may have locked.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mut future = future.take().unwrap();
            let is_refused = poll(future.as_mut(), &unpark) == Poll::Ready(Err(ProcessError::Forked));
            drop(future);
            let count = Arc::strong_count(&unpark);
            // Its own children have a thread of their own.
            let own = Process::spawn(exit, 3).unwrap();
            let is_right = is_refused && code_of(block_on(own.join_async())) == Some(3);
            // Its parent's waker is not dropped here: that may be of a runtime that it has not.
            let is_right = is_right && Arc::strong_count(&unpark) == count;
            // SAFETY: ends the child.
            unsafe { libc::_exit(if is_right { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: writes the status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
        signal(process.pid(), libc::SIGKILL);
        assert!(is_killed(&block_on(future.unwrap())));
    });
}
