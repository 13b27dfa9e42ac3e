//! Processes whose handle was dropped: what waits for them, and what that leaves in peace.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use tombolo::process::{Process, ProcessError};

use crate::common::{SHORT, signal, state};
use crate::support::{TestDir, until};

fn sleep(_: ()) {
    std::thread::sleep(Duration::from_secs(3600));
}

/// The state of the thread that waits for processes without a handle, if there is one.
fn reaper() -> Option<char> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats.filter(|stat| stat.contains("(tombolo-reaper)")).find_map(|stat| stat.rsplit_once(") ")?.1.chars().next())
}

/// As a runtime does that polls the pidfd itself.
#[test]
fn pidfd_copied_and_handle_dropped_thread_sleeps_after_its_end() {
    let _test_dir = TestDir::new();
    let body = |()| {
        let [copied, other] = [(); 2].map(|()| Process::spawn(sleep, ()).unwrap());
        let copy: OwnedFd = copied.as_fd().try_clone_to_owned().unwrap();
        let (pid, other_pid) = (copied.pid(), other.pid());
        drop((copied, other));
        signal(pid, libc::SIGKILL);
        until(|| state(pid).is_none());
        // Several times in a row: it would run on, and not only now and then.
        until(|| {
            (0..20).all(|_| {
                std::thread::sleep(Duration::from_millis(1));
                reaper() == Some('S')
            })
        });
        signal(other_pid, libc::SIGKILL);
        until(|| reaper().is_none());
        drop(copy);
    };
    Process::spawn(body, ()).unwrap().join().unwrap();
}

#[test]
fn handles_dropped_between_spawns_thread_ends_each_time() {
    let _test_dir = TestDir::new();
    let body = |()| {
        for _ in 0..60 {
            drop(Process::spawn(|()| {}, ()).unwrap());
            for _ in 0..4 {
                Process::spawn(|()| {}, ()).unwrap().join().unwrap();
            }
            until(|| reaper().is_none());
        }
    };
    Process::spawn(body, ()).unwrap().join().unwrap();
}

/// As a program does that becomes a daemon.
#[test]
fn descriptors_closed_after_a_fork_spawn_closes_no_file_of_the_program() {
    let test_dir = TestDir::new();
    let body = |path: std::path::PathBuf| {
        drop(Process::spawn(|()| std::thread::sleep(SHORT), ()).unwrap());
        // SAFETY: the child uses nothing that another thread of this process may have locked.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: nothing here uses them.
            unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
            let files: Vec<_> = (0..8).map(|_| File::create(&path).unwrap()).collect();
            let outcome = Process::spawn(|()| {}, ()).unwrap().join();
            let is_open = |file: &File| {
                let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
                link.is_ok_and(|link| link == path)
            };
            let is_intact = outcome.is_ok() && files.iter().all(is_open);
            std::mem::forget(files);
            // SAFETY: ends the child.
            unsafe { libc::_exit(if is_intact { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: writes the status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
    };
    Process::spawn(body, test_dir.file("file")).unwrap().join().unwrap();
}

#[test]
fn pidfd_closed_by_the_program_status_is_lost() {
    let _test_dir = TestDir::new();
    let body = |()| {
        let worker = Process::spawn(sleep, ()).unwrap();
        // SAFETY: that is the point: nothing else here uses them.
        unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
        signal(worker.pid(), libc::SIGKILL);
        assert_eq!(worker.join(), Err(ProcessError::StatusLost));
        assert_eq!(worker.join_timeout(SHORT), Err(ProcessError::StatusLost));
        assert!(!worker.is_alive());
        assert!(worker.kill().unwrap_err().to_string().contains("closes descriptors"));
    };
    Process::spawn(body, ()).unwrap().join_timeout(Duration::from_secs(20)).unwrap();
}
